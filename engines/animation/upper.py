"""Eyes, brows and head: what keeps a face alive between and around the words.

Everything that repeats (blinks, glances, drift, breathing) is drawn from hashes of (seed, number), so that the same seed gives the same
face at the same time, whatever was asked before. Angles in degrees, yaw > 0 to the viewer's right, pitch > 0 down.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

__all__ = ["Glance", "blink", "breath", "bump", "drift", "glance", "tremor"]

BLINK_EVERY_S = (2.0, 6.0)
BLINK_CLOSE_S, BLINK_HOLD_S, BLINK_OPEN_S = 0.065, 0.045, 0.13
"""Down faster than up; held for more than a frame at 25 fps, or many a blink would never be seen closed."""
_BLOCK_S = 60.0


class Glance(NamedTuple):
    """Where the eyes rest, away from the visitor, and since when."""

    yaw: float
    pitch: float
    since: float


def bump(x: float) -> float:
    """0 at |x| >= 1, 1 at 0, smooth."""
    return 0.5 + 0.5 * math.cos(math.pi * x) if -1 < x < 1 else 0.0


@lru_cache(maxsize=64)
def _blinks(seed: int, block: int) -> tuple[float, ...]:
    """Times of the blinks that begin in one block: gaps of 2 to 6 s, most of them short, and a double blink now and then."""
    rng = np.random.default_rng((seed, 1, block & 0xFFFFFFFF))
    low, high = BLINK_EVERY_S
    at, found = rng.uniform(0.3, 2.0), []
    while at < _BLOCK_S - 0.5:
        found.append(block * _BLOCK_S + at)
        if rng.random() < 0.08 and at + 0.3 < _BLOCK_S - 0.5:
            found.append(block * _BLOCK_S + at + 0.3)
            at += 0.3
        at += low + min(rng.exponential(1.5), high - low)
    return tuple(found)


def blink(seed: int, t: float) -> float:
    """How far the lids are closed at `t`, 0..1."""
    block = math.floor(t / _BLOCK_S)
    closed = 0.0
    for begin in _blinks(seed, block):
        x = t - begin
        if x < 0:
            break
        if x < BLINK_CLOSE_S:
            closed = max(closed, bump(1 - x / BLINK_CLOSE_S))
        elif x < BLINK_CLOSE_S + BLINK_HOLD_S:
            closed = 1.0
        elif x < BLINK_CLOSE_S + BLINK_HOLD_S + BLINK_OPEN_S:
            closed = max(closed, bump((x - BLINK_CLOSE_S - BLINK_HOLD_S) / BLINK_OPEN_S))
    return closed


@lru_cache(maxsize=256)
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
        side = 1 if u > 0 else -1
        return Glance(side * (9 + _within(2.5 * abs(u), 5)), -7 + _within(2 * v, 3), begin)
    if posture == "speaking":
        begin, u, v = _fixation(seed, 2, t, 2.2, 4.2)
        if u > 0.4 and t - begin < 0.7:  # people look away now and then while they speak, and come back
            return Glance(_within(5 * v, 9), _within(2 + 1.5 * u, 5), begin)
        return Glance(0.0, 0.0, begin)
    begin, u, v = _fixation(seed, 3, t, 1.5, 3.5)
    return Glance(_within(0.8 * u, 1.6), _within(0.5 * v, 1.0), begin)  # from eye to eye


def _fixation(seed: int, stream: int, t: float, low: float, high: float) -> tuple[float, float, float]:
    current = (0.0, 0.0, 0.0)
    for one in _fixations(seed, stream, math.floor(t / _BLOCK_S), low, high):
        if one[0] > t:
            break
        current = one
    return current


def _within(x: float, limit: float) -> float:
    return max(-limit, min(limit, x))


def tremor(seed: int, t: float) -> tuple[float, float]:
    """Microsaccades: (yaw, pitch), a third of a degree."""
    _, u, v = _fixation(seed, 4, t, 0.35, 1.1)
    return _within(0.28 * u, 0.6), _within(0.2 * v, 0.4)


@lru_cache(maxsize=8)
def _waves(seed: int) -> tuple[tuple[tuple[float, float, float], ...], ...]:
    """Amplitude, angular speed and phase of the sines of each axis."""
    rng = np.random.default_rng((seed, 0))
    axes = []
    for _ in range(3):
        hz = rng.uniform((0.045, 0.11, 0.21), (0.075, 0.16, 0.30))
        axes.append(
            tuple((a, 2 * math.pi * float(f), float(p)) for a, f, p in zip((0.6, 0.3, 0.14), hz, rng.uniform(0, 6.28, 3), strict=True))
        )
    return tuple(axes)


def drift(seed: int, t: float) -> tuple[float, float, float]:
    """Slow movement of a head that nobody holds still: yaw, pitch, roll in -1..1."""
    yaw, pitch, roll = (sum(a * math.sin(w * t + p) for a, w, p in axis) for axis in _waves(seed))
    return yaw, pitch, roll


def breath(t: float) -> float:
    """-1..1; in faster than out, 14 a minute."""
    x = t / 4.2 % 1.0
    return -math.cos(math.pi * x / 0.4) if x < 0.4 else math.cos(math.pi * (x - 0.4) / 0.6)
