"""The last rung: a prepared idle clip that moves when no network can be run (law 1, the face never freezes)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer._types import Colour, PackError
from engines.renderer.compose import check_background, rgb_to_nv12
from engines.renderer.onnx_runtime import check_call
from engines.renderer.pack import load_manifest, load_picture

__all__ = ["BLINK_FRAMES", "SWAY_FRAMES", "TILE", "IdleLoop"]

TILE = 256  # pixels of one frame in the sheet
SWAY_FRAMES = 16  # one breath; the first and the last meet
BLINK_FRAMES = 4  # lids half, shut, shut, half, at the pose of sway frame 0
_DRAWS_PER_SWAY = 8  # draws from one key frame to the next: a breath takes 4.3 s at 30 frames a second


class IdleLoop:
    """``Renderer`` that ignores its controls and breathes and blinks: each draw is one step of the clip."""

    def __init__(self, path: Path) -> None:
        manifest = load_manifest(path)
        self.controls, self.ranges, self.idle, self.rungs = manifest.controls, manifest.ranges, manifest.idle, manifest.rungs
        file = manifest.file("idle")
        sheet = load_picture(file)
        columns = sheet.shape[1] // TILE
        count = SWAY_FRAMES + BLINK_FRAMES
        if columns * (sheet.shape[0] // TILE) < count:
            raise PackError(f"{file}: fewer than {count} frames of {TILE} pixels; install the avatar pack again")
        self._frames = [sheet[k // columns * TILE :][:TILE, k % columns * TILE :][:, :TILE].astype(np.float32) for k in range(count)]
        self._background = check_background((16, 18, 22))
        self._drawn = 0

    def set_background(self, rgb: NDArray[np.uint8] | Colour) -> None:
        """See ``Renderer``."""
        self._background = check_background(rgb)

    def draw(self, controls: NDArray[np.float32], out: NDArray[np.uint8], *, rung: int = 0) -> None:
        """See ``Renderer``; the controls only have to fit."""
        size = check_call(controls, out, self.idle, self.rungs, rung).width
        frame = self._next()
        behind = cv2.resize(self._background, (TILE, TILE), interpolation=cv2.INTER_AREA)
        alpha = frame[..., 3:] / 255
        picture = np.clip(frame[..., :3] * alpha + behind * (1 - alpha) + 0.5, 0, 255).astype(np.uint8)
        out[...] = rgb_to_nv12(cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR))

    def _next(self) -> NDArray[np.float32]:
        breath, blink = SWAY_FRAMES * _DRAWS_PER_SWAY, BLINK_FRAMES * 2
        step = self._drawn % (breath + blink)
        self._drawn += 1
        if step >= breath:
            return self._frames[SWAY_FRAMES + (step - breath) // 2]
        k, rest = divmod(step, _DRAWS_PER_SWAY)
        t = np.float32(rest / _DRAWS_PER_SWAY)
        return np.asarray(self._frames[k] * (1 - t) + self._frames[(k + 1) % SWAY_FRAMES] * t, np.float32)
