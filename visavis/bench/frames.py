"""`visavis bench frames`: the renderer alone, by rung: what one frame costs in animation, drawing and handing over.

Every frame is a moment of real speech (espeak-ng's phonemes), as while a visitor is being answered; all in one process, on one core,
frames of the rungs in turn, so that all rungs meet the same neighbours. The CPU draws, also where there is a GPU (`visavis engines verify`
measures that one). `cpu_ms` is the process' CPU time of the whole frame: on a busy
machine it tells more than the wall times beside it. Not in the figures: the first frames of each rung.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from engines.animation import Animator, Track
from engines.errors import EngineError
from engines.renderer import Renderer, open_face
from engines.synthesis import EspeakSynthesiser
from runtime import topology
from runtime.bus import FrameRingSpec, FrameWriter, create_frame_ring
from runtime.config import Config
from visavis.bench.report import BenchError
from visavis.rehearse.measure import quantiles

__all__ = ["run"]

_WARM = 5
_FPS = 25
_TEXT = "Sure, a large flat white with oat milk. That is three pounds forty. Would you like anything else with it, maybe a muffin?"


def run(*, seed: int = 1, frames: int = 250, avatar: Path | None = None) -> dict[str, Any]:
    """Ms per frame by stage and rung of the avatar pack at `avatar` (default: the configured one).

    Raises:
        BenchError: the avatar cannot be drawn here.

    """
    try:
        face = open_face(avatar or Config().avatar_path, gpu=False)
    except EngineError as error:
        raise BenchError(f"frames: {error}") from error
    engine = face.engine
    animator = Animator(engine.controls, engine.ranges, engine.idle, seed)
    track = _speech(animator)
    spec = topology.link("video").ring
    assert isinstance(spec, FrameRingSpec)
    fds = create_frame_ring(spec)
    writer = FrameWriter(spec, fds)
    taken: dict[str, dict[str, list[float]]] = {rung.name: {} for rung in engine.rungs}
    try:
        for i in range(frames + _WARM):
            for k, rung in enumerate(engine.rungs):
                for stage, value in _frame(engine, animator, track, writer, i, k).items():
                    if i >= _WARM:
                        taken[rung.name].setdefault(stage, []).append(value)
    finally:
        writer.close()
        fds.close()
    return {
        "renderer": face.name,
        "rungs": {name: {stage: quantiles(values) for stage, values in stages.items()} for name, stages in taken.items()},
    }


def _speech(animator: Animator) -> Track:
    phones, at = [], 0.0
    voice = EspeakSynthesiser()
    for clip in voice.speak(_TEXT):
        phones += [(p.symbol, at + p.start / voice.rate, at + p.end / voice.rate) for p in clip.phonemes]
        at += len(clip.pcm) / voice.rate
    return animator.speak(phones)


def _frame(engine: Renderer, animator: Animator, track: Track, writer: FrameWriter, number: int, rung: int) -> dict[str, float]:
    """One frame as the renderer node makes it: ms for each stage, and CPU ms for all."""
    size = engine.rungs[rung]
    cpu, began = time.process_time_ns(), time.perf_counter_ns()
    out = writer.begin(size.width, size.height)
    assert out is not None, "nobody holds a slot here"
    at = number / _FPS
    controls = animator.frame(at, track=track, position=float(np.fmod(at, track.end)), posture="speaking")
    animated = time.perf_counter_ns()
    engine.draw(controls, out, rung=rung)
    drawn = time.perf_counter_ns()
    writer.commit(turn=1, t_capture_ns=began, pts=number)
    done = time.perf_counter_ns()
    return {
        "animate_ms": (animated - began) / 1e6,
        "draw_ms": (drawn - animated) / 1e6,
        "commit_ms": (done - drawn) / 1e6,
        "frame_ms": (done - began) / 1e6,
        "cpu_ms": (time.process_time_ns() - cpu) / 1e6,
    }
