"""The renderer on the GPU: TensorRT runs the network, one kernel composes, the frame lands in the ring.

A frame is one call to the driver where that is possible: controls up, network and kernel are captured into a CUDA graph per rung (full
TensorRT), or the library replays its own graph and the kernel follows (TensorRT-RTX). One network serves all rungs, so a change of rung
changes the graph that is replayed and nothing else. All rungs are on the GPU from the start: a change never loads anything.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.compile import CompileError, EngineCache, Library
from engines.renderer._types import Colour, RendererError
from engines.renderer.cuda import Gpu, GpuError
from engines.renderer.cuda_compose import SOURCE, Face, GpuComposer, Tensor, kernel_name
from engines.renderer.cuda_slots import Slots
from engines.renderer.onnx_runtime import check_call
from engines.renderer.pack import AvatarPack

__all__ = ["Network", "TensorRTRenderer", "kernel_image"]


def kernel_image(gpu: Gpu, cache: EngineCache) -> bytes:
    """The composing kernel for this GPU, kept once compiled (half a second).

    Raises:
        GpuError: it cannot be compiled here.

    """
    path = cache.folder / kernel_name(gpu)
    image = cache.side(path)
    if not image:
        image = gpu.compile(SOURCE.read_text("utf-8"))
        cache.keep_side(path, image)
    return image


class Network:
    """An engine with its tensors: `enqueue` reads `controls` (page-locked, (n,) float32) and writes `tensors` on the GPU."""

    def __init__(self, gpu: Gpu, library: Library, plan: bytes, stream: int, kept: bytes = b"") -> None:
        """`kept` is what `kernels` gave in an earlier life.

        Raises:
            CompileError: the engine does not load, or is another network's.
            GpuError: no room.

        """
        self._gpu, self._library, self._stream = gpu, library, stream
        self._engine: Any = library.engine(plan)
        self._context: Any
        self._cache: Any
        self._context, self._cache = library.context(self._engine, kept)
        trt = library.trt
        self.tensors: dict[str, Tensor] = {}
        inputs: dict[str, Tensor] = {}
        for k in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(k)
            shape = tuple(int(n) for n in self._engine.get_tensor_shape(name))
            if min(shape) < 1 or self._engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
                raise CompileError(f"{library.title}: tensor {name} {shape} is not float32 of a fixed shape; build the pack again")
            address = gpu.alloc(4 * int(np.prod(shape)))
            self._context.set_tensor_address(name, address)
            is_input = self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            # Only `eyes` has two in its batch: they belong to one frame.
            (inputs if is_input else self.tensors)[name] = Tensor(address, shape if shape[0] > 1 else shape[1:])
        if set(inputs) != {"controls"}:
            raise CompileError(f"{library.title}: the network reads {', '.join(sorted(inputs))} instead of controls; build the pack again")
        self._input = inputs["controls"]
        self._page = gpu.pinned(4 * self._input.shape[-1])
        self.controls: NDArray[np.float32] = self._page.memory.view(np.float32)

    def enqueue(self) -> None:
        """Put one run on the stream (or into the graph being captured).

        Raises:
            GpuError: the library refuses.

        """
        self._gpu.upload(self._input.address, self.controls, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise GpuError(f"{self._library.title} does not run the network: {self._library.trouble()}")

    @property
    def capturable(self) -> bool:
        """Whether our own graph may hold the network. TensorRT-RTX captures by itself."""
        return not self._library.rtx and self._gpu.captures

    def kernels(self) -> bytes:
        """TensorRT-RTX's kernels, compiled at the first run: hand them to the next life. Empty with full TensorRT."""
        return bytes(self._cache.serialize()) if self._cache is not None else b""

    def close(self) -> None:
        """Drop what TensorRT holds on the GPU, while the GPU is there."""
        self._context = self._cache = self._engine = None


class TensorRTRenderer:
    """``Renderer`` on one GPU. May be made in one thread and used in another; the owner calls `close`."""

    def __init__(self, pack: AvatarPack, gpu: Gpu, library: Library, plan: bytes, cache: EngineCache, kernels: str = "") -> None:
        """`plan` is the compiled ``pack.network``, `kernels` the name under which `cache` keeps what the library compiles later.

        Raises:
            CompileError, GpuError, RendererError: it does not work here; another renderer serves.

        """
        self.controls, self.ranges, self.idle, self.rungs = pack.controls, pack.ranges, pack.idle, pack.rungs
        self._gpu = gpu
        self._thread: int | None = None  # whose the GPU's context is
        self._own()
        self._stream = gpu.stream()
        self.slots = Slots(gpu)
        kept = cache.side(cache.folder / kernels) if kernels else b""
        self._network = Network(gpu, library, plan, self._stream, kept)
        if self._network.controls.shape != self.idle.shape:
            raise RendererError(f"the network takes {self._network.controls.size} controls, avatar.toml names {self.idle.size}")
        self._composer = GpuComposer(
            gpu, Face(pack.plate, pack.hair, pack.rungs), self._network.tensors, self._stream, kernel_image(gpu, cache)
        )
        self._graphs: dict[int, int] = {}
        self.path = f"{library.title} on {gpu.name} ({gpu.backend})"
        self._warm_up()
        fresh = self._network.kernels()
        if kernels and fresh and fresh != kept:
            cache.keep_side(cache.folder / kernels, fresh)
        self.release()

    def _warm_up(self) -> None:
        """Run each rung once, unseen: kernels are compiled and memory is taken now, and only what has run once may be captured."""
        self._network.controls[:] = self.idle
        for rung, size in enumerate(self.rungs):
            out = np.empty((size.height * 3 // 2, size.width), np.uint8)
            self._composer.prepare(rung)
            self._composer.aim(self.slots.address(out))
            self._run(rung)
            self._gpu.synchronize(self._stream)
        if self._network.capturable:
            try:
                self._graphs = {rung: self._capture(rung) for rung in range(len(self.rungs))}
                self.path += ", one graph a frame"
            except GpuError as error:
                self.path += f", without graphs ({error})"

    def _run(self, rung: int) -> None:
        self._network.enqueue()
        self._composer.enqueue(rung)

    def _capture(self, rung: int) -> int:
        self._gpu.begin_capture(self._stream)
        try:
            self._run(rung)
        except GpuError:
            with contextlib.suppress(GpuError):  # what was refused first tells more
                self._gpu.end_capture(self._stream)
            raise
        return self._gpu.end_capture(self._stream)

    def attach_ring(self, memory: NDArray[np.uint8]) -> str:
        """Let the GPU write frames into this memory (all slots of the ring) in place; says which way frames go and why."""
        self._own()
        self.slots.attach(memory)
        return self.slots.path + (f": {self.slots.why}" if self.slots.why else "")

    def set_background(self, rgb: NDArray[np.uint8] | Colour) -> None:
        """See ``Renderer``."""
        self._own()
        self._composer.set_background(rgb)

    def draw(self, controls: NDArray[np.float32], out: NDArray[np.uint8], *, rung: int = 0) -> None:
        """See ``Renderer``.

        Raises:
            GpuError: the GPU fails; nothing more can be drawn with it.

        """
        check_call(controls, out, self.idle, self.rungs, rung)
        self._own()
        clean = np.where(np.isnan(controls), self.idle, np.clip(controls, self.ranges[:, 0], self.ranges[:, 1]))
        self._network.controls[:] = clean
        address = self.slots.address(out)
        self._composer.aim(address)
        if rung in self._graphs:
            self._gpu.replay(self._graphs[rung], self._stream)
        else:
            self._run(rung)
        self._gpu.synchronize(self._stream)
        self.slots.finish(out, address)

    def _own(self) -> None:
        if self._thread != (now := threading.get_ident()):
            self._gpu.activate()
            self._thread = now

    def release(self) -> None:
        """The calling thread is done with it: another one may draw."""
        self._gpu.deactivate()
        self._thread = None

    def close(self) -> None:
        """Give the GPU back, from the thread that draws. Never raises."""
        with contextlib.suppress(GpuError):
            self._gpu.activate()  # another user of the GPU in this thread may have let go of the context
        self.slots.detach()
        self._network.close()
        self._gpu.close()
