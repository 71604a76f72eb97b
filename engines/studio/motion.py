"""Move a frame by the motion of some of its points."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["moved", "spread"]

_FRAME, _GRID, _REACH = 512, 128, 6.0  # pixels; cells of the field; pixels over which a point's motion is spread


def spread(at: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (128 * 128, n), rows sum to 1, by which points at pixels (n, 2) of the frame move the cells of a field."""
    cells = (np.arange(_GRID, dtype=np.float32) + 0.5) * (_FRAME / _GRID)
    y, x = np.meshgrid(cells, cells, indexing="ij")
    square = (x.reshape(-1, 1) - at[:, 0]) ** 2 + (y.reshape(-1, 1) - at[:, 1]) ** 2
    near = np.exp(-(square - square.min(1, keepdims=True)) / (2 * _REACH**2))  # far from all points the nearest one counts
    return np.asarray(near / near.sum(1, keepdims=True), np.float32)


def moved(frame: NDArray[np.uint8], weights: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``frame`` (512, 512, c) with its content moved as the points of ``weights`` move ``by`` (n, 2) pixels.

    The points lie where the content arrives; for the pixel or two of a trembling head, where it comes from will do.
    """
    field = cv2.resize((weights @ by).reshape(_GRID, _GRID, 2).astype(np.float32), (_FRAME, _FRAME), interpolation=cv2.INTER_LINEAR)
    span = np.arange(_FRAME, dtype=np.float32)
    grid = np.stack(np.meshgrid(span, span), -1)
    return np.asarray(cv2.remap(frame, grid - field, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8)
