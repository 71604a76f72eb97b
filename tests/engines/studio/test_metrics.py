"""What the evaluation measures with, and data that are not there: nothing of it needs PyTorch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.studio import dataset
from engines.studio.metrics import regions, ssim_map

pytestmark = pytest.mark.unit


def test_the_face_is_the_landmarks_and_a_margin() -> None:
    """15 % of the landmarks' box on each side; boxes scale with the rung."""
    landmarks = np.array([[100, 200], [300, 400]], np.float32)
    boxes = np.array([[200, 300, 240, 320], [110, 210, 150, 230], [250, 210, 290, 230]], np.float32)
    for size in (512, 256):
        masks, k = regions(boxes, landmarks, size), size / 512
        y, x = np.nonzero(masks["face"])
        assert (x.min(), x.max() + 1, y.min(), y.max() + 1) == tuple(int(v * k) for v in (70, 330, 170, 430))
        assert masks["mouth"].sum() == 40 * k * 20 * k
        assert masks["eyes"].sum() == 2 * masks["mouth"].sum()


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise() -> None:
    """The measure behaves like the usual one."""
    rng = np.random.default_rng(1)
    a = cv2.GaussianBlur(rng.integers(0, 255, (64, 64), dtype=np.uint8), (0, 0), 3)
    noisy = np.clip(a + rng.normal(0, 20, a.shape), 0, 255).astype(np.uint8)
    assert ssim_map(a, a).mean() == pytest.approx(1)
    assert ssim_map(a, noisy).mean() < 0.7


def test_missing_labels_are_named(tmp_path: Path) -> None:
    """One line with the path."""
    with pytest.raises(dataset.StudioError, match=r"controls\.npz: missing"):
        dataset.labels(tmp_path)
