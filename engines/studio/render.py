# SPDX-License-Identifier: Apache-2.0
"""Render the training set; resumable: frames that exist are skipped, so it can be killed and started again.

    python render.py --rig ict_facekit_rig.npz --points points.npz --out DIR [--count 3000 --seed 7 --spp 8 --test-spp 32]
                     [--frame-seed 1000] [--all-test] [--limit N]

Exit status 10 means that the set is complete; ``--limit`` lets a shell loop start a fresh process now and then.

Writes DIR/frames/00000.webp (RGBA, 512 x 512, straight alpha, lossless alpha), DIR/labels/00000.npz and, after every
frame, DIR/progress.json. A label file holds controls (51,) float32, landmarks (68, 2) float32 pixels, offsets (n, 2)
float16 pixels from the canonical points, visible (n/8,) packed bits, boxes (3, 4) float32, category, test, spp, seed.
"""
from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

from engines.studio import sampler
from engines.studio.points import Points

BLEED = 12     # pixels by which colour is extended under transparent pixels


def save_webp(image: np.ndarray, path: Path) -> None:
    """Write RGBA (h, w, 4) uint8 atomically; colour bleeds outwards so that lossy chroma does not darken the edge."""
    clear = image[..., 3] == 0
    distance, (y, x) = distance_transform_edt(clear, return_indices=True)
    image = image.copy()
    image[..., :3] = np.where((distance <= BLEED)[..., None], image[y, x, :3], 0)
    part = path.with_suffix(".part")
    Image.fromarray(image).save(part, "WEBP", quality=95, alpha_quality=100, exact=True, method=4)
    part.replace(path)


def save_labels(path: Path, points: Points, controls: np.ndarray, **more: object) -> None:
    """Write the label file of one frame atomically."""
    pose = points.rig.pose(controls)
    pixels, seen = points.label(pose)
    part = path.with_suffix(".part.npz")
    np.savez(part, controls=controls, landmarks=points.rig.landmarks68(pose), boxes=points.rig.boxes(pose),
             offsets=(pixels - points.canon).astype(np.float16), visible=np.packbits(seen), **more)
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rig", required=True)
    parser.add_argument("--points", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--spp", type=int, default=8)
    parser.add_argument("--test-spp", type=int, default=32)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frame-seed", type=int, default=1000, help="Cycles seed of frame 0; frame i adds i")
    parser.add_argument("--all-test", action="store_true", help="every frame is a test frame")
    parser.add_argument("--limit", type=int, default=0, help="stop after so many frames (0: no limit)")
    args = parser.parse_args()

    plan = sampler.plan(args.count, args.seed, 0 if args.all_test else 20)
    todo = [i for i in range(args.count) if not (args.out / "labels" / f"{i:05d}.npz").exists()]
    done = args.count - len(todo)
    if not todo:
        print("complete", args.count)
        raise SystemExit(10)
    for folder in ("frames", "labels"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)

    import scene

    stage = scene.Stage(args.rig)
    points = Points(stage.rig, args.points)
    raw = Path(tempfile.mkdtemp()) / "frame.png"
    start = time.time()
    for n, i in enumerate(todo[: args.limit or None]):
        t = time.time()
        spp, seed = args.test_spp if plan.test[i] else args.spp, args.frame_seed + i
        stage.pose(plan.controls[i])
        stage.render(str(raw), args.size, spp, seed)
        save_webp(np.asarray(Image.open(raw).convert("RGBA")), args.out / "frames" / f"{i:05d}.webp")
        save_labels(args.out / "labels" / f"{i:05d}.npz", points, plan.controls[i],
                    category=plan.category[i], test=plan.test[i], spp=spp, seed=seed)
        note = {"done": done + n + 1, "total": args.count, "last": i, "spp": spp, "seconds": round(time.time() - t, 2),
                "mean_seconds": round((time.time() - start) / (n + 1), 2), "pid": os.getpid(), "at": time.strftime("%H:%M:%S")}
        (args.out / "progress.part").write_text(json.dumps(note) + "\n")
        (args.out / "progress.part").replace(args.out / "progress.json")


if __name__ == "__main__":
    main()
