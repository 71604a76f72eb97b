"""`Gpu` on pycuda, for machines that have it and not cuda-bindings.

What it cannot do (2026.1): `register_host_memory` breaks the process (it sets a second base on an array, inducer/pycuda#459), so it is
never called and frames take the staging copy; there are no graphs, so each frame is two launches; only the thread that opened the GPU
can let go of its context, so one that is closed by another thread keeps an empty context until the process ends.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineMissing
from engines.renderer.cuda import Bytes, GpuError, GpuOutOfMemory, Pinned
from engines.renderer.cuda_bindings import nvrtc_image

__all__ = ["PycudaGpu"]


class PycudaGpu:
    """See ``engines.renderer.cuda.Gpu``."""

    backend = "pycuda"
    captures = False

    def __init__(self, index: int = 0) -> None:
        try:
            self._drv: Any = importlib.import_module("pycuda.driver")
        except ImportError as error:  # also where libcuda.so.1 is missing: pycuda links it
            raise EngineMissing(f"pycuda cannot be loaded ({' '.join(str(error).split())[:120]})") from None
        drv = self._drv
        self._kept: dict[int, Any] = {}
        self._allocated: dict[int, Any] = {}
        self._pinned: list[Any] = []
        self._current = False
        try:
            drv.init()
            if index >= (count := drv.Device.count()):
                raise GpuError(f"no GPU number {index}: the driver knows {count}")
            device = drv.Device(index)
            self.name = str(device.name())
            self.capability = (int(device.compute_capability()[0]), int(device.compute_capability()[1]))
            self.driver = int(drv.get_driver_version())
            self._context = device.retain_primary_context()
        except drv.Error as error:
            raise _told(error, drv) from None

    def _call(self, function: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except self._drv.Error as error:
            raise _told(error, self._drv) from None

    def _keep(self, thing: Any, handle: int) -> int:
        self._kept[handle] = thing
        return handle

    def activate(self) -> None:
        """See ``Gpu``."""
        if not self._current:
            self._call(self._context.push)
        self._current = True

    def deactivate(self) -> None:
        """See ``Gpu``. pycuda aborts the process when a thread ends that has not done this."""
        self._call(self._context.pop)
        self._current = False

    def alloc(self, size: int) -> int:
        """See ``Gpu``."""
        made = self._call(self._drv.mem_alloc, size)
        self._allocated[int(made)] = made
        return int(made)

    def free(self, address: int) -> None:
        """See ``Gpu``."""
        self._call(self._allocated.pop(address).free)

    def upload(self, address: int, data: NDArray[np.generic], stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._drv.memcpy_htod_async, address, data, self._kept[stream])

    def download(self, data: NDArray[np.generic], address: int, stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._drv.memcpy_dtoh_async, data, address, self._kept[stream])

    def pinned(self, size: int) -> Pinned:
        """See ``Gpu``."""
        flags = self._drv.host_alloc_flags
        memory = self._call(self._drv.pagelocked_empty, size, np.uint8, mem_flags=flags.DEVICEMAP | flags.PORTABLE)
        self._pinned.append(memory.base)
        return Pinned(memory, int(self._call(memory.base.get_device_pointer)))

    def register(self, memory: Bytes) -> int:  # noqa: ARG002
        """See ``Gpu``; always refused."""
        raise GpuError("pycuda 2026.1 breaks on registering memory (inducer/pycuda#459): install cuda-bindings for frames without a copy")

    def unregister(self, memory: Bytes) -> None:
        """See ``Gpu``; nothing was registered."""

    def stream(self) -> int:
        """See ``Gpu``."""
        made = self._call(self._drv.Stream, 1)  # CU_STREAM_NON_BLOCKING
        return self._keep(made, int(made.handle))

    def synchronize(self, stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._kept[stream].synchronize)

    def event(self) -> int:
        """See ``Gpu``."""
        made = self._call(self._drv.Event, self._drv.event_flags.BLOCKING_SYNC)
        return self._keep(made, id(made))

    def record(self, event: int, stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._kept[event].record, self._kept[stream])

    def elapsed_ms(self, first: int, last: int) -> float:
        """See ``Gpu``."""
        return float(self._call(self._kept[last].time_since, self._kept[first]))

    def compile(self, source: str) -> bytes:
        """See ``Gpu``: NVRTC where its bindings are, else the nvcc of an installed toolkit."""
        try:
            return nvrtc_image(source, self.capability)
        except GpuError as first:
            compiler = importlib.import_module("pycuda.compiler")
            arch = f"sm_{self.capability[0]}{self.capability[1]}"
            try:
                return bytes(compiler.compile(source, options=["--fmad=false", "-std=c++17"], no_extern_c=True, arch=arch))
            except (self._drv.CompileError, OSError) as error:
                raise GpuError(f"neither NVRTC ({first}) nor nvcc ({str(error).splitlines()[0][:120]}) compiles the kernel") from None

    def function(self, image: bytes, name: str) -> int:
        """See ``Gpu``."""
        module = self._call(self._drv.module_from_buffer, image)
        function = self._call(module.get_function, name)
        return self._keep((module, function), id(function))

    def launch(self, function: int, grid: tuple[int, int], block: tuple[int, int], addresses: Sequence[int], stream: int) -> None:
        """See ``Gpu``."""
        _, kernel = self._kept[function]
        values = [np.uint64(address) for address in addresses]
        self._call(kernel, *values, grid=(*grid, 1), block=(*block, 1), stream=self._kept[stream])

    def begin_capture(self, stream: int) -> None:  # noqa: ARG002
        """See ``Gpu``; there are no graphs here."""
        raise GpuError("pycuda has no graphs")

    def end_capture(self, stream: int) -> int:  # noqa: ARG002
        """See ``Gpu``; there are no graphs here."""
        raise GpuError("pycuda has no graphs")

    def replay(self, graph: int, stream: int) -> None:  # noqa: ARG002
        """See ``Gpu``; there are no graphs here."""
        raise GpuError("pycuda has no graphs")

    def close(self) -> None:
        """See ``Gpu``. Streams, events and kernels free themselves with their last reference, while the context is current."""
        with contextlib.suppress(self._drv.Error):
            if not self._current:
                self._context.push()
            for thing in (*self._allocated.values(), *self._pinned):
                thing.free()
            self._kept.clear()
            self._context.pop()
            self._context.detach()
        self._allocated, self._pinned, self._current = {}, [], False


def _told(error: Exception, drv: Any) -> GpuError:
    kind = GpuOutOfMemory if isinstance(error, drv.MemoryError) else GpuError
    return kind(" ".join(str(error).split())[:200])
