"""The compositor alone, on pictures made here: the hair lies before the plate and moves by its own flow."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.renderer.compose import HAIR_BOX, Composer, Drawing, Hair

pytestmark = pytest.mark.unit
HEIGHT, WIDTH = HAIR_BOX[3] - HAIR_BOX[1], HAIR_BOX[2] - HAIR_BOX[0]


def _hair(shade: float = 0.0) -> Hair:
    """A white opaque square of 64 pixels, its upper left corner at (160, 88) of the frame; the first shade darkens it."""
    picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    picture[64:128, 64:128] = 255
    shades = np.zeros((6, HEIGHT, WIDTH, 4), np.float32)
    shades[0, 64:128, 64:128, :3] = -shade
    return Hair(picture, shades)


def _drawing(shift: float = 0.0, weight: float = 0.0, residual: float = 0.0) -> Drawing:
    """Patches out of sight below the frame; the hair shifted to the right, its first shade by ``weight``, all brighter by ``residual``."""
    hair_flow = np.zeros((2, 32, 32), np.float32)
    hair_flow[0] = -shift
    places = np.tile(np.array([[1, 0, 0], [0, 1, 2000]], np.float32), (3, 1, 1))
    light = np.zeros((4, 128, 128), np.float32)
    light[:3] = residual
    weights = np.array([weight, 0, 0, 0, 0, 0], np.float32)
    still = np.zeros((2, 64, 64), np.float32)
    return Drawing(still, light, np.zeros((3, 112, 144), np.float32), np.zeros((2, 3, 96, 96), np.float32), places, hair_flow, weights)


def _luma(drawing: Drawing, hair: Hair | None, size: int) -> NDArray[np.float64]:
    """Luma (size, size) over a grey plate of 100 that fills the frame."""
    plate = np.full((512, 512, 4), 100, np.uint8)
    plate[..., 3] = 255
    composer = Composer(plate, size, hair)
    out = np.empty((size * 3 // 2, size), np.uint8)
    composer.draw(drawing, out)
    return out[:size].astype(float)


@pytest.mark.parametrize("size", [512, 384, 256])
def test_the_hair_lies_where_it_belongs_at_every_rung(size: int) -> None:
    """Its edges are those of the same frame at 512."""
    k = size / 512
    luma = _luma(_drawing(), _hair(), size)
    inner = luma[round(92 * k) : round(148 * k), round(164 * k) : round(220 * k)]
    assert (inner > 250).all()
    luma[round(84 * k) : round(156 * k), round(156 * k) : round(228 * k)] = 100
    assert np.abs(luma - 100).max() <= 1


@pytest.mark.parametrize("size", [512, 256])
def test_the_hair_moves_alone(size: int) -> None:
    """A flow of 20 pixels to the left is a picture 20 pixels further right; the plate stays."""
    k = size / 512
    bright = np.nonzero(_luma(_drawing(shift=20), _hair(), size) > 180)[1]
    assert bright.min() == pytest.approx(180 * k, abs=1)
    assert bright.max() + 1 == pytest.approx(244 * k, abs=1)


def test_a_shade_changes_the_hair_by_its_weight() -> None:
    """Half the weight, half the change; no weight, no change."""
    full, half, none = (_luma(_drawing(weight=w), _hair(shade=0.4), 512)[100:140, 180:210].mean() for w in (1.0, 0.5, 0.0))
    assert none == pytest.approx(255, abs=1)
    assert none - half == pytest.approx((none - full) / 2, abs=1)
    assert none - full == pytest.approx(0.4 * 255, abs=2)


def test_the_plate_stays_sharp_between_two_pixels() -> None:
    """Moved by parts of a pixel, stripes of two pixels keep nine tenths of their contrast; plain bilinear sampling leaves seven tenths."""
    plate = np.full((512, 512, 4), 255, np.uint8)
    plate[..., :3] = (128 + 100 * np.sin(np.arange(512) * (np.pi / 2))).astype(np.uint8)[None, :, None]
    composer = Composer(plate, 512)
    contrast = []
    for moved in (0, 0.25, 0.5, 0.75):
        out = np.empty((768, 512), np.uint8)
        composer.draw(_drawing()._replace(flow=np.full((2, 64, 64), moved, np.float32)), out)
        contrast.append(out[128:256, 128:256].astype(float).std())
    assert min(contrast) > 0.9 * max(contrast)


def test_without_hair_only_the_plate_is_drawn() -> None:
    """A pack of a face without the layer draws as before."""
    assert np.abs(_luma(_drawing(), None, 512) - 100).max() <= 1


@pytest.mark.parametrize("change", [0.1, -0.1])
def test_the_residual_lightens_and_darkens(change: float) -> None:
    """A tenth is 25 steps of a byte, up or down."""
    assert _luma(_drawing(residual=change), None, 256).mean() == pytest.approx(100 + change * 255, abs=1.5)
