# ruff: noqa: D101, ARG002  the names and signatures are TensorRT's
"""TensorRT's Python interface without TensorRT: the calls that engines.compile and engines.renderer.tensorrt make, as documented.

Put on the path as `tensorrt.py` or `tensorrt_rtx.py`; FAKE_TENSORRT names the version ("10.3.0", "11.4.1", "rtx"). "Engines" are ONNX
files; a context runs them with ONNX Runtime on the memory of the fake CUDA driver, as work on a stream. Where versions differ the fake is
strict: 10 wants the flag for strong typing, 11 has no precision flags, RTX finishes its kernels at the first run and captures by itself,
and nothing may be captured that has not run once. FAKE_TENSORRT_FAILS (build, load, room, context, memory) makes a call fail the way
the libraries do: with None and a line in the log.
"""

from __future__ import annotations

import ctypes
import enum
import os

import numpy as np
import onnx
import onnxruntime as ort

VERSION = os.environ["FAKE_TENSORRT"]
RTX = VERSION == "rtx"
__version__ = "1.7.1.116" if RTX else VERSION
_MAGIC = f"plan of {__version__}\n".encode()
_cuda = ctypes.CDLL("libcuda.so.1")
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_kept: list[object] = []


def _fails(what: str) -> bool:
    return what in os.environ.get("FAKE_TENSORRT_FAILS", "").split()


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)
    first: ILogger | None = None

    def __init__(self) -> None:
        assert ILogger.first is None, "a second logger would be ignored"
        ILogger.first = self

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class IProgressMonitor:
    def __init__(self) -> None:
        pass


if RTX:

    class ComputeCapability(enum.Enum):
        NONE, CURRENT, SM75, SM80, SM86, SM89, SM120, SM121 = range(8)

    class CudaGraphStrategy(enum.Enum):
        DISABLED, WHOLE_GRAPH_CAPTURE = range(2)


class _Error:
    def desc(self) -> str:
        return "no ONNX"

    def node_name(self) -> str:
        return "conv1"


class OnnxParser:
    num_errors = 1

    def __init__(self, network: _Network, logger: ILogger) -> None:
        self._network = network

    def parse(self, data: bytes) -> bool:
        try:
            onnx.load_from_string(data)
        except Exception:  # noqa: BLE001 - protobuf's error
            return False
        self._network.data = data
        return True

    def get_error(self, index: int) -> _Error:
        return _Error()


class _Network:
    data = b""


class _Config:
    progress_monitor: object = None
    num_compute_capabilities = 0

    def __init__(self) -> None:
        self.targets: dict[int, object] = {}

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert isinstance(pool, MemoryPoolType)

    if RTX:

        def set_compute_capability(self, target: ComputeCapability, index: int) -> None:
            assert index < self.num_compute_capabilities
            self.targets[index] = target


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> _Network:
        if VERSION.startswith("10"):
            assert flags & 2, "TensorRT 10 makes a weakly typed network, and ignores Q/DQ types"
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        assert not RTX or len(config.targets) == config.num_compute_capabilities
        if _fails("memory"):
            self._logger.log(ILogger.WARNING, "Tactic device request: 600MB")
            self._logger.log(ILogger.ERROR, "Error Code 2: OutOfMemory (Requested size was 600000000 bytes.)")
            self._logger.log(ILogger.ERROR, "Error Code 10: could not find any implementation")
            return None
        if _fails("build"):
            self._logger.log(ILogger.ERROR, "could not find any implementation")
            return None
        monitor = config.progress_monitor
        if monitor:
            monitor.phase_start("Building engine", None, 2)
            for step in range(2):
                monitor.phase_start("tactics", "Building engine", 1)
                assert monitor.step_complete("tactics", 0)
                monitor.phase_finish("tactics")
                assert monitor.step_complete("Building engine", step)
            monitor.phase_finish("Building engine")
        return _MAGIC + network.data


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        if not plan.startswith(_MAGIC) or _fails("load"):
            self._logger.log(ILogger.ERROR, "The engine plan file is not compatible with this version of TensorRT")
            return None
        if _fails("room"):
            self._logger.log(ILogger.ERROR, "Error Code 2: OutOfMemory (Requested size was 90000000 bytes.)")
            return None
        try:
            return _Engine(plan[len(_MAGIC) :], self._logger)
        except Exception:  # noqa: BLE001 - ONNX Runtime's errors share no class
            self._logger.log(ILogger.ERROR, "Error Code 1: Serialization (stream is truncated)")
            return None


class _RuntimeCache:
    data = b""

    def serialize(self) -> bytes:
        return self.data

    def deserialize(self, data: bytes) -> bool:
        if data.startswith(b"kernels"):
            self.data = data
        return bool(self.data)


class _RuntimeConfig:
    cuda_graph_strategy: object = None
    cache: _RuntimeCache | None = None

    def create_runtime_cache(self) -> _RuntimeCache:
        return _RuntimeCache()

    def set_runtime_cache(self, cache: _RuntimeCache) -> None:
        self.cache = cache


class _Engine:
    def __init__(self, data: bytes, logger: ILogger) -> None:
        self.logger = logger
        self.session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        self._io = [(v, TensorIOMode.INPUT) for v in self.session.get_inputs()]
        self._io += [(v, TensorIOMode.OUTPUT) for v in self.session.get_outputs()]
        self.shapes = {v.name: v.shape for v, _ in self._io}

    @property
    def num_io_tensors(self) -> int:
        return len(self._io)

    def get_tensor_name(self, index: int) -> str:
        return str(self._io[index][0].name)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.shapes[name])

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.FLOAT

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return next(mode for v, mode in self._io if v.name == name)

    def create_execution_context(self, config: _RuntimeConfig | None = None) -> _Context | None:
        if _fails("context"):
            self.logger.log(ILogger.ERROR, "CUDA error 2 creating the context: out of memory")
            return None
        assert (config is not None) == RTX
        return _Context(self, config)

    if RTX:

        def create_runtime_config(self) -> _RuntimeConfig:
            return _RuntimeConfig()


class _Context:
    def __init__(self, engine: _Engine, config: _RuntimeConfig | None) -> None:
        self._engine, self._config = engine, config
        self._addresses: dict[str, int] = {}
        self._ran = False
        self._work = _WORK(self._run)
        _kept.append(self._work)  # graphs hold it

    def set_tensor_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def _array(self, name: str) -> np.ndarray:
        shape = self._engine.shapes[name]
        size = int(np.prod(shape))
        return np.ctypeslib.as_array((ctypes.c_float * size).from_address(self._addresses[name])).reshape(shape)

    def _run(self, _: object) -> None:
        names = [o.name for o in self._engine.session.get_outputs()]
        inputs = {i.name: self._array(i.name).copy() for i in self._engine.session.get_inputs()}
        for name, value in zip(names, self._engine.session.run(names, inputs), strict=True):
            self._array(name)[...] = value

    def execute_async_v3(self, stream: int) -> bool:
        assert set(self._addresses) == set(self._engine.shapes), "a tensor has no address"
        capturing = ctypes.c_int()
        _cuda.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(capturing))
        if capturing.value and (RTX or not self._ran):
            self._engine.logger.log(ILogger.ERROR, "the stream must not be capturing")
            return False
        if _fails("run"):
            self._engine.logger.log(ILogger.ERROR, "Error Code 1: Cuda Runtime (an illegal memory access was encountered)")
            return False
        self._ran = True
        if self._config is not None and self._config.cache is not None and not self._config.cache.data:
            self._config.cache.data = b"kernels of " + __version__.encode()
        return _cuda.cuLaunchHostFunc(ctypes.c_void_p(stream), self._work, None) == 0
