"""PSS of every node and of the browser over minutes of conversation, and how it grows.

A visitor asks a question every few seconds, so that what leaks by turn shows. The slope leaves out the first quarter: caches fill there.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from visavis import _processes
from visavis.rehearse import measure, voices
from visavis.rehearse.kiosk import Browser, Kiosk
from visavis.rehearse.room import Player, Room

__all__ = ["run"]

_EVERY_S = 5.0
_QUESTION = "what are your opening hours"
_QUESTION_EVERY = 3  # samples


def run(minutes: float = 5.0) -> dict[str, Any]:
    """By process: MB at the start, the end and at most, and MB per hour. Raises RehearsalError if the kiosk does not come up."""
    question = voices.at_level(voices.say(_QUESTION, "en-us+f3", Path()), -20.0)
    weights: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="visavis-memory-") as name, Room() as room:
        folder = Path(name)
        with Kiosk(folder, room.env, config=None, changes={}) as kiosk:
            kiosk.wait_for_page()
            with Browser(kiosk.url, folder, room.env) as browser:
                begin, number = time.monotonic(), 0
                while time.monotonic() - begin < minutes * 60:
                    threading.Event().wait(_EVERY_S)
                    kiosk.check()
                    browser.check()
                    for process, mb in _weigh(kiosk.pid, browser.pid).items():
                        weights.setdefault(process, []).append((time.monotonic() - begin, mb))
                    number += 1
                    if number % _QUESTION_EVERY == 0:
                        Player(room, question).wait(10)
    return {"minutes": minutes, "pss_mb": {process: _row(samples) for process, samples in sorted(weights.items())}}


def _weigh(kiosk: int, browser: int) -> dict[str, float]:
    """MB by node; everything of the browser together; `nodes` is the sum without it."""
    weights: dict[str, float] = {}
    pages = set(_processes.tree(browser))
    for pid in {*_processes.tree(kiosk), *pages}:
        name = "chromium" if pid in pages else "supervisor" if pid == kiosk else _processes.name_of(pid).removeprefix("vv-")
        weights[name] = weights.get(name, 0.0) + _processes.pss_mb(pid)
    return weights | {"nodes": sum(mb for name, mb in weights.items() if name != "chromium")}


def _row(samples: list[tuple[float, float]]) -> dict[str, float]:
    settled = samples[len(samples) // 4 :]
    return {
        "first": round(samples[0][1], 1),
        "last": round(samples[-1][1], 1),
        "most": round(max(mb for _, mb in samples), 1),
        "per_hour": round(measure.slope_per_hour([s for s, _ in settled], [mb for _, mb in settled]), 1),
        "n": len(samples),
    }
