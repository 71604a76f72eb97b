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
    """``Renderer`` that ignores its controls and breathes and blinks: each draw is one step of the clip.

    A frame of the clip is made into NV12 when it is first shown at a rung, and kept; after one breath a draw only mixes two of them.
    """

    def __init__(self, path: Path) -> None:
        manifest = load_manifest(path)
        self.controls, self.ranges, self.idle, self.rungs = manifest.controls, manifest.ranges, manifest.idle, manifest.rungs
        file = manifest.file("idle")
        sheet = load_picture(file)
        columns = sheet.shape[1] // TILE
        count = SWAY_FRAMES + BLINK_FRAMES
        if columns * (sheet.shape[0] // TILE) < count:
            raise PackError(f"{file}: fewer than {count} frames of {TILE} pixels; install the avatar pack again")
        self._frames = [sheet[k // columns * TILE :][:TILE, k % columns * TILE :][:, :TILE] for k in range(count)]
        self._background = check_background((16, 18, 22))
        self._made: dict[tuple[int, int], NDArray[np.uint8]] = {}  # (frame, size)
        self._drawn = 0

    def set_background(self, rgb: NDArray[np.uint8] | Colour) -> None:
        """See ``Renderer``."""
        self._background = check_background(rgb)
        self._made.clear()

    def draw(self, controls: NDArray[np.float32], out: NDArray[np.uint8], *, rung: int = 0) -> None:
        """See ``Renderer``; the controls only have to fit."""
        size = check_call(controls, out, self.idle, self.rungs, rung).width
        breath, blink = SWAY_FRAMES * _DRAWS_PER_SWAY, BLINK_FRAMES * 2
        step = self._drawn % (breath + blink)
        self._drawn += 1
        if step >= breath:
            out[...] = self._picture(SWAY_FRAMES + (step - breath) // 2, size)
            return
        k, rest = divmod(step, _DRAWS_PER_SWAY)
        t = rest / _DRAWS_PER_SWAY
        cv2.addWeighted(self._picture(k, size), 1 - t, self._picture((k + 1) % SWAY_FRAMES, size), t, 0, dst=out)

    def _picture(self, k: int, size: int) -> NDArray[np.uint8]:
        """Frame ``k`` of the clip over the background, as NV12."""
        found = self._made.get((k, size))
        if found is None:
            frame = self._frames[k].astype(np.float32)
            behind = cv2.resize(self._background, (TILE, TILE), interpolation=cv2.INTER_AREA)
            alpha = frame[..., 3:] / 255
            picture = np.clip(frame[..., :3] * alpha + behind * (1 - alpha) + 0.5, 0, 255).astype(np.uint8)
            found = self._made[k, size] = rgb_to_nv12(cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR))
        return found
