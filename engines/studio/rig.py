# SPDX-License-Identifier: Apache-2.0
"""Pose the compact face rig: identity, blendshapes, tongue, gaze, stylise warp, head rotation, projection.

Only numpy is needed. Everything is deterministic: the same control vector always gives the same geometry, so labels
(landmarks, flow points, masks) can be recomputed for any frame and for poses that were never rendered.

Units and axes
    1 rig unit is about 0.85 cm. x > 0 is the subject's left (the viewer's right), y up, z towards the viewer.
    Angles are degrees: yaw > 0 turns to the viewer's right, pitch > 0 down, roll > 0 tilts the crown to the viewer's left.
    Pixels: (0, 0) is the outer corner of the top left pixel, so the centre of pixel (i, j) is (i + .5, j + .5).

Controls
    A control vector has shape (51,), float32, in the order of ``CONTROLS``: 45 ARKit-style weights (0..1),
    ``tongueUp`` (0..1), ``gazeYaw`` and ``gazePitch`` (degrees, relative to the head), ``yaw``, ``pitch``, ``roll``
    (degrees, of the head). The eyelids follow the gaze by themselves; there are no eyeLook controls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SHAPES = (
    "browDown_L",
    "browDown_R",
    "browInnerUp_L",
    "browInnerUp_R",
    "browOuterUp_L",
    "browOuterUp_R",
    "cheekPuff_L",
    "cheekPuff_R",
    "cheekSquint_L",
    "cheekSquint_R",
    "eyeBlink_L",
    "eyeBlink_R",
    "eyeSquint_L",
    "eyeSquint_R",
    "eyeWide_L",
    "eyeWide_R",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimple_L",
    "mouthDimple_R",
    "mouthFrown_L",
    "mouthFrown_R",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDown_L",
    "mouthLowerDown_R",
    "mouthPress_L",
    "mouthPress_R",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmile_L",
    "mouthSmile_R",
    "mouthStretch_L",
    "mouthStretch_R",
    "mouthUpperUp_L",
    "mouthUpperUp_R",
    "noseSneer_L",
    "noseSneer_R",
)
ANGLES = ("gazeYaw", "gazePitch", "yaw", "pitch", "roll")
CONTROLS = (*SHAPES, "tongueUp", *ANGLES)
INDEX = {name: i for i, name in enumerate(CONTROLS)}
RANGES = np.array([(0.0, 1.0)] * (len(SHAPES) + 1) + [(-30, 30), (-20, 20), (-16, 16), (-10, 10), (-8, 8)], np.float32)

IDENTITY = {0: 0.9, 3: -0.7, 5: 0.8}  # identity mode -> sigma: younger, softer, slim neck
EYE_CENTRE = np.array([3.16, 3.6135, 8.06])  # left eye of the mean face; the right one is mirrored
IRIS_RADIUS, PUPIL_RADIUS, EYE_RADIUS = 0.70, 0.27, 1.412  # of the local eyeball, before ``Rig.eye_scale``
TOE_IN = 1.7  # degrees each eye turns inwards at gaze 0
LID_YAW, LID_PITCH = 30.0, 24.0  # degrees of gaze at which the lid shapes reach weight 1
TONGUE_UP = (1.6, 0.95)  # rise and advance of the tongue tip at tongueUp 1
TONGUE_LIFT = (1.9, 0.9)  # rise and advance of the tongue body at jawOpen 1 (else the mouth is a void)
HEAD_PIVOT = np.array([0.0, -3.5, -0.5])
NECK = (-12.5, -7.5)  # rest heights between which head rotation fades in

CAMERA_DISTANCE, CAMERA_CENTRE, CAMERA_RISE, FRAME_HEIGHT = 105.0, 0.3, 1.5, 33.5
CAMERA_FOCUS = CAMERA_DISTANCE - 7.0  # distance at which FRAME_HEIGHT is measured

NO_VERTEX = 65535  # fourth index of a triangle in ``faces`` and ``face_uvs``

# vertex ranges of the mesh
FACE, SKIN, GUMS, TEETH = slice(0, 9409), slice(0, 14062), slice(14062, 17039), slice(17039, 21451)
LACRIMAL = slice(24591, 24999)


def smoothstep(a: float, b: float, x: np.ndarray) -> np.ndarray:
    """0 at a, 1 at b (either order), smooth in between."""
    t = np.clip((x - a) / (b - a), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def vector(weights: Mapping[str, float] | None = None, **more: float) -> np.ndarray:
    """Control vector (51,) from names; a name without _L/_R sets both sides (``mouthSmile=.3``)."""
    v = np.zeros(len(CONTROLS), np.float32)
    for name, value in {**(weights or {}), **more}.items():
        for n in (name,) if name in INDEX else (name + "_L", name + "_R"):
            v[INDEX[n]] = value
    return v


def euler(yaw: float, pitch: float, roll: float = 0.0) -> np.ndarray:
    """Rotation matrix (3, 3) for fixed axes, first yaw (y), then pitch (x), then roll (z); degrees."""
    a, b, c = np.radians([yaw, pitch, roll])
    ry = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    rx = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(rz @ rx @ ry)


def rotate(points: np.ndarray, weight: np.ndarray | float, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotate points (n, 3) about the neck pivot by weight (n,) times the head angles; degrees."""
    if yaw == pitch == roll == 0:
        return np.asarray(points, float)
    r = euler(yaw, pitch, roll)
    angle = np.arccos(np.clip((np.trace(r) - 1) / 2, -1, 1))
    axis = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    axis /= np.linalg.norm(axis)
    q = points - HEAD_PIVOT
    t = np.broadcast_to(np.asarray(weight, float) * angle, (len(q),))[:, None]
    return np.asarray(HEAD_PIVOT + q * np.cos(t) + np.cross(axis, q) * np.sin(t) + axis * ((q @ axis)[:, None] * (1 - np.cos(t))))


def project(points: np.ndarray, size: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Project world points (n, 3) to pixels (n, 2) of a square frame; also the depth (n,) in rig units."""
    origin = np.array([0, CAMERA_CENTRE + CAMERA_RISE, CAMERA_DISTANCE])
    forward = np.array([0, -CAMERA_RISE, -CAMERA_DISTANCE])
    forward /= np.linalg.norm(forward)
    up = np.array([0, 1, 0]) - forward * forward[1]
    up /= np.linalg.norm(up)
    right = np.cross(forward, up)
    q = np.asarray(points, float) - origin
    depth = q @ forward
    k = 2 * CAMERA_FOCUS / FRAME_HEIGHT / depth
    return np.stack([(1 + (q @ right) * k) * size / 2, (1 - (q @ up) * k) * size / 2], -1), depth


@dataclass(frozen=True)
class Pose:
    """A posed head. ``vertices`` (26719, 3) are final; ``unturned`` are the same before the head rotation."""

    vertices: np.ndarray
    unturned: np.ndarray
    head: tuple[float, float, float]  # yaw, pitch, roll in degrees
    gaze: tuple[float, float]  # yaw, pitch in degrees, relative to the head
    blink: tuple[float, float]  # left, right, 0..1


class Rig:
    """The compact rig with the stock identity applied."""

    def __init__(self, path: str) -> None:
        z = np.load(path)
        self.rest = z["neutral"].astype(float)  # (26719, 3) mean face
        self.faces, self.face_uvs, self.uvs = z["faces"].astype(int), z["face_uvs"].astype(int), z["uvs"].astype(float)
        self.face_material = z["face_material"]
        self.material_names = [str(n) for n in z["material_names"]]
        self.landmarks = z["landmarks68"].astype(int)
        offsets, indices, deltas = z["expr_offsets"], z["expr_indices"].astype(int), z["expr_deltas"].astype(float)
        self.shapes = {
            str(n): (indices[offsets[i] : offsets[i + 1]], deltas[offsets[i] : offsets[i + 1]]) for i, n in enumerate(z["expr_names"])
        }
        modes = z["identity_deltas"].astype(float)
        self.base = self.rest + sum(s * modes[k] for k, s in IDENTITY.items())  # identity, no expression
        self.head_weight = smoothstep(*NECK, self.rest[:, 1])
        balls = slice(21451, 22221), slice(23021, 23791)
        self.eyes = [EYE_CENTRE * m + (self.base[s] - self.rest[s]).mean(0) for s, m in zip(balls, ([1, 1, 1], [-1, 1, 1]), strict=True)]
        self.eye_scale = float(np.mean([np.ptp(self.base[s], axis=0) / np.ptp(self.rest[s], axis=0) for s in balls]))
        self.nose = self.base[self.landmarks[33]] * [0, 1, 1] + [0, 1.2, 0]
        self.tongue = self._tongue()
        self.tongue_up, self.tongue_lift = self._tongue_shapes()

    def _tongue(self) -> np.ndarray:
        """Vertex indices of the tongue: the UV island of the gums material that holds the dorsum."""
        uv_faces = self.face_uvs[self.face_material == self.material_names.index("M_GumsTongue")]
        faces = self.faces[self.face_material == self.material_names.index("M_GumsTongue")]
        label = np.arange(len(self.uvs))
        quads = np.where(uv_faces == NO_VERTEX, uv_faces[:, :1], uv_faces)
        while True:
            low = label[quads].min(1)
            new = label.copy()
            for k in range(4):
                np.minimum.at(new, quads[:, k], low)
            if (new == label).all():
                break
            label = new
        used = np.unique(quads)
        seed = used[np.argmin(((self.uvs[used] - [2.75, 0.2]) ** 2).sum(1))]
        quads_v = np.where(faces == NO_VERTEX, faces[:, :1], faces)
        return np.unique(quads_v[label[quads[:, 0]] == label[seed]])

    def _tongue_shapes(self) -> tuple[np.ndarray, np.ndarray]:
        """Deltas (tongue, 3): the tip raised to the upper teeth, and the lift that goes with jawOpen 1."""
        p = self.rest[self.tongue]
        side = 1 - 0.8 * smoothstep(0.8, 1.7, np.abs(p[:, 0]))
        top = smoothstep(-5.1, -4.3, p[:, 1])
        tip = smoothstep(6.0, 9.4, p[:, 2]) * side * top
        body = smoothstep(4.2, 7.0, p[:, 2]) * (1 - 0.35 * smoothstep(8.2, 9.7, p[:, 2])) * side * top
        return tip[:, None] * [0, TONGUE_UP[0], TONGUE_UP[1]], body[:, None] * [0, TONGUE_LIFT[0], TONGUE_LIFT[1]]

    def warp(self, points: np.ndarray) -> np.ndarray:
        """Stylise: eyes 17 % larger, nose a little smaller, lower face narrower. Applied to the posed mesh."""
        p = np.asarray(points, float)
        shift = np.zeros_like(p)
        for c in self.eyes:
            q = p - c
            r = np.sqrt(q[:, 0] ** 2 + q[:, 1] ** 2 + (0.6 * q[:, 2]) ** 2)
            shift += (0.17 * (1 - smoothstep(1.75, 4.4, r)))[:, None] * q
        q = p - self.nose
        shift += (-0.07 * (1 - smoothstep(1.2, 3.8, np.sqrt((q**2).sum(1)))))[:, None] * q * [1.2, 0.7, 0.7]
        shift[:, 0] -= 0.06 * smoothstep(1, -6, p[:, 1]) * smoothstep(-13, -8, p[:, 1]) * p[:, 0]
        return np.asarray(p + shift)

    def pose(self, controls: np.ndarray) -> Pose:
        """Pose the whole mesh for a control vector (51,)."""
        c = dict(zip(CONTROLS, np.asarray(controls, float), strict=True))
        gaze_yaw, gaze_pitch = c["gazeYaw"], c["gazePitch"]
        weights = {n: c[n] for n in SHAPES}
        for side, out in (("L", 1), ("R", -1)):
            blink = min(c["eyeBlink_" + side], 1.0)
            weights["eyeWide_" + side] *= 1 - blink
            weights["eyeLookOut_" + side] = max(out * gaze_yaw, 0) / LID_YAW
            weights["eyeLookIn_" + side] = max(-out * gaze_yaw, 0) / LID_YAW
            weights["eyeLookUp_" + side] = max(-gaze_pitch, 0) / LID_PITCH * (1 - 0.8 * blink)
            weights["eyeLookDown_" + side] = max(gaze_pitch, 0) / LID_PITCH * (1 - 0.85 * blink)
        v = self.base.copy()
        for name, w in weights.items():
            if w:
                index, delta = self.shapes[name]
                v[index] += w * delta
        room = smoothstep(0.0, 0.15, c["jawOpen"])  # closed jaws keep the tongue behind the teeth
        v[self.tongue] += c["tongueUp"] * self.tongue_up * [1, 0.45 + 0.55 * room, room] + c["jawOpen"] * self.tongue_lift
        v = self.warp(v)
        head = (c["yaw"], c["pitch"], c["roll"])
        return Pose(rotate(v, self.head_weight, *head), v, head, (gaze_yaw, gaze_pitch), (c["eyeBlink_L"], c["eyeBlink_R"]))

    def eye_points(self, local: np.ndarray, side: int, pose: Pose) -> np.ndarray:
        """World positions of points (n, 3) given on the local eyeball (axis +z); side 0 is left, 1 right."""
        yaw = pose.gaze[0] - (TOE_IN if side == 0 else -TOE_IN)
        p = local @ euler(yaw, pose.gaze[1]).T * self.eye_scale + self.eyes[side]
        return rotate(self.warp(p), 1.0, *pose.head)

    def head_points(self, points: np.ndarray, pose: Pose) -> np.ndarray:
        """World positions of points (n, 3) that are rigid with the head, such as hair."""
        return rotate(points, 1.0, *pose.head)

    def landmarks68(self, pose: Pose, size: int = 512) -> np.ndarray:
        """The 68 landmarks in pixels, (68, 2) float32, in the usual 68-point order."""
        return project(pose.vertices[self.landmarks], size)[0].astype(np.float32)

    def boxes(self, pose: Pose, size: int = 512) -> np.ndarray:
        """Mouth, left eye and right eye boxes in pixels, (3, 4) float32 as x0, y0, x1, y1."""
        mouth = project(pose.vertices[self.landmarks[48:68]], size)[0]
        scale = size / 512
        out = [np.r_[mouth.min(0) - [14 * scale, 12 * scale], mouth.max(0) + 14 * scale]]
        for side in (0, 1):
            c = project(self.eye_points(np.zeros((1, 3)), side, pose), size)[0][0]
            out.append(np.r_[c - [40 * scale, 32 * scale], c + np.array([40, 26]) * scale])
        return np.array(out, np.float32)
