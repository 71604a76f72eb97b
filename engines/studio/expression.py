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

__all__ = ["EXPRESSION", "evaluate_expression", "evaluate_switch"]

EXPRESSION = ("mouth_opening", "blink", "gaze", "smile", "brow")


def evaluate_expression(path: Path, data: Path, task: Path, *, rung: int = -1) -> dict[str, Any]:
    """Per quantity of ``EXPRESSION`` the correlation and the mean absolute difference between drawn and rendered test frames.

    Also ``frames`` that both show a face, and ``idle_mouth``: the mouth opening of the pack's rest pose. ``task`` is
    face_landmarker.task.

    Raises:
        EngineError: the pack, the data or the landmark model cannot be read, or no frame shows a face.

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
    if not rows:
        raise dataset.StudioError(f"{path}: no test frame of {data} shows a face that can be read, rendered and drawn")
    values = np.array(rows)
    face.draw(face.idle, out, rung=rung)
    report: dict[str, Any] = {"frames": len(rows), "idle_mouth": round(landmarker.mouth_opening(nv12_to_rgb(out)), 4)}
    for k, name in enumerate(EXPRESSION):
        a, b = values[:, 0, k], values[:, 1, k]
        report[name] = {"correlation": round(float(np.corrcoef(a, b)[0, 1]), 3), "difference": round(float(np.abs(a - b).mean()), 4)}
    return report


def evaluate_switch(path: Path, data: Path, task: Path, *, limit: int | None = 20) -> dict[str, Any]:
    """What a switch of rung changes, over test poses: for each smaller rung against the best one.

    ``colour`` is the largest difference of a channel's mean in steps of a byte, ``landmarks_px`` the mean distance of the 478 landmarks
    in pixels of 512, and ``render_px`` the same between renders reduced to both sizes, which is the landmark model's own share.

    Raises:
        EngineError: the pack, the data or the landmark model cannot be read.

    """
    landmarker, face = FaceLandmarker(task), select(load_pack(path)).engine
    face.set_background((GREY, GREY, GREY))
    z, _ = dataset.labels(data)
    best = face.rungs[0].width
    rows: dict[str, list[tuple[float, float, float]]] = {r.name: [] for r in face.rungs[1:]}
    for i in np.flatnonzero(z["rendered"].astype(bool) & (z["split"] == 1))[:limit]:
        drawn, rendered = [], []
        rgba = dataset.read_frame(data / "frames" / f"{i:05d}.webp")
        for k, rung in enumerate(face.rungs):
            out = np.empty((rung.height * 3 // 2, rung.width), np.uint8)
            face.draw(z["values"][i].astype(np.float32), out, rung=k)
            drawn.append(nv12_to_rgb(out))
            rendered.append(over_grey(rgba, rung.width))
        points = [[landmarker.detect(p) for p in pictures] for pictures in (drawn, rendered)]
        if any(f is None for row in points for f in row):
            continue
        flat = [[f.landmarks[:, :2] * (best / r.width) for f, r in zip(row, face.rungs, strict=True) if f] for row in points]
        for k, rung in enumerate(face.rungs[1:], 1):
            colour = np.abs(drawn[k].reshape(-1, 3).mean(0) - drawn[0].reshape(-1, 3).mean(0)).max()
            own, model = (float(np.linalg.norm(row[k] - row[0], axis=1).mean()) for row in flat)
            rows[rung.name].append((float(colour), own, model))
    names = ("colour", "landmarks_px", "render_px")
    return {
        name: dict(zip(names, (round(float(v), 2) for v in np.mean(values, 0)), strict=True)) for name, values in rows.items() if values
    }


def _expression(weights: dict[str, float], opening: float) -> list[float]:
    gaze = weights["eyeLookOutLeft"] - weights["eyeLookInLeft"]
    return [opening, weights["eyeBlinkLeft"], gaze, weights["mouthSmileLeft"], weights["browInnerUp"]]
