"""The mouth over time: a smooth curve through keys, to be read at any moment."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["RELEASE_S", "Accent", "Key", "Track", "Vector"]

Vector = NDArray[np.float32]

RELEASE_S = 0.13
"""So long the lips take back to their rest."""


class Accent(NamedTuple):
    """A stressed syllable (2) or the beginning of a phrase (3), for head and brows."""

    at: float
    strength: int


class Key(NamedTuple):
    """A shape and when the mouth has it."""

    at: float
    shape: Vector
    firm: bool = False  # contact: no other key may come too close


class Track:
    """The mouth over time. Immutable; times in seconds on whatever line the phonemes had."""

    def __init__(self, rest: Vector, keys: Sequence[Key], accents: tuple[Accent, ...] = ()) -> None:
        self._rest = rest
        self._times = [k.at for k in keys]
        self._shapes = np.array([k.shape for k in keys], np.float32).reshape(len(keys), len(rest))
        self._slopes = _slopes(np.array(self._times), self._shapes)
        self.accents = accents
        self._marks = [a.at for a in accents]

    @property
    def start(self) -> float:
        """When the mouth leaves its rest; inf if never."""
        return self._times[0] if self._times else float("inf")

    @property
    def end(self) -> float:
        """When the mouth is at rest for good; -inf if it never moved."""
        return self._times[-1] if self._times else float("-inf")

    def accents_near(self, seconds: float, reach: float) -> tuple[Accent, ...]:
        """The accents within `reach` of `seconds`."""
        return self.accents[bisect_left(self._marks, seconds - reach) : bisect_right(self._marks, seconds + reach)]

    def at(self, seconds: float) -> Vector:
        """The mouth's weights, shape (mouth controls,); the resting mouth itself, bit by bit, where nothing is said."""
        i = bisect_right(self._times, seconds) - 1
        if i < 0 or i >= len(self._times) - 1:
            return self._rest
        a, b = self._shapes[i], self._shapes[i + 1]
        if np.array_equal(a, b):
            same: Vector = self._shapes[i]
            return same
        span = self._times[i + 1] - self._times[i]
        u = np.float32((seconds - self._times[i]) / span)
        v = 1 - u
        bend = (span * u * v) * (v * self._slopes[i] - u * self._slopes[i + 1])
        shape: Vector = (v * v * (1 + 2 * u)) * a + (u * u * (3 - 2 * u)) * b + bend.astype(np.float32)
        return shape

    def cut(self, seconds: float) -> Track:
        """This track, interrupted: from `seconds` on the mouth closes."""
        if not self.start < seconds < self.end:
            return Track(self._rest, ())
        kept = [Key(t, s) for t, s in zip(self._times, self._shapes, strict=True) if t < seconds]
        now = [Key(seconds, self.at(seconds)), Key(seconds + RELEASE_S, self._rest)]
        return Track(self._rest, [*kept, *now], tuple(a for a in self.accents if a.at < seconds))


def _slopes(times: NDArray[np.float64], shapes: Vector) -> Vector:
    """Tangents of the monotone cubic (Fritsch and Butland): zero at every turning point, so the curve never leaves its keys' range."""
    out = np.zeros_like(shapes)
    if len(times) > 2:
        steps = np.diff(shapes, axis=0) / np.diff(times)[:, None]
        before, after = steps[:-1], steps[1:]
        same = before * after > 0
        total = np.where(same, before + after, 1.0)
        out[1:-1] = np.where(same, 2 * before * after / total, 0.0)
    return out
