"""One control vector per frame: the mouth of what is said, and a face around it that listens, thinks and breathes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.animation import upper
from engines.animation.mouth import Lips, Phone
from engines.animation.track import Track, Vector

__all__ = ["CUES", "Animator"]

CUES = {"nod": 0.75, "brow": 0.7, "glance": 0.9, "smile": 2.6}
"""Short reactions and how long they last (s): a nod, a lift of the brows, a look of attention, a smile of the eyes."""

_RISE = 7.0
"""How fast posture and head follow (1/s): a change is seen after 50 ms and done after half a second."""
_MAX_STEP_S = 0.1
_MOUTH = ("mouth", "jaw", "tongue", "cheekPuff")


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


class Animator:
    """The face's movements. Deterministic: the same seed and the same calls give the same frames; no clock, no global state.

    `names` and `ranges` (n, 2) are the avatar pack's controls, `idle` (n,) its resting face. Controls that a pack does not have are
    left out. One thread at a time.
    """

    def __init__(self, names: Sequence[str], ranges: NDArray[np.float32], idle: Vector, seed: int = 0) -> None:
        self._seed = seed
        self._low, self._high = np.array(ranges, np.float32).T.copy()
        self._idle = np.clip(np.array(idle, np.float32), self._low, self._high)
        self._index = {name: i for i, name in enumerate(names)}
        self._mouth = np.array([i for i, n in enumerate(names) if n.startswith(_MOUTH)], np.intp)
        self._lips = Lips([names[i] for i in self._mouth], self._idle[self._mouth])
        self._smiles = [i for i, n in enumerate(names) if n.startswith("mouthSmile")]
        self._cues: deque[tuple[str, float]] = deque(maxlen=16)
        self._last = -math.inf
        self._pose = np.array(_POSES["idle"])
        self._gaze = np.zeros(2)
        self._turn = np.zeros(2)

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

    def frame(
        self,
        t_s: float,
        *,
        track: Track | None = None,
        position: float = 0.0,
        posture: str = "idle",
        target: tuple[float, float] = (0.0, 0.0),
    ) -> Vector:
        """Controls at `t_s`, (n,) float32 within the ranges.

        `position`: what of `track` is heard then; `target`: yaw and pitch of the visitor. Frames are asked for in the order of time;
        a jump back begins anew from the posture.
        """
        step = t_s - self._last
        self._last = t_s
        ease = 1.0 if not 0 <= step < 5 else 1 - math.exp(-_RISE * min(step, _MAX_STEP_S))
        self._pose += ease * (np.array(_POSES.get(posture, _POSES["attentive"])) - self._pose)
        pose = _Pose(*self._pose)
        out: Vector = self._idle.copy()
        track = track or self._lips.still
        lips = track.at(position)
        out[self._mouth] = lips
        nod, lift, wide, smile = self._reactions(t_s)
        beat, stress = _prosody(track, position)
        away = upper.glance(self._seed, t_s, posture)
        yaw, pitch, roll = self._head(t_s, pose, away, target, ease)
        pitch += nod + beat
        self._eyes(out, t_s, (yaw, pitch), away, target, step)
        self._put(out, "yaw", yaw)
        self._put(out, "pitch", pitch)
        self._put(out, "roll", roll)
        breath = upper.breath(t_s)
        self._put(out, "browInnerUp", pose.brow_inner + 0.012 * breath + 0.4 * lift + 0.35 * stress)
        self._put(out, "browOuterUp", pose.brow_outer + 0.008 * breath + 0.5 * lift + 0.45 * stress)
        self._put(out, "browDown", pose.brow_down)
        self._put(out, "eyeWide", pose.wide + wide)
        self._put(out, "eyeSquint", pose.squint + 0.2 * smile)
        self._put(out, "cheekSquint", 0.25 * smile)
        if smile:  # on the mouth only while it speaks: at rest it is the pack's own
            moved = float(np.abs(lips - self._lips.rest).max(initial=0.0))
            out[self._smiles] += np.float32(0.15 * smile * min(1.0, moved / 0.15))
        np.clip(out, self._low, self._high, out=out)
        return out

    def _put(self, out: Vector, name: str, value: float) -> None:
        for part in (name, f"{name}_L", f"{name}_R"):
            i = self._index.get(part)
            if i is not None:
                out[i] += value

    def _reactions(self, t: float) -> tuple[float, float, float, float]:
        """Nod (degrees), lift of the brows, widening of the eyes, smile at `t`."""
        nod = lift = wide = smile = 0.0
        for kind, at in self._cues:
            x = (t - at) / CUES[kind]
            if not 0 <= x < 1:
                continue
            if kind == "nod":  # down, up a little, down less: as one nods along
                nod += 2.1 * math.sin(3 * math.pi * x) * (1 - x) * (1.0 if x < 1 / 3 else 0.55)
                lift += 0.1 * math.sin(math.pi * x)
            elif kind == "brow":
                lift += 0.45 * math.sin(math.pi * x) ** 2
            elif kind == "glance":
                rise = min(1.0, x * CUES[kind] / 0.1) * upper.bump(max(0.0, (x - 0.4) / 0.6))
                wide += 0.22 * rise
                lift += 0.3 * rise
            else:
                smile += math.sin(math.pi * x) ** 2
        return nod, min(lift, 0.6), min(wide, 0.3), min(smile, 1.0)

    def _head(self, t: float, pose: _Pose, away: upper.Glance, target: tuple[float, float], ease: float) -> tuple[float, float, float]:
        """The head turns towards where the eyes look, later and less than they do."""
        aim = np.array(target) * 0.35 + pose.follow * np.array((away.yaw, away.pitch))
        self._turn += 0.6 * ease * (aim - self._turn)
        yaw, pitch, roll = upper.drift(self._seed, t)
        return (
            float(self._turn[0]) + 1.3 * pose.sway * yaw,
            float(self._turn[1]) + pose.pitch + 0.8 * pose.sway * pitch + 0.3 * upper.breath(t),
            pose.roll + 0.9 * pose.sway * roll,
        )

    def _eyes(self, out: Vector, t: float, head: tuple[float, float], away: upper.Glance, target: tuple[float, float], step: float) -> None:
        """Gaze jumps (a saccade takes 40 ms) and holds its place while the head moves; lids blink."""
        small = upper.tremor(self._seed, t)
        aim = np.array(target) + np.array((away.yaw, away.pitch)) + np.array(small)
        self._gaze += (1.0 if not 0 <= step < 5 else 1 - math.exp(-step / 0.018)) * (aim - self._gaze)
        self._put(out, "gazeYaw", float(self._gaze[0]) - head[0])
        self._put(out, "gazePitch", float(self._gaze[1]) - head[1])
        self._put(out, "eyeBlink", upper.blink(self._seed, t))


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
