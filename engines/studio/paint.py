# SPDX-License-Identifier: Apache-2.0
"""Paint the skin: albedo and roughness in the UV space of the face, from rest positions and landmarks alone.

No photograph or downloaded texture is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.interpolate import LinearNDInterpolator, splev, splprep
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree

from engines.studio.hair import brow_curve, lash_strips
from engines.studio.rig import NO_VERTEX, Rig, smoothstep

SIZE = 1024


def colour(code: str) -> np.ndarray:
    """SRGB hex code to (3,) in 0..1, still sRGB encoded."""
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255.0


def inside(polygon: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Even-odd test of points (n,) against a polygon (k, 2)."""
    odd = np.zeros(len(x), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if y0 != y1:
            odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return odd


def paint(rig: Rig, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:  # noqa: C901, PLR0915 - one stroke after another
    """Albedo (SIZE, SIZE, 3), sRGB encoded, and roughness (SIZE, SIZE); row 0 is v = 0."""
    n = SIZE
    rng = np.random.default_rng(seed)
    uv = np.full((9409, 2), np.nan)
    for f, t in zip(rig.faces[:9230], rig.face_uvs[:9230], strict=True):
        uv[f[f != NO_VERTEX]] = rig.uvs[t[f != NO_VERTEX]]
    gy, gx = np.mgrid[0:n, 0:n]
    q = np.stack([(gx + 0.5) / n, (gy + 0.5) / n], -1).reshape(-1, 2)
    pos = LinearNDInterpolator(uv, rig.rest[:9409])(q).reshape(n, n, 3)  # rest position of every texel
    index = distance_transform_edt(np.isnan(pos[..., 0]), return_distances=False, return_indices=True)
    pos = pos[index[0], index[1]]

    def spot(c: Sequence[float], r: float, s: Sequence[float] = (1, 1, 1)) -> np.ndarray:
        return np.asarray(np.exp(-((((pos - np.array(c)) / np.array(s)) ** 2).sum(-1)) / (2 * r * r)))

    def pair(c: Sequence[float], r: float, s: Sequence[float] = (1, 1, 1)) -> np.ndarray:
        return np.asarray(spot(c, r, s) + spot((-c[0], c[1], c[2]), r, s))

    def noise(s: float) -> np.ndarray:
        x = gaussian_filter(rng.standard_normal((n, n)), s, mode="wrap")
        return np.asarray(x / x.std())

    col = np.ones((n, n, 3)) * colour("d2937a")

    def mix(mask: np.ndarray, code: str, amount: float) -> None:
        nonlocal col
        m = np.clip(mask * amount, 0, 1)[..., None]
        col = col * (1 - m) + colour(code) * m

    mix(spot((0, 9, 9), 4.5, (1.4, 0.8, 1)), "e0ad88", 0.55)  # forehead
    mix(pair((4.9, 0.2, 9), 1.7, (1.1, 0.9, 1)), "d9705f", 0.36)  # blush
    mix(spot((0, 0.3, 13), 1.25), "d4735f", 0.42)  # nose tip
    mix(pair((1.5, -0.6, 11.5), 0.7), "c9695a", 0.35)  # nostrils
    mix(spot((0, -6.4, 11), 1.3), "d98a70", 0.30)  # chin
    mix(pair((3.1, 2.0, 9.6), 0.9, (1.3, 0.55, 1)), "b98272", 0.30)  # under the eyes
    mix(smoothstep(6.9, 7.8, np.abs(pos[..., 0])) * smoothstep(-2, 0, pos[..., 1]), "cf6d5a", 0.45)  # ears

    strips = lash_strips(rig)

    def lash_line(upper: bool) -> np.ndarray:
        pts = []
        for side in strips:
            for line in (rig.rest[s[:, 0]] for s in (side[:3] if upper else side[3:])):
                t = np.linspace(0, len(line) - 1, 200)
                i = np.minimum(t.astype(int), len(line) - 2)
                f = (t - i)[:, None]
                pts.append(line[i] * (1 - f) + line[i + 1] * f)
        return np.asarray(cKDTree(np.concatenate(pts)).query(pos.reshape(-1, 3))[0]).reshape(n, n)

    up, down = lash_line(True), lash_line(False)
    mix(np.exp(-((up / 0.75) ** 2)) * smoothstep(2.6, 3.6, pos[..., 1]), "a85f4e", 0.50)  # lid shadow
    mix(np.exp(-((up / 1.5) ** 2)) * smoothstep(3.2, 4.6, pos[..., 1]), "b0705c", 0.35)
    mix(np.exp(-((up / 0.11) ** 2)), "2a1512", 0.80)  # liner
    mix(np.exp(-((down / 0.10) ** 2)), "7a4236", 0.40)

    outline = uv[rig.landmarks[48:60]]
    outline = np.r_[outline, outline[:1]]
    x, y = splev(np.linspace(0, 1, 400), splprep(outline.T, s=0, per=True, k=3)[0])
    m = inside(np.c_[x, y], q[:, 0], q[:, 1]).reshape(n, n)
    signed = distance_transform_edt(m) - distance_transform_edt(~m)
    lip = smoothstep(-5, 7, signed + 2 * gaussian_filter(rng.standard_normal((n, n)), 4) * 3)
    mix(lip, "b0524e", 0.72)
    mix(lip * np.exp(-(((pos[..., 1] + 3.35) / 0.28) ** 2)) * smoothstep(9.6, 10.6, pos[..., 2]), "7d2a2b", 0.35)

    brow = np.zeros((n, n))
    for mirror in (1, -1):
        curve = brow_curve(rig) * [mirror, 1, 1]
        d, i = cKDTree(curve).query(pos.reshape(-1, 3))
        t = i / len(curve)
        w = 0.30 * np.interp(t, [0, 0.12, 0.55, 1], [0.7, 1.0, 0.8, 0.15])
        brow = np.maximum(brow, (np.exp(-((d / w) ** 2)) * np.interp(t, [0, 0.06, 0.9, 1], [0.35, 1, 1, 0.3])).reshape(n, n))
    mix(brow, "5a3a2c", 0.38)
    mix(smoothstep(-6.2, -9.0, pos[..., 1]) * smoothstep(9.5, 6.5, pos[..., 2]), "b87a63", 0.45)  # under the jaw

    coarse, fine = noise(14), noise(4)
    col *= (1 + 0.010 * coarse + 0.008 * fine)[..., None]
    col[..., 0] *= 1 + 0.006 * coarse
    freckles = np.zeros((n, n))
    where = np.argwhere((pair((3.6, 0.9, 10), 1.7) + spot((0, 1.2, 12), 1.2)) * rng.random((n, n)) > 0.35)
    for r, c in where[rng.choice(len(where), 160, replace=False)]:
        freckles[r, c] = rng.uniform(0.4, 1)
    freckles = gaussian_filter(freckles, 1.6)
    mix(freckles / freckles.max() * (1 - lip), "a0614a", 0.38)

    rough = 0.46 - 0.009 * fine - 0.07 * (spot((0, 8, 10), 4) + spot((0, 1, 12.5), 1.6))
    rough = rough * (1 - lip) + lip * 0.30
    rough = rough * (1 - brow * 0.3) + brow * 0.18
    return np.clip(col, 0, 1), np.clip(rough, 0.15, 0.9)


def write(rig: Rig, folder: Path) -> tuple[Path, Path]:
    """Paint and write skin.png and rough.png; the paths."""
    albedo, rough = paint(rig)
    paths = folder / "skin.png", folder / "rough.png"
    for path, image in zip(paths, (albedo, rough), strict=True):
        Image.fromarray((image[::-1] * 255).astype(np.uint8)).save(path)
    return paths
