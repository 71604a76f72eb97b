# SPDX-License-Identifier: Apache-2.0
"""Hair of the stock avatar: a side-parted bob, eyebrows and eyelashes, all grown from the rig by fixed seeds.

The bob is rigid with the head. Brows are bound to face triangles and lashes to the rig's lash strips, so both follow
the blendshapes. Units are rig units, angles degrees; arrays are (strands, points per strand, 3), root first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from engines.studio.rig import NO_VERTEX, Rig, smoothstep

SKULL_CENTRE = np.array([0, 3.51, 1.07])  # ellipsoid fitted to the cranium
SKULL_RADII = np.array([8.02, 11.14, 9.97])
PART_X = 2.3  # rest x of the parting: on the subject's left
LASH_STRIPS = ((25351, 25304, 25844), (26035, 25844, 26384))  # first vertex, first face, last face + 1; left, right


class Bound(NamedTuple):
    """Strands that follow the mesh: ``place(vertices, ...)`` gives (n, points, 3); radius (n,) at the root."""

    place: Callable[..., np.ndarray]
    strands: int
    points: int
    radius: np.ndarray


def triangles(rig: Rig, first: int, last: int) -> np.ndarray:
    """Faces first..last-1 as triangles (t, 3), fan order."""
    out: list[tuple[int, int, int]] = []
    for face in rig.faces[first:last]:
        f = face[face != NO_VERTEX]
        out.extend((f[0], f[k], f[k + 1]) for k in range(1, len(f) - 1))
    return np.array(out)


def hairline(azimuth: np.ndarray) -> np.ndarray:
    """Rest height of the hairline at an azimuth (radians, 0 at the front, pi at the back)."""
    angles = [0, 20, 38, 52, 64, 75, 88, 105, 125, 150, 180]
    return np.asarray(np.interp(np.degrees(azimuth), angles, [10.0, 9.9, 9.3, 7.9, 6.0, 3.2, 2.2, 3.0, 0.0, -4.0, -5.0]))


def _ears(p: np.ndarray) -> np.ndarray:
    return np.asarray((np.abs(p[:, 0]) > 7.0) & (p[:, 1] < 4.2) & (p[:, 2] > -3.5))


def scalp_mask(p: np.ndarray) -> np.ndarray:
    """1 where hair covers the rest positions p (n, 3), 0 on the face and the ears."""
    azimuth = np.arctan2(np.abs(p[:, 0]), p[:, 2] - 0.5)
    return smoothstep(-0.35, 0.5, p[:, 1] - hairline(azimuth)) * np.where(_ears(p), 0, 1)


def _march(root: np.ndarray, lift: np.ndarray, end: np.ndarray, points: int, step: float = 0.42, steps: int = 86) -> np.ndarray:
    """Walk guides (m, points, 3) over the skull: away from the parting, then down, outside the face, until height ``end``."""
    p, m = root.copy(), len(root)
    part = PART_X + 0.25 * np.sin(root[:, 2] * 1.1)
    back = smoothstep(-3.5, -8.0, root[:, 2] - 0.25 * (root[:, 1] - 8))  # at the crown there is no parting
    side = np.where(root[:, 0] > part, 1.0, -1.0)
    path, s, v = [p.copy()], np.zeros(m), None
    for _ in range(steps):
        q = (p - SKULL_CENTRE) / SKULL_RADII
        q[:, 1] = np.where(p[:, 1] < SKULL_CENTRE[1], 0, q[:, 1])
        normal = q / SKULL_RADII
        normal /= np.linalg.norm(normal, axis=1)[:, None]
        up = smoothstep(SKULL_CENTRE[1] + 1, SKULL_CENTRE[1] + 9, p[:, 1])
        lateral = np.stack([side, np.zeros(m), -0.30 * np.ones(m) - 0.35 * smoothstep(4, 8, p[:, 2])], 1)
        rear = np.stack([0.25 * np.sign(p[:, 0]), -0.8 * np.ones(m), -0.6 * np.ones(m)], 1)
        aim = lateral * (up * (1 - back))[:, None] + rear * (up * back)[:, None] + np.array([0, -1.0, 0]) * (1 - up * 0.85)[:, None]
        aim -= normal * (aim * normal).sum(1)[:, None] * up[:, None]
        aim /= np.linalg.norm(aim, axis=1)[:, None] + 1e-9
        v = aim + normal * 0.55 if v is None else v
        v = v + 0.30 * (aim - v)
        v /= np.linalg.norm(v, axis=1)[:, None]
        p = p + step * v
        s += step
        layer = 0.12 + lift * smoothstep(0, 4.0, s)
        below = np.maximum(0, SKULL_CENTRE[1] - p[:, 1])
        radii = SKULL_RADII + layer[:, None] - (0.019 * below**1.8)[:, None] * np.array([1, 0, 0.9])  # ends curl in
        q = (p - SKULL_CENTRE) / radii
        q[:, 1] = np.where(p[:, 1] < SKULL_CENTRE[1], 0, q[:, 1])
        f = np.linalg.norm(q, axis=1)
        on = SKULL_CENTRE + (p - SKULL_CENTRE) / np.maximum(f, 1e-3)[:, None]
        on[:, 1] = np.where(p[:, 1] < SKULL_CENTRE[1], p[:, 1], on[:, 1])
        p = np.where((f < 1)[:, None], on, p)
        p = np.where((f > 1.02)[:, None], p + (on - p) * 0.25, p)
        keep_out = np.interp(p[:, 1], [-10, -7, -4, 0, 3, 6, 7.6, 8.8], [5.2, 5.6, 6.2, 6.75, 6.75, 6.1, 4.6, 2.0])
        zone = (p[:, 2] > 1.0) & (p[:, 1] < 8.8) & (np.abs(p[:, 0]) < keep_out)
        p[:, 0] = np.where(zone, p[:, 0] + (side * keep_out - p[:, 0]) * 0.5, p[:, 0])
        p[:, 2] = np.where((p[:, 1] < 6) & (p[:, 2] > 5.2), p[:, 2] - 0.12 * (p[:, 2] - 5.2), p[:, 2])
        path.append(p.copy())
    walked = np.stack(path, 1)
    out = np.zeros((m, points, 3))
    for i in range(m):
        c = walked[i]
        stop = np.argmax(c[:, 1] < end[i])
        c = c[: (stop if stop > 4 else len(c) - 1) + 1]
        length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(c, axis=0), axis=1))]
        t = np.linspace(0, length[-1], points)
        for a in range(3):
            out[i, :, a] = np.interp(t, length, c[:, a])
    return out


def grow(rig: Rig, strands: int = 30000, guides: int = 900, points: int = 18, seed: int = 5) -> np.ndarray:
    """The bob in the unturned head frame, about (strands, points, 3) float32."""
    rng = np.random.default_rng(seed)
    p = rig.warp(rig.base)
    tri = triangles(rig, 0, 11144)
    centre = rig.rest[tri].mean(1)
    azimuth = np.arctan2(np.abs(centre[:, 0]), centre[:, 2] - 0.5)
    tri = tri[(centre[:, 1] > hairline(azimuth)) & ~_ears(centre)]
    area = np.linalg.norm(np.cross(p[tri[:, 1]] - p[tri[:, 0]], p[tri[:, 2]] - p[tri[:, 0]]), axis=1)
    weight = area * (1 + 1.2 * smoothstep(8, 12.5, p[tri].mean(1)[:, 1]))  # denser on the crown

    def roots(n: int) -> np.ndarray:
        t = rng.choice(len(tri), n, p=weight / weight.sum())
        b = rng.dirichlet([1, 1, 1], n)
        return np.asarray((p[tri[t]] * b[:, :, None]).sum(1))

    g0 = roots(guides)
    lift = rng.uniform(0.12, 0.95, guides) * (0.60 + 0.65 * smoothstep(7, 13, g0[:, 1]))
    end = -7.0 + 0.9 * (g0[:, 2] < 0) * 1.0 + rng.normal(0, 0.28, guides)
    g = _march(g0, lift, end, points)
    for _ in range(3):
        g[:, 1:-1] = 0.25 * g[:, :-2] + 0.5 * g[:, 1:-1] + 0.25 * g[:, 2:]
    # waves, coherent between neighbouring guides
    s = np.c_[np.zeros(len(g)), np.cumsum(np.linalg.norm(np.diff(g, axis=1), axis=2), 1)]
    phase = 1.2 * np.sin(g0[:, 0] * 0.5) + 0.8 * np.sin(g0[:, 2] * 0.6 + 1) + rng.normal(0, 0.35, len(g))
    tangent = np.gradient(g, axis=1)
    tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-9
    q = (g - SKULL_CENTRE) / SKULL_RADII
    q[:, :, 1] *= 0.3
    normal = q / np.linalg.norm(q, axis=2, keepdims=True)
    binormal = np.cross(tangent, normal)
    amount = 0.42 * smoothstep(4, 12, s)
    turn = 2 * np.pi * s / 6.5 + phase[:, None]
    g = g + (amount * np.sin(turn))[:, :, None] * binormal + (0.6 * amount * np.cos(turn))[:, :, None] * normal
    # children: thinner along the parting, bound to a near guide on the same side
    r = roots(int(strands * 1.25))
    gap = np.abs(r[:, 0] - PART_X - 0.25 * np.sin(r[:, 2] * 1.1))
    r = r[(rng.random(len(r)) < 0.74) | ((gap < 0.7) & (r[:, 1] > 8))]
    n = len(r)
    near = cKDTree(g0).query(r, k=3)[1]
    pick = near[np.arange(n), np.where(rng.random(n) < 0.72, 0, np.where(rng.random(n) < 0.6, 1, 2))]
    bad = (r[:, 0] > PART_X) != (g0[pick][:, 0] > PART_X)
    for k in range(3):
        other = near[:, k]
        better = bad & ((r[:, 0] > PART_X) == (g0[other][:, 0] > PART_X))
        pick, bad = np.where(better, other, pick), bad & ~better
    r, pick = r[~bad], pick[~bad]
    n = len(r)
    t = np.linspace(0, 1, points)
    clump = (1 - 0.55 * smoothstep(0.05, 0.7, t) * (1 - 0.5 * smoothstep(0.8, 1, t)))[None, :, None]
    c = g[pick] + (r - g0[pick])[:, None, :] * clump
    drift = rng.normal(0, 0.05, (n, 1, 3)) * t[None, :, None]
    frizz = (
        rng.normal(0, 0.08, (n, 1, 3))
        * np.sin(np.pi * t * rng.uniform(1, 2.5, (n, 1)) + rng.uniform(0, 6, (n, 1)))[:, :, None]
        * t[None, :, None]
    )
    return np.asarray(c + (drift + frizz), np.float32)


def brow_curve(rig: Rig, n: int = 200) -> np.ndarray:
    """Centre line (n, 3) of the subject's left eyebrow in rest coordinates, inner end first."""
    p = rig.rest[rig.landmarks[[22, 23, 24, 25, 26]]].copy()
    p[:, 0] += [0.25, 0.1, 0, 0, 0]
    p[:, 1] += np.array([-0.52, -0.42, -0.40, -0.28, -0.02]) - 0.06
    return np.asarray(CubicSpline(np.linspace(0, 1, 5), p)(np.linspace(-0.03, 1.0, n)))


def brows(rig: Rig, n: int = 560, points: int = 5, seed: int = 2) -> Bound:
    """Eyebrow hairs; ``place(unturned vertices)``."""
    rng = np.random.default_rng(seed)
    tri = triangles(rig, 0, 6560)
    curve = brow_curve(rig)
    along = np.gradient(curve, axis=0)
    along /= np.linalg.norm(along, axis=1)[:, None]
    root_parts, dir_parts, length_parts = [], [], []
    for mirror in (1, -1):
        m = n // 2
        t = rng.beta(1.05, 1.35, m) * 0.98
        i = (t * (len(curve) - 1)).astype(int)
        width = 0.23 * np.interp(t, [0, 0.10, 0.5, 1], [0.75, 1.1, 0.8, 0.2])
        o = rng.uniform(-1, 1, m)
        p = curve[i] + np.c_[0 * o, o * width, 0 * o]
        angle = np.radians(
            np.interp(t, [0, 0.15, 0.4, 1], [40, 28, 14, -10]) - o * 8 * np.interp(t, [0, 0.3, 1], [0.3, 1, 1]) + rng.normal(0, 7, m)
        )
        d = along[i] * np.cos(angle)[:, None] + np.array([0, 1, 0.0]) * np.sin(angle)[:, None]
        root_parts.append(p * [mirror, 1, 1])
        dir_parts.append(d * [mirror, 1, 1])
        length_parts.append(rng.uniform(0.45, 0.80, m) * np.interp(t, [0, 0.2, 0.7, 1], [0.85, 1.05, 0.95, 0.6]))
    roots, dirs, length = np.concatenate(root_parts), np.concatenate(dir_parts), np.concatenate(length_parts)
    tri = tri[cKDTree(rig.rest[tri].mean(1)).query(roots)[1]]
    a, b, c = (rig.rest[tri[:, k]] for k in range(3))
    e1, e2 = b - a, c - a
    normal = np.cross(e1, e2)
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    basis = np.stack([e1, e2, normal], 2)
    local = np.linalg.solve(basis, (dirs - normal * (dirs * normal).sum(1)[:, None])[:, :, None])[:, :, 0]
    where = np.clip(np.linalg.solve(basis, (roots - a)[:, :, None])[:, :2, 0], -1.5, 2.0)

    def place(v: np.ndarray) -> np.ndarray:
        a, b, c = v[tri[:, 0]], v[tri[:, 1]], v[tri[:, 2]]
        e1, e2 = b - a, c - a
        normal = np.cross(e1, e2)
        normal /= np.linalg.norm(normal, axis=1)[:, None]
        root = a + e1 * where[:, :1] + e2 * where[:, 1:]
        d = e1 * local[:, :1] + e2 * local[:, 1:2]
        d /= np.linalg.norm(d, axis=1)[:, None] + 1e-9
        t = np.linspace(0, 1, points)
        bow = 0.02 + 0.16 * np.sin(np.pi * 0.62 * t)[None, :] * length[:, None]
        return np.asarray(root[:, None] + d[:, None] * (length[:, None] * t)[:, :, None] + normal[:, None] * bow[:, :, None])

    return Bound(place, len(roots), points, np.full(len(roots), 0.023))


def lash_strips(rig: Rig) -> list[list[np.ndarray]]:
    """Per eye (left, right) the lash strips from top to bottom, each (19 columns, 6 points) vertex indices, root first."""
    uv = np.full((len(rig.rest), 2), np.nan)
    for i in range(25304, 26384):
        keep = rig.faces[i] != NO_VERTEX
        uv[rig.faces[i][keep]] = rig.uvs[rig.face_uvs[i][keep]]
    out = []
    for first, f0, f1 in LASH_STRIPS:
        row, col = [], []
        for face in rig.faces[f0:f1]:
            f = face[face != NO_VERTEX]
            row.extend(f - first)
            col.extend(np.roll(f, -1) - first)
        n, label = connected_components(coo_matrix((np.ones(len(row)), (row, col)), shape=(684, 684)), directed=False)
        side = []
        for k in range(n):
            ids = np.where(label == k)[0] + first
            side.append(ids[np.lexsort((-uv[ids, 1].round(3), uv[ids, 0].round(3)))].reshape(19, 6))
        side.sort(key=lambda s: -rig.rest[s].mean((0, 1))[1])
        out.append(side)
    return out


def lashes(rig: Rig, points: int = 6, seed: int = 1) -> Bound:
    """Eyelashes; ``place(unturned vertices, (blink left, blink right))``. They shorten as the eye closes."""
    rng = np.random.default_rng(seed)
    lower_column, upper_column, fraction, scales, radii, eyes, uppers = [], [], [], [], [], [], []
    for which, side in enumerate(lash_strips(rig)):
        for s, strip in enumerate(side[:4]):  # three upper strips, one lower
            m = 26 if s < 3 else 20
            x = (np.arange(m) + rng.uniform(0.1, 0.9, m)) / m * 17.99
            i = x.astype(int)
            lower_column.append(strip[i])
            upper_column.append(strip[i + 1])
            fraction.append(x - i)
            scales.append(
                rng.uniform(0.85, 1.15, m) * np.interp(x, [0, 4, 12, 18], [0.85, 1.05, 1.05, 0.85]) if s < 3 else rng.uniform(0.6, 0.95, m)
            )
            radii.append(np.full(m, 0.022 if s < 3 else 0.012))
            eyes.append(np.full(m, which))
            uppers.append(np.full(m, s < 3))
    i0, i1, f = np.concatenate(lower_column), np.concatenate(upper_column), np.concatenate(fraction)[:, None, None]
    scale, radius, eye, upper = np.concatenate(scales), np.concatenate(radii), np.concatenate(eyes), np.concatenate(uppers)

    def place(v: np.ndarray, blink: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
        c = v[i0] * (1 - f) + v[i1] * f
        closed = smoothstep(0.45, 1.0, np.asarray(blink, float)[eye])
        k = scale * (1 - np.where(upper, 0.42, 0.25) * closed)
        return np.asarray(c[:, :1] + (c - c[:, :1]) * k[:, None, None])

    return Bound(place, len(scale), points, radius)
