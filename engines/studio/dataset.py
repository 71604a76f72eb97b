"""The rendered frames as training targets: premultiplied frames, head-stabilised patches, flow labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.studio.geometry import EYE_SHAPE, MOUTH_SHAPE, Geometry, pose_features
from engines.studio.rig import CONTROLS, INDEX, RANGES

__all__ = ["Frames", "StudioError", "load", "place_of", "read_frame"]

FLOW_KINDS = ("skin", "lid", "hair", "garment")  # the patches draw teeth, tongue and eyeballs


class StudioError(EngineError):
    """The studio cannot work with the data it was given."""


@dataclass(frozen=True)
class Frames:
    """Rendered frames of one split, in memory; n frames.

    ``controls`` (n, 51) f32 · ``rgba`` (n, 512, 512, 4) u8 premultiplied · ``mouth`` (n, 112, 144, 3) u8 ·
    ``eyes`` (n, 2, 96, 96, 3) u8, the right one mirrored · ``index`` (n,) of the frames · ``boxes`` (n, 3, 4) pixels.
    """

    index: NDArray[np.int64]
    controls: NDArray[np.float32]
    rgba: NDArray[np.uint8]
    mouth: NDArray[np.uint8]
    eyes: NDArray[np.uint8]
    boxes: NDArray[np.float32]


def read_frame(path: Path) -> NDArray[np.uint8]:
    """One frame as premultiplied RGBA (512, 512, 4) u8; a picture without alpha is opaque.

    Raises:
        StudioError: the file is missing or no such picture.

    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape[:2] != (512, 512) or image.ndim != 3:
        raise StudioError(f"{path}: no RGBA picture of 512 x 512; make the frame again")
    if image.shape[2] == 3:  # WebP drops an alpha that is 1 everywhere, as in films of people
        image = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
    rgba = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    rgba[..., :3] = (rgba[..., :3].astype(np.uint16) * rgba[..., 3:] + 127) // 255
    return np.asarray(rgba, np.uint8)


def place_of(geometry: Geometry, controls: NDArray[np.float32]) -> NDArray[np.float64]:
    """Affine maps patch -> frame (3, 2, 3) of one control vector."""
    head = [INDEX[n] for n in ("yaw", "pitch", "roll")]
    u = np.asarray(controls[head] / RANGES[head, 1], np.float64)[None]
    return np.asarray((pose_features(u) @ geometry.places).reshape(3, 2, 3))


def _crop(rgba: NDArray[np.uint8], place: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.uint8]:
    m = place.copy()
    m[:, 2] += m[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV counts from pixel centres
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(rgba[..., :3], m, shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def labels(data: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]:
    """The arrays of controls.npz and flow.npz.

    Raises:
        StudioError: a file is missing, the control names are not this rig's, or a control is not a number.

    """
    for name in ("controls.npz", "flow.npz"):
        if not (data / name).is_file():
            raise StudioError(f"{data / name}: missing; make it with engines.studio.pack")
    controls, flow = dict(np.load(data / "controls.npz")), dict(np.load(data / "flow.npz"))
    if [str(n) for n in controls["names"]] != list(CONTROLS):
        raise StudioError(
            f"{data / 'controls.npz'}: names are not the rig's 51 controls; make the data with `visavis avatar person` or the rig"
        )
    wrong = np.flatnonzero(~np.isfinite(controls["values"].astype(np.float32)).all(1))
    if len(wrong):
        raise StudioError(f"{data / 'controls.npz'}: the controls of frame {wrong[0]} are no numbers (NaN); make the file again")
    return controls, flow


def load(data: Path, geometry: Geometry, *, test: bool, only: Iterable[int] | None = None) -> Frames:
    """Read all rendered frames of a split (or those in ``only``), and cut their patches.

    Raises:
        StudioError: nothing is rendered, or a frame cannot be read.

    """
    z, _ = labels(data)
    pick = np.flatnonzero(z["rendered"].astype(bool) & (z["split"] == int(test)))
    if only is not None:
        pick = np.intersect1d(pick, np.asarray(list(only)))
    if not len(pick):
        raise StudioError(f"{data}: no rendered {'test' if test else 'train'} frames")
    controls = z["values"][pick].astype(np.float32)
    rgba = np.empty((len(pick), 512, 512, 4), np.uint8)
    mouth = np.empty((len(pick), *MOUTH_SHAPE, 3), np.uint8)
    eyes = np.empty((len(pick), 2, *EYE_SHAPE, 3), np.uint8)
    for k, i in enumerate(pick):
        rgba[k] = read_frame(data / "frames" / f"{i:05d}.webp")
        places = place_of(geometry, controls[k])
        mouth[k] = _crop(rgba[k], places[0], MOUTH_SHAPE)
        eyes[k, 0] = _crop(rgba[k], places[1], EYE_SHAPE)
        eyes[k, 1] = _crop(rgba[k], places[2], EYE_SHAPE)[:, ::-1]
    return Frames(pick, controls, rgba, mouth, eyes, z["boxes"][pick].astype(np.float32))
