# SPDX-License-Identifier: Apache-2.0
"""Shapes that the rig does not bring: eyeballs and the garment, as plain arrays (no bpy here)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from engines.studio.rig import EYE_RADIUS, IRIS_RADIUS, PUPIL_RADIUS, smoothstep

Faces = list[tuple[int, ...]]

GARMENT = np.array(
    [  # cross sections from the collar down: y, half width, half depth, z of the centre
        (-10.2, 5.75, 5.35, -0.35),
        (-10.9, 5.95, 5.6, -0.45),
        (-11.6, 6.5, 5.9, -0.6),
        (-12.4, 7.8, 6.3, -0.8),
        (-13.2, 10.0, 6.7, -0.9),
        (-14.1, 12.6, 7.1, -0.9),
        (-15.2, 15.0, 7.5, -0.7),
        (-16.6, 16.6, 7.9, -0.4),
        (-18.5, 17.5, 8.4, 0),
        (-22, 18.0, 9.0, 0.4),
        (-30, 18.2, 9.6, 0.6),
    ]
)


def linear(code: str) -> tuple[float, ...]:
    """SRGB hex code to linear RGBA."""
    c = [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    return (*(x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in c), 1.0)


class Eyeball(NamedTuple):
    """Vertices and faces of ball and shell, and the ball's linear RGBA per vertex."""

    ball: np.ndarray
    ball_faces: Faces
    colour: np.ndarray
    shell: np.ndarray
    shell_faces: Faces


def revolve(radius: np.ndarray, z: np.ndarray, n: int = 72) -> tuple[np.ndarray, Faces]:
    """Surface of revolution about z: vertices (len(radius) * n, 3) and quads."""
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    p = np.stack([np.outer(radius, np.cos(a)), np.outer(radius, np.sin(a)), np.repeat(z[:, None], n, 1)], -1).reshape(-1, 3)
    m = len(radius)
    return p, [(i * n + j, (i + 1) * n + j, (i + 1) * n + (j + 1) % n, i * n + (j + 1) % n) for i in range(m - 1) for j in range(n)]


def eyeball() -> Eyeball:
    """Concave iris dish with sclera, and the clear shell with the corneal bulge; local axis +z, rig units."""
    iris, pupil, big, n = IRIS_RADIUS, PUPIL_RADIUS, EYE_RADIUS, 72
    rad = np.r_[np.linspace(0, pupil, 4), np.linspace(pupil + 0.004, iris, 22)]
    level = np.sqrt(big * big - iris**2)
    z = np.array([level - 0.13 if r <= pupil else level - 0.02 - 0.11 * (1 - (r - pupil) / (iris - pupil)) ** 0.8 for r in rad])
    rim = np.arcsin(iris / big)
    th = np.linspace(rim + 0.012, np.pi * 0.80, 40)
    ball, ball_faces = revolve(np.r_[rad, big * np.sin(th)], np.r_[z, big * np.cos(th)], n)
    # distance from the axis along the surface, for colouring
    reach = np.repeat(np.r_[rad, iris + (th - rim) * big], n)
    angle = np.tile(np.linspace(0, 2 * np.pi, n, endpoint=False), len(rad) + len(th))
    th = np.r_[np.linspace(0.001, 1.0, 36), np.linspace(1.03, 2.2, 16)]
    bulge = 0.155 * np.cos(np.pi / 2 * np.minimum(th / 0.66, 1)) ** 2  # a flat-topped bulge would kill the catchlight
    shell, shell_faces = revolve(1.43 * np.sin(th), 1.43 * np.cos(th) + bulge, n)
    return Eyeball(ball, ball_faces, iris_colour(reach, angle), shell, shell_faces)


def iris_colour(reach: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Linear RGBA per eyeball vertex: pupil, hazel-green fibres, dark limbus, sclera redder to the rim."""
    rng = np.random.default_rng(4)
    iris, pupil = IRIS_RADIUS, PUPIL_RADIUS
    t = np.clip((reach - pupil) / (iris - pupil), 0, 1)
    fibre = np.zeros_like(angle)
    for _ in range(40):
        f = rng.integers(8, 40)
        fibre += rng.normal() * np.cos(f * angle + rng.uniform(0, 6) + 2 * rng.normal() * t) / 7
    inner, outer, amber = (np.array(linear(c)[:3]) for c in ("6f8a62", "36524a", "b08a4a"))
    col = inner * (1 - t[:, None]) + outer * t[:, None]
    col = col + (amber - col) * (np.exp(-(((t - 0.22) / 0.18) ** 2)) * 0.55)[:, None]
    col *= (1 + 0.35 * fibre * np.sin(np.pi * np.clip(t, 0.05, 1)))[:, None].clip(0.35, 1.8)
    col *= (1 - 0.75 * smoothstep(0.80, 1.0, t))[:, None]
    col[reach <= pupil + 0.004] = 0.004
    white, limbus, red = (np.array(linear(c)[:3]) for c in ("ece6e0", "3a2a22", "d99a90"))
    s = smoothstep(iris, iris + 0.10, reach)[:, None]
    col = np.where(reach[:, None] >= iris, limbus * (1 - s) + white * s, col)
    r = smoothstep(1.3, 2.2, reach)[:, None] * 0.35
    col = np.where(reach[:, None] > iris + 0.1, col * (1 - r) + red * r, col)
    return np.asarray(np.c_[np.clip(col, 0, 1), np.ones(len(col))])


def garment() -> tuple[np.ndarray, Faces, np.ndarray, np.ndarray]:
    """Crew-neck knit: vertices, quads, material index per face (1 = ribbed collar), azimuth per vertex (radians)."""
    rows = PchipInterpolator(np.linspace(0, 1, len(GARMENT)), GARMENT)(np.linspace(0, 1, 90))
    n, m = 160, 14
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    sections = []
    for y, wide, deep, centre in rows:
        power = 2 / (2.0 + 0.5 * smoothstep(-12, -16, y))
        x = np.sign(np.sin(a)) * np.abs(np.sin(a)) ** power * wide
        z = np.sign(np.cos(a)) * np.abs(np.cos(a)) ** power * deep + centre
        fold = 0.10 * np.sin(a * 7 + y * 0.8) * smoothstep(-13, -17, y)
        sections.append(np.stack([x, y - 0.20 * (z + 0.4) * smoothstep(-19, -11, y), z + fold], 1))
    body = np.concatenate(sections)
    faces: Faces = [
        (i * n + j, i * n + (j + 1) % n, (i + 1) * n + (j + 1) % n, (i + 1) * n + j) for i in range(len(rows) - 1) for j in range(n)
    ]
    y, wide, deep, centre = rows[0]
    th = np.linspace(0, 2 * np.pi, m, endpoint=False)
    ring = []
    for j in range(n):
        for t in th:
            out = 0.12 + 0.42 * np.cos(t)
            z = np.cos(a[j]) * (deep + out) + centre
            ring.append((np.sin(a[j]) * (wide + out), y - 0.35 + 0.62 * np.sin(t) - 0.20 * (z + 0.4), z))
    b = len(body)
    collar: Faces = [
        (b + j * m + i, b + (j + 1) % n * m + i, b + (j + 1) % n * m + (i + 1) % m, b + j * m + (i + 1) % m)
        for j in range(n)
        for i in range(m)
    ]
    index = np.r_[np.zeros(len(faces), int), np.ones(len(collar), int)]
    return np.r_[body, ring], [*faces, *collar], index, np.r_[np.tile(a, len(rows)), np.repeat(a, m)]
