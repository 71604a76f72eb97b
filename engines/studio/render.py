# SPDX-License-Identifier: Apache-2.0
"""Render the training set; resumable: frames that exist are skipped, so it can be killed and started again.

Writes OUT/frames/00000.webp (RGBA, 512 x 512, straight alpha, lossless alpha), OUT/labels/00000.npz and, after every
frame, OUT/progress.json. A label file holds controls (51,) float32, landmarks (68, 2) float32 pixels, offsets (n, 2)
float16 pixels from the canonical points, visible (n/8,) packed bits, boxes (3, 4) float32, category, test, spp, seed.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

from engines.studio import sampler
from engines.studio.points import Points

__all__ = ["render", "save_labels", "save_webp"]

BLEED = 12  # pixels by which colour is extended under transparent pixels


def save_webp(image: np.ndarray, path: Path) -> None:
    """Write RGBA (h, w, 4) uint8 atomically; colour bleeds outwards so that lossy chroma does not darken the edge."""
    clear = image[..., 3] == 0
    distance, (y, x) = distance_transform_edt(clear, return_indices=True)
    image = image.copy()
    image[..., :3] = np.where((distance <= BLEED)[..., None], image[y, x, :3], 0)
    part = path.with_suffix(".part")
    Image.fromarray(image).save(part, "WEBP", quality=95, alpha_quality=100, exact=True, method=4)
    part.replace(path)


def save_labels(path: Path, points: Points, controls: np.ndarray, **more: Any) -> None:
    """Write the label file of one frame atomically."""
    pose = points.rig.pose(controls)
    pixels, seen = points.label(pose)
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        controls=controls,
        landmarks=points.rig.landmarks68(pose),
        boxes=points.rig.boxes(pose),
        offsets=(pixels - points.canon).astype(np.float16),
        visible=np.packbits(seen),
        **more,
    )
    part.replace(path)


def render(
    rig: Path,
    points: Path,
    out: Path,
    *,
    count: int = 3000,
    seed: int = 7,
    spp: int = 8,
    test_spp: int = 32,
    size: int = 512,
    frame_seed: int = 1000,
    all_test: bool = False,
    limit: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Render up to ``limit`` missing frames (0: all) of ``sampler.plan(count, seed)``; returns how many are still missing.

    ``frame_seed`` is the Cycles seed of frame 0, frame i adds i; ``limit`` lets a loop start a fresh process now and then.
    """
    plan = sampler.plan(count, seed, 0 if all_test else 20)
    todo = [i for i in range(count) if not (out / "labels" / f"{i:05d}.npz").exists()]
    if not todo:
        return 0
    for folder in ("frames", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    from engines.studio import scene  # bpy: only where frames are made

    stage = scene.Stage(str(rig))
    labeller = Points(stage.rig, str(points))
    raw = Path(tempfile.mkdtemp()) / "frame.png"
    now = todo[: limit or None]
    start = clock()
    for n, i in enumerate(now):
        samples, cycles_seed = test_spp if plan.test[i] else spp, frame_seed + i
        stage.pose(plan.controls[i])
        stage.render(str(raw), size, samples, cycles_seed)
        save_webp(np.asarray(Image.open(raw).convert("RGBA")), out / "frames" / f"{i:05d}.webp")
        save_labels(
            out / "labels" / f"{i:05d}.npz",
            labeller,
            plan.controls[i],
            category=plan.category[i],
            test=plan.test[i],
            spp=samples,
            seed=cycles_seed,
        )
        note = {
            "done": count - len(todo) + n + 1,
            "total": count,
            "last": i,
            "spp": samples,
            "mean_seconds": round((clock() - start) / (n + 1), 2),
        }
        (out / "progress.part").write_text(json.dumps(note) + "\n")
        (out / "progress.part").replace(out / "progress.json")
    return len(todo) - len(now)
