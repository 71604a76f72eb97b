"""A face drawn with a few ellipses: what moves when no avatar pack can be read at all (law 1: the face never freezes)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer import Rung

__all__ = ["Card"]

_CONTROLS = (
    "jawOpen", "mouthPucker", "mouthSmile_L", "mouthSmile_R", "eyeBlink_L", "eyeBlink_R", "browInnerUp_L", "browInnerUp_R",
    "gazeYaw", "gazePitch", "yaw", "pitch", "roll",
)  # fmt: skip
_ANGLES = {"gazeYaw": 30.0, "gazePitch": 20.0, "yaw": 16.0, "pitch": 10.0, "roll": 8.0}
_SKIN, _INK, _MOUTH, _WHITE = (226, 188, 160), (70, 52, 46), (150, 66, 62), (250, 250, 248)
_SIZE = 384
_Colour = tuple[int, int, int]


class Card:
    """Satisfies `engines.renderer.Renderer` without any file; one rung of 384 pixels. Equal controls give equal pictures."""

    def __init__(self, background: _Colour = (233, 228, 218)) -> None:
        self.controls: tuple[str, ...] = _CONTROLS
        self.ranges: NDArray[np.float32] = np.array([[-_ANGLES[n], _ANGLES[n]] if n in _ANGLES else [0, 1] for n in _CONTROLS], np.float32)
        self.idle: NDArray[np.float32] = np.array([0.25 if n.startswith("mouthSmile") else 0.0 for n in _CONTROLS], np.float32)
        self.rungs: tuple[Rung, ...] = (Rung("card", _SIZE, _SIZE),)
        self._background = background

    def set_background(self, rgb: NDArray[np.uint8] | _Colour) -> None:
        """One colour; of a picture its mean."""
        mean = rgb if isinstance(rgb, tuple) else np.asarray(rgb).reshape(-1, 3).mean(0)
        self._background = (int(mean[0]), int(mean[1]), int(mean[2]))

    def draw(self, controls: NDArray[np.float32], out: NDArray[np.uint8], *, rung: int = 0) -> None:  # noqa: ARG002 - there is one rung
        """Draw into `out` (576, 384) as full-range BT.709 NV12. Raises ValueError for another shape."""
        if out.shape != (_SIZE * 3 // 2, _SIZE):
            raise ValueError(f"the card is drawn into {(_SIZE * 3 // 2, _SIZE)}, not {out.shape}")
        v = dict(zip(_CONTROLS, np.clip(np.nan_to_num(controls), *self.ranges.T).tolist(), strict=True))
        _Plane(out[:_SIZE], 1.0, luma=True).face(v, self._background)
        _Plane(out[_SIZE:].reshape(_SIZE // 2, _SIZE // 2, 2), 0.5, luma=False).face(v, self._background)


class _Plane:
    """The luma or the chroma plane of the picture; places are given in the picture's pixels, colours in RGB."""

    def __init__(self, pixels: NDArray[np.uint8], scale: float, *, luma: bool) -> None:
        self._pixels, self._scale, self._luma = pixels, scale, luma

    def face(self, v: dict[str, float], background: _Colour) -> None:
        """Draw everything, back to front."""
        self._pixels[:] = self._value(background)
        x, y = _SIZE / 2 + 2.2 * v["yaw"], _SIZE / 2 + 2.0 * v["pitch"]
        self._ellipse((x, y), (118, 146), _SKIN, angle=v["roll"])
        for side, blink, brow in ((-1, v["eyeBlink_R"], v["browInnerUp_R"]), (1, v["eyeBlink_L"], v["browInnerUp_L"])):
            at = x + side * 46 + 0.8 * v["yaw"]
            self._eye((at, y - 30), blink, v["gazeYaw"], v["gazePitch"])
            self._ellipse((at, y - 62 - 14 * brow), (28, 8), _INK, arc=(200, 340), line=5)
        self._lips((x + 1.1 * v["yaw"], y + 72), v)

    def _eye(self, at: tuple[float, float], blink: float, yaw: float, pitch: float) -> None:
        height = 15 * (1 - blink)
        if height < 2:
            self._ellipse(at, (24, 4), _INK, arc=(0, 180), line=3)
            return
        self._ellipse(at, (24, height), _WHITE)
        self._ellipse((at[0] + 0.45 * yaw, at[1] + 0.4 * pitch), (10, min(10, height)), _INK)

    def _lips(self, at: tuple[float, float], v: dict[str, float]) -> None:
        wide, opening = 44 * (1 - 0.55 * v["mouthPucker"]), 46 * v["jawOpen"]
        if opening > 2:
            self._ellipse(at, (wide, 4 + opening), _MOUTH)
        else:
            lift = 11 * (v["mouthSmile_L"] + v["mouthSmile_R"])
            self._ellipse((at[0], at[1] - lift), (wide, max(lift, 1)), _MOUTH, arc=(0, 180), line=6)

    def _ellipse(
        self,
        at: tuple[float, float],
        radii: tuple[float, float],
        colour: _Colour,
        *,
        angle: float = 0.0,
        arc: tuple[int, int] = (0, 360),
        line: int = 0,
    ) -> None:
        k = self._scale
        centre, axes = (round(at[0] * k), round(at[1] * k)), (max(round(radii[0] * k), 1), max(round(radii[1] * k), 1))
        cv2.ellipse(self._pixels, centre, axes, angle, *arc, self._value(colour), max(round(line * k), 1) if line else -1, cv2.LINE_AA)

    def _value(self, rgb: _Colour) -> tuple[float, ...]:
        """Full-range BT.709."""
        y = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]
        return (round(y),) if self._luma else (_chroma((rgb[2] - y) / 1.8556), _chroma((rgb[0] - y) / 1.5748))


def _chroma(value: float) -> int:
    return min(max(round(value + 128), 0), 255)
