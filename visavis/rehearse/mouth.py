"""Does the mouth move with the sound? Landmarks of the drawn frames against the loudness of the loudspeaker in room.wav.

First the ruler is tried on what is known: at rest the mouth is closed, under loud sound it is open. Where landmarks do not separate these
two, no lag is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.errors import EngineError
from visavis.rehearse import measure
from visavis.rehearse.frames import Drawn, frame_rgb, read_kept
from visavis.rehearse.room import RATE

__all__ = ["mouth_lag", "separates"]

_MOST_FRAMES = 900
_REST_FRAMES = 60
_LOUD_DB = 12.0
"""A frame counts as loud within this of the loudspeaker's peak."""


def separates(closed: npt.NDArray[np.float64], opened: npt.NDArray[np.float64]) -> bool:
    """Whether the typical open mouth is wider than 95 % of the closed ones."""
    return bool(len(closed) >= 5 and len(opened) >= 5 and np.median(opened) > np.quantile(closed, 0.95))


def mouth_lag(folder: Path, drawn: Sequence[Drawn], right: npt.NDArray[np.float32], room_start_ns: int, task: Path) -> dict[str, Any]:
    """By how many ms the mouth is later than the sound (`lag_ms`, with its correlation), or `why_not`.

    `folder` holds the recorded frames, `task` is the FaceLandmarker bundle.
    """
    from engines.vision.landmarks import FaceLandmarker

    kept = {k.seq: k for k in read_kept(folder / "frames.jsonl")}
    shown = [d for d in drawn if d.seq in kept and d.t_ns >= room_start_ns]
    speaking, resting = [d for d in shown if d.pts >= 0][:_MOST_FRAMES], [d for d in shown if d.pts < 0][:_REST_FRAMES]
    if len(speaking) < 50:
        return {"why_not": f"only {len(speaking)} frames were drawn while the avatar spoke"}
    try:
        landmarker = FaceLandmarker(task)
    except EngineError as error:
        return {"why_not": str(error)}
    store = np.memmap(folder / "frames.nv12", dtype=np.uint8, mode="r")

    def opening(frame: Drawn) -> float:
        row = kept[frame.seq]
        pixels = store[row.offset : row.offset + row.w * row.h * 3 // 2].reshape(-1, row.w)
        return landmarker.mouth_opening(frame_rgb(pixels))

    closed = np.array([opening(d) for d in resting])
    widths = np.array([opening(d) for d in speaking])
    level = measure.levels_db(right, RATE)
    times = np.array([(d.t_ns - room_start_ns) / 1e6 for d in speaking])
    loud = level[np.clip((times / measure.FRAME_MS).astype(int), 0, len(level) - 1)] > level.max() - _LOUD_DB
    found = {"faces": int(np.isfinite(widths).sum()), "frames": len(widths)}
    known = np.isfinite(widths)
    result: dict[str, Any] = found | {
        "closed": round(float(np.nanmedian(closed)), 4) if np.isfinite(closed).any() else None,
        "open": round(float(np.nanmedian(widths[loud])), 4) if np.isfinite(widths[loud]).any() else None,
    }
    if not separates(closed[np.isfinite(closed)], widths[loud & known]):
        return result | {"why_not": "landmarks do not separate the mouth at rest from the mouth under loud sound"}
    envelope = np.convolve(10 ** (np.maximum(level, -60) / 20), np.ones(8) / 8, mode="same")
    try:
        lag, likeness = measure.envelope_lag(times[known], widths[known], envelope, float(measure.FRAME_MS))
    except ValueError as error:
        return result | {"why_not": str(error)}
    return result | {"lag_ms": lag, "likeness": round(likeness, 3)}
