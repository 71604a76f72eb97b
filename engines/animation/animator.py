"""One control vector per frame: the mouth of what is said, and a face around it that listens, thinks, feels and breathes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.animation import upper
from engines.animation.moods import CUES, MIRRORED, MOODS
from engines.animation.mouth import Lips, Phone
from engines.animation.track import Track, Vector
from engines.animation.upper import Lids, Spring

__all__ = ["Animator"]

_PACE = 9.0
"""How fast posture and head follow (1/s): a change is seen after 50 ms and done after half a second."""
_MOOD_PACE = 6.0
_AGAIN_S = 5.0
"""After so long without a frame the face begins anew."""
_TURN = np.array((12.0, 7.5, 5.5))
"""The head stays within these degrees: beyond them no avatar has been trained well."""
_MOUTH = ("mouth", "jaw", "tongue", "cheekPuff")
_FARTHEST = np.array((25.0, 18.0))
"""Visitors farther aside are looked at from the corner of the eyes: gaze and head cannot do more."""
_NOTICED = 0.0005
_WHIM = 20  # the stream of noise that moves the brows


class _Pose(NamedTuple):
    """What a posture asks for: head in degrees, the rest control weights on top of the resting face."""

    pitch: float = 0.0
    roll: float = 0.0
    sway: float = 1.0  # how much the head drifts
    brow_inner: float = 0.0
    brow_outer: float = 0.0
    brow_down: float = 0.0
    wide: float = 0.0
    squint: float = 0.0
    follow: float = 0.25  # how far the head turns with the eyes


_POSES = {
    "idle": _Pose(sway=1.1, follow=0.35),
    "attentive": _Pose(sway=0.7, brow_inner=0.04, brow_outer=0.07, wide=0.05),
    "listening": _Pose(pitch=0.8, roll=2.4, sway=0.6, brow_inner=0.05, brow_outer=0.09, wide=0.05),
    "thinking": _Pose(pitch=-0.8, roll=-1.2, sway=0.8, brow_down=0.16, brow_inner=0.05, squint=0.08, follow=0.3),
    "speaking": _Pose(sway=1.5, brow_inner=-0.04, brow_outer=0.02, follow=0.3),
}


class _Look(NamedTuple):
    """The eyes rest at `place` from `at` to `until`."""

    place: tuple[float, float]
    at: float
    until: float


class _Act(NamedTuple):
    """What the reactions do together: nod (degrees down), shake (degrees aside), lift of the brows, widening of the eyes, smile."""

    nod: float
    shake: float
    lift: float
    wide: float
    smile: float


class Animator:
    """The face's movements. Deterministic: the same seed and the same calls give the same frames; no clock, no global state.

    `names` and `ranges` (n, 2) are the avatar pack's controls, `idle` (n,) its resting face. Controls that a pack does not have are
    left out. One thread at a time.
    """

    def __init__(self, names: Sequence[str], ranges: NDArray[np.float32], idle: Vector, seed: int = 0) -> None:
        self._seed = seed
        self._low, self._high = np.array(ranges, np.float32).T.copy()
        self._idle = np.clip(np.nan_to_num(np.array(idle, np.float32)), self._low, self._high)
        self._index = {name: i for i, name in enumerate(names)}
        self._mouth = np.array([i for i, n in enumerate(names) if n.startswith(_MOUTH)], np.intp)
        self._lips = Lips([names[i] for i in self._mouth], self._idle[self._mouth])
        self._smiles = [i for i, n in enumerate(names) if n.startswith("mouthSmile")]
        self._moods = {mood: self._felt(weights) for mood, weights in MOODS.items()}
        self._cues: deque[tuple[str, float]] = deque(maxlen=16)
        self._look = _Look((0.0, 0.0), -math.inf, -math.inf)
        self._last = -math.inf
        self._pose = Spring(np.array(_POSES["idle"]), _PACE)
        self._mood = Spring(np.zeros(len(names) + 2), _MOOD_PACE)
        self._turn = Spring(np.zeros(2), _PACE)
        self._lids = Lids(seed)
        self._gaze = self._aim = np.zeros(2)

    @property
    def idle(self) -> Vector:
        """The resting face, (n,)."""
        resting: Vector = self._idle.copy()
        return resting

    @property
    def silent(self) -> Track:
        """The track of somebody who says nothing."""
        return self._lips.still

    def speak(self, phones: Iterable[tuple[str, float, float] | Phone]) -> Track:
        """The mouth for phones, or (IPA or ARPAbet symbol, start, end), times in seconds on any line; all of a turn at once."""
        return self._lips.track(phones)

    def cue(self, kind: str, at_s: float) -> None:
        """React at `at_s` (the frames' time): one of CUES."""
        if kind not in CUES:
            raise ValueError(f"no reaction {kind!r}: {', '.join(CUES)}")
        self._cues.append((kind, at_s))

    def look(self, place: tuple[float, float], at_s: float, seconds: float = 0.9) -> None:
        """Look at something at `place` (yaw, pitch in degrees, as seen from the face) from `at_s` on for `seconds`."""
        if all(map(math.isfinite, (*place, at_s, seconds))):
            self._look = _Look(place, at_s, at_s + seconds)

    def frame(
        self,
        t_s: float,
        *,
        track: Track | None = None,
        position: float = 0.0,
        posture: str = "idle",
        target: tuple[float, float] = (0.0, 0.0),
        mood: str = "neutral",
        visitor: str = "neutral",
    ) -> Vector:
        """Controls at `t_s`, (n,) float32: always numbers within the ranges, whatever was asked for.

        `position`: what of `track` is heard then; `target`: yaw and pitch of the visitor; `mood`: one of MOODS (any other counts as
        neutral), which wins over the mood of the `visitor`. Frames are asked for in the order of time; a jump begins anew from the
        posture.
        """
        t = t_s if math.isfinite(t_s) else max(self._last, 0.0)
        step = t - self._last if 0 <= t - self._last < _AGAIN_S else math.inf
        self._last = t
        place = np.clip(np.nan_to_num(np.array(target, np.float64)), -_FARTHEST, _FARTHEST)
        pose = _Pose(*self._pose.follow(np.array(_POSES.get(posture, _POSES["attentive"])), step))
        out: Vector = self._idle.copy()
        track = track or self._lips.still
        lips = track.at(position)
        out[self._mouth] = lips
        felt = self._feel(mood, visitor, step)
        beat, stress = _prosody(track, position)
        act = self._reactions(t)
        aim, shift = self._direct(t, posture, place)
        yaw, pitch, roll = self._head(t, step, pose, aim, place)
        head = np.clip((yaw + act.shake, pitch + act.nod + beat + felt[-2], roll + felt[-1]), -_TURN, _TURN)
        self._eyes(out, t, step, head, posture, shift)
        for name, angle in zip(("yaw", "pitch", "roll"), head, strict=True):
            self._put(out, name, float(angle))
        breath, whim = upper.breath(self._seed, t), upper.noise(self._seed, _WHIM, t, 7.0)
        self._put(out, "browInnerUp", pose.brow_inner + 0.012 * breath + 0.02 * whim + 0.4 * act.lift + 0.35 * stress)
        self._put(out, "browOuterUp", pose.brow_outer + 0.008 * breath + 0.015 * whim + 0.5 * act.lift + 0.45 * stress)
        self._put(out, "browDown", pose.brow_down)
        self._put(out, "eyeWide", pose.wide + act.wide)
        self._put(out, "eyeSquint", pose.squint + 0.2 * act.smile)
        self._put(out, "cheekSquint", 0.25 * act.smile)
        if act.smile:  # on the mouth only while it speaks: at rest it is the pack's own, or the mood's
            moved = float(np.abs(lips - self._lips.rest).max(initial=0.0))
            out[self._smiles] += np.float32(0.15 * act.smile * min(1.0, moved / 0.15))
        out += felt[:-2].astype(np.float32)
        return np.clip(np.where(np.isfinite(out), out, self._idle), self._low, self._high)

    def _felt(self, weights: dict[str, float]) -> NDArray[np.float64]:
        """A mood's weights by control, then its pitch and roll."""
        found = np.zeros(len(self._idle) + 2)
        for name, value in weights.items():
            for part in (name, f"{name}_L", f"{name}_R"):
                if part in self._index and name not in {"pitch", "roll"}:
                    found[self._index[part]] = value
        found[-2:] = weights.get("pitch", 0.0), weights.get("roll", 0.0)
        return found

    def _feel(self, mood: str, visitor: str, step: float) -> NDArray[np.float64]:
        """The mood as it shows now: one's own, else half of what the visitor's calls for."""
        wanted = self._moods.get(mood, self._moods["neutral"])
        if not wanted.any() and visitor in MIRRORED:
            wanted = 0.5 * self._moods[MIRRORED[visitor]]
        felt = self._mood.follow(wanted, step)
        return np.where((wanted == 0) & (np.abs(felt) < _NOTICED), 0.0, felt)

    def _put(self, out: Vector, name: str, value: float) -> None:
        for part in (name, f"{name}_L", f"{name}_R"):
            i = self._index.get(part)
            if i is not None:
                out[i] += value

    def _reactions(self, t: float) -> _Act:
        nod = shake = lift = wide = smile = 0.0
        for kind, at in self._cues:
            x = (t - at) / CUES[kind]
            if not 0 <= x < 1:
                continue
            vigour = 1 + 0.12 * math.sin(78.233 * at)  # no two nods are the same
            if kind == "nod":  # down, up a little, down less: as one nods along
                nod += 2.1 * vigour * math.sin(3 * math.pi * x) * (1 - x) * (1.0 if x < 1 / 3 else 0.55)
                lift += 0.1 * math.sin(math.pi * x)
            elif kind == "shake":
                shake += 1.7 * vigour * math.sin(4 * math.pi * x) * math.sin(math.pi * x)
            elif kind == "brow":
                lift += 0.45 * vigour * math.sin(math.pi * x**0.75) ** 2  # up sooner than down
            elif kind == "glance":
                rise = min(1.0, x * CUES[kind] / 0.1) * upper.bump(max(0.0, (x - 0.4) / 0.6))
                wide += 0.22 * rise
                lift += 0.3 * rise
            else:
                smile += math.sin(math.pi * x) ** 2
        return _Act(nod, shake, min(lift, 0.6), min(wide, 0.3), min(smile, 1.0))

    def _direct(self, t: float, posture: str, place: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Where the eyes are to look (yaw, pitch), and by how many degrees that has just jumped."""
        if self._look.at <= t < self._look.until:
            aim = np.array(self._look.place)
        else:
            away = upper.glance(self._seed, t, posture)
            aim = place + np.array((away.yaw, away.pitch))
        shift = float(np.hypot(*(aim - self._aim)))
        self._aim = aim
        return aim, shift

    def _head(self, t: float, step: float, pose: _Pose, aim: NDArray[np.float64], place: NDArray[np.float64]) -> tuple[float, float, float]:
        """The head turns towards where the eyes look, later and less than they do."""
        turn = self._turn.follow(0.35 * place + pose.follow * (aim - place), step)
        yaw, pitch, roll = upper.drift(self._seed, t)
        return (
            float(turn[0]) + 1.5 * pose.sway * yaw,
            float(turn[1]) + pose.pitch + 0.9 * pose.sway * pitch + 0.3 * upper.breath(self._seed, t),
            pose.roll + 1.5 * pose.sway * roll,
        )

    def _eyes(self, out: Vector, t: float, step: float, head: NDArray[np.float64], posture: str, shift: float) -> None:
        """Gaze jumps (a saccade takes 40 ms) and holds its place while the head moves; lids blink."""
        aim = self._aim + upper.tremor(self._seed, t)
        self._gaze = aim + math.exp(-step / 0.018) * (self._gaze - aim)
        self._put(out, "gazeYaw", float(self._gaze[0] - head[0]))
        self._put(out, "gazePitch", float(self._gaze[1] - head[1]))
        self._put(out, "eyeBlink", self._lids.at(t, step, posture, shift))


def _prosody(track: Track, position: float) -> tuple[float, float]:
    """Head (degrees down) and brows (0..1) for the stressed syllables and phrase beginnings around `position`."""
    head = brows = 0.0
    for accent in track.accents_near(position, 0.5):
        x = position - accent.at
        if accent.strength == 3:  # a phrase begins: up with the brows, a little up with the head
            head -= 0.7 * upper.bump((x - 0.1) / 0.4)
            brows += 0.3 * upper.bump((x - 0.1) / 0.4)
        else:
            weight = 0.5 + 0.5 * math.sin(12.9898 * accent.at)  # not every stress is nodded
            head += 1.1 * weight * upper.bump((x - 0.03) / 0.22)
            brows += 0.12 * weight * upper.bump(x / 0.22)
    return max(-1.2, min(2.2, head)), min(0.45, brows)
