"""Whether a film of a person is good enough to learn the face from, and what to film again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.studio.film import Watched
from engines.studio.rig import INDEX

__all__ = ["Finding", "judge"]


class Finding(NamedTuple):
    """One property of a film: its value, whether that is enough, and what to do if it is not."""

    what: str
    value: float
    good: bool
    advice: str


_MIN_FACE = 180.0  # pixels across; a patch of the drawn mouth has 144 for about a third of that
_DARK, _BRIGHT, _CLIPPED, _UNEVEN = 60.0, 200.0, 0.05, 0.45
_SHARP = 60.0  # variance of the Laplacian at 128 pixels across: the stock face's frames have 400, out of focus about 20
# name, controls, how far the widest frames (98th percentile, or the 2nd for the other direction) must reach, what to do.
_RANGE = (
    ("jaw", ("jawOpen",), 0.35, "open the mouth wide, several times"),
    ("smile", ("mouthSmile_L", "mouthSmile_R"), 0.4, "smile broadly"),
    ("pucker", ("mouthPucker", "mouthFunnel"), 0.3, "round the lips: say 'oo', 'oh', 'sh'"),
    ("blink", ("eyeBlink_L", "eyeBlink_R"), 0.4, "close the eyes for a moment, several times"),
    ("brows", ("browInnerUp_L", "browOuterUp_L"), 0.3, "raise the brows"),
)
_TURNS = (
    ("gaze to the sides", "gazeYaw", 8.0, "look to the left and to the right without turning the head"),
    ("gaze up and down", "gazePitch", 4.0, "look up and down without moving the head"),
    ("head to the sides", "yaw", 7.0, "turn the head slowly to the left and to the right"),
    ("head up and down", "pitch", 4.0, "nod slowly up and down"),
)


def judge(watched: Watched, controls: NDArray[np.float32], across: float) -> list[Finding]:
    """All findings about a film; ``across`` is the face's width in pixels of the film."""
    light, clipped = float(np.median(watched.light)), float(np.median(watched.clipped))
    uneven = float(np.median(np.abs(watched.sides[:, 0] - watched.sides[:, 1]) / np.maximum(watched.sides.mean(1), 1)))
    sharp = float(np.median(watched.sharp))
    found = [
        Finding(
            "face, pixels across",
            across,
            across >= _MIN_FACE,
            f"come nearer: the face is {across:.0f} pixels wide, {_MIN_FACE:.0f} are needed",
        ),
        Finding("light", light, _DARK <= light <= _BRIGHT, "more light on the face" if light < _DARK else "less light on the face"),
        Finding("clipped", clipped, clipped <= _CLIPPED, "softer light: parts of the face are black or white"),
        Finding("unevenness of light", uneven, uneven <= _UNEVEN, "light from both sides: half of the face is dark"),
        Finding("sharpness", sharp, sharp >= _SHARP, "focus on the face and keep the camera still: the film is blurred"),
    ]
    for name, keys, wanted, advice in _RANGE:
        reach = float(np.quantile(controls[:, [INDEX[k] for k in keys]].max(1), 0.98))
        found.append(Finding(name, reach, reach >= wanted, advice))
    for name, key, wanted, advice in _TURNS:
        low, high = np.quantile(controls[:, INDEX[key]], [0.02, 0.98])
        reach = float(min(-low, high))
        found.append(Finding(name, reach, reach >= wanted, advice))
    return found
