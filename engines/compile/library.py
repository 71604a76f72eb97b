"""TensorRT 10, TensorRT 11 and TensorRT-RTX behind one class.

What differs: RTX compiles for a list of GPUs without having one, finishes its kernels at the first run and keeps them in a runtime cache,
and captures CUDA graphs by itself; full TensorRT times kernels on the GPU that it builds for. What never differs: precision lives in the
ONNX file (no precision flags, which 11 has removed), networks are strongly typed (a flag that 10 needs and 11 ignores), shapes are fixed.
"""

from __future__ import annotations

import importlib
import re
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from engines.compile.errors import CompileError, OutOfMemory, Unsupported

__all__ = ["Found", "Library", "Progress", "Target", "find_libraries"]

Progress = Callable[[str, int, int], None]
"""Called with (what the builder does, steps done, steps in all)."""

MODULES = {
    "tensorrt": "needs TensorRT 10.3 or newer with its Python bindings (JetPack has them)",
    "tensorrt_rtx": "needs an RTX GPU and the wheel tensorrt-rtx-cu13",
}
_OLDEST = (10, 3)
_WORKSPACE = 512 << 20  # bytes that a layer may ask for while kernels are chosen: an Orin Nano shares 8 GB with everything else
_AHEAD = ((8, 6), (8, 9), (12, 0))  # RTX 30, 40, 50: what is compiled for where there is no GPU
_COLLECTED = 40


class Target(NamedTuple):
    """The GPU that an engine is for; `driver` as the driver counts, e.g. 13000 for CUDA 13.0."""

    gpu: str
    capability: tuple[int, int]
    driver: int


class Found(NamedTuple):
    """The libraries that can be imported here, best first, and why the others cannot."""

    found: tuple[Library, ...]
    why_not: dict[str, str]


class _Log:
    """The one logger of a library in this process: a second one would be ignored. Keeps the last warnings and errors."""

    def __init__(self, trt: Any) -> None:
        self.lines: deque[str] = deque(maxlen=_COLLECTED)
        lines, keep = self.lines, (trt.ILogger.WARNING, trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)

        class Collector(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in keep:
                    lines.append(("W " if severity == trt.ILogger.WARNING else "E ") + " ".join(message.split()))

        self.logger = Collector()

    def trouble(self) -> str:
        """The first error since the last `clear`, or the last warning: later errors only repeat that something failed."""
        errors = [line[2:] for line in self.lines if line.startswith("E ")]
        return (errors[0] if errors else self.lines[-1][2:] if self.lines else "no reason given")[:300]


_logs: dict[str, _Log] = {}


class Library:
    """One TensorRT of this machine. `rtx` tells TensorRT-RTX from the full one. Used by one thread at a time."""

    def __init__(self, trt: ModuleType) -> None:
        self.trt: Any = trt
        self.name = trt.__name__
        self.version = str(trt.__version__)
        self.rtx = hasattr(trt, "ComputeCapability")
        if self.name not in _logs:
            _logs[self.name] = _Log(trt)
        self._log = _logs[self.name]
        self._runtime: Any = None

    @property
    def title(self) -> str:
        """Name and version for people."""
        return f"{'TensorRT-RTX' if self.rtx else 'TensorRT'} {self.version}"

    def supports(self, target: Target) -> None:
        """Raises Unsupported if this library has no engine for that GPU. The full TensorRT only tells when it builds."""
        if self.rtx and not hasattr(self.trt.ComputeCapability, _sm(target.capability)):
            raise Unsupported(f"{self.title} has no target for compute capability {_dotted(target.capability)} ({target.gpu})")

    def build(self, onnx: bytes, target: Target | None = None, progress: Progress | None = None) -> bytes:
        """Compile a network of fixed shapes. Without a target TensorRT-RTX compiles for RTX 30, 40 and 50; the full one needs its GPU.

        Raises:
            Unsupported, OutOfMemory, CompileError: with the library's own reason.

        """
        if target is not None:
            self.supports(target)
        trt = self.trt
        self._log.lines.clear()
        try:
            builder = trt.Builder(self._log.logger)
            typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
            network = builder.create_network(0 if typed is None else 1 << int(typed))
            parser = trt.OnnxParser(network, self._log.logger)
            if not parser.parse(onnx):
                raise CompileError(f"{self.title} does not take the network: {_parser_error(parser)}")
            config = builder.create_builder_config()
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
            if self.rtx:
                self._aim(config, target)
            if progress is not None:
                config.progress_monitor = _monitor(trt, progress)
            plan = builder.build_serialized_network(network, config)
        except (RuntimeError, TypeError, MemoryError) as error:  # Builder() is TypeError where the driver is missing
            raise self._told("cannot build", str(error)) from None
        if plan is None:
            raise self._told("cannot build")
        return bytes(plan)

    def _aim(self, config: Any, target: Target | None) -> None:
        # No timing cache: with one TensorRT-RTX wants a GPU even for compiling.
        aims = _AHEAD if target is None else (target.capability,)
        config.num_compute_capabilities = len(aims)
        for k, capability in enumerate(aims):
            config.set_compute_capability(getattr(self.trt.ComputeCapability, _sm(capability)), k)

    def engine(self, plan: bytes) -> Any:
        """Load what `build` made; a CUDA context is current. The ICudaEngine lives no longer than this library.

        Raises:
            OutOfMemory, CompileError: it is not for this GPU, driver or version; the text has the library's reason.

        """
        self._log.lines.clear()
        self._runtime = self._runtime or self.trt.Runtime(self._log.logger)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:  # there is no exception: the reason is in the log
            raise self._told("cannot load the engine")
        return engine

    def context(self, engine: Any, kept: bytes = b"") -> tuple[Any, Any]:
        """An execution context, and for TensorRT-RTX the runtime cache of its kernels (else None), filled from `kept` if that still fits.

        Raises:
            OutOfMemory, CompileError: no context.

        """
        self._log.lines.clear()
        if not self.rtx:
            context, cache = engine.create_execution_context(), None
        else:
            settings = engine.create_runtime_config()
            settings.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            cache = settings.create_runtime_cache()
            if kept:
                cache.deserialize(kept)  # False for another GPU, driver or version: the kernels are simply made again
            settings.set_runtime_cache(cache)
            context = engine.create_execution_context(settings)
        if context is None:
            raise self._told("cannot make an execution context")
        return context, cache

    def trouble(self) -> str:
        """Why the last call failed, in the library's words."""
        return self._log.trouble()

    def _told(self, what: str, error: str = "") -> CompileError:
        reason = self._log.trouble() if self._log.lines else error or "no reason given"
        kind = OutOfMemory if re.search(r"out ?of ?memory|OutOfMemory|bad_alloc", f"{reason} {error}", re.IGNORECASE) else CompileError
        return kind(f"{self.title} {what}: {reason}")


def find_libraries() -> Found:
    """Import what is here: full TensorRT first, because where it is installed (Jetson) TensorRT-RTX does not run."""
    found, why_not = [], {}
    for name, needs in MODULES.items():
        try:
            library = Library(importlib.import_module(name))
        except Exception as e:  # noqa: BLE001 - bindings without their libraries fail in any way at all
            why_not[name] = f"{needs}: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
            continue
        if not library.rtx and _numbers(library.version) < _OLDEST:
            why_not[name] = f"{needs}; this is {library.version}"
            continue
        found.append(library)
    return Found(tuple(found), why_not)


def _parser_error(parser: Any) -> str:
    told = [(error.node_name(), error.desc()) for error in map(parser.get_error, range(parser.num_errors))]
    return "; ".join(f"node {node}: {text}" if node else text for node, text in told)[:300] or "no reason given"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:2])


def _sm(capability: tuple[int, int]) -> str:
    return f"SM{capability[0]}{capability[1]}"


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _monitor(trt: Any, progress: Progress) -> Any:
    """Passes the outermost phase on: inner ones come and go by the hundred."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self._steps[phase_name] = num_steps
                progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._steps:
                progress(phase_name, step + 1, self._steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self._steps:
                progress(phase_name, self._steps[phase_name], self._steps.pop(phase_name))

    return Monitor()
