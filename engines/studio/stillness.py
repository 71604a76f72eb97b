"""How much the picture at rest moves when the controls tremble, drawn by a pack and true by the rig.

The truth is a rendered frame near rest, moved by the rig's own projected points: what must move in any correct picture. It
leaves out shading, so it is rather too still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.renderer.compose import rgb_to_nv12
from engines.studio import dataset
from engines.studio.metrics import over_grey
from engines.studio.motion import moved, spread
from engines.studio.pack import nv12_to_rgb
from engines.studio.points import Points
from engines.studio.rig import Rig

__all__ = ["drawn_stillness", "true_stillness"]

NOISE, DRAWS, SEED = 0.005, 40, 7
_HEAD = 3  # the last controls are the head's angles

Picture = NDArray[np.uint8]
Draw = Callable[[NDArray[np.float32], int], Picture]


def _trembling(rest: NDArray[np.float32], ranges: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Prefix of the figures and control vectors (draws, n): all controls off, then all but the head's angles."""
    rng = np.random.default_rng(SEED)
    for name, free in (("", len(rest)), ("held_", len(rest) - _HEAD)):
        by = np.where(np.arange(len(rest)) < free, (ranges[:, 1] - ranges[:, 0]) * NOISE, 0)
        yield name, (rest + rng.normal(0, 1, (DRAWS, len(rest))) * by).astype(np.float32)


def _change(still: Picture, pictures: list[Picture], name: str) -> dict[str, float]:
    change = np.stack([np.abs(picture.astype(np.int16) - still) for picture in pictures])
    return {name + "mean": round(float(change.mean()), 3), name + "p999": round(float(np.quantile(change, 0.999)), 2)}


def drawn_stillness(draw: Draw, rung: int, rest: NDArray[np.float32], ranges: NDArray[np.float32]) -> dict[str, float]:
    """Mean and 99.9th percentile of the change of the picture at ``rest``, in steps of a byte, when every control is off by 0.5 % of
    its range (normal).

    That turns the head by 0.16 degrees, which moves edges by half a pixel at 512; ``held_`` leaves the head's three angles alone.
    """
    still = draw(rest, rung)
    report: dict[str, float] = {}
    for name, noisy in _trembling(rest, ranges):
        report |= _change(still, [draw(controls, rung) for controls in noisy], name)
    return report


def true_stillness(data: Path, rest: NDArray[np.float32], sizes: list[int]) -> dict[int, dict[str, float]]:
    """The same figures by frame size as ``truth_mean``, ``truth_p999`` and ``truth_held_…``; nothing without a rig in ``data``.

    Raises:
        StudioError: the frame cannot be read.

    """
    files = data / "rig" / "ict_facekit_rig.npz", data / "rig" / "points.npz"
    if not all(f.is_file() for f in files):
        return {}
    rig = Rig(str(files[0]))
    points = Points(rig, str(files[1]))
    z, _ = dataset.labels(data)
    ranges, values = z["ranges"].astype(np.float32), z["values"].astype(np.float32)
    shown = np.flatnonzero(z["rendered"])
    nearest = int(shown[np.linalg.norm((values[shown] - rest) / np.abs(ranges).max(1), axis=1).argmin()])
    frame, own = dataset.read_frame(data / "frames" / f"{nearest:05d}.webp"), values[nearest]
    at, seen = points.label(rig.pose(own))
    weights = spread(at[seen])
    still = {size: _through(frame, size) for size in sizes}
    report: dict[int, dict[str, float]] = {size: {} for size in sizes}
    for name, noisy in _trembling(own, ranges):
        pictures = []
        for controls in np.clip(noisy, ranges[:, 0], ranges[:, 1]):
            by = points.label(rig.pose(controls))[0][seen] - at[seen]
            pictures.append(moved(frame, weights, by))
        for size in sizes:
            report[size] |= _change(still[size], [_through(picture, size) for picture in pictures], "truth_" + name)
    return report


def _through(frame: Picture, size: int) -> Picture:
    """A rendered frame as a kiosk would show it: over grey, at ``size``, through NV12."""
    return nv12_to_rgb(rgb_to_nv12(over_grey(frame, size)))
