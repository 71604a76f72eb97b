"""The other process of the bus tests: started by path, told what to do by one JSON argument, ready when it has written a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq

from runtime.bus import (
    AudioRingSpec,
    AudioWriter,
    CommandReceiver,
    FrameDescriptor,
    FrameReader,
    FrameRingSpec,
    FrameWriter,
    Publisher,
    RingFds,
)
from runtime.messages import Ask, Playhead

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def peer(job: str, *, pass_fds: tuple[int, ...] = (), **args: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that does `job` and has said that it is ready; killed with SIGKILL at the end of the block if it still runs."""
    process = subprocess.Popen(
        [sys.executable, __file__, json.dumps({"job": job, **args})],
        pass_fds=pass_fds,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), f"{job} died before it was ready"
        yield process
    finally:
        process.kill()
        process.communicate()


def frame_job(spec: FrameRingSpec, fds: RingFds) -> dict[str, Any]:
    """Arguments of a job on a frame ring."""
    return {"spec": msgspec.to_builtins(spec), "fds": msgspec.to_builtins(fds), "pass_fds": fds.numbers()}


def _frame_ring(args: dict[str, Any]) -> tuple[FrameRingSpec, RingFds]:
    return msgspec.convert(args["spec"], FrameRingSpec), msgspec.convert(args["fds"], RingFds)


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _wait() -> None:
    sys.stdin.read()


def draw_half(args: dict[str, Any]) -> None:
    """Commits one frame, then is caught in the middle of the next."""
    spec, fds = _frame_ring(args)
    writer = FrameWriter(spec, fds)
    for half in (False, True):
        frame = writer.begin(spec.max_width, spec.max_height)
        assert frame is not None
        if half:
            frame[: len(frame) // 2] = 255
            break
        frame[:] = 1
        writer.commit(turn=0, t_capture_ns=0)
    _ready()
    _wait()


def hold(args: dict[str, Any]) -> None:
    """Holds the frame it was given."""
    spec, fds = _frame_ring(args)
    reader = FrameReader(spec, fds, spec.consumers[0])
    with reader.lease(msgspec.convert(args["descriptor"], FrameDescriptor)):
        _ready()
        _wait()


def take(args: dict[str, Any]) -> None:
    """Says ready, waits for a frame, says its number and holds it."""
    spec, fds = _frame_ring(args)
    reader = FrameReader(spec, fds, spec.consumers[0])
    _ready()
    while not (got := reader.receive(1000)):
        pass
    with reader.lease(got[0]):
        sys.stdout.write(f"{got[0].seq}\n")
        sys.stdout.flush()
        _wait()


def draw(args: dict[str, Any]) -> None:
    """Draws without a pause, every pixel of frame n is n % 251."""
    spec, fds = _frame_ring(args)
    writer = FrameWriter(spec, fds)
    _ready()
    seq = writer.stats().sent  # of the life before
    while True:
        frame = writer.begin(spec.max_width, spec.max_height)
        if frame is not None:
            frame[:] = (seq + 1) % 251
            seq = writer.commit(turn=0, t_capture_ns=0).seq


def sound(args: dict[str, Any]) -> None:
    """Writes without a pause, sample n is n % 30011."""
    writer = AudioWriter(msgspec.convert(args["spec"], AudioRingSpec), msgspec.convert(args["fds"], RingFds))
    _ready()
    while True:
        start = writer.position
        writer.write((np.arange(start, start + 1600) % 30011).astype(np.int16), time.monotonic_ns())


def publish(args: dict[str, Any]) -> None:
    """Publishes playheads without end."""
    context = zmq.Context()
    publisher = Publisher(context, args["path"], 7, Playhead)
    _ready()
    index = 0
    while True:
        index += 1
        publisher.send(Playhead(0, time.monotonic_ns(), index, True))
        time.sleep(0.002)


def take_commands(args: dict[str, Any]) -> None:
    """Takes commands without end."""
    receiver = CommandReceiver(zmq.Context(), args["path"], 5, Ask)
    _ready()
    while True:
        receiver.receive(1000)


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    globals()[arguments["job"]](arguments)
