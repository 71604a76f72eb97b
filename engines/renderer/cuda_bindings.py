"""`Gpu` on NVIDIA's cuda-bindings: the driver and NVRTC, nothing else."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineMissing
from engines.renderer.cuda import OUT_OF_MEMORY, Bytes, GpuError, GpuOutOfMemory, Pinned

__all__ = ["BindingsGpu", "nvrtc_image"]


class BindingsGpu:
    """See ``engines.renderer.cuda.Gpu``."""

    backend = "cuda-bindings"
    captures = True

    def __init__(self, index: int = 0) -> None:
        try:
            self._cu: Any = importlib.import_module("cuda.bindings.driver")
        except ImportError as error:
            raise EngineMissing(f"cuda-bindings is not installed ({error}): pip install cuda-bindings nvidia-cuda-nvrtc") from None
        cu = self._cu
        self._pinned: list[int] = []
        self._devices: set[int] = set()
        self._graphs: list[Any] = []
        self._functions: dict[int, Any] = {}
        try:
            self._call(cu.cuInit, 0)
        except RuntimeError as error:  # cuda-bindings' own, with a paragraph of advice, where libcuda.so.1 is not to be found
            raise GpuError(f"no NVIDIA driver (libcuda.so.1): {type(error).__name__}") from None
        if index >= (count := self._call(cu.cuDeviceGetCount)):
            raise GpuError(f"no GPU number {index}: the driver knows {count}")
        self._device = self._call(cu.cuDeviceGet, index)
        self.name = self._call(cu.cuDeviceGetName, 256, self._device).split(b"\0")[0].decode("utf-8", "replace")
        self.driver = int(self._call(cu.cuDriverGetVersion))
        kinds = cu.CUdevice_attribute
        self.capability = (
            int(self._ask(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)),
            int(self._ask(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)),
        )
        # Sleep instead of spinning while the GPU draws: the core belongs to the ears and the voice. Too late if TensorRT was first.
        cu.cuDevicePrimaryCtxSetFlags(self._device, cu.CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC)
        self._context = self._call(cu.cuDevicePrimaryCtxRetain, self._device)

    def _call(self, function: Any, *arguments: Any) -> Any:
        """A driver call's result. Raises GpuError."""
        status, *results = function(*arguments)
        if int(status):
            kind = GpuOutOfMemory if int(status) == OUT_OF_MEMORY else GpuError
            raise kind(f"{function.__name__}: {status.name} ({int(status)})", int(status))
        return results[0] if len(results) == 1 else results

    def _ask(self, attribute: Any) -> int:
        return int(self._call(self._cu.cuDeviceGetAttribute, attribute, self._device))

    def activate(self) -> None:
        """See ``Gpu``."""
        self._call(self._cu.cuCtxSetCurrent, self._context)

    def deactivate(self) -> None:
        """See ``Gpu``."""
        self._call(self._cu.cuCtxSetCurrent, 0)

    def alloc(self, size: int) -> int:
        """See ``Gpu``."""
        address = int(self._call(self._cu.cuMemAlloc, size))
        self._devices.add(address)
        return address

    def free(self, address: int) -> None:
        """See ``Gpu``."""
        self._devices.discard(address)
        self._call(self._cu.cuMemFree, address)

    def upload(self, address: int, data: NDArray[np.generic], stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._cu.cuMemcpyHtoDAsync, address, data.ctypes.data, data.nbytes, stream)

    def download(self, data: NDArray[np.generic], address: int, stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._cu.cuMemcpyDtoHAsync, data.ctypes.data, address, data.nbytes, stream)

    def pinned(self, size: int) -> Pinned:
        """See ``Gpu``."""
        cu = self._cu
        host = int(self._call(cu.cuMemHostAlloc, size, cu.CU_MEMHOSTALLOC_DEVICEMAP | cu.CU_MEMHOSTALLOC_PORTABLE))
        self._pinned.append(host)
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host))
        return Pinned(memory, int(self._call(cu.cuMemHostGetDevicePointer, host, 0)))

    def register(self, memory: Bytes) -> int:
        """See ``Gpu``."""
        cu = self._cu
        if not self._ask(cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED):
            raise GpuError("this GPU cannot page-lock memory that is there already")
        host = memory.ctypes.data
        self._call(cu.cuMemHostRegister, host, memory.nbytes, cu.CU_MEMHOSTREGISTER_DEVICEMAP | cu.CU_MEMHOSTREGISTER_PORTABLE)
        try:
            return int(self._call(cu.cuMemHostGetDevicePointer, host, 0))
        except GpuError:
            self._call(cu.cuMemHostUnregister, host)
            raise

    def unregister(self, memory: Bytes) -> None:
        """See ``Gpu``."""
        self._call(self._cu.cuMemHostUnregister, memory.ctypes.data)

    def stream(self) -> int:
        """See ``Gpu``."""
        return int(self._call(self._cu.cuStreamCreate, self._cu.CUstream_flags.CU_STREAM_NON_BLOCKING))

    def synchronize(self, stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._cu.cuStreamSynchronize, stream)

    def event(self) -> int:
        """See ``Gpu``."""
        return int(self._call(self._cu.cuEventCreate, self._cu.CUevent_flags.CU_EVENT_BLOCKING_SYNC))

    def record(self, event: int, stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._cu.cuEventRecord, event, stream)

    def elapsed_ms(self, first: int, last: int) -> float:
        """See ``Gpu``."""
        return float(self._call(self._cu.cuEventElapsedTime, first, last))

    def compile(self, source: str) -> bytes:
        """See ``Gpu``."""
        return nvrtc_image(source, self.capability)

    def function(self, image: bytes, name: str) -> int:
        """See ``Gpu``."""
        module = self._call(self._cu.cuModuleLoadData, image)
        function = self._call(self._cu.cuModuleGetFunction, module, name.encode())
        self._functions[int(function)] = (module, function)
        return int(function)

    def launch(self, function: int, grid: tuple[int, int], block: tuple[int, int], addresses: Sequence[int], stream: int) -> None:
        """See ``Gpu``."""
        values = (ctypes.c_uint64 * len(addresses))(*addresses)
        start = ctypes.addressof(values)
        pointers = (ctypes.c_void_p * len(addresses))(*(start + 8 * k for k in range(len(addresses))))
        self._call(self._cu.cuLaunchKernel, function, *grid, 1, *block, 1, 0, stream, ctypes.addressof(pointers), 0)

    def begin_capture(self, stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._cu.cuStreamBeginCapture, stream, self._cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """See ``Gpu``."""
        graph = self._call(self._cu.cuStreamEndCapture, stream)
        try:
            made = self._call(self._cu.cuGraphInstantiate, graph, 0)
        finally:
            self._call(self._cu.cuGraphDestroy, graph)
        self._graphs.append(made)
        return int(made)

    def replay(self, graph: int, stream: int) -> None:
        """See ``Gpu``."""
        self._call(self._cu.cuGraphLaunch, graph, stream)

    def close(self) -> None:
        """See ``Gpu``. After a fault of the GPU every call fails: the driver cleans up with the process."""
        cu = self._cu
        cu.cuCtxSetCurrent(self._context)
        for graph in self._graphs:
            cu.cuGraphExecDestroy(graph)
        for address in self._devices:
            cu.cuMemFree(address)
        for host in self._pinned:
            cu.cuMemFreeHost(host)
        self._graphs, self._devices, self._pinned = [], set(), []
        cu.cuCtxSetCurrent(0)
        cu.cuDevicePrimaryCtxRelease(self._device)


def nvrtc_image(source: str, capability: tuple[int, int]) -> bytes:
    """Machine code for a GPU of this compute capability; needs no GPU and no driver.

    Raises:
        GpuError: NVRTC is missing, knows no such GPU, or finds a mistake in the source.

    """
    try:
        nvrtc: Any = importlib.import_module("cuda.bindings.nvrtc")
        known = nvrtc.nvrtcGetSupportedArchs()[1:]
    except (ImportError, RuntimeError) as error:  # RuntimeError: the bindings are here, the library is not
        raise GpuError(f"no NVRTC ({' '.join(str(error).split())[:120]}): pip install nvidia-cuda-nvrtc") from None
    known = sorted(known[0] if known and isinstance(known[0], (list, tuple)) else known)
    wanted = capability[0] * 10 + capability[1]
    older = [arch for arch in known if arch <= wanted]
    if not older:
        raise GpuError(f"NVRTC has no compute capability {capability[0]}.{capability[1]}: it knows {', '.join(map(str, known))}")
    # A GPU newer than this NVRTC: code of the newest one that is known, finished by the driver.
    real = older[-1] == wanted
    target = f"sm_{wanted}" if real else f"compute_{older[-1]}"
    options = [f"--gpu-architecture={target}".encode(), b"--fmad=false", b"--std=c++17"]
    _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"visavis.cu", 0, [], [])
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if int(status):
            log = b" " * nvrtc.nvrtcGetProgramLogSize(program)[1]
            nvrtc.nvrtcGetProgramLog(program, log)
            raise GpuError(f"NVRTC does not compile the kernel for {target}: {' '.join(log.decode('utf-8', 'replace').split())[:300]}")
        size_of, get = (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN) if real else (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        image = b" " * size_of(program)[1]
        get(program, image)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return bytes(image)
