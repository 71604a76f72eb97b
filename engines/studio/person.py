"""From a film of a person to a data folder as the rig gives one: frames, controls, flow labels, geometry.

Controls are FaceLandmarker's blendshapes (ARKit's names) above the person's own rest, the gaze from its eyeLook shapes, and the head's
angles from a rigid fit of the landmarks. The head's sway that its angles do not explain is taken out of the frames. The background
stays in the picture: its alpha is 1 everywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.studio.dataset import StudioError
from engines.studio.film import MIN_SECONDS, Watched, frames_of, watch
from engines.studio.geometry import EYE_SHAPE, MOUTH_SHAPE, ORIGINS, Geometry, gaze_features, pose_features
from engines.studio.quality import Finding, judge
from engines.studio.rig import CONTROLS, INDEX, RANGES, euler
from engines.vision.landmarks import BLENDSHAPES

__all__ = ["Prepared", "prepare"]

# FaceLandmarker's points in the order of the usual 68.
POINTS_68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389, 71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380, 61, 39, 37, 0, 267, 269, 291, 405,
    314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
_RIGID = (10, 151, 9, 8, 168, 6, 197, 33, 133, 362, 263, 127, 356, 234, 454, 54, 284, 103, 332, 67, 297, 109, 338)
_LIDS = (33, 160, 159, 158, 157, 173, 133, 153, 145, 144, 362, 385, 386, 387, 388, 466, 263, 373, 374, 380)
_MESH = 468  # points after these are the irises': five each of the right and the left eye
_LEFT_IRIS = 473
_EYES = np.array([[205.9, 209.5], [305.9, 209.5]])  # where the stock face has its eyes, pixels of 512
_MOST_FRAMES = 1200
_TEST_EVERY = 20
_FEW_DEGREES = 1.0  # a head that turns less than this tells nothing of how it sways with its angles
_AT_LEAST = 2.0  # seconds, whatever is asked for
_GAZE = np.array([30.0, 24.0])  # degrees at which the rig's own eyeLook shapes reach 1
_FLIP = np.array([1.0, -1.0, -1.0])  # landmarks: y down, z away; rig: y up, z towards the viewer


class Prepared(NamedTuple):
    """The data folder and what was found about the film."""

    data: Path
    findings: list[Finding]
    frames: int


class _Pose(NamedTuple):
    """Head of n frames: ``angles`` (n, 3) degrees, ``scale`` (n,), ``centre`` (n, 2) pixels, and the ``shape`` (478, 3) at rest."""

    angles: NDArray[np.float64]
    scale: NDArray[np.float64]
    centre: NDArray[np.float64]
    shape: NDArray[np.float64]


def _rigid(points: NDArray[np.float64], shape: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Rotation and scale that bring ``shape`` (k, 3) to ``points`` (k, 3), both centred (Umeyama 1991)."""
    u, s, vt = np.linalg.svd(points.T @ shape)
    d = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    return u @ d @ vt, float((s * np.diag(d)).sum() / (shape**2).sum())


def _pose(landmarks: NDArray[np.float32]) -> _Pose:
    points = landmarks.astype(np.float64) * _FLIP
    rigid = points[:, list(_RIGID)]
    centres = rigid.mean(1)
    rigid = rigid - centres[:, None]
    mean = rigid[np.abs(rigid[:, 13, 2] - rigid[:, 14, 2]).argmin()]  # the most frontal frame, by the depth of the temples
    for _ in range(3):
        fits = [_rigid(p, mean) for p in rigid]
        mean = np.mean([p @ r / s for p, (r, s) in zip(rigid, fits, strict=True)], 0)
    # Level and frontal: the temples on one line across the picture; the pitch that the person held most is taken for 0.
    across = mean[14] - mean[13]
    yaw, roll = np.arctan2(across[2], across[0]), np.arctan2(across[1], np.hypot(across[0], across[2]))
    level = euler(np.degrees(yaw), 0, 0) @ np.eye(3)
    level = euler(0, 0, -np.degrees(roll)) @ level
    fits = [_rigid(p, mean @ level.T) for p in rigid]
    pitch = float(np.median([np.degrees(np.arcsin(np.clip(r[2, 1], -1, 1))) for r, _ in fits]))
    level = euler(0, pitch, 0) @ level
    fits = [_rigid(p, mean @ level.T) for p in rigid]
    r = np.array([f[0] for f in fits])
    angles = np.degrees(
        np.stack([np.arctan2(-r[:, 2, 0], r[:, 2, 2]), np.arcsin(np.clip(r[:, 2, 1], -1, 1)), np.arctan2(-r[:, 0, 1], r[:, 1, 1])], 1)
    )
    scale = np.array([f[1] for f in fits])
    calm = np.argsort(np.abs(angles).sum(1))[: max(10, len(angles) // 10)]
    shape = np.median([(points[k] - centres[k]) @ r[k] / scale[k] for k in calm], 0)
    return _Pose(angles, scale, centres[:, :2] * [1, -1], shape)


def _controls(watched: Watched, angles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Control vectors (n, 51)."""
    rest = np.quantile(watched.shapes, 0.25, axis=0)  # a face rests in more than a quarter of the frames
    weights = np.clip((watched.shapes - rest) / np.maximum(1 - rest, 0.2), 0, 1)
    column = {name: weights[:, k] for k, name in enumerate(BLENDSHAPES)}
    raw = {name: watched.shapes[:, k] for k, name in enumerate(BLENDSHAPES)}
    values = np.zeros((len(weights), len(CONTROLS)), np.float32)
    for k, name in enumerate(CONTROLS[: INDEX["tongueUp"]]):
        base, _, side = name.partition("_")
        full = base + {"L": "Left", "R": "Right", "": ""}[side]
        values[:, k] = column[full if full in column else base]
    across = (raw["eyeLookOutLeft"] - raw["eyeLookInLeft"] + raw["eyeLookInRight"] - raw["eyeLookOutRight"]) / 2
    down = (raw["eyeLookDownLeft"] - raw["eyeLookUpLeft"] + raw["eyeLookDownRight"] - raw["eyeLookUpRight"]) / 2
    gaze = np.stack([across, down], 1) * _GAZE
    values[:, INDEX["gazeYaw"] : INDEX["gazePitch"] + 1] = gaze - np.median(gaze, 0)
    values[:, INDEX["yaw"] :] = angles
    return np.asarray(np.clip(values, RANGES[:, 0], RANGES[:, 1]), np.float32)


class _Crop(NamedTuple):
    """How frames are brought to 512: film pixel -> frame pixel, (n, 2, 3); the head's ``scale`` and ``move`` (4, 2) there, by angles."""

    maps: NDArray[np.float64]
    scale: float
    move: NDArray[np.float64]


def _crops(pose: _Pose) -> _Crop:
    """Put the resting eyes where the stock face has them; take out the sway that the angles do not explain."""
    rest = pose.shape[:, :2] * [1, -1]
    eyes = np.array([rest[[33, 133]].mean(0), rest[[362, 263]].mean(0)])
    size = float(np.median(pose.scale))
    scale = float(np.linalg.norm(_EYES[1] - _EYES[0]) / np.linalg.norm(eyes[1] - eyes[0]))  # shape -> 512
    terms = np.concatenate([np.ones((len(pose.angles), 1)), pose.angles], 1)
    held = np.diag([0.0, 1.0, 1.0, 1.0]) * len(terms) * _FEW_DEGREES**2  # in a film with the head still, noise explains nothing
    explained = np.linalg.solve(terms.T @ terms + held, terms.T @ pose.centre)
    home = _EYES.mean(0) - eyes.mean(0) * scale
    move = explained * (scale / size)
    move[0] = home
    maps = []
    for k, wanted in enumerate(terms @ move):
        zoom = scale / pose.scale[k]
        maps.append(np.c_[np.eye(2) * zoom, wanted - pose.centre[k] * zoom])
    return _Crop(np.array(maps), scale, move)


def _project(crop: _Crop, shape: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frame pixels (k, 2) of the resting shape (k, 3) with the head at ``angles`` (3,)."""
    turned = shape @ euler(*angles).T
    return np.asarray(turned[:, :2] * [1, -1] * crop.scale + np.r_[1.0, angles] @ crop.move)


def _geometry(crop: _Crop, pose: _Pose, controls: NDArray[np.float32], irises: NDArray[np.float64], seed: int = 0) -> Geometry:
    """As ``geometry.fit`` does on the rig; ``irises`` (n, 2) is the left iris in frame pixels."""
    rng = np.random.default_rng(seed)
    scale = RANGES[-3:, 1]
    shape = pose.shape[:_MESH]
    flat = _project(crop, shape, np.zeros(3))
    groups = []
    for origin, size in zip(ORIGINS, (MOUTH_SHAPE, EYE_SHAPE, EYE_SHAPE), strict=True):
        inside = ((flat > origin + 8) & (flat < origin + size[::-1] - np.array(8.0))).all(1)
        if inside.sum() < 6:
            raise StudioError("the face's proportions leave a patch empty: film the face from the front, without a mask or glasses")
        groups.append(np.flatnonzero(inside))
    angles = rng.uniform(-1, 1, (200, 3)) * scale
    rows = []
    for head in angles:
        posed = _project(crop, shape, head)
        fits = [
            np.linalg.lstsq(np.c_[flat[g] - o, np.ones(len(g))], posed[g], rcond=None)[0].T for g, o in zip(groups, ORIGINS, strict=True)
        ]
        rows.append(np.concatenate([f.ravel() for f in fits]))
    places = np.linalg.lstsq(pose_features(angles / scale), np.array(rows), rcond=None)[0]
    head_features = pose_features(np.clip(pose.angles / scale, -1, 1))
    left = (head_features @ places).reshape(-1, 3, 2, 3)[:, 1]
    spots = np.array([np.linalg.solve(m[:, :2], p - m[:, 2]) for m, p in zip(left, irises, strict=True)])
    gaze = controls[:, INDEX["gazeYaw"] : INDEX["gazePitch"] + 1] / RANGES[INDEX["gazeYaw"] : INDEX["gazePitch"] + 1, 1]
    features = gaze_features(gaze.astype(np.float64))
    iris = np.linalg.solve(features.T @ features + np.eye(9) * 0.01 * len(gaze), features.T @ spots)
    return Geometry(places, iris)


def _choose(watched: Watched) -> NDArray[np.int64]:
    """Indices of the frames to train on: not the blurred tenth, evenly over the film."""
    sharp = np.flatnonzero(watched.sharp >= np.quantile(watched.sharp, 0.1))
    return np.asarray(sharp[np.unique(np.linspace(0, len(sharp) - 1, min(len(sharp), _MOST_FRAMES)).astype(int))])


def prepare(films: Sequence[Path], out: Path, task: Path, *, anyway: bool = False) -> Prepared:
    """Make the data folder ``out`` from films of one person; ``anyway`` goes on although the film lacks something.

    Nothing is left behind where it fails.

    Raises:
        StudioError: no such film (see ``film.watch``), one that lacks something, or ``out`` is there already.

    """
    if out.exists():
        raise StudioError(f"{out}: is there already; name a new folder")
    watched = watch(films, task, shortest=_AT_LEAST if anyway else MIN_SECONDS)
    pose = _pose(watched.landmarks)
    controls = _controls(watched, pose.angles)
    findings = judge(watched, controls, float(np.median(np.ptp(watched.landmarks[:, :, 0], axis=1))))
    lacking = [f for f in findings if not f.good]
    if lacking and not anyway:
        raise StudioError(f"{', '.join(p.name for p in films)}: not enough for a face: " + "; ".join(f.advice for f in lacking))
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        count = _write(films, part, watched, pose, controls)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Prepared(out, findings, count)


def _write(films: Sequence[Path], out: Path, watched: Watched, pose: _Pose, controls: NDArray[np.float32]) -> int:
    (out / "frames").mkdir(parents=True)
    crop, pick = _crops(pose), _choose(watched)
    places = {int(watched.number[k]): (row, crop.maps[k]) for row, k in enumerate(pick)}
    for number, rgb in enumerate(frames_of(films)):
        if number not in places:
            continue
        row, m = places[number]
        _, data = cv2.imencode(".webp", cv2.cvtColor(_brought(rgb, m), cv2.COLOR_RGB2BGRA), (cv2.IMWRITE_WEBP_QUALITY, 95))
        (out / "frames" / f"{row:05d}.webp").write_bytes(data.tobytes())
    xy = np.stack([watched.landmarks[k, :, :2] @ m[:, :2].T + m[:, 2] for k, m in zip(pick, crop.maps[pick], strict=True)])
    chosen = _Pose(pose.angles[pick], pose.scale[pick], pose.centre[pick], pose.shape)
    geometry = _geometry(crop, chosen, controls[pick], xy[:, _LEFT_IRIS])
    np.savez(out / "geometry.npz", places=geometry.places, iris=geometry.iris)
    _labels(out, watched.number[pick], controls[pick], xy, _project(crop, pose.shape[:_MESH], np.zeros(3)))
    return len(pick)


def _brought(rgb: NDArray[np.uint8], m: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The frame (512, 512, 3) of a film's picture by its map (2, 3); a larger one is averaged first, which warpAffine does not do."""
    height, width = rgb.shape[:2]
    zoom = float(np.hypot(*m[:, 0]))
    if zoom < 1:
        small = max(1, round(width * zoom)), max(1, round(height * zoom))
        rgb = np.asarray(cv2.resize(rgb, small, interpolation=cv2.INTER_AREA), np.uint8)
        m = m * [width / small[0], height / small[1], 1.0]
    drawn = cv2.warpAffine(rgb, _centred(m), (512, 512), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(drawn, np.uint8)


def _centred(m: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same map for OpenCV, which counts from pixel centres."""
    shifted = m.copy()
    shifted[:, 2] += m[:, :2] @ [0.5, 0.5] - 0.5
    return np.asarray(shifted)


def _labels(
    out: Path, numbers: NDArray[np.int64], controls: NDArray[np.float32], xy: NDArray[np.float64], canon: NDArray[np.float64]
) -> None:
    """Write controls.npz and flow.npz; ``numbers`` are the frames' places in the film.

    Points on the frame's lower edge and sides stay where they are.
    """
    n = len(controls)
    edge = np.array(
        [(x, y) for y in (470, 490, 508) for x in range(8, 512, 24)] + [(x, y) for x in (6, 506) for y in range(20, 460, 40)], float
    )
    mouth, eyes = xy[:, list(POINTS_68[48:])], [xy[:, 478 - 5 :].mean(1), xy[:, 468:473].mean(1)]
    boxes = [np.concatenate([mouth.min(1) - [14, 12], mouth.max(1) + 14], 1)]
    boxes += [np.concatenate([c - np.array([40, 32]), c + np.array([40, 26])], 1) for c in eyes]
    kinds = ["skin", "lid", "garment"]
    kind = np.array([1 if k in _LIDS else 0 for k in range(_MESH)] + [2] * len(edge), np.uint8)
    np.savez_compressed(
        out / "controls.npz",
        names=np.array(CONTROLS),
        ranges=RANGES,
        values=controls,
        split=(np.arange(n) % _TEST_EVERY == 0).astype(np.uint8),
        split_names=np.array(["train", "test"]),
        category=np.zeros(n, np.uint8),
        category_names=np.array(["film"]),
        rendered=np.ones(n, bool),
        film_frame=numbers,
        landmarks=xy[:, list(POINTS_68)].astype(np.float32),
        boxes=np.stack(boxes, 1).astype(np.float32),
        box_names=np.array(["mouth", "eye_L", "eye_R"]),
        size=np.int32(512),
    )
    np.savez_compressed(
        out / "flow.npz",
        canon=np.concatenate([canon, edge]).astype(np.float32),
        kind=kind,
        kind_names=np.array(kinds),
        offsets=np.concatenate([xy[:, :_MESH] - canon, np.zeros((n, len(edge), 2))], 1).astype(np.float16),
        visible=np.packbits(np.ones((n, len(kind)), bool), axis=1),
    )
