"""What the governor is told each second, and what it makes of the thermometers: a filtered margin, its slope, and how long it is blind."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["Readings", "Signal", "follow", "lowest_margin"]

NS = 1_000_000_000
MAX_DT_S = 5.0
"""No more time than this passes between two looks, whatever the clock says: it may have jumped."""
FAST_S = 5.0
SLOW_S = 25.0
"""Time constants of the two filters: the first is openpilot's, their difference on a ramp is its slope times 20 s."""
TREND_S = 100.0
"""Time constant of a third one: what it and the second differ by tells a ramp of minutes from one step of a coarse thermometer."""
_AGAIN_S = 30.0
_PLAUSIBLE_C = (-40.0, 150.0)  # jtop says -256 °C for a zone that is off: that would be a margin of 355 °C


class Readings(msgspec.Struct, frozen=True, gc=False):
    """One look at the box. Whatever could not be read is None or absent.

    `margins`: °C from each zone to its own passive trip (NVML: to the nearest slowdown). `throttled`: the hardware cuts clocks for heat or
    current right now. `capped`: a power limit holds (normal on many boxes). `frames`, `late`: frames due and late since the last look.
    `speaking`: the avatar's voice sounds, so that a change of the picture would fall into a word. `fan_rpm`: of the slowest fan.
    """

    margins: Mapping[str, float | None] = {}
    throttled: bool | None = None
    capped: bool | None = None
    power_w: float | None = None
    memory_mb: float | None = None
    fan_rpm: float | None = None
    frames: int | None = None
    late: int | None = None
    speaking: bool | None = None


class Signal(msgspec.Struct, frozen=True, gc=False):
    """The thermometers, followed. `margin` is filtered (°C), `slope` in °C per second over half a minute, `trend` over minutes, `blind_s`
    without any reading.
    """

    now_ns: int = 0
    dt_s: float = 0.0
    margin: float | None = None
    slow: float = 0.0
    slope: float = 0.0
    blind_s: float = 0.0
    last: float = 0.0
    before: float = 0.0  # the reading before the last: the middle one of three is no spike
    slowest: float = 0.0
    trend: float = 0.0

    @property
    def melts(self) -> float:
        """°C per second that the margin loses: the least of what it does over minutes, over half a minute, and right now."""
        now = 0.0 if self.margin is None else (self.margin - self.last) / FAST_S
        return max(0.0, min(now, -self.slope, -self.trend))

    def forecast(self, ahead_s: float) -> float:
        """The margin in so many seconds, °C; 0 where there never was one."""
        return 0.0 if self.margin is None else self.margin + ahead_s * self.slope


def lowest_margin(margins: Mapping[str, float | None]) -> float | None:
    """The smallest margin that can be true; None if there is none."""
    low, high = _PLAUSIBLE_C
    best = high
    found = False
    for margin in margins.values():
        if margin is not None and low <= margin <= best:
            best, found = margin, True
    return best if found else None


def follow(signal: Signal, margins: Mapping[str, float | None], now_ns: int) -> Signal:
    """The signal after one more look. A clock that goes back, or far ahead, costs nothing but the look."""
    dt = min(max((now_ns - signal.now_ns) / NS, 0.0), MAX_DT_S) if signal.now_ns else 0.0
    margin = lowest_margin(margins)
    if margin is None:
        return msgspec.structs.replace(signal, now_ns=now_ns, dt_s=dt, blind_s=signal.blind_s + dt)
    if signal.margin is None or signal.blind_s > _AGAIN_S:
        return Signal(now_ns, dt, margin, margin, 0.0, 0.0, margin, margin, margin, 0.0)
    a, b = signal.last, signal.before
    middle = max(min(a, b), min(max(a, b), margin))
    fast = signal.margin + (middle - signal.margin) * dt / (FAST_S + dt)
    slow = signal.slow + (middle - signal.slow) * dt / (SLOW_S + dt)
    slowest = signal.slowest + (middle - signal.slowest) * dt / (TREND_S + dt)
    slope, trend = (fast - slow) / (SLOW_S - FAST_S), (slow - slowest) / (TREND_S - SLOW_S)
    return Signal(now_ns, dt, fast, slow, slope, 0.0, margin, a, slowest, trend)
