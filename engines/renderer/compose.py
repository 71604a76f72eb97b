"""From the network's outputs to an NV12 picture, on one core.

The plate, the patches and the background are brought to Y'CbCr once, so that the frame is warped and blended directly
in the planes NV12 has: luma and alpha at full size, chroma and alpha at half size. That halves the pixels moved against
composing in RGB. Chroma is premultiplied in homogeneous form (its 128 is scaled by alpha), which keeps blending linear.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer._types import Colour, RendererError

__all__ = ["FRAME", "Composer", "Drawing", "check_background", "patch_mask", "rgb_to_nv12"]

FRAME = 512  # size of the frame that the network's pixels refer to
_RESIDUAL = 128

# Full-range BT.709.
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_CB = np.array([-0.2126, -0.7152, 0.9278], np.float32) / 1.8556
_CR = np.array([0.7874, -0.7152, -0.0722], np.float32) / 1.5748
_TO_YCC = np.stack([_LUMA, _CB, _CR])
_OFFSET = np.array([0.0, 128.0, 128.0], np.float32)

# The network's alpha is not quite 0 on the empty part and not quite 255 inside: a breath of it would be seen as a halo.
_CRISP = np.select([np.arange(256) < 8, np.arange(256) > 247], [0, 255], np.arange(256)).astype(np.uint8)

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Drawing(NamedTuple):
    """What the network gives for one frame; see ``engines.studio.network`` for the meaning.

    flow (2, 64, 64) pixels · residual (4, 128, 128) premultiplied RGBA · mouth (3, h, w) · eyes (2, 3, h, w), the second
    mirrored · places (3, 2, 3) affine maps patch -> frame.
    """

    flow: Floats
    residual: Floats
    mouth: Floats
    eyes: Floats
    places: Floats


def patch_mask(height: int, width: int, feather: float = 0.28) -> Floats:
    """Blending weight of a patch: 1 inside, 0 on the rim (a superellipse)."""
    y, x = np.mgrid[:height, :width]
    u, v = np.abs((x + 0.5) / width * 2 - 1), np.abs((y + 0.5) / height * 2 - 1)
    t = np.clip((0.97 - (u**4 + v**4) ** 0.25) / feather, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _to_ycc(rgb: Floats) -> list[Bytes]:
    """Planes of a planar RGB picture (3, h, w), 0..1, as bytes, chroma around 128."""
    planes = (_TO_YCC * 255.0) @ rgb.reshape(3, -1) + _OFFSET[:, None]
    return [cv2.convertScaleAbs(p.reshape(rgb.shape[1:])) for p in np.maximum(planes, 0)]


def rgb_to_nv12(rgb: Bytes) -> Bytes:
    """Full-range BT.709 NV12 (h * 3 // 2, w) of a picture (h, w, 3); h and w are even."""
    h, w = rgb.shape[:2]
    y, cb, cr = _to_ycc(rgb.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    out = np.empty((h * 3 // 2, w), np.uint8)
    out[:h] = y
    out[h:] = cv2.resize(cv2.merge([cb, cr]), (w // 2, h // 2), interpolation=cv2.INTER_AREA).reshape(h // 2, w)
    return out


def check_background(rgb: Bytes | Colour) -> Bytes:
    """The background as a picture (h, w, 3); a colour becomes one of 2 x 2.

    Raises:
        RendererError: neither a picture (h, w, 3) uint8 nor three numbers from 0 to 255.

    """
    picture = np.asarray(rgb)
    if picture.shape == (3,) and picture.min() >= 0 and picture.max() <= 255:
        picture = np.broadcast_to(picture.astype(np.uint8), (2, 2, 3))
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise RendererError(f"background of shape {picture.shape} {picture.dtype}: give a picture (h, w, 3) uint8 or a colour (r, g, b)")
    return np.ascontiguousarray(picture)


class _Layer:
    """Luma (Y, A) or chroma (Cb, Cr, A) of the frame at one size."""

    def __init__(self, plate: Bytes, size: int) -> None:
        self.size, self.scale = size, size / FRAME
        self.plate = cv2.resize(plate, (size, size), interpolation=cv2.INTER_AREA) if size != FRAME else plate
        span = np.arange(size, dtype=np.float32)
        self.grid = np.stack(np.meshgrid(span, span), -1)
        self.pool = 1
        while self.scale * self.pool * 2 <= 1:
            self.pool *= 2
        self.background: Bytes = np.zeros((size, size, plate.shape[2] - 1), np.uint8)
        self.masks: dict[tuple[int, int], Floats] = {}

    def warp(self, flow: Floats, add: Bytes, sub: Bytes) -> Bytes:
        """The plate warped by ``flow`` (64, 64, 2), plus and minus a residual (128, 128, c)."""
        size = (self.size, self.size)
        path = cv2.resize(flow * self.scale, size, interpolation=cv2.INTER_LINEAR)
        cv2.add(path, self.grid, dst=path)
        picture = cv2.remap(self.plate, path, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if add.shape[0] != self.size:
            add, sub = (cv2.resize(r, size, interpolation=cv2.INTER_LINEAR) for r in (add, sub))
        cv2.add(picture, add, dst=picture)
        return np.asarray(cv2.subtract(picture, sub, dst=picture), np.uint8)

    def paste(self, picture: Bytes, patch: Bytes, place: Floats) -> None:
        """Blend ``patch`` (h, w, c) into ``picture`` where ``place`` (2, 3) puts it."""
        h, w = patch.shape[0] // self.pool, patch.shape[1] // self.pool
        if self.pool > 1:
            patch = cv2.resize(patch, (w, h), interpolation=cv2.INTER_AREA)
        if (h, w) not in self.masks:
            self.masks[h, w] = cv2.resize(patch_mask(h * self.pool, w * self.pool), (w, h), interpolation=cv2.INTER_AREA)
        m = np.array(place, np.float64) * self.scale
        m[:, :2] *= self.pool
        corners = np.array([[0, 0], [w, 0], [0, h], [w, h]]) @ m[:, :2].T + m[:, 2]
        low = np.clip(np.floor(corners.min(0)).astype(int), 0, self.size - 1)
        high = np.clip(np.ceil(corners.max(0)).astype(int), low + 1, self.size)
        m[:, 2] += m[:, :2] @ [0.5, 0.5] - 0.5 - low  # OpenCV counts from pixel centres
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        drawn = cv2.warpAffine(patch, m, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        weight = cv2.warpAffine(self.masks[h, w], m, size, flags=cv2.INTER_LINEAR)
        view = picture[low[1] : high[1], low[0] : high[0]]
        view[...] = cv2.blendLinear(drawn, np.ascontiguousarray(view), weight, 1 - weight)

    def over(self, picture: Bytes) -> Bytes:
        """Premultiplied ``picture`` (s, s, c + alpha) over the background: (s, s, c)."""
        *colours, alpha = cv2.split(picture)
        alpha = cv2.LUT(alpha, _CRISP)
        solid = cv2.compare(alpha, 0, cv2.CMP_GT)
        colours = [cv2.bitwise_and(c, solid) for c in colours]
        clear = cv2.bitwise_not(alpha)
        front = cv2.merge(colours) if len(colours) > 1 else colours[0]
        if len(colours) > 1:
            clear = cv2.merge([clear] * len(colours))
        back = cv2.multiply(self.background.reshape(clear.shape), clear, scale=1 / 255)
        return np.asarray(cv2.add(front, back), np.uint8)


class Composer:
    """Draws frames of one size (a multiple of four) from a plate (512, 512, 4), premultiplied RGBA uint8."""

    def __init__(self, plate: Bytes, size: int) -> None:
        rgba = plate.astype(np.float32)
        ycc = rgba[..., :3] @ _TO_YCC.T + _OFFSET * (rgba[..., 3:] / 255)
        y, cb, cr = cv2.split(cv2.convertScaleAbs(np.maximum(ycc, 0)))
        self.size = size
        # The network's residual is not quite nothing on the empty part of the frame: let it act only near the figure.
        reach = cv2.dilate(cv2.resize(plate[..., 3], (_RESIDUAL, _RESIDUAL), interpolation=cv2.INTER_AREA), np.ones((13, 13), np.uint8))
        self.reach = (reach > 2).astype(np.float32) * 255
        self.luma = _Layer(cv2.merge([y, plate[..., 3]]), size)
        self.chroma = _Layer(cv2.merge([cb, cr, plate[..., 3]]), size // 2)

    def set_background(self, rgb: Bytes | Colour) -> None:
        """A picture (h, w, 3) uint8 or one colour.

        Raises:
            RendererError: neither.

        """
        picture = check_background(rgb)
        s = self.size
        nv12 = rgb_to_nv12(cv2.resize(picture, (s, s), interpolation=cv2.INTER_AREA))
        self.luma.background = nv12[:s].reshape(s, s, 1)
        self.chroma.background = nv12[s:].reshape(s // 2, s // 2, 2)

    def draw(self, drawing: Drawing, out: Bytes) -> None:
        """Write one frame as NV12 into ``out`` (size * 3 // 2, size)."""
        s = self.size
        flow = np.ascontiguousarray(drawing.flow.transpose(1, 2, 0))
        r = (drawing.residual * self.reach).reshape(4, -1)
        alpha = r[3:]
        ycc = _TO_YCC @ r[:3] + (_OFFSET / 255)[:, None] * alpha
        residual = np.concatenate([ycc[:1], alpha, ycc[1:], alpha]).reshape(5, _RESIDUAL, _RESIDUAL).transpose(1, 2, 0)
        add = cv2.convertScaleAbs(np.maximum(residual, 0))
        sub = cv2.convertScaleAbs(np.minimum(residual, 0))
        patches = [_to_ycc(drawing.mouth), _to_ycc(drawing.eyes[0]), _to_ycc(drawing.eyes[1][:, :, ::-1])]
        luma = self.luma.warp(flow, np.ascontiguousarray(add[..., :2]), np.ascontiguousarray(sub[..., :2]))
        chroma = self.chroma.warp(flow, np.ascontiguousarray(add[..., 2:]), np.ascontiguousarray(sub[..., 2:]))
        for (y, cb, cr), place in zip(patches, drawing.places, strict=True):
            opaque = np.full_like(y, 255)
            self.luma.paste(luma, cv2.merge([y, opaque]), place)
            self.chroma.paste(chroma, cv2.merge([cb, cr, opaque]), place)
        out[:s] = self.luma.over(luma)
        out[s:] = self.chroma.over(chroma).reshape(s // 2, s)
