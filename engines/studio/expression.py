"""Whether drawn frames say what rendered ones say, read by a landmark model that knows neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.renderer import load_pack, select
from engines.studio import dataset
from engines.studio.metrics import GREY, over_grey
from engines.studio.pack import nv12_to_rgb
from engines.vision.landmarks import FaceLandmarker, mouth_opening

__all__ = ["EXPRESSION", "evaluate_expression"]

EXPRESSION = ("mouth_opening", "blink", "gaze", "smile", "brow")


def evaluate_expression(path: Path, data: Path, task: Path, *, rung: int = -1) -> dict[str, Any]:
    """Per quantity of ``EXPRESSION`` the correlation and the mean absolute difference between drawn and rendered test frames.

    Also ``frames`` that both show a face, and ``idle_mouth``: the mouth opening of the pack's rest pose. ``task`` is
    face_landmarker.task.

    Raises:
        EngineError: the pack, the data or the landmark model cannot be read.

    """
    landmarker, face = FaceLandmarker(task), select(load_pack(path)).engine
    face.set_background((GREY, GREY, GREY))
    rung %= len(face.rungs)
    size = face.rungs[rung].width
    out = np.empty((size * 3 // 2, size), np.uint8)
    z, _ = dataset.labels(data)
    rows = []
    for i in np.flatnonzero(z["rendered"].astype(bool) & (z["split"] == 1)):
        face.draw(z["values"][i].astype(np.float32), out, rung=rung)
        wanted = landmarker.detect(over_grey(dataset.read_frame(data / "frames" / f"{i:05d}.webp"), size))
        made = landmarker.detect(nv12_to_rgb(out))
        if wanted is not None and made is not None:
            rows.append([_expression(f.blendshapes, mouth_opening(f)) for f in (wanted, made)])
    values = np.array(rows)
    face.draw(face.idle, out, rung=rung)
    report: dict[str, Any] = {"frames": len(rows), "idle_mouth": round(landmarker.mouth_opening(nv12_to_rgb(out)), 4)}
    for k, name in enumerate(EXPRESSION):
        a, b = values[:, 0, k], values[:, 1, k]
        report[name] = {"correlation": round(float(np.corrcoef(a, b)[0, 1]), 3), "difference": round(float(np.abs(a - b).mean()), 4)}
    return report


def _expression(weights: dict[str, float], opening: float) -> list[float]:
    gaze = weights["eyeLookOutLeft"] - weights["eyeLookInLeft"]
    return [opening, weights["eyeBlinkLeft"], gaze, weights["mouthSmileLeft"], weights["browInnerUp"]]
