"""From timed phonemes to the lips: keys at the sounds, shapes that lean towards their neighbours, smooth curves between.

The curve is a monotone cubic through the keys, so there is no filter and no lag: a vowel is widest at its centre, lips that must meet
have met during the whole contact, and the mouth prepares a word before it sounds. Outside of speech it is exactly the mouth at rest.

Contacts (lips of m b p, lip and teeth of f v) are placed first, each long enough for a frame at 25 fps; whatever else is said fits into
what they leave, however fast the speech is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from engines.animation.track import RELEASE_S, Accent, Key, Track, Vector
from engines.animation.visemes import VISEMES, sounds

__all__ = ["Lips", "Phone"]


class Phone(NamedTuple):
    """An IPA or ARPAbet symbol from `start` to `end` (s; empty: a pause) and how loud it sounds (dBFS, RMS; NaN: not known)."""

    symbol: str
    start: float
    end: float
    level_db: float = math.nan


ANTICIPATION_S = 0.11
"""The lips leave their rest this long before the first sound, as people's do (80-120 ms)."""
PAUSE_S = 0.16
"""A silence at least this long closes the mouth."""
CONTACT_S = 0.046
"""The shortest time that lips or teeth touch: more than a frame at 25 fps, or no frame might show it."""
LOUD_DB = -19.0
"""A vowel this loud opens the mouth as its recipe says: the typical one of voices whose speech is levelled at -20 dBFS."""
_SPACING_S = 0.025
_SQUEEZED_S = 0.01  # a sound between two contacts is shown as long as there is a moment for it
_FULL_S = 0.11
_STRESS = (0.82, 0.95, 1.08)
_FAR_S = 1e8  # three years: a time beyond is a mistake, and so far out two keys would fall on one moment
_PER_DB = 0.05
_QUIETEST, _LOUDEST = 0.6, 1.2
_ROUNDED = 0.25


class _Step(NamedTuple):
    """A sound in time; viseme "" is a pause."""

    viseme: str
    start: float
    end: float
    stress: int
    level_db: float = math.nan


class _Contact(NamedTuple):
    """When lips or teeth touch, and for which steps: the first and the last of neighbours that want the same."""

    begin: float
    end: float
    first: int
    last: int


_first = attrgetter("first")


class Lips:
    """Makes tracks for one face: `names` of its mouth controls, their values at rest."""

    def __init__(self, names: Sequence[str], rest: Vector) -> None:
        self.rest = self._rest = np.array(rest, np.float32)
        self._rest.setflags(write=False)
        self._index = {name: i for i, name in enumerate(names)}
        self._smile = np.array([n.startswith(("mouthSmile", "mouthDimple")) for n in names])
        self._tongue = np.array([n == "tongueUp" for n in names])
        self._jaw = np.array([n == "jawOpen" for n in names])
        self._pucker = np.array([n == "mouthPucker" for n in names])
        self._shapes = {name: self._recipe(v.weights, v.smile) for name, v in VISEMES.items()}
        self.still = Track(self._rest, ())

    def _recipe(self, weights: dict[str, float], smile: float) -> Vector:
        shape: Vector = np.where(self._smile, self._rest * np.float32(smile), np.float32(0))
        for name, value in weights.items():
            for part in (name, f"{name}_L", f"{name}_R"):
                if part in self._index:
                    shape[self._index[part]] += np.float32(value)
        return shape

    def track(self, phones: Iterable[tuple[str, float, float] | Phone]) -> Track:
        """The mouth for `phones`, in order; what lies between them or is empty is a pause, times that are no numbers are left out."""
        steps = _steps(phones)
        contacts = _contacts(steps)
        firm = [(Key(c.begin, self._shape(steps, c.first), firm=True), Key(c.end, self._shape(steps, c.last), firm=True)) for c in contacts]
        soft: list[Key] = []
        for i, step in enumerate(steps):
            if not step.viseme:
                self._pause(soft, steps, i)
            elif not VISEMES[step.viseme].holds:
                self._say(soft, steps, i, contacts)
        return Track(self._rest, _woven(firm, soft), _accents(steps))

    def _say(self, keys: list[Key], steps: Sequence[_Step], i: int, contacts: Sequence[_Contact]) -> None:
        step, length = steps[i], steps[i].end - steps[i].start
        shape = self._shape(steps, i)
        if length > 0.16:
            soft = 0.8 * shape + 0.2 * self._rest
            keys += [
                Key(step.start + 0.2 * length, soft),
                Key(step.start + 0.46 * length, shape),
                Key(step.start + 0.82 * length, soft),
            ]
        else:
            keys.append(Key(_between(step.start + 0.46 * length, i, contacts), shape))

    def _shape(self, steps: Sequence[_Step], i: int) -> Vector:
        """The sound's own shape, scaled by stress, loudness and length, leaning towards the vowels around it."""
        step = steps[i]
        viseme = VISEMES[step.viseme]
        own = self._shapes[step.viseme]
        if viseme.vowel:
            scale = _openness(step) * min(1.0, 0.45 + 0.55 * (step.end - step.start) / _FULL_S)
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
        if viseme.holds:  # closed lips may be pushed forward for what comes, but no more: a funnel would part them
            return np.where(self._pucker, _ROUNDED * lean, own).astype(np.float32)
        return own

    def _vowel(self, steps: Sequence[_Step], i: int, way: int) -> Vector | None:
        for k in range(i + way, i + 4 * way, way):
            if not 0 <= k < len(steps) or not steps[k].viseme:
                return None
            if VISEMES[steps[k].viseme].vowel:
                return self._shapes[steps[k].viseme]
        return None

    def _pause(self, keys: list[Key], steps: Sequence[_Step], i: int) -> None:
        step, length = steps[i], steps[i].end - steps[i].start
        if i == 0:
            keys.append(Key(step.end - ANTICIPATION_S, self._rest))
        elif i == len(steps) - 1:
            keys.append(Key(step.start + RELEASE_S, self._rest))
        elif length >= PAUSE_S + 0.1:
            keys += [Key(step.start + RELEASE_S, self._rest), Key(max(step.end - ANTICIPATION_S, step.start + RELEASE_S), self._rest)]
        elif length >= PAUSE_S:
            keys.append(Key((step.start + step.end) / 2, self._rest))
        elif length > 0.06 and keys and not VISEMES[steps[i - 1].viseme].holds:
            keys.append(Key((step.start + step.end) / 2, 0.5 * keys[-1].shape + 0.5 * self._rest))


def _openness(step: _Step) -> float:
    """How far a vowel opens the mouth, 1 as its recipe says: by how loud it is, else by its stress."""
    if math.isfinite(step.level_db):
        return min(max(1 + _PER_DB * (step.level_db - LOUD_DB), _QUIETEST), _LOUDEST)
    return _STRESS[step.stress]


def _steps(phones: Iterable[tuple[str, float, float] | Phone]) -> list[_Step]:
    """Sounds and pauses without gaps, beginning and ending with a pause; several sounds of one phoneme share its time."""
    steps: list[_Step] = []
    for symbol, begin, end, level in (Phone(*phone) for phone in phones):
        start = max(begin, steps[-1].end) if steps else begin
        if not -_FAR_S < start < end < _FAR_S:
            continue
        if steps and start - steps[-1].end > 0.001:
            steps.append(_Step("", steps[-1].end, start, 0))
        found = sounds(symbol)
        at = start
        for sound in found:
            to = at + sound.share * (end - start)
            steps.append(_Step(sound.viseme, at, to, sound.stress, level))
            at = to
        if not found:
            steps.append(_Step("", start, end, 0))
    while steps and not steps[0].viseme:
        steps.pop(0)
    while steps and not steps[-1].viseme:
        steps.pop()
    if not steps:
        return []
    begin, finish = steps[0].start, steps[-1].end
    return _joined([_Step("", begin - 1, begin, 0), *steps, _Step("", finish, finish + 1, 0)])


def _joined(steps: Iterable[_Step]) -> list[_Step]:
    """Pauses in a row are one."""
    found: list[_Step] = []
    for step in steps:
        if found and not found[-1].viseme and not step.viseme:
            found[-1] = found[-1]._replace(end=step.end)
        else:
            found.append(step)
    return found


def _contacts(steps: Sequence[_Step]) -> list[_Contact]:
    """From a little before the sound to nearly its end (lips that open late would show the burst as a blur), and never too short to be
    seen. A lip cannot be at the other lip and at the teeth: between two contacts there is time to change.
    """
    found: list[_Contact] = []
    for i, step in enumerate(steps):
        if not step.viseme or not VISEMES[step.viseme].holds:
            continue
        if found and found[-1].last == i - 1 and steps[i - 1].viseme == step.viseme:
            found[-1] = found[-1]._replace(end=step.end - 0.012, last=i)
        else:
            found.append(_Contact(step.start - 0.008, step.end - 0.012, i, i))
    found = [_lengthened(c) for c in found]
    for k in range(len(found) - 1):
        one, other = found[k], found[k + 1]
        if other.begin - one.end < _SPACING_S:
            turn = (one.end + other.begin) / 2
            found[k] = one._replace(end=turn - _SPACING_S / 2, begin=min(one.begin, turn - _SPACING_S / 2 - CONTACT_S))
            found[k + 1] = other._replace(begin=turn + _SPACING_S / 2, end=max(other.end, turn + _SPACING_S / 2 + CONTACT_S))
    for k in range(len(found) - 1, 0, -1):  # what the widening above took from a contact before
        latest = found[k].begin - _SPACING_S
        if found[k - 1].end > latest:
            found[k - 1] = found[k - 1]._replace(end=latest, begin=min(found[k - 1].begin, latest - 0.02))
    return found


def _lengthened(contact: _Contact) -> _Contact:
    missing = CONTACT_S - (contact.end - contact.begin)
    return contact if missing <= 0 else contact._replace(begin=contact.begin - missing / 2, end=contact.end + missing / 2)


def _between(at: float, i: int, contacts: Sequence[_Contact]) -> float:
    """The moment for step `i`: `at`, or as far as the contacts before and after it leave room."""
    after = bisect_left(contacts, i, key=_first)
    low = contacts[after - 1].end + _SPACING_S if after else -math.inf
    high = contacts[after].begin - _SPACING_S if after < len(contacts) else math.inf
    return min(max(at, low), high) if low <= high else (low + high) / 2


def _woven(firm: Sequence[tuple[Key, Key]], soft: Sequence[Key]) -> list[Key]:
    """Keys in order and not closer than a mouth can follow; contacts stay, what crowds them gives way."""
    kept: list[Key] = []
    spans = list(firm)
    for key in soft:
        while spans and spans[0][1].at < key.at:
            kept += spans.pop(0)
        before = key.at - kept[-1].at if kept else math.inf
        after = spans[0][0].at - key.at if spans else math.inf
        if before >= (_SQUEEZED_S if kept and kept[-1].firm else _SPACING_S) - 1e-9 and after >= _SQUEEZED_S - 1e-9:
            kept.append(key)
    for span in spans:
        kept += span
    return kept


def _accents(steps: Sequence[_Step]) -> tuple[Accent, ...]:
    found = []
    for before, step in pairwise(steps):
        if step.viseme and not before.viseme and before.end - before.start >= PAUSE_S:
            found.append(Accent(step.start, 3))
        if step.stress == 2:
            found.append(Accent((step.start + step.end) / 2, 2))
    return tuple(found)
