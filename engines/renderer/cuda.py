"""The little of CUDA that drawing a face takes, behind one interface with two back ends.

cuda-bindings comes first: NVIDIA's own, wheels for x86-64 and aarch64, imports without a driver. pycuda is the second: where it is
installed already. Both use the GPU's primary context, which is the one that TensorRT uses, so that addresses mean the same to both.
Handles (streams, events, functions, graphs) and device addresses are plain integers.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError

__all__ = ["Gpu", "GpuError", "GpuOutOfMemory", "Opened", "Pinned", "first_line", "open_gpu"]

Bytes = NDArray[np.uint8]

BACKENDS = {
    "cuda-bindings": ("engines.renderer.cuda_bindings", "BindingsGpu"),
    "pycuda": ("engines.renderer.cuda_pycuda", "PycudaGpu"),
}
OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY of the driver interface."""


class GpuError(EngineError):
    """The driver refused something; `code` is its number (0: it was not asked), the text names the call."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class GpuOutOfMemory(GpuError):
    """No room on the GPU, or no more memory that can be page-locked."""


class Pinned(NamedTuple):
    """Page-locked host memory that the GPU writes in place: as an array of bytes, and where the GPU sees it."""

    memory: Bytes
    address: int


class Gpu(Protocol):
    """One GPU, used by one thread at a time, between `activate` and `deactivate`. Every method may raise GpuError."""

    backend: str
    name: str
    capability: tuple[int, int]
    driver: int  # as the driver counts: 13000 for CUDA 13.0
    captures: bool  # whether `capture` works with this back end

    def activate(self) -> None:
        """Make the context current in the calling thread."""

    def deactivate(self) -> None:
        """Let go of the context, so that another thread can `activate`."""

    def alloc(self, size: int) -> int:
        """Device memory; the address."""

    def free(self, address: int) -> None:
        """Give device memory back."""

    def upload(self, address: int, data: NDArray[np.generic], stream: int) -> None:
        """Copy a contiguous array to the device. It must not change before the stream got there."""

    def download(self, data: NDArray[np.generic], address: int, stream: int) -> None:
        """Copy from the device into a contiguous array; it is there once the stream got there."""

    def pinned(self, size: int) -> Pinned:
        """Page-locked, mapped host memory, kept until `close`."""

    def register(self, memory: Bytes) -> int:
        """Page-lock and map memory that is there already; where the GPU sees its first byte. Whole pages; `unregister` before it goes."""

    def unregister(self, memory: Bytes) -> None:
        """Undo `register`."""

    def stream(self) -> int:
        """A stream that does not wait for others."""

    def synchronize(self, stream: int) -> None:
        """Wait, sleeping, until all of the stream is done; errors of earlier work come out here."""

    def event(self) -> int:
        """An event that takes the time."""

    def record(self, event: int, stream: int) -> None:
        """The event happens when the stream gets here."""

    def elapsed_ms(self, first: int, last: int) -> float:
        """Time between two events that have happened."""

    def compile(self, source: str) -> bytes:
        """CUDA C++ to code for this GPU, without contraction of products and sums (it rounds like a CPU)."""

    def function(self, image: bytes, name: str) -> int:
        """A kernel of compiled code."""

    def launch(self, function: int, grid: tuple[int, int], block: tuple[int, int], addresses: Sequence[int], stream: int) -> None:
        """Run a kernel whose parameters are all addresses."""

    def begin_capture(self, stream: int) -> None:
        """What follows on the stream is written down and not run."""

    def end_capture(self, stream: int) -> int:
        """What was written down, as a graph for `replay`."""

    def replay(self, graph: int, stream: int) -> None:
        """Run a graph: one call to the driver for a whole frame."""

    def close(self) -> None:
        """Give everything back; called by the thread that is using it, or by any if none is. Never raises."""


class Opened(NamedTuple):
    """The GPU, or None, and why each back end that does not serve does not."""

    gpu: Gpu | None
    why_not: dict[str, str]


def first_line(error: Exception) -> str:
    """What an error of anybody's says, in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def open_gpu(index: int = 0, *, only: str = "") -> Opened:
    """The first back end, or `only` that one, that reaches GPU number `index`."""
    why_not = {}
    for name, (module, kind) in BACKENDS.items():
        if only and name != only:
            continue
        try:
            gpu: Gpu = getattr(importlib.import_module(module), kind)(index)
        except Exception as error:  # noqa: BLE001 - bindings beside another driver fail in any way at all
            why_not[name] = first_line(error)
        else:
            return Opened(gpu, why_not)
    return Opened(None, why_not)
