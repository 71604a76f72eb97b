"""What the last turns were like: the figures of turn records that leave health. Times and counts, never a word."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from runtime.telemetry.catalogue import STAGES

__all__ = ["Figures", "Recent", "Spread"]

_TURNS = 200
_LIFE_NS = 30 * 60 * 1_000_000_000


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds after the end of speech, over `n` turns."""

    p50: float
    p95: float
    n: int


class Figures(msgspec.Struct, frozen=True):
    """`aborted`: turns the visitor stopped, since the start; `stages`: of the last 200 turns, at most half an hour old."""

    aborted: int = 0
    stages: dict[str, Spread] = {}


class Recent:
    """Takes turn records as health writes them."""

    def __init__(self) -> None:
        self._turns: deque[tuple[int, dict[str, float]]] = deque(maxlen=_TURNS)
        self._aborted = 0

    def add(self, record: Mapping[str, Any], now_ns: int) -> None:
        """A turn is over."""
        self._aborted += "stop" in record["stages"]
        after = record.get("after_speech_end_ms", {})
        self._turns.append((now_ns, {stage: after[stage] for stage in STAGES if stage in after}))

    def figures(self, now_ns: int) -> Figures:
        """As they are now; a stage that no turn had is left out."""
        while self._turns and now_ns - self._turns[0][0] > _LIFE_NS:
            self._turns.popleft()
        spreads = {}
        for stage in STAGES:
            times = sorted(turn[stage] for _, turn in self._turns if stage in turn)
            if times:
                spreads[stage] = Spread(_quantile(times, 0.5), _quantile(times, 0.95), len(times))
        return Figures(self._aborted, spreads)


def _quantile(ordered: list[float], q: float) -> float:
    """The smallest value that at least the share `q` does not exceed."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
