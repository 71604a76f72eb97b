"""The face is there at once and gets better: the CPU draws while an engine is compiled and loaded, then the GPU takes over.

The change is between two frames of the same call, so nobody waits. If the GPU fails later, the frame that it failed at is drawn by the
CPU, and so are all that follow. Every change is one line in the log.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.compile import CompileError, EngineCache, Library, OutOfMemory, Target
from engines.errors import EngineError, EngineMissing
from engines.renderer._types import Colour, Renderer, RendererError
from engines.renderer.cuda import Gpu, first_line
from engines.renderer.pack import AvatarPack
from engines.renderer.tensorrt import TensorRTRenderer

__all__ = ["GpuRenderer", "Relay", "Report", "prepare", "target_of"]

_log = logging.getLogger(__name__)
Report = Callable[[str], None]


class GpuRenderer(Renderer, Protocol):
    """What may take over: a renderer that can write into the ring and be closed."""

    path: str

    def attach_ring(self, memory: NDArray[np.uint8]) -> str:
        """Which way frames go into this memory."""

    def close(self) -> None:
        """Never raises."""


def target_of(gpu: Gpu) -> Target:
    """What engines for this GPU are kept under."""
    return Target(gpu.name, gpu.capability, gpu.driver)


def prepare(pack: AvatarPack, gpu: Gpu, library: Library, cache: EngineCache, report: Report) -> TensorRTRenderer:
    """A renderer on the GPU; compiles the network first if no engine of it is kept (in a process of its own).

    Raises:
        EngineError: it does not work here, and why. The GPU has been given back.

    """
    try:
        target, onnx = target_of(gpu), pack.network.read_bytes()
        library.supports(target)
        built = cache.kept(library, onnx, target)
        if built is None:
            _compile(pack.network, library, cache, target, report)
            built = cache.kept(library, onnx, target)
        if built is None:
            raise CompileError(f"{library.title}: the engine just built is not in {cache.folder}: is the disk full?")
        try:
            return TensorRTRenderer(pack, gpu, library, built.plan, cache, built.path.with_suffix(".kernels").name)
        except OutOfMemory:
            raise  # nothing is wrong with the file
        except CompileError:
            # Kept under the right key and yet refused: not an engine of this machine after all. The next start builds it again.
            built.path.unlink(missing_ok=True)
            raise
    except BaseException:
        gpu.close()
        raise


def _compile(network: Path, library: Library, cache: EngineCache, target: Target, report: Report) -> None:
    command = [sys.executable, "-m", "engines.compile", str(network), "--library", library.name, "--cache", str(cache.folder)]
    command += ["--gpu", target.gpu, "--capability", *map(str, target.capability), "--driver", str(target.driver)]
    report(f"{library.title} compiles {network.name} for {target.gpu}")
    root = Path(__file__).resolve().parents[2]  # so that the module is found from wherever the kiosk was started
    said = ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=root
    ) as child:
        assert child.stdout
        try:
            for line in child.stdout:
                if line.startswith("{"):
                    step = msgspec.json.decode(line)
                    report(f"{library.title} compiles {network.name}: {step['what']} {step['done']}/{step['steps']}")
                elif line.strip():
                    said = line.strip()  # the libraries talk too; the last word is ours
        except BaseException:
            child.kill()  # nobody waits for it any more
            raise
    if child.returncode:
        raise CompileError(said or f"{library.title}: compiling ended with status {child.returncode}")


class _Closed(EngineError):
    """Nobody wants the GPU any more."""


class Relay:
    """``Renderer``: `first` draws until `better` (called once, in a thread, at the first frame) has something better.

    `better` raises EngineMissing where there is no GPU. Whatever it calls its report with after `close` raises out of it.
    """

    def __init__(self, first: Renderer, better: Callable[[Report], GpuRenderer]) -> None:
        self.controls, self.ranges, self.idle, self.rungs = first.controls, first.ranges, first.idle, first.rungs
        self._first, self._better = first, better
        self._now: Renderer = first
        self._gpu: GpuRenderer | None = None
        self._arrived: GpuRenderer | None = None  # written by the thread, taken by `draw`
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # of `_arrived` and `_closed`
        self._closed = False
        self._ring: NDArray[np.uint8] | None = None
        self._background: NDArray[np.uint8] | Colour | None = None
        self.state = "the CPU draws"

    def attach_ring(self, memory: NDArray[np.uint8]) -> str:
        """The memory that frames will be drawn into; used once the GPU has taken over. Says how the state is now."""
        self._ring = memory
        if self._gpu is not None:
            self._attach(memory)
        return self.state

    def set_background(self, rgb: NDArray[np.uint8] | Colour) -> None:
        """See ``Renderer``."""
        self._first.set_background(rgb)
        self._background = rgb
        if self._gpu is not None:
            self._on_gpu(lambda gpu: gpu.set_background(rgb))

    def draw(self, controls: NDArray[np.float32], out: NDArray[np.uint8], *, rung: int = 0) -> None:
        """See ``Renderer``."""
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._prepare, name="gpu", daemon=True)
            self._thread.start()
        if self._arrived is not None:
            self._take_over()
        if self._gpu is None or not self._on_gpu(lambda gpu: gpu.draw(controls, out, rung=rung)):
            self._first.draw(controls, out, rung=rung)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the thread is done, for tests and benchmarks; False if it is not."""
        if self._thread is None:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Give the GPU back, for good, from the thread that draws; the CPU draws on. What is being prepared ends at its next step."""
        with self._lock:
            self._closed = True
            arrived, self._arrived = self._arrived, None
        gpu, self._gpu = self._gpu, None
        for taken in (gpu, arrived):
            if taken is not None:
                taken.close()
        if gpu is not None:
            self.state = "the CPU draws"

    def _prepare(self) -> None:
        try:
            made = self._better(self._report)
            with self._lock:
                if not self._closed:
                    self._arrived = made
                    return
            made.close()
        except _Closed:
            return
        except EngineMissing as error:
            self._tell(f"the CPU draws: {error}")
        except EngineError as error:
            self._stay(str(error))
        except Exception as error:  # noqa: BLE001 - the libraries below share no error class, and the face must move whatever they do
            _log.exception("the GPU could not be prepared")
            self._stay(f"{type(error).__name__}: {first_line(error)}")

    def _take_over(self) -> None:
        self._gpu, self._arrived = self._arrived, None
        assert self._gpu
        ring, behind = self._ring, self._background
        if behind is not None and not self._on_gpu(lambda gpu: gpu.set_background(behind)):
            return
        if ring is not None:
            self._attach(ring)
        else:
            self._tell(self._gpu.path)

    def _attach(self, ring: NDArray[np.uint8]) -> None:
        self._on_gpu(lambda gpu: self._tell(f"{gpu.path}; frames {gpu.attach_ring(ring)}"))

    def _on_gpu(self, do: Callable[[GpuRenderer], None]) -> bool:
        """Do it; a GPU that fails is given back, and the CPU draws from this frame on."""
        assert self._gpu
        try:
            do(self._gpu)
        except RendererError:
            raise  # the caller's mistake
        except Exception as error:  # noqa: BLE001 - the bindings raise errors of their own besides ours
            gpu, self._gpu = self._gpu, None
            self._stay(first_line(error))
            gpu.close()
            return False
        return True

    def _report(self, line: str) -> None:
        if self._closed:
            raise _Closed
        self._tell(line)

    def _tell(self, line: str) -> None:
        self.state = line
        _log.info("%s", line)

    def _stay(self, why: str) -> None:
        """The CPU draws although there is a GPU: whoever looks after the box should know."""
        self.state = f"the CPU draws: {why}"
        _log.warning("%s", self.state)
