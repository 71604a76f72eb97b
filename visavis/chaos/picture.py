"""What the visitor really sees when the stage or the renderer dies: the kiosk's own page in Chromium, which tells when it showed what.

The page without a browser (page.py) knows when frames come; between the last and the next one the real page shows its resting face, so
for the two nodes that bring the picture the gap is measured here, by a second kill in mid-sentence.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import zmq

from runtime import topology
from runtime.bus import CommandSender, LinkError
from runtime.context import link_path
from runtime.messages import HeardKind, InputKind, VisitorInput
from visavis.chaos.hearing import longest_gap
from visavis.chaos.house import LONG, MOMENT_S, House
from visavis.rehearse.kiosk import Browser

__all__ = ["TARGETS", "Row", "rows", "shown_gap"]

TARGETS = ("stage", "renderer")
_NS = 1_000_000_000
_BEATS = 5
"""So many seconds the page has seen the face before: it rests with what it saw."""
_LOOK_S = 0.05


class Row(msgspec.Struct):
    """A picture on the page: `seq` of the frame, -1 for the resting face; when it was shown, in ns of CLOCK_MONOTONIC."""

    seq: int
    drawn_ns: int


def shown_gap(house: House, target: str, rng: random.Random) -> tuple[float | None, str]:
    """Kill `target` while the real page shows a sentence: the longest time in ms between two pictures on it, and what hung ("" nothing)."""
    house.page.away()
    try:
        with Browser(f"{house.kiosk.url}/?probe=1", house.folder, dict(os.environ)):
            return _measured(house, target, rng)
    finally:
        since = house.seen.mark()
        house.page.back()
        house.seen.wait("page frame", since=since, limit_s=house.limit_s)


def _measured(house: House, target: str, rng: random.Random) -> tuple[float | None, str]:
    if not _until(house, lambda: _beats(house) >= _BEATS):
        return None, "Chromium showed no face"
    since = house.seen.mark()
    _ask(house, rng.choice(LONG))
    if house.seen.wait("bus heard", lambda heard: heard.kind is HeardKind.STARTED, since=since, limit_s=house.limit_s) is None:
        return None, "in Chromium a question had no answer"
    threading.Event().wait(rng.uniform(*MOMENT_S))
    since, before_ns = house.seen.mark(), time.monotonic_ns()
    os.kill(house.pid(target), signal.SIGKILL)
    ready = house.wait_ready(target, since)
    if ready is None:
        return None, f"{target} was not ready again"
    # A frame of the renderer a second after it was ready: until then every picture was told.
    if not _until(house, lambda: any(row.seq >= 0 and row.drawn_ns > ready.t_ns + _NS for row in rows(house.probe))):
        return None, "Chromium showed no frame any more"
    times = sorted(row.drawn_ns for row in rows(house.probe))
    begin, end = longest_gap(times, before_ns, ready.t_ns + _NS)
    return round((end - begin) / 1e6, 1), ""


def _beats(house: House) -> int:
    with suppress(httpx.HTTPError, ValueError):
        return int(httpx.get(f"{house.kiosk.url}/alive", timeout=2.0).json()["beats"])
    return 0


def _ask(house: House, text: str) -> None:
    """As if typed at the page, which has no hands of ours."""
    row = topology.link("visitor")
    prefix = topology.LINKS.index(row) + 1
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(1)
    sender = CommandSender(context, link_path(house.run_dir, row.name), prefix, VisitorInput, row.deadline_ms, row.capacity)
    message = VisitorInput(house.turn, time.monotonic_ns(), InputKind.TYPED, text)

    def sent() -> bool:
        with suppress(LinkError):
            sender.send(message)
            return True
        return False

    _until(house, sent)
    since = house.seen.mark()
    house.seen.wait("bus floor", since=since, limit_s=house.limit_s)  # it has arrived, so the sender may go
    sender.close()
    context.destroy(linger=0)


def rows(folder: Path) -> list[Row]:
    """All pictures that the page has told of; a line that is being written is not there yet."""
    file = folder / "drawn.jsonl"
    if not file.exists():
        return []
    whole = file.read_bytes().rpartition(b"\n")[0]
    return [msgspec.json.decode(line, type=Row) for line in whole.splitlines()]


def _until(house: House, found: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + house.limit_s
    while not found():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(_LOOK_S)
    return True
