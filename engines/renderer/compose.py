"""From the network's outputs to an NV12 picture, on one core.

Plate, hair and patches are brought to premultiplied (Y, Cb, Cr, A) bytes, warped and blended there, and only the finished frame
is parted into the planes of NV12. Four channels, because OpenCV's remap takes 0.6 ms for four at 512 x 512 and 1.75 ms for two
(OpenCV 5.0, x86-64). Chroma's 128 is scaled by alpha, which keeps blending linear.

Order: warped plate, hair over it, residual, patches, background beneath.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer._types import Colour, RendererError

__all__ = ["FRAME", "HAIR_BOX", "Composer", "Drawing", "Hair", "check_background", "patch_mask", "rgb_to_nv12"]

FRAME = 512  # size of the frame that the network's pixels refer to
HAIR_BOX = (96, 24, 416, 400)  # x0, y0, x1, y1 of the hair picture in the frame at rest
_HAIR_REACH = (32, 0, 480, 448)  # where hair can be as the head turns
_RESIDUAL = 128

# Full-range BT.709.
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_CB = np.array([-0.2126, -0.7152, 0.9278], np.float32) / 1.8556
_CR = np.array([0.7874, -0.7152, -0.0722], np.float32) / 1.5748
_TO_YCC = np.stack([_LUMA, _CB, _CR])
_OFFSET = np.array([0.0, 128.0, 128.0], np.float32)
# Premultiplied RGBA -> premultiplied (Y, Cb, Cr, A): linear, so pictures and residuals share it.
_YCCA = np.array([[*_LUMA, 0], [*_CB, 128 / 255], [*_CR, 128 / 255], [0, 0, 0, 1]], np.float32)

# The network's alpha is not quite 0 on the empty part and not quite 255 inside: a breath of it would be seen as a halo.
_CRISP = np.select([np.arange(256) < 8, np.arange(256) > 247], [0, 255], np.arange(256)).astype(np.uint8)

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Drawing(NamedTuple):
    """What the network gives for one frame; see ``engines.studio.network`` for the meaning.

    flow (2, 64, 64) pixels · residual (4, 128, 128) premultiplied RGBA · mouth (3, h, w) · eyes (2, 3, h, w), the second
    mirrored · places (3, 2, 3) affine maps patch -> frame · hair_flow (2, 32, 32) pixels and shades (6,), absent in packs
    whose face has no hair layer. With ``halved`` mouth and eyes have half the size that places speak of.
    """

    flow: Floats
    residual: Floats
    mouth: Floats
    eyes: Floats
    places: Floats
    hair_flow: Floats | None = None
    shades: Floats | None = None
    halved: bool = False


class Hair(NamedTuple):
    """The layer before the plate: picture (376, 320, 4) u8 premultiplied RGBA, shades (6, 376, 320, 4) float32 in 0..1."""

    picture: Bytes
    shades: Floats


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


def _bytes(values: Floats) -> Bytes:
    """Values as bytes, saturated at both ends; half the time of cutting and converting."""
    return np.asarray(cv2.addWeighted(values, 1, values, 0, 0, dtype=cv2.CV_8U), np.uint8)


def _over(view: Bytes, front: Bytes) -> None:
    """Draw premultiplied ``front`` over ``view``, both (h, w, 4), in place."""
    clear = cv2.bitwise_not(cv2.extractChannel(front, 3))
    behind = cv2.multiply(view, cv2.merge([clear] * 4), scale=1 / 255)
    cv2.add(front, behind, dst=behind)
    view[...] = behind


def _soften(picture: Any, scale: float) -> tuple[Any, float]:
    """``picture`` averaged over the width of one pixel of a frame ``scale`` times its size, on its own grid, and by how much that
    grid now lies further right and down.

    Sampled from the fine grid a moving picture keeps its sharpness: in a picture already reduced, bilinear sampling blurs by
    where between two pixels it falls (0.5 dB at 256).
    """
    width = 1 / scale
    if width <= 1:
        return picture, 0.0
    if width < 1.5:
        taps = np.array([(width - 1) / 2, 1, (width - 1) / 2], np.float32) / np.float32(width)
        return cv2.sepFilter2D(picture, -1, taps, taps, borderType=cv2.BORDER_REPLICATE), 0.0
    return cv2.blur(picture, (2, 2), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE), 0.5


class _HairLayer:
    """The hair for one frame size. Shaded anew for each frame, but only where there is any: in a third of its picture."""

    def __init__(self, hair: Hair, size: int) -> None:
        self.size, self.scale = size, size / FRAME
        x0, y0, x1, y1 = (round(v * self.scale) for v in HAIR_BOX)
        self.shape = (y1 - y0, x1 - x0, 4)

        def fit(rgba: Floats) -> Floats:
            return np.asarray(cv2.resize(rgba, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA), np.float32).reshape(-1, 4)

        pictures = np.stack([fit(hair.picture.astype(np.float32)), *(fit(p * np.float32(255)) for p in hair.shades)])
        self._filled = np.flatnonzero(pictures.any((0, 2)))
        filled = pictures[:, self._filled].reshape(len(pictures), -1)
        self._picture, self._shades = filled[0], filled[1:]
        self._own = np.zeros(self.shape, np.uint8)
        self.left, self.top, self.right, self.bottom = (round(v * self.scale) for v in _HAIR_REACH)
        xs, ys = np.arange(self.left, self.right, dtype=np.float32), np.arange(self.top, self.bottom, dtype=np.float32)
        self.grid = np.stack(np.meshgrid(xs - HAIR_BOX[0] * self.scale, ys - HAIR_BOX[1] * self.scale), -1).astype(np.float32)

    def whole(self) -> Floats:
        """The picture and its shades (1 + shades, h, w, 4), RGBA in 0..255."""
        pictures = np.zeros((1 + len(self._shades), self._own.size // 4, 4), np.float32)
        pictures[:, self._filled] = np.stack([self._picture, *self._shades]).reshape(len(pictures), -1, 4)
        return pictures.reshape(-1, *self.shape)

    def over(self, picture: Bytes, flow: Floats, weights: Floats) -> None:
        """Draw the hair over ``picture`` (size, size, 4)."""
        # Not matmul: where nobody switched them off, OpenBLAS' threads go on spinning beside us and double the CPU time of a frame.
        shaded = np.einsum("k,kn->n", weights, self._shades)
        shaded += self._picture
        np.clip(shaded, 0, 255, out=shaded)  # in RGBA: alpha beyond its end would tint the chroma, whose zero it carries
        own = _bytes(cv2.transform(shaded.reshape(-1, 1, 4), _YCCA))
        self._own.view(np.uint32).reshape(-1)[self._filled] = own.view(np.uint32).ravel()
        path = cv2.resize(flow * self.scale, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        place = np.s_[self.top : self.bottom, self.left : self.right]
        _over(picture[place], cv2.remap(self._own, cv2.add(path[place], self.grid), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


class Composer:
    """Draws frames of one size (a multiple of four) from a plate (512, 512, 4), premultiplied RGBA uint8, and its hair."""

    def __init__(self, plate: Bytes, size: int, hair: Hair | None = None) -> None:
        self.size, self.scale = size, size / FRAME
        figure = plate[..., 3]
        if hair:
            x0, y0, x1, y1 = HAIR_BOX
            figure = figure.copy()
            figure[y0:y1, x0:x1] = np.maximum(figure[y0:y1, x0:x1], hair.picture[..., 3])
        self.hair = _HairLayer(hair, size) if hair and hair.picture.any() else None
        # The network's residual is not quite nothing on the empty part of the frame: let it act only near the figure.
        reach = cv2.dilate(cv2.resize(figure, (_RESIDUAL, _RESIDUAL), interpolation=cv2.INTER_AREA), np.ones((13, 13), np.uint8))
        self.reach = cv2.merge([(reach > 2).astype(np.float32) * 255] * 4)
        soft, shift = _soften(cv2.transform(plate.astype(np.float32), _YCCA), self.scale)
        # Looked up between pixels, the plate blurs by where between them; between pixels half as wide it does half as much: as sharp as
        # cubic sampling, in much less time. A frame of half the size would gain little and wait longer for memory.
        self.grain = 2 if self.scale > 0.5 else 1
        fine = cv2.resize(soft, None, fx=self.grain, fy=self.grain, interpolation=cv2.INTER_CUBIC) if self.grain > 1 else soft
        self.plate = _bytes(fine)
        span = (((np.arange(size) + 0.5) / self.scale - shift) * self.grain - 0.5).astype(np.float32)
        self.grid = np.stack(np.meshgrid(span, span), -1)
        self.masks: dict[tuple[int, ...], Floats] = {}
        self.set_background((0, 0, 0))

    def set_background(self, rgb: Bytes | Colour) -> None:
        """A picture (h, w, 3) uint8 or one colour.

        Raises:
            RendererError: neither.

        """
        s = self.size
        nv12 = rgb_to_nv12(cv2.resize(check_background(rgb), (s, s), interpolation=cv2.INTER_AREA))
        self.background = nv12[:s], nv12[s:].reshape(s // 2, s // 2, 2)

    def _warp(self, flow: Floats) -> Bytes:
        path = cv2.resize(flow * np.float32(self.grain), (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        cv2.add(path, self.grid, dst=path)
        return np.asarray(cv2.remap(self.plate, path, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def _correct(self, picture: Bytes, residual: Floats) -> None:
        """Add a residual (4, 128, 128), RGBA 0..1."""
        change = cv2.transform(cv2.multiply(cv2.merge(list(residual)), self.reach), _YCCA)
        cv2.add(picture, cv2.resize(change, (self.size, self.size), interpolation=cv2.INTER_LINEAR), dst=picture, dtype=cv2.CV_8U)

    def _paste(self, picture: Bytes, rgb: Floats, place: Floats, *, halved: bool) -> None:
        """Draw a planar patch (3, h, w), 0..1, where ``place`` (2, 3) puts it; ``halved`` as in ``Drawing``."""
        shape = rgb.shape[1:]
        if shape not in self.masks:
            self.masks[shape] = cv2.merge([patch_mask(*shape) * 255] * 4)
        soft = cv2.multiply(cv2.merge([*rgb.clip(0, 1), np.ones(shape, np.float32)]), self.masks[shape])
        grain = 2 if halved else 1
        patch, shift = _soften(_bytes(cv2.transform(soft, _YCCA)), self.scale * grain)
        h, w = shape
        m = np.array(place, np.float64) * self.scale
        m[:, :2] *= grain
        corners = np.array([[0, 0], [w, 0], [0, h], [w, h]]) @ m[:, :2].T + m[:, 2]
        low = np.clip(np.floor(corners.min(0)).astype(int), 0, self.size - 1)
        high = np.clip(np.ceil(corners.max(0)).astype(int), low + 1, self.size)
        m[:, 2] += m[:, :2] @ [0.5 + shift, 0.5 + shift] - 0.5 - low  # OpenCV counts from pixel centres
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        drawn = cv2.warpAffine(patch, m, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        _over(picture[low[1] : high[1], low[0] : high[0]], drawn)

    def draw(self, drawing: Drawing, out: Bytes) -> None:
        """Write one frame as NV12 into ``out`` (size * 3 // 2, size)."""
        picture = self._warp(cv2.merge(list(drawing.flow)))
        if self.hair and drawing.hair_flow is not None and drawing.shades is not None:
            self.hair.over(picture, cv2.merge(list(drawing.hair_flow)), drawing.shades)
        self._correct(picture, drawing.residual)
        for patch, place in zip((drawing.mouth, drawing.eyes[0], drawing.eyes[1][:, :, ::-1]), drawing.places, strict=True):
            self._paste(picture, patch, place, halved=drawing.halved)
        self._finish(picture, out)

    def _finish(self, picture: Bytes, out: Bytes) -> None:
        """Put ``picture`` over the background, as NV12."""
        s = self.size
        half = cv2.resize(picture, (s // 2, s // 2), interpolation=cv2.INTER_AREA)
        alpha, alpha_half = (cv2.LUT(cv2.extractChannel(p, 3), _CRISP) for p in (picture, half))
        behind = cv2.multiply(self.background[0], cv2.bitwise_not(alpha), scale=1 / 255)
        luma = cv2.bitwise_and(cv2.extractChannel(picture, 0), cv2.compare(alpha, 0, cv2.CMP_GT))
        cv2.add(luma, behind, dst=out[:s])
        solid, clear = cv2.compare(alpha_half, 0, cv2.CMP_GT), cv2.bitwise_not(alpha_half)
        chroma = cv2.merge([cv2.bitwise_and(cv2.extractChannel(half, k), solid) for k in (1, 2)])
        behind = cv2.multiply(self.background[1], cv2.merge([clear, clear]), scale=1 / 255)
        out[s:] = cv2.add(chroma, behind).reshape(s // 2, s)
