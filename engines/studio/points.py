# SPDX-License-Identifier: Apache-2.0
"""Flow labels: about 2400 surface points that can be projected for any control vector, with visibility.

``Points.label(pose)`` returns pixels (n, 2) and visibility (n,) bool. Visibility uses a coarse depth buffer of the
posed mesh (256 x 256, splatted triangles) plus the hair; it is meant for masks in a loss, not for exact outlines.

Kinds: 0 skin, 1 lid margin, 2 teeth, 3 tongue, 4 left eyeball, 5 right eyeball, 6 hair, 7 garment (does not move).
The definition of the points lies in ``points.npz`` beside the rig: ``np.savez_compressed(path, **build(rig))`` makes it anew
(needs scipy, because the hair is grown first).
"""

from __future__ import annotations

import numpy as np

from engines.studio import rig as rig_module
from engines.studio.rig import NO_VERTEX, Pose, Rig, project

KINDS = ("skin", "lid", "teeth", "tongue", "eye_L", "eye_R", "hair", "garment")
GRID = 256  # size of the depth buffer


def _splat(depth: np.ndarray, pixels: np.ndarray, z: np.ndarray) -> None:
    x, y = (pixels * (GRID / 512)).astype(int).T
    ok = (x >= 0) & (y >= 0) & (x < GRID) & (y < GRID)
    np.minimum.at(depth.ravel(), y[ok] * GRID + x[ok], z[ok])


class Points:
    """The point set of ``points.npz`` bound to a rig."""

    def __init__(self, rig: Rig, path: str) -> None:
        z = np.load(path)
        self.rig, self.kind = rig, z["kind"]
        self.vertex, self.local = z["vertex"].astype(int), z["local"].astype(float)
        self.cover = z["hair_cover"].astype(float)  # (m, 3) hair positions that hide skin
        f = np.where(rig.faces == NO_VERTEX, rig.faces[:, :1], rig.faces)
        tris = np.concatenate([f[:, [0, 1, 2]], f[rig.faces[:, 3] != NO_VERTEX][:, [0, 2, 3]]])
        self.skin_tris = tris[tris.max(1) < 14062]
        self.teeth_tris = tris[(tris.min(1) >= 17039) & (tris.max(1) < 21451)]
        self.front = tris[tris.max(1) < 11248]
        n = 5
        self.bary = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]) / n
        self.canon = self.label(rig.pose(rig_module.vector()))[0]

    def _buffer(self, pixels: np.ndarray, depth: np.ndarray, tris: np.ndarray) -> np.ndarray:
        p = np.einsum("bk,tkc->tbc", self.bary, pixels[tris]).reshape(-1, 2)
        z = np.einsum("bk,tk->tb", self.bary, depth[tris]).ravel()
        out = np.full((GRID, GRID), np.inf)
        _splat(out, p, z)
        return out

    def label(self, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (n, 2) float32 in the 512 frame and visibility (n,) bool."""
        rig, kind = self.rig, self.kind
        world = np.zeros((len(kind), 3))
        on_mesh = kind <= 3
        world[on_mesh] = pose.vertices[self.vertex[on_mesh]]
        for side in (0, 1):
            world[kind == 4 + side] = rig.eye_points(self.local[kind == 4 + side], side, pose)
        world[kind == 6] = rig.head_points(self.local[kind == 6], pose)
        world[kind == 7] = self.local[kind == 7]
        pixels, depth = project(world)
        mesh_px, mesh_z = project(pose.vertices)
        skin = self._buffer(mesh_px, mesh_z, self.skin_tris)
        teeth = self._buffer(mesh_px, mesh_z, self.teeth_tris)
        hair_px, hair_z = project(rig.head_points(self.cover, pose))
        x, y = np.clip(hair_px * (GRID / 1024), 0, GRID // 2 - 1).astype(int).T
        cell = y * (GRID // 2) + x
        count = np.bincount(cell, minlength=GRID * GRID // 4)
        mean = np.bincount(cell, hair_z, minlength=GRID * GRID // 4) / np.maximum(count, 1)
        hair = np.where(count >= 6, mean, np.inf).reshape(GRID // 2, GRID // 2)
        x, y = np.clip(pixels * (GRID / 512), 0, GRID - 1).astype(int).T
        ahead, teeth_z, hair_at = skin[y, x], teeth[y, x], hair[y // 2, x // 2]
        bias = np.select([kind <= 1, kind <= 5], [0.35, 0.06], 0.5)
        seen = depth < ahead + bias
        seen &= (kind != 3) | (depth < teeth_z + 0.05)
        seen &= (kind == 6) | (kind == 7) | (depth < hair_at + 0.5)
        a, b, c = (pose.vertices[self.front[:, i]] for i in range(3))
        normal = np.zeros((11248, 3))
        for i in range(3):
            np.add.at(normal, self.front[:, i], np.cross(b - a, c - a))
        skin_kind = kind == 0
        n = normal[self.vertex[skin_kind]]
        seen[skin_kind] &= n[:, 2] > 0.12 * np.linalg.norm(n, axis=1)
        inside = (pixels > 0).all(1) & (pixels < 512).all(1)
        return pixels.astype(np.float32), seen & inside


def build(rig: Rig, seed: int = 0) -> dict[str, np.ndarray]:
    """Choose the points; see KINDS."""
    from engines.studio import hair as hair_module

    rng = np.random.default_rng(seed)
    rest = rig.rest
    ears = np.abs(rest[:11248, 0]) > 7.0
    face = np.where((hair_module.scalp_mask(rest[:11248]) < 0.3) & (rest[:11248, 1] > -10.5) & (rest[:11248, 2] > -1) & ~ears)[0]
    face = face[face < 9409]
    mouth = face[(rest[face, 1] < -1) & (rest[face, 1] > -6) & (np.abs(rest[face, 0]) < 4)]
    eye = face[(rest[face, 1] > 1.5) & (rest[face, 1] < 7)]
    skin = np.unique(np.r_[rng.choice(face, 600, False), rng.choice(mouth, 450, False), rng.choice(eye, 420, False), rig.landmarks])
    lid = np.unique(np.concatenate([strip[:, 0] for side in hair_module.lash_strips(rig) for strip in (side[0], side[3])]))
    t = np.arange(17039, 21451)
    teeth = rng.choice(t[rest[t, 2] > 8.0], 120, False)
    dorsum = rig.tongue[rest[rig.tongue, 2] > 6.5]
    tongue = rng.choice(dorsum, 70, False)
    ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    r, big = rig_module.IRIS_RADIUS, rig_module.EYE_RADIUS
    local = [np.array([[0, 0, np.sqrt(big**2 - r**2) - 0.13]])]
    for radius in (rig_module.PUPIL_RADIUS, 0.5, r, 0.95, 1.15):
        z = np.sqrt(big**2 - max(radius, r) ** 2) - (0.02 if radius < r else 0)
        local.append(np.c_[radius * np.cos(ring), radius * np.sin(ring), np.full(24, z)])
    eyeball = np.concatenate(local)
    strands = hair_module.grow(rig).reshape(-1, 3).astype(float)
    front = strands[strands[:, 2] > -2]
    outer = front[rng.choice(len(front), 450, False)]
    cover = front[rng.choice(len(front), 40000, False)]
    gx, gy = np.meshgrid(np.linspace(16, 496, 20), np.linspace(440, 506, 6))
    flat = np.stack([gx.ravel(), gy.ravel()], -1)
    k = 2 * rig_module.CAMERA_FOCUS / rig_module.FRAME_HEIGHT
    z0 = rig_module.CAMERA_DISTANCE
    up = np.array([0, z0, -rig_module.CAMERA_RISE]) / np.hypot(z0, rig_module.CAMERA_RISE)
    fwd = np.array([0, -rig_module.CAMERA_RISE, -z0]) / np.hypot(z0, rig_module.CAMERA_RISE)
    a, b = (flat[:, 0] / 256 - 1) / k, (1 - flat[:, 1] / 256) / k
    cloth = np.array([0, rig_module.CAMERA_CENTRE + rig_module.CAMERA_RISE, z0]) + 99 * (fwd + a[:, None] * [1, 0, 0] + b[:, None] * up)
    parts = [
        (0, skin, None),
        (1, lid, None),
        (2, teeth, None),
        (3, tongue, None),
        (4, None, eyeball),
        (5, None, eyeball),
        (6, None, outer),
        (7, None, cloth),
    ]
    kind, vertex, loc = [], [], []
    for code, index, where in parts:
        n = len(index) if index is not None else len(where)
        kind.append(np.full(n, code, np.uint8))
        vertex.append(index if index is not None else np.full(n, NO_VERTEX))
        loc.append(where if where is not None else np.zeros((n, 3)))
    return {
        "kind": np.concatenate(kind),
        "vertex": np.concatenate(vertex).astype(np.uint16),
        "local": np.concatenate(loc).astype(np.float32),
        "hair_cover": cover.astype(np.float16),
    }
