"""How loud each phoneme of a voice sounds, for the jaw."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["levels_db"]

_FLOOR = 1e-10


def levels_db(sound: NDArray[np.int16], spans: Iterable[tuple[int, int]]) -> list[float]:
    """DBFS (RMS) of each span [begin, end) of `sound`; NaN for one that lies outside."""
    power = np.concatenate(([0.0], np.cumsum(np.square(sound.astype(np.float64) / 32768))))
    found = []
    for begin, end in spans:
        a, b = (min(max(at, 0), len(sound)) for at in (begin, end))
        found.append(10 * math.log10((power[b] - power[a]) / (b - a) + _FLOOR) if b > a else math.nan)
    return found
