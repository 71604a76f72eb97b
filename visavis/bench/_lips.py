"""The ruler of `visavis bench lips`: how far apart lips and teeth of the stock rig are for a control vector, and for each phoneme whether
and when they met.

Lengths are pixels of a picture of 512; the lips of the rig are its inner landmarks (left, middle, right), the teeth the lower edge of the
upper incisors. Head rotation is left out: it turns both alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.animation import sounds
from engines.studio import rig

__all__ = ["CLOSED_PX", "Anatomy", "Event", "Heard", "contacts", "judge", "vowels"]

CLOSED_PX = 0.5
"""Lips this close have met: the stock face's rest, which looks closed, is at 0.1; apart by 1 px is how the rig's zero pose looks."""
TEETH_PX = 2.0
"""Lips so far apart show the upper teeth on the lower lip."""
_UPPER, _LOWER = (61, 62, 63), (67, 66, 65)  # of the 68 landmarks: the inner lips
_INCISORS = 40
_TEETH_WIDTH = 1.0
REACH_S = 0.15
"""So far around a phoneme its contact is looked for."""
_EDGE_S = 0.01
_PLATEAU_PX = 0.1


class Heard(NamedTuple):
    """A phoneme on the line of its turn (s), and how loud it is (dBFS)."""

    symbol: str
    start: float
    end: float
    level_db: float


class Event(NamedTuple):
    """Phonemes in a row that ask for the same contact: "PP" (lips) or "FF" (lip and teeth)."""

    kind: str
    start: float
    end: float
    phonemes: tuple[Heard, ...]


class Judged(NamedTuple):
    """What became of an event: contact within each of its phonemes, in a drawn frame; by how much (s) its tightest moment is late."""

    reached: tuple[bool, ...]
    drawn: bool
    offset: float


class Anatomy:
    """Lips and teeth of the rig in the folder `data`/rig, for vectors of controls with these names. Raises OSError, ValueError."""

    def __init__(self, data: Path, names: Sequence[str]) -> None:
        path = data / "rig" / "ict_facekit_rig.npz"
        if not path.is_file():
            raise ValueError(f"no rig in {data}: {path.relative_to(data)} is missing")
        missing = [name for name in rig.SHAPES if name not in names]
        if missing:
            raise ValueError(f"the avatar lacks controls of the rig: {', '.join(missing[:5])}")
        self._rig = rig.Rig(str(path))
        self._columns = [list(names).index(name) for name in rig.SHAPES]
        points = np.concatenate([self._rig.landmarks[[*_UPPER, *_LOWER]], self._edge()])
        place = {int(vertex): i for i, vertex in enumerate(points)}
        self._base = self._rig.base[points]
        self._deltas = np.zeros((len(rig.SHAPES), len(points), 3))
        for row, name in enumerate(rig.SHAPES):
            for vertex, delta in zip(*self._rig.shapes[name], strict=True):
                if int(vertex) in place:
                    self._deltas[row, place[int(vertex)]] = delta

    def _edge(self) -> NDArray[np.int64]:
        """The lowest vertices of the upper incisors; the upper teeth are those that the jaw does not move."""
        teeth = np.setdiff1d(np.arange(rig.TEETH.start, rig.TEETH.stop), self._rig.shapes["jawOpen"][0])
        front = teeth[np.abs(self._rig.rest[teeth, 0]) < _TEETH_WIDTH]
        return np.asarray(front[np.argsort(self._rig.rest[front, 1])[:_INCISORS]], np.int64)

    def measure(self, controls: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(gap, bite) for vectors (n, controls): the widest gap between the lips, and how far the lower lip covers the upper teeth's
        edge. Lips have met where the gap is at most CLOSED_PX; lip and teeth where the bite is not negative, and they can be seen where
        the gap is TEETH_PX at least.
        """
        n, k = len(controls), len(self._base)
        posed = self._base + np.tensordot(controls[:, self._columns].astype(float), self._deltas, axes=1)
        pixels, _ = rig.project(self._rig.warp(posed.reshape(n * k, 3)))
        down = pixels.reshape(n, k, 2)[..., 1]
        gap = (down[:, 3:6] - down[:, :3]).max(axis=1)
        return gap, down[:, 6:].max(axis=1) - down[:, 4]


def contacts(phonemes: Iterable[Heard]) -> list[Event]:
    """The contacts that `phonemes` ask for; neighbours that want the same one share it."""
    found: list[Event] = []
    for one in phonemes:
        kinds = {s.viseme for s in sounds(one.symbol)} & {"PP", "FF"}
        for kind in kinds:
            last = found[-1] if found else None
            if last and last.kind == kind and one.start - last.end < 1e-3:
                found[-1] = Event(kind, last.start, one.end, (*last.phonemes, one))
            else:
                found.append(Event(kind, one.start, one.end, (one,)))
    return found


def vowels(phonemes: Iterable[Heard]) -> list[tuple[str, Heard]]:
    """(viseme, phoneme) of the plain vowels."""
    from engines.animation import VISEMES

    found = []
    for one in phonemes:
        shapes = sounds(one.symbol)
        if len(shapes) == 1 and VISEMES[shapes[0].viseme].vowel:
            found.append((shapes[0].viseme, one))
    return found


def judge(
    events: Sequence[Event],
    times: NDArray[np.float64],
    gap: NDArray[np.float64],
    bite: NDArray[np.float64],
    shown: NDArray[np.bool_],
    period: float,
) -> list[Judged]:
    """Look for the contacts of `events` in curves over `times` (s, even steps); `shown` marks the moments drawn as frames, one each
    `period` (s). A frame counts for a phoneme if it is the nearest one to a moment of it.
    """
    found = []
    for k, event in enumerate(events):
        apart = gap - CLOSED_PX if event.kind == "PP" else np.maximum(-bite, TEETH_PX - gap)
        met = apart <= 0
        reached = tuple(bool(met[_within(times, one.start - _EDGE_S, one.end + _EDGE_S)].any()) for one in event.phonemes)
        drawn = bool((met & shown)[_within(times, event.start - period / 2, event.end + period / 2)].any())
        centre = (event.start + event.end) / 2
        low = max([centre - REACH_S, *((events[k - 1].end + event.start) / 2 for _ in range(k > 0))])
        high = min([centre + REACH_S, *((event.end + events[k + 1].start) / 2 for _ in range(k + 1 < len(events)))])
        found.append(Judged(reached, drawn, _tightest(times, apart, _within(times, low, high), centre) - centre))
    return found


def _within(times: NDArray[np.float64], low: float, high: float) -> NDArray[np.intp]:
    return np.flatnonzero((times >= low) & (times <= high))


def _tightest(times: NDArray[np.float64], apart: NDArray[np.float64], near: NDArray[np.intp], centre: float) -> float:
    """The middle of the run of samples around the closest moment of `near` that are as close as that one."""
    close = apart[near] <= apart[near].min() + _PLATEAU_PX
    edges = np.flatnonzero(np.diff(np.concatenate(([0], close.astype(int), [0]))))
    runs = [(times[near[a]], times[near[b - 1]]) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    begin, end = min(runs, key=lambda run: max(run[0] - centre, centre - run[1], 0.0))
    return float(begin + end) / 2
