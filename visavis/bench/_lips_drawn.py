"""Whether the lips of drawn frames are as their controls say, read by FaceLandmarker, whose own line between closed and open is found on
rendered frames of the rig.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer import Renderer
from engines.vision.landmarks import FaceLandmarker
from visavis.bench._lips import CLOSED_PX, Anatomy
from visavis.rehearse.frames import frame_rgb

__all__ = ["OPEN_PX", "Moment", "Ruler", "agreement", "line_between"]

OPEN_PX = 3.0
"""Lips at least this far apart are open; what lies between this and CLOSED_PX is neither, and nobody needs to agree."""
_BEHIND = (128, 128, 128)


class Moment(NamedTuple):
    """Controls of a frame, and how far apart the rig's lips are with them (px at 512)."""

    controls: NDArray[np.float32]
    gap: float


class Ruler:
    """Reads drawn lips. `figures`: where the line is, and how often the ruler is right on rendered frames not used to find it.

    Raises EngineError, OSError, ValueError.
    """

    def __init__(self, data: Path, task: Path, anatomy: Anatomy, frames: int, seed: int) -> None:
        self._landmarker = FaceLandmarker(task)
        readings, gaps = self._rendered(data, anatomy, frames, seed)
        half = np.arange(len(gaps)) % 2 == 0
        self.line = line_between(readings[half & (gaps <= CLOSED_PX)], readings[half & (gaps >= OPEN_PX)])
        closed, opened = (readings[~half & chosen] for chosen in (gaps <= CLOSED_PX, gaps >= OPEN_PX))
        self.figures = {
            "line": self.line,
            "closed": len(closed),
            "closed_right": float(np.mean(closed <= self.line)),
            "open": len(opened),
            "open_right": float(np.mean(opened > self.line)),
        }

    def _rendered(self, data: Path, anatomy: Anatomy, frames: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mouth openings as read, and the true gaps, of rendered frames: as many closed as open ones if there are so many."""
        labels = np.load(data / "controls.npz", allow_pickle=False)
        there = np.flatnonzero(labels["rendered"])
        gaps, _ = anatomy.measure(labels["values"][there])
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(there))
        picked = np.concatenate([order[gaps[order] <= CLOSED_PX][: frames // 2], order[gaps[order] >= OPEN_PX][: frames // 2]])
        picked = rng.permutation(picked)
        read = np.array([self.opening(_rendered_frame(data / "frames" / f"{there[k]:05d}.webp")) for k in picked])
        known = np.isfinite(read)
        return read[known], gaps[picked][known]

    def opening(self, rgb: NDArray[np.uint8]) -> float:
        """How open the mouth is in a picture, as a share of the face's height; NaN without a face."""
        return self._landmarker.mouth_opening(rgb)


def line_between(closed: NDArray[np.float64], opened: NDArray[np.float64]) -> float:
    """The reading that parts `closed` from `opened` with the fewest mistakes, each kind weighed alike. Raises ValueError without both."""
    if not len(closed) or not len(opened):
        raise ValueError("the rendered frames have no closed lips, or no open ones: nothing to calibrate on")
    values = np.unique(np.concatenate([closed, opened]))
    lines = (values[:-1] + values[1:]) / 2
    right = [(closed <= line).mean() + (opened > line).mean() for line in lines]
    best = np.flatnonzero(np.isclose(right, max(right)))
    return float(lines[best[len(best) // 2]])


def _rendered_frame(path: Path) -> NDArray[np.uint8]:
    """A rendered frame over grey, (h, w, 3) RGB."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        raise ValueError(f"{path}: no RGBA picture")
    alpha = picture[..., 3:].astype(np.float32) / 255
    return np.asarray(picture[..., 2::-1] * alpha + _BEHIND[0] * (1 - alpha) + 0.5, np.uint8)


def agreement(face: Renderer, moments: Mapping[str, Sequence[Moment]], ruler: Ruler, frames: int, seed: int) -> dict[str, Any]:
    """Draw up to `frames` moments of each kind at the best rung, and count how often the ruler reads closed lips for PP, open ones for FF,
    and for any moment what the controls say, if they say something clear.
    """
    face.set_background(_BEHIND)
    rng = random.Random(seed)
    size = face.rungs[0]
    out = np.empty((size.height * 3 // 2, size.width), np.uint8)
    found: dict[str, Any] = {"rung": size.name}
    without = 0
    for kind, name in (("PP", "lips"), ("FF", "lip_and_teeth"), ("any", "any")):
        wanted = [m for m in moments[kind] if kind != "any" or m.gap <= CLOSED_PX or m.gap >= OPEN_PX]
        agreed = []
        for moment in rng.sample(wanted, min(frames, len(wanted))):
            closed = moment.gap <= CLOSED_PX if kind == "any" else kind == "PP"
            face.draw(moment.controls, out)
            reading = ruler.opening(frame_rgb(out))
            without += not np.isfinite(reading)
            agreed.append(reading <= ruler.line if closed else reading > ruler.line)
        found |= {name: len(agreed), f"{name}_agree": float(np.mean(agreed)) if agreed else 0.0}
    return found | {"without_a_face": without}
