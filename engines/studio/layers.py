"""Part the first picture into a plate and the hair before it, from the rig's projected points.

The hair layer spans ``HAIR_BOX`` of the frame at rest. Training moves both pictures from here; this only has to say which
pixel belongs to whom and what may lie beneath the hair: skin inside the face's outline, nothing outside of it.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer.compose import HAIR_BOX

__all__ = ["Layers", "part"]


class Layers(NamedTuple):
    """``plate`` (512, 512, 4) and ``hair`` (376, 320, 4), premultiplied RGBA 0..1 float32."""

    plate: NDArray[np.float32]
    hair: NDArray[np.float32]


def _disc(points: NDArray[np.float32], radius: int) -> NDArray[np.uint8]:
    mask = np.zeros((512, 512), np.uint8)
    for x, y in points:
        cv2.circle(mask, (int(x), int(y)), radius, 1, -1)
    return mask


def part(rgba: NDArray[np.uint8], hair: NDArray[np.float32], skin: NDArray[np.float32], cloth: NDArray[np.float32]) -> Layers:
    """Part ``rgba`` (512, 512, 4) u8 premultiplied, a frame near rest, by points (n, 2) that are seen there, in pixels.

    Without hair points the hair stays empty and the plate is the whole frame.
    """
    whole = rgba.astype(np.float32) / np.float32(255)
    x0, y0, x1, y1 = HAIR_BOX
    if len(hair) < 30:
        return Layers(whole, np.zeros((y1 - y0, x1 - x0, 4), np.float32))
    marks = np.full((512, 512), cv2.GC_PR_BGD, np.uint8)
    marks[_disc(hair, 8) > 0] = cv2.GC_PR_FGD
    marks[_disc(hair, 2) > 0] = cv2.GC_FGD
    marks[_disc(skin, 3) > 0] = cv2.GC_BGD
    marks[_disc(cloth, 12) > 0] = cv2.GC_BGD
    marks[rgba[..., 3] < 8] = cv2.GC_BGD
    marks[y1:] = cv2.GC_BGD
    cv2.setRNGSeed(7)
    flat = np.ascontiguousarray(rgba[..., 2::-1])
    cv2.grabCut(flat, marks, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    own = ((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(own)
    large = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] > 1500]  # brows and lashes are not hair here
    own = np.isin(parts, large).astype(np.uint8)
    soft = cv2.GaussianBlur(own.astype(np.float32), (0, 0), 1.0)
    soft[rgba[..., 3] < 250] = cv2.dilate(own, np.ones((5, 5), np.uint8))[rgba[..., 3] < 250]  # the outer edge is the render's own
    front = whole * soft[..., None]
    outline = np.zeros((512, 512), np.uint8)
    cv2.fillConvexPoly(outline, cv2.convexHull(skin.astype(np.int32)), 1)
    beneath = cv2.dilate(own, np.ones((9, 9), np.uint8))
    filled = cv2.inpaint(np.ascontiguousarray(rgba[..., :3]), beneath, 5, cv2.INPAINT_TELEA).astype(np.float32) / 255
    plate = whole * (1 - soft[..., None])
    hidden = (outline > 0) & (beneath > 0)
    plate[hidden] = np.concatenate([filled, np.ones((512, 512, 1), np.float32)], -1)[hidden]
    return Layers(plate, front[y0:y1, x0:x1].copy())
