"""How near two pictures are: the boxes they are compared in, PSNR and SSIM."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["GREY", "REGIONS", "over_grey", "psnr", "regions", "ssim_map"]

GREY = 128
REGIONS = ("whole", "face", "mouth", "eyes")
_MARGIN = 0.15  # of the landmarks' box, on each side: the face


def ssim_map(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Structural similarity of two grey pictures (h, w), Gaussian window of 11 pixels, sigma 1.5 (Wang et al. 2004)."""
    x, y = a.astype(np.float64), b.astype(np.float64)

    def blur(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(p, (11, 11), 1.5))

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def psnr(squares: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Decibels of mean squared errors in units of a byte."""
    return np.asarray(10 * np.log10(255**2 / np.maximum(squares, 1e-9)))


def regions(boxes: NDArray[np.float32], landmarks: NDArray[np.float32], size: int) -> dict[str, NDArray[np.bool_]]:
    """Pixel masks (size, size) of ``REGIONS``.

    ``boxes`` (3, 4) of mouth and eyes and ``landmarks`` (68, 2) in pixels of a 512 frame; the face is the landmarks' box and 15 %
    of its size on each side.
    """

    def box(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.bool_]:
        mask = np.zeros((size, size), bool)
        k = size / 512
        mask[max(int(y0 * k), 0) : int(np.ceil(y1 * k)), max(int(x0 * k), 0) : int(np.ceil(x1 * k))] = True
        return mask

    low, high = landmarks.min(0), landmarks.max(0)
    margin = (high - low) * _MARGIN
    return {
        "whole": np.ones((size, size), bool),
        "face": box(*(low - margin), *(high + margin)),
        "mouth": box(*boxes[0]),
        "eyes": box(*boxes[1]) | box(*boxes[2]),
    }


def over_grey(rgba: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A premultiplied frame (512, 512, 4) over grey at ``size``: (size, size, 3)."""
    over = rgba[..., :3].astype(np.float32) + GREY * (1 - rgba[..., 3:].astype(np.float32) / 255)
    return np.asarray(cv2.resize(np.clip(over + 0.5, 0, 255).astype(np.uint8), (size, size), interpolation=cv2.INTER_AREA), np.uint8)
