"""Time as a parameter: nodes ask their clock, tests turn it by hand."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """A source of CLOCK_MONOTONIC nanoseconds, the only time that crosses the bus."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never steps back, whatever the wall clock does."""


class SystemClock:
    """The machine's CLOCK_MONOTONIC."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()


class ManualClock:
    """A clock that only moves when told to; for tests and virtual-time benchmarks."""

    def __init__(self, start_ns: int = 0) -> None:
        self.now_ns = start_ns

    def monotonic_ns(self) -> int:
        """The time it was set to."""
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self.now_ns += round(seconds * 1e9)
