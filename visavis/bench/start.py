"""From `visavis run` to the face and to the first possible answer, each start with a fresh browser; cold is the first one.

Page and kiosk start together, as after power-on. The face counts from the first frame that the page says it has drawn; an answer is
possible when every node is ready and the page listens.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from visavis.rehearse import measure
from visavis.rehearse.kiosk import Browser, Kiosk
from visavis.rehearse.observer import Observer
from visavis.rehearse.room import Room

__all__ = ["run"]

_LIMIT_S = 60.0


def run(starts: int = 5) -> dict[str, Any]:
    """Seconds to serve the page, to the face, to the first possible answer. Raises RehearsalError if the kiosk does not come up."""
    found: list[dict[str, float]] = []
    for _ in range(starts):
        with tempfile.TemporaryDirectory(prefix="visavis-start-") as folder:
            found.append(_once(Path(folder)))
    result: dict[str, Any] = {"starts": starts}
    for key in found[0]:
        result[key] = {"cold": round(found[0][key], 2), "warm": measure.quantiles([row[key] for row in found[1:]])}
    return result


def _once(folder: Path) -> dict[str, float]:
    with Room() as room, Kiosk(folder, room.env, config=None, changes={}) as kiosk:
        began = kiosk.started_ns
        observer = Observer(kiosk.run_dir(), kiosk.pid)
        try:
            kiosk.wait_for_page(_LIMIT_S)
            served = time.monotonic_ns()
            with Browser(kiosk.url, folder, room.env) as browser:

                def check() -> None:
                    kiosk.check()
                    browser.check()

                face = _when(lambda: _drawn(kiosk.url), check)
                answer = _when(lambda: room.listens() and all(state != "starting" for state in observer.view.nodes.values()), check)
        finally:
            observer.close()
    return {"page_s": (served - began) / 1e9, "face_s": (face - began) / 1e9, "answer_s": (answer - began) / 1e9}


def _drawn(url: str) -> bool:
    """Whether the page has said in a beat that it draws frames."""
    try:
        beat = httpx.get(f"{url}/alive", timeout=2.0).json().get("beat")
    except (httpx.HTTPError, ValueError):
        return False
    return bool(beat and beat.get("fps", 0) > 0)


def _when(done: Callable[[], bool], check: Callable[[], None]) -> int:
    deadline = time.monotonic() + _LIMIT_S
    while not done():
        check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"not there after {_LIMIT_S:.0f} s")
        threading.Event().wait(0.05)
    return time.monotonic_ns()
