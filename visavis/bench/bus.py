"""`visavis bench bus`: our frame ring beside the other ways to bring a frame to another process, in one run.

Two processes per transport, frames drawn at 30 Hz in short slices that take turns, so that all meet the same neighbours. Latency runs
from "the frame is drawn" to "the consumer holds an array of it"; CPU is what both processes used per frame, drawing excluded.
"""

from __future__ import annotations

import gc
import json
import multiprocessing as mp
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bus import RingFds, create_frame_ring
from visavis.bench import _bus_hammer as hammering
from visavis.bench._bus_transports import SPEC, TRANSPORTS, Frame, Receiver, Sender, Setup, Stamp
from visavis.bench._machine import machine

__all__ = ["run"]

SIZES = ((1280, 720), (1920, 1080))
RATE_HZ = 30
WARM = 2  # first frames of a slice, not counted: caches and the transport's lap
STALL_S = 1.0
QUEUE_LENGTH = 2  # of the named segments, as in Frigate
_NO_FRAME_MS = 200
_HELLO_S = 20.0

_spawn = mp.get_context("spawn")


def run(
    *, seconds: float = 60.0, seed: int = 1, json_file: Path | None = None, transports: Sequence[str] = tuple(TRANSPORTS)
) -> dict[str, Any]:
    """Measures for about `seconds`: latency and CPU per frame and size, age after a stall; returned, and written to `json_file`.

    Starting the processes, the stalls and the hammer (a million reads from 20 s on) come on top. A transport that cannot run here is
    reported with `available` false and the reason.

    Raises:
        ValueError: a name in `transports` is unknown.

    """
    if unknown := set(transports) - set(TRANSPORTS):
        raise ValueError(f"unknown transports: {', '.join(sorted(unknown))}; there are {', '.join(TRANSPORTS)}")
    order = random.Random(seed)
    frames = WARM + (15 if seconds >= 20 else 5)
    slice_s = len(SIZES) * (frames / RATE_HZ + 0.1)
    pairs: dict[str, _Pair] = {}
    report: dict[str, dict[str, Any]] = {}
    folder = Path(tempfile.mkdtemp(prefix="visavis-bench-"))
    rings: list[RingFds] = []
    try:
        for name in transports:
            rings.append(create_frame_ring(SPEC))
            try:
                pairs[name] = _Pair(name, folder, rings[-1])
            except Exception as error:  # noqa: BLE001  whatever a peer's library throws is the finding
                report[name] = {"available": False, "reason": f"{type(error).__name__}: {error}"}
        rounds = max(1, int(seconds / (slice_s * max(1, len(pairs)))))
        for _ in range(rounds):
            turn = [(name, size) for name in pairs for size in SIZES]
            order.shuffle(turn)
            for name, size in turn:
                pairs[name].measure(size, frames)
        for name, pair in pairs.items():
            report[name] = pair.report()
    finally:
        for pair in pairs.values():
            pair.close()
        for fds in rings:
            fds.close()
        shutil.rmtree(folder, ignore_errors=True)
    hammer = _hammer(1_000_000 if seconds >= 20 else max(1000, int(20_000 * seconds)))
    result = {
        "machine": machine(),
        "seconds": seconds,
        "seed": seed,
        "rate_hz": RATE_HZ,
        "rounds": rounds,
        "frames_per_slice": frames - WARM,
        "transports": {name: report[name] for name in transports},
        "speedup_1080p_vs_zmq_copy": _speedup(report),
        "torn_undetected": hammer["torn_undetected"],
        "hammer": hammer,
    }
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _speedup(report: dict[str, dict[str, Any]]) -> float | None:
    try:
        return round(
            float(report["zmq_copy"]["1920x1080"]["latency_us"]["p50"] / report["ring_in_place"]["1920x1080"]["latency_us"]["p50"]), 1
        )
    except KeyError:
        return None


class _Pair:
    """A sender here, its receiver in another process, and what was measured between them."""

    def __init__(self, name: str, folder: Path, fds: RingFds) -> None:
        self._name = name
        self._seq = 0
        self._slices: dict[tuple[int, int], list[dict[str, Any]]] = {size: [] for size in SIZES}
        private = folder / name
        private.mkdir(mode=0o700)
        setup = Setup(str(private), fds, _spawn.Queue(QUEUE_LENGTH if name == "named_shared_memory" else 0))
        self._pipe, theirs = _spawn.Pipe()
        self._process = _start(_consume, name, setup, theirs)
        theirs.close()
        self._sender: Sender | None = None
        try:
            self._sender = TRANSPORTS[name][0](setup)
            self._greet()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> None:
        """Sends frames until the receiver has seen one."""
        self._answer(_HELLO_S)  # its imports are done
        self._pipe.send("hello")
        end = time.monotonic() + _HELLO_S
        while not self._pipe.poll(0.05):
            if time.monotonic() > end:
                raise TimeoutError("its receiver saw no frame")
            self._draw_and_send(SIZES[0])
        self._answer(_HELLO_S)

    def _draw_and_send(self, size: tuple[int, int]) -> int:
        """One frame; returns the CPU time of drawing it (ns)."""
        assert self._sender is not None
        self._seq += 1
        before = time.thread_time_ns()
        frame = self._sender.frame(*size)
        frame[:] = self._seq & 255
        drawn = time.thread_time_ns() - before
        self._sender.send(Stamp(self._seq, time.monotonic_ns(), *size))
        return drawn

    def _answer(self, timeout_s: float) -> Any:
        if not self._pipe.poll(timeout_s):
            raise TimeoutError("its receiver does not answer")
        kind, value = self._pipe.recv()
        if kind == "error":
            raise RuntimeError(value)
        return value

    def _paced(self, size: tuple[int, int], frames: int) -> int:
        """Sends `frames` frames at the rate; returns the CPU time of drawing them (ns)."""
        drawing = 0
        due = time.monotonic()
        for _ in range(frames):
            drawing += self._draw_and_send(size)
            due += 1 / RATE_HZ
            time.sleep(max(0.0, due - time.monotonic()))  # noqa: TID251  the pace is part of what is measured
        return drawing

    def measure(self, size: tuple[int, int], frames: int) -> None:
        """One slice."""
        self._pipe.send("slice")
        self._answer(5)
        gc.collect()
        cpu = time.process_time_ns()
        drawing = self._paced(size, frames)
        self._pipe.send("end")
        seen, consumer_cpu, wrong = self._answer(10)
        cpu = time.process_time_ns() - cpu - drawing
        first = self._seq - frames + 1 + WARM
        latencies = [(stamp_seen - drawn) / 1000 for seq, drawn, stamp_seen in seen if seq >= first]
        self._slices[size].append(
            {"latencies": latencies, "cpu": (cpu + consumer_cpu) / 1000 / frames, "missed": frames - WARM - len(latencies), "wrong": wrong}
        )

    def _stall(self) -> float:
        """The age (ms) of the first frame that the receiver sees after it slept for a second, while frames went on."""
        self._pipe.send("stall")
        self._answer(5)
        self._paced(SIZES[0], int(STALL_S * RATE_HZ * 1.3))
        self._pipe.send("end")
        return round(float(self._answer(10)) / 1e6, 1)

    def report(self) -> dict[str, Any]:
        """All figures of this transport."""
        found: dict[str, Any] = {"available": True}
        for size, slices in self._slices.items():
            latencies = [value for row in slices for value in row["latencies"]]
            medians = [float(np.median(row["latencies"])) for row in slices if row["latencies"]]
            if not latencies:
                continue
            found[f"{size[0]}x{size[1]}"] = {
                "latency_us": {
                    "n": len(latencies),
                    **{f"p{p}": round(float(np.percentile(latencies, p)), 1) for p in (50, 95, 99)},
                    "best_slice_p50": round(min(medians), 1),
                },
                "cpu_us_per_frame": round(float(np.median([row["cpu"] for row in slices])), 1),
                "missed": sum(row["missed"] for row in slices),
                "wrong": sum(row["wrong"] for row in slices),
            }
        found["stall_age_ms"] = self._stall()
        return found

    def close(self) -> None:
        """Ends the receiver, then the sender."""
        with suppress(OSError):
            self._pipe.send("stop")
        self._process.join(3)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()
        if self._sender is not None:
            self._sender.close()


def _start(job: Callable[..., None], *arguments: Any) -> Any:
    """Runs `job` in a process of its own; RingFds among the arguments are handed down."""
    process = _spawn.Process(target=_child, args=(job, tuple(_Carried(argument) for argument in arguments)), daemon=True)
    process.start()
    return process


class _Carried:
    """An argument on its way to a spawned process: descriptors are duplicated, the rest is pickled."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getstate__(self) -> Any:
        value = self.value
        if isinstance(value, RingFds):
            return "ring", [DupFd(fd) for fd in value.numbers()]  # the bells last
        if isinstance(value, Setup):
            return "setup", (value.folder, _Carried(value.fds), value.queue)
        return "plain", value

    def __setstate__(self, state: Any) -> None:
        kind, value = state
        if kind == "ring":
            data, data_ro, control, *bells = (fd.detach() for fd in value)
            self.value = RingFds(data, data_ro, control, tuple(bells))
        elif kind == "setup":
            self.value = Setup(value[0], value[1].value, value[2])
        else:
            self.value = value


def _child(job: Callable[..., None], arguments: tuple[_Carried, ...]) -> None:
    job(*(argument.value for argument in arguments))


def _consume(name: str, setup: Setup, pipe: Connection) -> None:
    """The receiver's process: does what the pipe says."""
    try:
        receiver: Receiver = TRANSPORTS[name][1](setup)
        pipe.send(("ready", None))
        while (order := pipe.recv()) != "stop":
            pipe.send(("done", _ORDERS[order](receiver, pipe)))
    except Exception as error:  # noqa: BLE001  the top of a process: the other one reports it
        pipe.send(("error", f"{type(error).__name__}: {error}"))


def _hello(receiver: Receiver, pipe: Connection) -> None:
    while not receiver.take(_NO_FRAME_MS, lambda _frame, _stamp: None):
        if pipe.poll():
            return


def _slice(receiver: Receiver, pipe: Connection) -> tuple[list[tuple[int, int, int]], int, int]:
    """Takes frames until the other side says "end" and none is left: (seq, drawn, seen) of each, our CPU time (ns), wrong pixels."""
    seen: list[tuple[int, int, int]] = []
    wrong = 0

    def see(frame: Frame, stamp: Stamp) -> None:
        nonlocal wrong
        seen.append((stamp.seq, stamp.drawn_ns, time.monotonic_ns()))
        wrong += not int(frame[0, 0, 0]) == int(frame[-1, -1, -1]) == stamp.seq & 255

    while receiver.take(1, see):
        pass  # what the greeting or a stall left behind
    seen.clear()
    gc.collect()
    pipe.send(("ready", None))
    cpu = time.process_time_ns()
    while receiver.take(_NO_FRAME_MS, see) or not pipe.poll():
        pass
    pipe.recv()
    return seen, time.process_time_ns() - cpu, wrong


def _stall(receiver: Receiver, pipe: Connection) -> int:
    """Sleeps, then takes one frame: its age in ns. Then takes the rest."""
    ages: list[int] = []

    def see(_frame: Frame, stamp: Stamp) -> None:
        ages.append(time.monotonic_ns() - stamp.drawn_ns)

    pipe.send(("ready", None))
    receiver.take(1000, see)
    ages.clear()
    time.sleep(STALL_S)  # noqa: TID251  the stall is what is measured
    while receiver.take(_NO_FRAME_MS, see) or not pipe.poll():
        pass
    pipe.recv()
    return ages[0]


_ORDERS: dict[str, Callable[[Receiver, Connection], Any]] = {"hello": _hello, "slice": _slice, "stall": _stall}


def _hammer(reads: int) -> dict[str, Any]:
    fds = create_frame_ring(hammering.SPEC)
    pipe, theirs = _spawn.Pipe()
    process = _start(hammering.draw_until_told, fds, theirs)
    theirs.close()
    try:
        pipe.recv()
        found = hammering.hammer(fds, reads)
        pipe.send("stop")
        found["stepped_over"] = pipe.recv()
    finally:
        process.join(3)
        process.kill()
        pipe.close()
        fds.close()
    return found
