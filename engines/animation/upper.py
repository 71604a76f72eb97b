"""Eyes, brows and head: what keeps a face alive between and around the words.

Glances, drift and breathing are drawn from hashes of (seed, number), so that the same seed gives the same face at the same time, whatever
was asked before. Nothing has a period: who watches for ten minutes sees no loop. Angles in degrees, yaw > 0 to the viewer's right,
pitch > 0 down.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLINKS_A_MINUTE", "Glance", "Lids", "Spring", "breath", "bump", "drift", "glance", "noise", "tremor"]

BLINKS_A_MINUTE = {"idle": 15.0, "attentive": 14.0, "listening": 12.0, "thinking": 10.0, "speaking": 22.0}
"""People at rest blink 17 times a minute, in conversation 26, reading 4.5 (Bentivoglio et al. 1997); less while they attend or think."""
BLINK_CLOSE_S, BLINK_HOLD_S, BLINK_OPEN_S = 0.065, 0.045, 0.13
"""Down faster than up; held for more than a frame at 25 fps, or many a blink would never be seen closed."""
_BLINK_S = BLINK_CLOSE_S + BLINK_HOLD_S + BLINK_OPEN_S
_BLINK_GAP_S = 0.6
_DOUBLE = 0.08
_SHIFT_DEG = (5.0, 20.0)
"""A gaze shift below the first never brings a blink, one above the second nearly always does (Evinger et al. 1994: with the size)."""
_BLOCK_S = 60.0
_KNOTS = 64


class Glance(NamedTuple):
    """Where the eyes rest, away from the visitor, and since when."""

    yaw: float
    pitch: float
    since: float


def bump(x: float) -> float:
    """0 at |x| >= 1, 1 at 0, smooth."""
    return 0.5 + 0.5 * math.cos(math.pi * x) if -1 < x < 1 else 0.0


class Spring:
    """Values that follow their target without overshoot and without a jerk (critically damped); `pace` (1/s): 90 % after 3.9 / pace."""

    def __init__(self, start: NDArray[np.float64], pace: float) -> None:
        self.value = np.array(start, np.float64)
        self._speed = np.zeros_like(self.value)
        self._pace = pace

    def follow(self, target: NDArray[np.float64], step: float) -> NDArray[np.float64]:
        """The values `step` seconds later; an infinite step arrives."""
        if not math.isfinite(step):
            self.value, self._speed = np.array(target, np.float64), np.zeros_like(self.value)
            return self.value
        away = self.value - target
        push = (self._speed + self._pace * away) * step
        fade = math.exp(-self._pace * step)
        self.value = target + (away + push) * fade
        self._speed = (self._speed - self._pace * push) * fade
        return self.value


class Lids:
    """Blinks: by themselves, as often as the posture wants, and with large shifts of the gaze."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng((seed, 1))
        self._due = self._draw()
        self._phase = 0.0  # blinks that the time since the last one was worth
        self._begin = -math.inf
        self._again = False

    def _draw(self) -> float:
        """How many mean gaps until the next blink: never at once, often soon, seldom late; about 1 on the average."""
        return 0.4 + min(float(self._rng.exponential(0.7)), 1.3)

    def at(self, t: float, step: float, posture: str, shift: float) -> float:
        """How far the lids are closed at `t`, 0..1; `step` seconds after the frame before, the gaze has jumped by `shift` degrees."""
        if not math.isfinite(step):
            self._phase, self._begin, step = 0.0, -math.inf, 0.0
        self._phase += step * BLINKS_A_MINUTE.get(posture, 15.0) / 60
        since = t - self._begin
        if since >= _BLINK_S:
            low, high = _SHIFT_DEG
            taken = shift > low and since > _BLINK_GAP_S and self._rng.random() < (shift - low) / (high - low)
            if taken or self._phase >= self._due or (self._again and since >= _BLINK_S + 0.05):
                self._again = not self._again and self._rng.random() < _DOUBLE
                self._begin, self._phase, self._due = t, 0.0, self._draw()
        return _lid(t - self._begin)


def _lid(x: float) -> float:
    """A blink, `x` seconds after it began."""
    if x < BLINK_CLOSE_S:
        return bump(1 - x / BLINK_CLOSE_S) if x > 0 else 0.0
    if x < BLINK_CLOSE_S + BLINK_HOLD_S:
        return 1.0
    return bump((x - BLINK_CLOSE_S - BLINK_HOLD_S) / BLINK_OPEN_S)


# Caches hold what is in use, the block of now and the one after for each stream: larger ones would grow for an hour, as a leak does.
@lru_cache(maxsize=48)
def _knots(seed: int, stream: int, block: int) -> tuple[float, ...]:
    return tuple(np.random.default_rng((seed, 10 + stream, block & 0xFFFFFFFF)).uniform(-1, 1, _KNOTS).tolist())


def _knot(seed: int, stream: int, number: int) -> float:
    return _knots(seed, stream, number // _KNOTS)[number % _KNOTS]


def noise(seed: int, stream: int, t: float, every: float) -> float:
    """A smooth value in -1..1 that takes a new course each `every` seconds and never repeats."""
    number = math.floor(t / every)
    x = t / every - number
    ease = x * x * x * (x * (6 * x - 15) + 10)
    here, there = _knot(seed, stream, number), _knot(seed, stream, number + 1)
    return here + ease * (there - here)


@lru_cache(maxsize=16)
def _fixations(seed: int, stream: int, block: int, low: float, high: float) -> tuple[tuple[float, float, float], ...]:
    """(begin, u, v) of the fixations of one block; u, v normal deviates."""
    rng = np.random.default_rng((seed, 2 + stream, block & 0xFFFFFFFF))
    at, found = 0.0, []
    while at < _BLOCK_S:
        found.append((block * _BLOCK_S + at, float(rng.normal()), float(rng.normal())))
        at += float(rng.uniform(low, high))
    return tuple(found)


def glance(seed: int, t: float, posture: str) -> Glance:
    """The eyes' resting place in `posture`: wandering when idle, away in thought, else on the visitor (0, 0) but for short looks aside."""
    if posture == "idle":
        begin, u, v = _fixation(seed, 0, t, 1.2, 3.6)
        return Glance(_within(6.0 * u, 12), _within(2.4 * v, 5), begin)
    if posture == "thinking":
        begin, u, v = _fixation(seed, 1, t, 0.9, 2.0)
        side = 1 if _fixation(seed, 5, t, 4.0, 9.0)[1] > 0 else -1  # a thought stays on its side for a while
        return Glance(side * (9 + _within(2.5 * abs(u), 5)), -7 + _within(2 * v, 3), begin)
    if posture == "speaking":
        begin, u, v = _fixation(seed, 2, t, 2.2, 4.2)
        if u > 0.4 and t - begin < 0.7:  # people look away now and then while they speak, and come back
            return Glance(_within(5 * v, 9), _within(2 + 1.5 * u, 5), begin)
        return Glance(0.0, 0.0, begin)
    begin, u, v = _fixation(seed, 3, t, 1.5, 3.5)
    return Glance(_within(0.8 * u, 1.6), _within(0.5 * v, 1.0), begin)  # from eye to eye


def _fixation(seed: int, stream: int, t: float, low: float, high: float) -> tuple[float, float, float]:
    return _last(_fixations(seed, stream, math.floor(t / _BLOCK_S), low, high), t)


def _within(x: float, limit: float) -> float:
    return max(-limit, min(limit, x))


def tremor(seed: int, t: float) -> tuple[float, float]:
    """Microsaccades: (yaw, pitch), a third of a degree."""
    _, u, v = _fixation(seed, 4, t, 0.35, 1.1)
    return _within(0.28 * u, 0.6), _within(0.2 * v, 0.4)


def drift(seed: int, t: float) -> tuple[float, float, float]:
    """Slow movement of a head that nobody holds still: yaw, pitch, roll in -1..1."""
    yaw, pitch, roll = (
        0.6 * noise(seed, 3 * axis, t, 5.3) + 0.28 * noise(seed, 3 * axis + 1, t, 2.2) + 0.12 * noise(seed, 3 * axis + 2, t, 0.9)
        for axis in range(3)
    )
    return yaw, pitch, roll


@lru_cache(maxsize=4)
def _breaths(seed: int, block: int) -> tuple[tuple[float, float, float], ...]:
    """(begin, length, depth) of the breaths of one block: 11 to 17 a minute, none like the one before."""
    rng = np.random.default_rng((seed, 9, block & 0xFFFFFFFF))
    lengths = rng.uniform(3.5, 5.4, 14)
    lengths *= _BLOCK_S / lengths.sum()
    begins = block * _BLOCK_S + np.concatenate(([0.0], np.cumsum(lengths)[:-1]))
    return tuple(zip(begins.tolist(), lengths.tolist(), rng.uniform(0.6, 1.0, 14).tolist(), strict=True))


def breath(seed: int, t: float) -> float:
    """-1 (out) .. 1; in faster than out, 14 a minute, now deeper, now shallower."""
    begin, length, depth = _last(_breaths(seed, math.floor(t / _BLOCK_S)), t)
    x = (t - begin) / length
    full = -math.cos(math.pi * x / 0.4) if x < 0.4 else math.cos(math.pi * min((x - 0.4) / 0.6, 1.0))
    return depth * (full + 1) - 1


def _last(marks: tuple[tuple[float, float, float], ...], t: float) -> tuple[float, float, float]:
    """The last of `marks` that has begun."""
    current = marks[0]
    for one in marks:
        if one[0] > t:
            break
        current = one
    return current
