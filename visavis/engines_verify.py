"""`visavis engines verify`: proves on a box with a GPU what the tests can only prove on a fake one.

Each check does the thing and compares with the CPU: what the GPU draws is held against what `engines.renderer.compose` draws from the
same network. Times are the GPU's own (events) for the kernel, and the clock's for whole frames.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.compile import CompileError, EngineCache, Library, Target, Unsupported, engine_dir, find_libraries
from engines.errors import EngineError
from engines.renderer import AvatarPack, OnnxRuntimeRenderer, cuda, load_pack
from engines.renderer.compose import Drawing
from engines.renderer.cuda import Gpu, GpuError, GpuOutOfMemory, open_gpu
from engines.renderer.cuda_compose import SOURCE, Face, GpuComposer, Tensor
from engines.renderer.cuda_slots import Slots
from engines.renderer.tensorrt import TensorRTRenderer
from engines.renderer.tensorrt_relay import Relay, prepare, target_of
from visavis._engines_truth import Bytes, Ring, Truth, compare, poses, quantiles

__all__ = ["Check", "verify"]

_PATIENCE_S = 300.0  # for compiling and loading on a small board
_HUGE = 1 << 46


class Check(msgspec.Struct, frozen=True):
    """One thing that was tried. `state`: ok, failed, or skipped (cannot be tried here, and why); `figures` in ms unless named otherwise."""

    what: str
    state: str
    detail: str
    figures: dict[str, float] = {}


def verify(avatar: Path, *, frames: int = 200, device: int = 0, say: Callable[[Check], None] = lambda _check: None) -> list[Check]:
    """All checks with every CUDA back end and every TensorRT of this machine. Raises EngineError if there is no GPU at all, and why."""
    pack = load_pack(avatar)
    done: list[Check] = []
    opened: dict[str, Gpu] = {}
    why_not: dict[str, str] = {}
    for name in cuda.BACKENDS:
        gpu, reasons = open_gpu(device, only=name)
        if gpu is not None:
            opened[name] = gpu
        why_not |= reasons
    if not opened:
        raise EngineError(f"no GPU to verify: {'; '.join(f'{name}: {why}' for name, why in why_not.items())}")
    for name, why in why_not.items():
        done.append(Check(f"{name}", "skipped", why))
        say(done[-1])
    libraries, without = find_libraries()
    for name, gpu in opened.items():
        steps = [*_cuda(gpu, pack, frames), *(step for library in libraries for step in _tensorrt(library, device, name, pack, frames))]
        for what, step in steps:
            done.append(_try(f"{name}: {what}", step))
            say(done[-1])
        gpu.close()
    for module, why in without.items():
        done.append(Check(module, "skipped", why))
        say(done[-1])
    return done


Step = Callable[[], tuple[str, dict[str, float]]]


class _Skip(Exception):
    """This cannot be tried here."""


def _try(what: str, step: Step) -> Check:
    try:
        detail, figures = step()
    except (_Skip, Unsupported) as reason:
        return Check(what, "skipped", str(reason))
    except Exception as error:  # noqa: BLE001 - whatever any library does wrong here is what we want to know
        return Check(what, "failed", " ".join(str(error).split()) or type(error).__name__)
    return Check(what, "ok", detail, figures)


# --- CUDA alone: works on any GPU, also where TensorRT-RTX does not


def _cuda(gpu: Gpu, pack: AvatarPack, frames: int) -> list[tuple[str, Step]]:
    bench = _Bench(gpu, pack, frames)
    return [
        ("GPU", lambda: (f"{gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}, driver {gpu.driver}", {})),
        ("memory", bench.memory),
        ("out of memory is told as such", bench.exhaustion),
        ("kernel compiled", bench.kernel),
        ("ring", bench.ring_path),
        *((f"frame {rung.name} into the ring, as the CPU draws it", lambda k=k: bench.compose(k)) for k, rung in enumerate(pack.rungs)),
        ("frame through the staging copy", bench.staged),
        ("graph", bench.graph),
        ("given back", bench.close),
    ]  # fmt: skip


class _Bench:
    """The composing kernel fed with the CPU's network."""

    def __init__(self, gpu: Gpu, pack: AvatarPack, frames: int) -> None:
        self._gpu, self._pack, self._frames = gpu, pack, frames
        self._image = b""
        self._truth = Truth(pack)
        self._ring = Ring(pack)
        gpu.activate()
        self._stream = gpu.stream()
        self._slots = Slots(gpu)
        self._made = self._truth.drawing(pack.idle)
        arrays = {name: value for name, value in self._made._asdict().items() if isinstance(value, np.ndarray)}
        self._tensors = {name: Tensor(gpu.alloc(value.nbytes), value.shape) for name, value in arrays.items()}
        self._composer: GpuComposer | None = None

    def memory(self) -> tuple[str, dict[str, float]]:
        sent = np.random.default_rng(1).integers(0, 256, 1 << 20).astype(np.uint8)
        back = np.zeros_like(sent)
        address = self._gpu.alloc(sent.nbytes)
        self._gpu.upload(address, sent, self._stream)
        self._gpu.download(back, address, self._stream)
        self._gpu.synchronize(self._stream)
        self._gpu.free(address)
        assert np.array_equal(sent, back), "what came back is not what was sent"
        return "1 MiB there and back", {}

    def exhaustion(self) -> tuple[str, dict[str, float]]:
        try:
            self._gpu.free(self._gpu.alloc(_HUGE))
        except GpuOutOfMemory as error:
            return str(error), {}
        raise AssertionError(f"{_HUGE >> 40} TiB were given")

    def kernel(self) -> tuple[str, dict[str, float]]:
        began = time.perf_counter()
        self._image = self._gpu.compile(SOURCE.read_text("utf-8"))
        seconds = time.perf_counter() - began
        self._composer = GpuComposer(
            self._gpu, Face(self._pack.plate, self._pack.hair, self._pack.rungs), self._tensors, self._stream, self._image
        )
        return f"{len(self._image) >> 10} KiB", {"compile": round(seconds * 1e3, 1)}

    def ring_path(self) -> tuple[str, dict[str, float]]:
        self._slots.attach(self._ring.writer.memory)
        return self._slots.path + (f": {self._slots.why}" if self._slots.why else ": the GPU writes into the slots"), {}

    def _ready(self) -> GpuComposer:
        if self._composer is None:
            raise _Skip("there is no kernel")
        return self._composer

    def _load(self, controls: NDArray[np.float32]) -> Drawing:
        drawing = self._truth.drawing(controls)
        for name, tensor in self._tensors.items():
            self._gpu.upload(tensor.address, np.ascontiguousarray(getattr(drawing, name)), self._stream)
            self._gpu.synchronize(self._stream)
        return drawing

    def _draw(self, out: Bytes, rung: int) -> None:
        composer = self._ready()
        composer.prepare(rung)
        address = self._slots.address(out)
        composer.aim(address)
        composer.enqueue(rung)
        self._gpu.synchronize(self._stream)
        self._slots.finish(out, address)

    def compose(self, rung: int) -> tuple[str, dict[str, float]]:
        told = ""
        for controls in poses(self._pack, 4):
            drawing = self._load(controls)
            out = self._ring.slot(self._pack, rung)
            self._draw(out, rung)
            told = compare(out, self._truth.frame(drawing, rung))
            self._ring.publish()
        first, last, times = self._gpu.event(), self._gpu.event(), []
        for _ in range(self._frames):
            self._gpu.record(first, self._stream)
            self._ready().enqueue(rung)
            self._gpu.record(last, self._stream)
            self._gpu.synchronize(self._stream)
            times.append(self._gpu.elapsed_ms(first, last))
        return told, quantiles(times)

    def staged(self) -> tuple[str, dict[str, float]]:
        drawing = self._load(self._pack.idle)
        out = np.zeros((self._pack.rungs[0].height * 3 // 2, self._pack.rungs[0].width), np.uint8)
        self._draw(out, 0)
        return compare(out, self._truth.frame(drawing, 0)), {}

    def graph(self) -> tuple[str, dict[str, float]]:
        if not self._gpu.captures:
            raise _Skip("this back end has no graphs")
        composer = self._ready()
        composer.prepare(0)
        self._gpu.begin_capture(self._stream)
        composer.enqueue(0)
        graph = self._gpu.end_capture(self._stream)
        drawing = self._load(self._pack.idle)
        for _ in range(3):  # one graph serves every slot
            out = self._ring.slot(self._pack, 0)
            address = self._slots.address(out)
            composer.aim(address)
            self._gpu.replay(graph, self._stream)
            self._gpu.synchronize(self._stream)
            self._slots.finish(out, address)
            told = compare(out, self._truth.frame(drawing, 0))
            self._ring.publish()
        return told, {}

    def close(self) -> tuple[str, dict[str, float]]:
        self._slots.detach()
        self._gpu.deactivate()
        self._ring.close()
        return "nothing is page-locked any more", {}


# --- TensorRT


def _tensorrt(library: Library, device: int, backend: str, pack: AvatarPack, frames: int) -> list[tuple[str, Step]]:
    bench = _Engines(library, device, backend, pack, frames)
    return [
        (f"{library.title}: engine", bench.build),
        (f"{library.title}: the kiosk's way, the CPU until the GPU is ready", bench.relay),
        (f"{library.title}: a second start", bench.load),
        *((f"{library.title}: {rung.name}", lambda k=k: bench.draw(k)) for k, rung in enumerate(pack.rungs)),
        (f"{library.title}: a stale engine is refused and built again", bench.stale),
        (f"{library.title}: given back", bench.close),
    ]  # fmt: skip


class _Engines:
    """One TensorRT, from the ONNX file to frames in the ring."""

    def __init__(self, library: Library, device: int, backend: str, pack: AvatarPack, frames: int) -> None:
        self._library, self._device, self._backend, self._pack, self._frames = library, device, backend, pack, frames
        self._cache = EngineCache(engine_dir())
        self._truth = Truth(pack)
        self._ring = Ring(pack)
        self._face: TensorRTRenderer | None = None

    def _open(self) -> Gpu:
        gpu, why_not = open_gpu(self._device, only=self._backend)
        if gpu is None:
            raise GpuError("; ".join(why_not.values()))
        return gpu

    def _target(self) -> Target:
        gpu = self._open()
        gpu.close()
        self._library.supports(target_of(gpu))
        return target_of(gpu)

    def build(self) -> tuple[str, dict[str, float]]:
        built = self._cache.plan(self._library, self._pack.network.read_bytes(), self._target())
        return f"{len(built.plan) / 1e6:.1f} MB, {'kept' if built.kept else built.why}", {"seconds": round(built.seconds, 2)}

    def relay(self) -> tuple[str, dict[str, float]]:
        self._target()
        gpu = self._open()
        relay = Relay(OnnxRuntimeRenderer(self._pack), lambda report: prepare(self._pack, gpu, self._library, self._cache, report))
        relay.attach_ring(self._ring.writer.memory)
        out, times, began = np.empty((self._pack.rungs[0].height * 3 // 2, self._pack.rungs[0].width), np.uint8), [], time.perf_counter()
        while not (ready := relay.wait(0.04)) and time.perf_counter() - began < _PATIENCE_S:
            at = time.perf_counter()
            relay.draw(self._pack.idle, out)
            times.append((time.perf_counter() - at) * 1e3)
        assert ready, f"not ready after {_PATIENCE_S:.0f} s: {relay.state}"
        waited = time.perf_counter() - began
        at = time.perf_counter()
        relay.draw(self._pack.idle, out)
        over = (time.perf_counter() - at) * 1e3
        state = relay.state
        relay.close()
        assert not state.startswith("the CPU draws"), state
        compare(out, self._truth.frame(self._truth.drawing(self._pack.idle), 0), network=True)
        return state, {**quantiles(times), "longest": round(max(times), 1), "take_over": round(over, 1), "seconds": round(waited, 1)}

    def load(self) -> tuple[str, dict[str, float]]:
        self._target()
        began = time.perf_counter()
        self._face = prepare(self._pack, self._open(), self._library, self._cache, lambda _line: None)
        seconds = time.perf_counter() - began
        way = self._face.attach_ring(self._ring.writer.memory)
        return f"{self._face.path}; frames {way}", {"seconds": round(seconds, 2)}

    def draw(self, rung: int) -> tuple[str, dict[str, float]]:
        if self._face is None:
            raise _Skip("the engine was not loaded")
        told, times, busy = "", [], time.process_time()
        for controls in poses(self._pack, 8):
            out = self._ring.slot(self._pack, rung)
            self._face.draw(controls, out, rung=rung)
            told = compare(out, self._truth.frame(self._truth.drawing(controls), rung), network=True)
            self._ring.publish()
        busy, began = time.process_time(), time.perf_counter()
        for _ in range(self._frames):
            out = self._ring.slot(self._pack, rung)
            at = time.perf_counter()
            self._face.draw(self._pack.idle, out, rung=rung)
            times.append((time.perf_counter() - at) * 1e3)
            self._ring.publish()
        cores = (time.process_time() - busy) / (time.perf_counter() - began)
        return told, {**quantiles(times), "cores": round(cores, 2)}

    def stale(self) -> tuple[str, dict[str, float]]:
        """An engine with a bit flipped, then whole but of other content: neither may be loaded."""
        target, onnx = self._target(), self._pack.network.read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            cache = EngineCache(Path(folder))
            built = cache.plan(self._library, onnx, target)
            data = built.path.read_bytes()
            built.path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            again = cache.plan(self._library, onnx, target)
            assert not again.kept, "a damaged engine was taken"
        gpu = self._open()
        gpu.activate()
        try:
            self._library.engine(again.plan[: len(again.plan) // 2])
        except CompileError as error:
            return f"{again.why}; half an engine: {error}", {}
        finally:
            gpu.close()
        raise AssertionError("half an engine was loaded")

    def close(self) -> tuple[str, dict[str, Any]]:
        if self._face is not None:
            self._face.close()
        self._ring.close()
        return "the GPU is free", {}
