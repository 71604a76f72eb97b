# SPDX-License-Identifier: Apache-2.0
"""Collect controls and labels of a rendered set into two files beside its frames.

    python pack.py --rig RIG.npz --points points.npz --render DIR --out AVATAR_DIR [--count 3000 --seed 7] [--copy]

Writes controls.npz (small) and flow.npz (large). Labels of frames that are not rendered yet are computed from the rig,
so the files can be made at any time; ``rendered`` tells which frames existed. ``--copy`` also copies the WebP frames.
"""
from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from engines.studio import sampler
from engines.studio.points import KINDS, Points
from engines.studio.rig import CONTROLS, RANGES, Rig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rig", required=True)
    parser.add_argument("--points", required=True)
    parser.add_argument("--render", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--all-test", action="store_true", help="every frame is a test frame (a held-out list)")
    parser.add_argument("--copy", action="store_true")
    args = parser.parse_args()

    points = Points(Rig(args.rig), args.points)
    plan = sampler.plan(args.count, args.seed, 0 if args.all_test else 20)
    rows: dict[str, list] = {k: [] for k in ("landmarks", "boxes", "offsets", "visible")}
    rendered = np.zeros(args.count, bool)
    for i, controls in enumerate(plan.controls):
        path = args.render / "labels" / f"{i:05d}.npz"
        if path.exists():
            z = np.load(path)
            if not np.array_equal(z["controls"], controls):
                raise SystemExit(f"{path} belongs to another plan")
            rendered[i] = True
            row = [z[k] for k in rows]
        else:
            pose = points.rig.pose(controls)
            pixels, seen = points.label(pose)
            row = [points.rig.landmarks68(pose), points.rig.boxes(pose), (pixels - points.canon).astype(np.float16), np.packbits(seen)]
        for values, value in zip(rows.values(), row):
            values.append(value)
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        args.out / "controls.npz", names=np.array(CONTROLS), ranges=RANGES, values=plan.controls,
        split=plan.test.astype(np.uint8), split_names=np.array(["train", "test"]),
        category=plan.category, category_names=np.array(sampler.CATEGORIES), rendered=rendered,
        landmarks=np.array(rows["landmarks"], np.float32), boxes=np.array(rows["boxes"], np.float32),
        box_names=np.array(["mouth", "eye_L", "eye_R"]), size=np.int32(512))
    np.savez_compressed(
        args.out / "flow.npz", canon=points.canon.astype(np.float32), kind=points.kind, kind_names=np.array(KINDS),
        offsets=np.array(rows["offsets"]), visible=np.array(rows["visible"]))
    if args.copy:
        (args.out / "frames").mkdir(exist_ok=True)
        for i in np.flatnonzero(rendered):
            shutil.copy2(args.render / "frames" / f"{i:05d}.webp", args.out / "frames")
    print(f"{rendered.sum()} of {args.count} frames rendered")


if __name__ == "__main__":
    main()
