"""From timed phonemes to the lips: keys at the sounds, shapes that lean towards their neighbours, smooth curves between.

The curve is a monotone cubic through the keys, so there is no filter and no lag: a vowel is widest at its centre, lips that must meet
have met during the whole contact, and the mouth prepares a word before it sounds. Outside of speech it is exactly the mouth at rest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.animation.visemes import VISEMES, sounds

__all__ = ["Accent", "Lips", "Phone", "Track", "Vector"]

Vector = NDArray[np.float32]
Phone = tuple[str, float, float]
"""(symbol, start, end) in seconds; an empty symbol is a pause."""

ANTICIPATION_S = 0.11
"""The lips leave their rest this long before the first sound, as people's do (80-120 ms)."""
RELEASE_S = 0.13
PAUSE_S = 0.16
"""A silence at least this long closes the mouth."""
CONTACT_S = 0.046
"""The shortest time that lips or teeth touch: more than a frame at 25 fps, or no frame might show it."""
_SPACING_S = 0.025
_FULL_S = 0.11
_STRESS = (0.82, 0.95, 1.08)


class Accent(NamedTuple):
    """A stressed syllable (2) or the beginning of a phrase (3), for head and brows."""

    at: float
    strength: int


class _Key(NamedTuple):
    at: float
    shape: Vector
    firm: bool = False  # contact: no other key may come too close


class _Step(NamedTuple):
    """A sound in time; viseme "" is a pause."""

    viseme: str
    start: float
    end: float
    stress: int


class Track:
    """The mouth over time. Immutable; times in seconds on whatever line the phonemes had."""

    def __init__(self, rest: Vector, keys: Sequence[_Key], accents: tuple[Accent, ...] = ()) -> None:
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
        kept = [_Key(t, s) for t, s in zip(self._times, self._shapes, strict=True) if t < seconds]
        now = [_Key(seconds, self.at(seconds)), _Key(seconds + RELEASE_S, self._rest)]
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


class Lips:
    """Makes tracks for one face: `names` of its mouth controls, their values at rest."""

    def __init__(self, names: Sequence[str], rest: Vector) -> None:
        self.rest = self._rest = np.array(rest, np.float32)
        self._rest.setflags(write=False)
        self._index = {name: i for i, name in enumerate(names)}
        self._smile = np.array([n.startswith(("mouthSmile", "mouthDimple")) for n in names])
        self._tongue = np.array([n == "tongueUp" for n in names])
        self._jaw = np.array([n == "jawOpen" for n in names])
        self._opening = np.array([n.startswith(("jawOpen", "mouthLowerDown", "mouthUpperUp", "tongueUp")) for n in names])
        self._round = np.array([n in {"mouthPucker", "mouthFunnel"} for n in names])
        self._shapes = {name: self._recipe(v.weights, v.smile) for name, v in VISEMES.items()}
        self.still = Track(self._rest, ())

    def _recipe(self, weights: dict[str, float], smile: float) -> Vector:
        shape: Vector = np.where(self._smile, self._rest * np.float32(smile), np.float32(0))
        for name, value in weights.items():
            for part in (name, f"{name}_L", f"{name}_R"):
                if part in self._index:
                    shape[self._index[part]] += np.float32(value)
        return shape

    def track(self, phones: Iterable[Phone]) -> Track:
        """The mouth for `phones`, in order; what lies between them or is empty is a pause."""
        steps = _steps(phones)
        keys: list[_Key] = []
        for i, step in enumerate(steps):
            if step.viseme:
                self._say(keys, steps, i)
            else:
                self._pause(keys, step, first=i == 0, last=i == len(steps) - 1)
        return Track(self._rest, _spaced(keys), _accents(steps))

    def _say(self, keys: list[_Key], steps: Sequence[_Step], i: int) -> None:
        step, length = steps[i], steps[i].end - steps[i].start
        shape = self._shape(steps, i)
        if VISEMES[step.viseme].holds:
            # Contact from a little before the sound to nearly its end; lips that open late would show the burst as a blur.
            begin = step.start - 0.008
            end = max(step.end - 0.012, begin + CONTACT_S)
            keys += [_Key(begin, shape, firm=True), _Key(end, shape, firm=True)]
        elif length > 0.16:
            soft = 0.8 * shape + 0.2 * self._rest
            keys += [
                _Key(step.start + 0.2 * length, soft),
                _Key(step.start + 0.46 * length, shape),
                _Key(step.start + 0.82 * length, soft),
            ]
        else:
            keys.append(_Key(step.start + 0.46 * length, shape))

    def _shape(self, steps: Sequence[_Step], i: int) -> Vector:
        """The sound's own shape, scaled by stress and length, leaning towards the vowels around it."""
        step = steps[i]
        viseme = VISEMES[step.viseme]
        own = self._shapes[step.viseme]
        if viseme.vowel:
            scale = _STRESS[step.stress] * min(1.0, 0.45 + 0.55 * (step.end - step.start) / _FULL_S)
            own = np.where(self._smile, own, own * np.float32(scale))
        before, after = self._vowel(steps, i, -1), self._vowel(steps, i, 1)
        around = [v for v in (before, after, after) if v is not None]  # what comes counts twice: speech looks ahead
        if not around:
            return own
        lean = np.mean(around, axis=0, dtype=np.float32)
        if viseme.yields:
            mixed = own + np.float32(viseme.yields) * (lean - own)
            mixed = np.where(self._tongue, own, mixed)
            if not viseme.vowel:  # a tongue behind the teeth keeps the jaw from dropping far
                mixed = np.where(self._jaw, np.minimum(mixed, 0.3), mixed)
            return mixed.astype(np.float32)
        if viseme.holds:  # closed lips may be rounded for what comes, but they stay closed
            return np.where(self._round, 0.25 * lean, own).astype(np.float32)
        return own

    def _vowel(self, steps: Sequence[_Step], i: int, way: int) -> Vector | None:
        for k in range(i + way, i + 4 * way, way):
            if not 0 <= k < len(steps) or not steps[k].viseme:
                return None
            if VISEMES[steps[k].viseme].vowel:
                return self._shapes[steps[k].viseme]
        return None

    def _pause(self, keys: list[_Key], step: _Step, *, first: bool, last: bool) -> None:
        length = step.end - step.start
        if first:
            keys.append(_Key(step.end - ANTICIPATION_S, self._rest))
        elif last:
            keys.append(_Key(step.start + RELEASE_S, self._rest))
        elif length >= PAUSE_S + 0.1:
            keys += [_Key(step.start + RELEASE_S, self._rest), _Key(max(step.end - ANTICIPATION_S, step.start + RELEASE_S), self._rest)]
        elif length >= PAUSE_S:
            keys.append(_Key((step.start + step.end) / 2, self._rest))
        elif keys and length > 0.06 and not keys[-1].firm:
            keys.append(_Key((step.start + step.end) / 2, 0.5 * keys[-1].shape + 0.5 * self._rest))


def _steps(phones: Iterable[Phone]) -> list[_Step]:
    """Sounds and pauses without gaps, beginning and ending with a pause; several sounds of one phoneme share its time."""
    steps: list[_Step] = []
    for symbol, start, end in phones:
        if not end > start:
            continue
        if steps and start - steps[-1].end > 0.001:
            steps.append(_Step("", steps[-1].end, start, 0))
        found = sounds(symbol)
        at = start
        for sound in found:
            to = at + sound.share * (end - start)
            steps.append(_Step(sound.viseme, at, to, sound.stress))
            at = to
        if not found:
            if steps and not steps[-1].viseme:
                steps[-1] = steps[-1]._replace(end=end)
            else:
                steps.append(_Step("", start, end, 0))
    while steps and not steps[0].viseme:
        steps.pop(0)
    while steps and not steps[-1].viseme:
        steps.pop()
    if not steps:
        return []
    begin, finish = steps[0].start, steps[-1].end
    return [_Step("", begin - 1, begin, 0), *steps, _Step("", finish, finish + 1, 0)]


def _spaced(keys: Sequence[_Key]) -> list[_Key]:
    """Keys in order and not closer than a mouth can follow; contacts stay, what crowds them gives way."""
    kept: list[_Key] = []
    for key in keys:
        while kept and key.firm and not kept[-1].firm and key.at - kept[-1].at < _SPACING_S and len(kept) > 1:
            kept.pop()
        if kept and key.at <= kept[-1].at + (1e-4 if key.firm else _SPACING_S):
            if not key.firm:
                continue
            key = key._replace(at=kept[-1].at + 1e-3)  # noqa: PLW2901 - two contacts in a row
        kept.append(key)
    return kept


def _accents(steps: Sequence[_Step]) -> tuple[Accent, ...]:
    found = []
    for before, step in pairwise(steps):
        if step.viseme and not before.viseme and before.end - before.start >= PAUSE_S:
            found.append(Accent(step.start, 3))
        if step.stress == 2:
            found.append(Accent((step.start + step.end) / 2, 2))
    return tuple(found)
