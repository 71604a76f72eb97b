"""How close a pack's drawn frames come to the rendered test frames, and what a frame costs.

Everything is measured on the product's own path: INT8 network, compositor, NV12 and back. The reference is the test frame
(32 samples per pixel) composed over the same grey. Even a perfect network scores about 32 dB in the face crop against
single noisy renders of 24 samples, so read the figures against that ceiling.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer import load_pack, select
from engines.studio import dataset
from engines.studio.pack import nv12_to_rgb
from engines.vision.landmarks import FaceLandmarker, mouth_opening

__all__ = ["card", "evaluate", "evaluate_expression", "sheet", "ssim_map"]

GREY = 150
REGIONS = ("whole", "face", "mouth", "eyes")
EXPRESSION = ("mouth_opening", "blink", "gaze", "smile", "brow")


def ssim_map(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Structural similarity of two grey pictures (h, w), Gaussian window of 11 pixels, sigma 1.5."""
    x, y = a.astype(np.float64), b.astype(np.float64)

    def blur(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(p, (11, 11), 1.5))

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def _regions(boxes: NDArray[np.float32], landmarks: NDArray[np.float32], size: int) -> dict[str, NDArray[np.bool_]]:
    """Pixel masks (size, size) of the four regions of one frame; boxes and landmarks in pixels of 512."""

    def box(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.bool_]:
        mask = np.zeros((size, size), bool)
        k = size / 512
        mask[max(int(y0 * k), 0) : int(np.ceil(y1 * k)), max(int(x0 * k), 0) : int(np.ceil(x1 * k))] = True
        return mask

    low, high = landmarks.min(0), landmarks.max(0)
    return {
        "whole": np.ones((size, size), bool),
        "face": box(low[0] - 12, low[1] - 50, high[0] + 12, high[1] + 12),
        "mouth": box(*boxes[0]),
        "eyes": box(*boxes[1]) | box(*boxes[2]),
    }


def _reference(rgba: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    over = rgba[..., :3].astype(np.float32) + GREY * (1 - rgba[..., 3:].astype(np.float32) / 255)
    return np.asarray(cv2.resize(np.clip(over + 0.5, 0, 255).astype(np.uint8), (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def evaluate(path: Path, data: Path, *, rung: int = -1, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """PSNR (dB, RGB) and SSIM (luma) per region over the rendered test frames, head turned or not, and ms per frame.

    PSNR is that of the mean squared error over all frames. ``rung`` counts as in the pack (-1: the smallest).

    Raises:
        EngineError: the pack or the data cannot be read.

    """
    pack = load_pack(path)
    face = select(pack).engine
    face.set_background((GREY, GREY, GREY))
    rung %= len(face.rungs)
    size = face.rungs[rung].width
    z, _ = dataset.labels(data)
    pick = np.flatnonzero(z["rendered"].astype(bool) & (z["split"] == 1))
    if not len(pick):
        raise dataset.StudioError(f"{data}: no rendered test frames")
    out = np.empty((size * 3 // 2, size), np.uint8)
    frontal = np.abs(z["values"][pick][:, -3:]).max(1) < 3
    errors: dict[str, list[tuple[float, float]]] = {r: [] for r in REGIONS}
    times = []
    for i in pick:
        controls = z["values"][i].astype(np.float32)
        face.draw(controls, out, rung=rung)
        started = clock()
        face.draw(controls, out, rung=rung)
        times.append((clock() - started) * 1e3)
        made, wanted = nv12_to_rgb(out), _reference(dataset.read_frame(data / "frames" / f"{i:05d}.webp"), size)
        squares = ((made.astype(np.float64) - wanted) ** 2).mean(-1)
        similar = ssim_map(cv2.cvtColor(made, cv2.COLOR_RGB2GRAY), cv2.cvtColor(wanted, cv2.COLOR_RGB2GRAY))
        for name, mask in _regions(z["boxes"][i], z["landmarks"][i], size).items():
            errors[name].append((float(squares[mask].mean()), float(similar[mask].mean())))
    report: dict[str, Any] = {
        "pack": pack.name,
        "network_sha256": pack.digests[pack.network.name],
        "size": size,
        "frames": len(pick),
        "frontal_frames": int(frontal.sum()),
    }
    for part, mask in (("all", np.ones(len(pick), bool)), ("frontal", frontal)):
        if not mask.any():
            continue
        report[part] = {}
        for name in REGIONS:
            mse, ssim = np.array(errors[name])[mask].mean(0)
            report[part][name] = {"psnr_db": round(float(10 * np.log10(255**2 / mse)), 2), "ssim": round(float(ssim), 4)}
    report["ms_per_frame"] = {k: round(float(np.quantile(times, q)), 2) for k, q in (("min", 0), ("p50", 0.5), ("p95", 0.95))}
    report["bytes"] = {f.name: f.stat().st_size for f in sorted(path.iterdir()) if f.is_file() and not f.name.startswith("card")}
    return report


def evaluate_expression(path: Path, data: Path, task: Path, *, rung: int = -1) -> dict[str, Any]:
    """Whether drawn test frames say what the rendered ones say, judged by a landmark model that knows neither.

    Per quantity the correlation and the mean absolute difference between drawn and rendered frames, ``frames`` that both
    show a face, and ``idle_mouth``: the mouth opening of the pack's rest pose. ``task`` is face_landmarker.task.

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
        wanted = landmarker.detect(_reference(dataset.read_frame(data / "frames" / f"{i:05d}.webp"), size))
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
    """The quantities of ``EXPRESSION``."""
    gaze = weights["eyeLookOutLeft"] - weights["eyeLookInLeft"]
    return [opening, weights["eyeBlinkLeft"], gaze, weights["mouthSmileLeft"], weights["browInnerUp"]]


def card(report: dict[str, Any], path: Path, notes: str = "") -> None:
    """Write ``card.json`` and ``card.md`` into a pack."""
    (path / "card.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    rows = [
        f"| {part}, {region} | {v['psnr_db']:.2f} | {v['ssim']:.4f} |"
        for part in ("all", "frontal")
        for region, v in report.get(part, {}).items()
    ]
    ms = report["ms_per_frame"]
    lines = [
        f"# Evaluation of the pack `{report['pack']}`",
        "",
        f"{report['frames']} rendered test frames never trained on ({report['frontal_frames']} with the head within 3 degrees),",
        f"drawn by the INT8 network through the whole renderer at {report['size']} x {report['size']} (NV12 and back), compared with",
        "the render over grey.",
        "",
        "| frames, region | PSNR dB | SSIM |",
        "| --- | --- | --- |",
        *rows,
        "",
        f"One frame on one core, network to NV12: min {ms['min']} ms, p50 {ms['p50']} ms, p95 {ms['p95']} ms.",
        f"Network sha256 `{report['network_sha256'][:16]}…`, {report['bytes']['face-256.onnx']} bytes.",
        "",
        *_expression_rows(report.get("expression")),
        notes,
        "",
    ]
    (path / "card.md").write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def _expression_rows(report: dict[str, Any] | None) -> list[str]:
    """The table of ``evaluate_expression``, if it was measured."""
    if not report:
        return []
    rows = [f"| {n} | {report[n]['correlation']:.3f} | {report[n]['difference']:.4f} |" for n in EXPRESSION]
    return [
        f"Drawn against rendered, as MediaPipe's FaceLandmarker reads both ({report['frames']} test frames):",
        "",
        "| quantity | correlation | mean absolute difference |",
        "| --- | --- | --- |",
        *rows,
        "",
        f"Mouth opening at the pack's rest pose: {report['idle_mouth']} of the face's height.",
        "",
    ]


def sheet(path: Path, poses: list[list[NDArray[np.float32]]], *, rung: int = -1) -> NDArray[np.uint8]:
    """A contact sheet (rows x columns of drawn frames, RGB) to judge by eye."""
    face = select(load_pack(path)).engine
    face.set_background((GREY, GREY, GREY))
    rung %= len(face.rungs)
    size = face.rungs[rung].width
    out = np.empty((size * 3 // 2, size), np.uint8)
    rows = []
    for row in poses:
        pictures = []
        for pose in row:
            face.draw(np.asarray(pose, np.float32), out, rung=rung)
            pictures.append(nv12_to_rgb(out))
        rows.append(np.hstack(pictures))
    return np.vstack(rows)
