"""Where the patches lie in the frame for a head pose, and where the iris lies in an eye patch: fitted once on the rig.

The renderer cannot carry the rig, so both are polynomials of normalised angles; ``fit`` makes them, the network holds
them as constants. Pixels refer to a 512 x 512 frame; a patch pixel (i, j) has its centre at (i + .5, j + .5).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.studio.rig import INDEX, RANGES, Rig, project
from engines.studio.sampler import IDLE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EYE_SHAPE", "MOUTH_SHAPE", "ORIGINS", "Geometry", "fit", "gaze_features", "load", "pose_features"]

_Numbers = TypeVar("_Numbers", NDArray[np.float64], "Tensor")
MOUTH_SHAPE, EYE_SHAPE = (112, 144), (96, 96)  # height, width
# Top left corners of mouth, left eye, right eye patch at rest.
ORIGINS = np.array([(184.0, 272.0), (256.0, 142.0), (160.0, 142.0)])


class Geometry(NamedTuple):
    """``places`` (64, 18): pose features -> three 2 x 3 affine maps patch -> frame; ``iris`` (9, 2): gaze features ->
    iris centre in the (unmirrored left) eye patch.
    """

    places: NDArray[np.float64]
    iris: NDArray[np.float64]


def load(data: Path) -> Geometry:
    """The geometry of a data folder: its own (``geometry.npz``, of a filmed person), else fitted on its rig.

    Raises:
        EngineError: it has neither.

    """
    own = data / "geometry.npz"
    if own.is_file():
        z = np.load(own)
        return Geometry(z["places"], z["iris"])
    rig = data / "rig" / "ict_facekit_rig.npz"
    if not rig.is_file():
        raise EngineError(f"{data}: has neither geometry.npz nor {rig.relative_to(data)}; make the data again")
    return fit(Rig(str(rig)))


def _with_one(values: _Numbers) -> _Numbers:
    """A one before each row: of the network's tensors, and of arrays, for which nobody needs PyTorch."""
    if isinstance(values, np.ndarray):
        return np.concatenate([np.ones_like(values[:, :1]), values], 1)
    import torch

    return torch.cat([torch.ones_like(values[:, :1]), values], 1)


def pose_features(angles: _Numbers) -> _Numbers:
    """Products of up to three normalised angles (n, 3), as (n, 64); an outer power, because a graph of few nodes is fast."""
    one = _with_one(angles)
    square = (one[:, :, None] * one[:, None, :]).reshape(-1, 16)
    found: _Numbers = (square[:, :, None] * one[:, None, :]).reshape(-1, 64)
    return found


def gaze_features(gaze: _Numbers) -> _Numbers:
    """Products of up to two normalised gaze angles (n, 2), as (n, 9)."""
    one = _with_one(gaze)
    found: _Numbers = (one[:, :, None] * one[:, None, :]).reshape(-1, 9)
    return found


def _affine(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares affine map (2, 3) of points (n, 2)."""
    return np.asarray(np.linalg.lstsq(np.c_[source, np.ones(len(source))], target, rcond=None)[0].T)


def fit(rig: Rig, seed: int = 0) -> Geometry:
    """Fit both polynomials on poses of the rig; the same seed gives the same numbers."""
    rng = np.random.default_rng(seed)
    rest = rig.pose(np.asarray(IDLE))
    flat, depth = project(rest.unturned)
    groups = []
    skin, near = flat[:9409], depth[:9409] < np.quantile(depth[:9409], 0.6)
    for origin, shape, margin in zip(ORIGINS, (MOUTH_SHAPE, EYE_SHAPE, EYE_SHAPE), ((30, 26), (16, 16), (16, 16)), strict=True):
        inside = ((skin > origin + margin) & (skin < origin + shape[::-1] - np.array(margin))).all(1)
        groups.append(np.flatnonzero(inside & near))
    scale = RANGES[[INDEX[n] for n in ("yaw", "pitch", "roll")], 1]
    angles = rng.uniform(-1, 1, (200, 3)) * scale
    rows = []
    for head in angles:
        controls = np.array(IDLE)
        controls[-3:] = head
        posed = project(rig.pose(controls).vertices)[0]
        rows.append(np.concatenate([_affine(flat[g] - o, posed[g]).ravel() for g, o in zip(groups, ORIGINS, strict=True)]))
    features = pose_features(angles / scale)
    places = np.linalg.lstsq(features, np.array(rows), rcond=None)[0]

    gaze = rng.uniform(-1, 1, (100, 2))
    spots = []
    for g in gaze:
        controls = np.array(IDLE)
        controls[INDEX["gazeYaw"]], controls[INDEX["gazePitch"]] = g * RANGES[[INDEX["gazeYaw"], INDEX["gazePitch"]], 1]
        pose = rig.pose(controls)
        spots.append(project(rig.eye_points(np.array([[0.0, 0.0, 1.3]]), 0, pose))[0][0] - ORIGINS[1])
    return Geometry(places, np.linalg.lstsq(gaze_features(gaze), np.array(spots), rcond=None)[0])
