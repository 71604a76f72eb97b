"""`visavis bench renderer`: what one frame costs at each rung, network, composite and NV12 into the slot, and how good it is.

Each frame has other controls (a head that turns, a mouth that speaks), as in use. The measured thread stays on one core while a
neighbour process keeps every other core busy; the rungs take turns of 20 frames, so that all meet the same neighbours. `cores` is the CPU
time at 25 frames a second. The CPU draws, also where there is a GPU: `visavis engines verify` measures that one. Image figures are read
from the pack's evaluation card; `visavis avatar evaluate` makes them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.renderer import Renderer, load_pack, select
from runtime import topology
from runtime.bus import FrameRingSpec, FrameWriter, create_frame_ring
from runtime.config import Config
from visavis.bench.report import BenchError
from visavis.rehearse.measure import quantiles

__all__ = ["run"]

_FPS = 25
_BLOCK = 20
_BURN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
x = 1.0
while os.getppid() == int(sys.argv[2]):
    x = sum(i * x for i in range(1000)) % 7 + 1
"""
_IMAGE = ("psnr_whole_db", "psnr_face_db", "psnr_mouth_db", "psnr_eyes_db", "ssim_face", "int8_loss_db")


def run(*, seed: int = 1, frames: int = 300, pack: Path | None = None) -> dict[str, Any]:
    """Ms of a frame and cores used by rung, of the renderer that serves on this CPU, for the avatar pack at ``pack``.

    Raises:
        BenchError: the avatar cannot be drawn here.

    """
    path = pack or Config().avatar_path
    try:
        chosen = select(load_pack(path))
    except EngineError as error:
        raise BenchError(f"renderer: {error}") from error
    controls = _controls(chosen.engine, frames + _BLOCK, seed)
    with _neighbours() as busy:
        rungs = _measure(chosen.engine, controls)
    return {
        "backends": {chosen.name: {"rungs": rungs}},
        "busy_neighbours": busy,
        "not_here": {name: reason[:79] for name, reason in chosen.why_not.items()},
        "image": _image(path),
    }


def _controls(face: Renderer, count: int, seed: int) -> NDArray[np.float32]:
    """Smooth, never repeating motion of every control (count, n): the sum of rest and slow waves of a fifth of its range."""
    rng = np.random.default_rng(seed)
    n = len(face.idle)
    t = np.arange(count)[:, None] / _FPS
    waves = np.sin(2 * np.pi * (rng.uniform(0.2, 2.0, n) * t + rng.uniform(0, 1, n)))
    spread = (face.ranges[:, 1] - face.ranges[:, 0]) * 0.2
    return np.asarray(np.clip(face.idle + waves * spread, face.ranges[:, 0], face.ranges[:, 1]), np.float32)


@contextlib.contextmanager
def _neighbours() -> Iterator[int]:
    """This thread on one core, a busy process on each other one; gives their number."""
    if not hasattr(os, "sched_setaffinity"):
        yield 0
        return
    cores = sorted(os.sched_getaffinity(0))
    burners = [subprocess.Popen([sys.executable, "-c", _BURN, str(core), str(os.getpid())]) for core in cores[1:]]
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield len(burners)
    finally:
        os.sched_setaffinity(0, set(cores))
        for burner in burners:
            burner.kill()
            burner.wait()


def _measure(face: Renderer, controls: NDArray[np.float32]) -> dict[str, Any]:
    spec = topology.link("video").ring
    assert isinstance(spec, FrameRingSpec)
    fds = create_frame_ring(spec)
    writer = FrameWriter(spec, fds)
    wall: dict[str, list[float]] = {rung.name: [] for rung in face.rungs}
    cpu: dict[str, list[float]] = {rung.name: [] for rung in face.rungs}
    try:
        for number in range(0, len(controls), _BLOCK):
            for k, rung in enumerate(face.rungs):
                for pose in controls[number : number + _BLOCK]:
                    used, began = time.thread_time_ns(), time.perf_counter_ns()
                    out = writer.begin(rung.width, rung.height)
                    assert out is not None, "nobody holds a slot here"
                    face.draw(pose, out, rung=k)
                    writer.commit(turn=1, t_capture_ns=began, pts=number)
                    if number >= _BLOCK:  # the first block warms up
                        wall[rung.name].append((time.perf_counter_ns() - began) / 1e6)
                        cpu[rung.name].append((time.thread_time_ns() - used) / 1e6)
    finally:
        writer.close()
        fds.close()
    report = {}
    for name, values in wall.items():
        q = quantiles(values)
        report[name] = {
            "ms_p50": q.p50,
            "ms_p95": q.p95,
            "ms_p99": q.p99,
            "cpu_ms_p50": quantiles(cpu[name]).p50,
            "cores": round(float(np.mean(cpu[name])) * _FPS / 1e3, 3),
        }
    return report


def _image(path: Path) -> dict[str, Any]:
    """The figures of the pack's card by rung; {} where the card has none."""
    try:
        rungs = json.loads((path / "card.json").read_text("utf-8"))["rungs"]
    except (OSError, ValueError, KeyError):
        return {}
    return {size: {key: row[key] for key in _IMAGE if key in row} for size, row in rungs.items()}
