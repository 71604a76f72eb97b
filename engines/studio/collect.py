# SPDX-License-Identifier: Apache-2.0
"""Collect controls and labels of a rendered set into two files beside its frames.

Writes controls.npz (small) and flow.npz (large). Labels of frames that are not rendered yet are computed from the rig,
so the files can be made at any time; ``rendered`` tells which frames existed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from engines.studio import sampler
from engines.studio.dataset import StudioError
from engines.studio.points import KINDS, Points
from engines.studio.rig import CONTROLS, RANGES, Rig

__all__ = ["collect"]


def collect(
    rig: Path, points: Path, rendered_set: Path, out: Path, *, count: int = 3000, seed: int = 7, all_test: bool = False, copy: bool = False
) -> int:
    """Write ``out``/controls.npz and flow.npz of the folder that ``render`` filled; returns how many frames are rendered.

    ``all_test`` makes every frame a test frame; ``copy`` also copies the WebP frames.

    Raises:
        StudioError: a label file belongs to another plan.

    """
    labeller = Points(Rig(str(rig)), str(points))
    plan = sampler.plan(count, seed, 0 if all_test else 20)
    rows: dict[str, list[np.ndarray]] = {k: [] for k in ("landmarks", "boxes", "offsets", "visible")}
    rendered = np.zeros(count, bool)
    for i, controls in enumerate(plan.controls):
        path = rendered_set / "labels" / f"{i:05d}.npz"
        if path.exists():
            z = np.load(path)
            if not np.array_equal(z["controls"], controls):
                raise StudioError(f"{path}: belongs to another plan; collect with the count and seed it was rendered with")
            rendered[i] = True
            row = [z[k] for k in rows]
        else:
            pose = labeller.rig.pose(controls)
            pixels, seen = labeller.label(pose)
            offsets = (pixels - labeller.canon).astype(np.float16)
            row = [labeller.rig.landmarks68(pose), labeller.rig.boxes(pose), offsets, np.packbits(seen)]
        for values, value in zip(rows.values(), row, strict=True):
            values.append(value)
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out / "controls.npz",
        names=np.array(CONTROLS),
        ranges=RANGES,
        values=plan.controls,
        split=plan.test.astype(np.uint8),
        split_names=np.array(["train", "test"]),
        category=plan.category,
        category_names=np.array(sampler.CATEGORIES),
        rendered=rendered,
        landmarks=np.array(rows["landmarks"], np.float32),
        boxes=np.array(rows["boxes"], np.float32),
        box_names=np.array(["mouth", "eye_L", "eye_R"]),
        size=np.int32(512),
    )
    np.savez_compressed(
        out / "flow.npz",
        canon=labeller.canon.astype(np.float32),
        kind=labeller.kind,
        kind_names=np.array(KINDS),
        offsets=np.array(rows["offsets"]),
        visible=np.array(rows["visible"]),
    )
    if copy:
        (out / "frames").mkdir(exist_ok=True)
        for k in np.flatnonzero(rendered):
            shutil.copy2(rendered_set / "frames" / f"{k:05d}.webp", out / "frames")
    return int(rendered.sum())
