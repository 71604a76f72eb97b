"""What is measured while the fleet is under load: how soon an event is in the store, how long the console's pages take, who takes CPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import httpx

from runtime.telemetry.times import SystemTimes
from visavis.bench._fleet_house import Controller
from visavis.simulate.ledger import Key

__all__ = ["Commands", "Lag", "Pages", "running"]

_LOOK_S = 0.02
_PAGES = {
    "overview": "/api/v1/devices?limit=200",
    "box": "/api/v1/devices/{box}",
    "chart": "/api/v1/devices/{box}/health?metric=temperature",
    "events": "/api/v1/events?limit=100",
    "events_of_box": "/api/v1/events?device={box}&limit=100",
    "commands": "/api/v1/commands?limit=50",
    "alerts": "/api/v1/alerts",
}


class _Probe:
    """Something that is done again and again in a thread."""

    def __init__(self, every_s: float) -> None:
        self._every_s, self._over = every_s, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            self.look()

    def look(self) -> None:
        """Once."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """The last look has been taken when this returns."""
        self._over.set()
        self._thread.join(60)


class Lag(_Probe):
    """When events became visible in the store: looks every 20 ms, so that is how fine it is."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(_LOOK_S)
        self._db, self._times, self._last = controller.db, SystemTimes(), 0
        self.visible_ms: dict[Key, int] = {}

    def look(self) -> None:
        """Note what is new."""
        rows = self._db.read("SELECT id, device, boot, seq FROM event WHERE id > ? ORDER BY id", self._last)
        now = self._times.wall_ms()
        for id_, device, boot, seq in rows:
            self._last = id_
            if seq:
                self.visible_ms.setdefault((device, boot, seq), now)


class Pages(_Probe):
    """What the console asks for, one page after the other: milliseconds of each request by page. A request that fails is counted."""

    def __init__(self, controller: Controller, boxes: list[str], seed: int) -> None:
        super().__init__(0.2)
        self._boxes, self._rng, self._number = boxes, Random(seed), 0
        self._client = httpx.Client(base_url=controller.url, headers={"Authorization": f"Bearer {controller.token}"}, timeout=30)
        self.took_ms: dict[str, list[float]] = {name: [] for name in _PAGES}
        self.failed = 0

    def look(self) -> None:
        """The next page."""
        name = list(_PAGES)[self._number % len(_PAGES)]
        self._number += 1
        path = _PAGES[name].format(box=self._rng.choice(self._boxes))
        began = time.perf_counter()
        try:
            self._client.get(path).raise_for_status()
        except httpx.HTTPError:  # the controller is being killed
            self.failed += 1
        else:
            self.took_ms[name].append((time.perf_counter() - began) * 1000)


class Commands(_Probe):
    """Orders `ping` of one box after the other; `ordered` are the ids that the controller took."""

    def __init__(self, controller: Controller, boxes: list[str], seed: int) -> None:
        super().__init__(1.0)
        self._boxes, self._rng = boxes, Random(seed)
        headers = {"Authorization": f"Bearer {controller.token}", "X-Visavis": "1"}
        self._client = httpx.Client(base_url=controller.url, headers=headers, timeout=30)
        self.ordered: list[tuple[str, str]] = []

    def look(self) -> None:
        """The next command."""
        box = self._rng.choice(self._boxes)
        try:
            answer = self._client.post(f"/api/v1/devices/{box}/commands", json={"name": "ping", "expires_s": 3600})
            answer.raise_for_status()
        except httpx.HTTPError:
            return
        self.ordered.append((box, answer.json()["id"]))


@contextmanager
def running(*probes: _Probe) -> Iterator[None]:
    """All of them, for as long as the block lasts."""
    for probe in probes:
        probe.start()
    try:
        yield
    finally:
        for probe in probes:
            probe.end()
