"""Which renderer serves on this machine, and why the others do not."""

from __future__ import annotations

from pathlib import Path

import cv2

from engines.compile import EngineCache, Library, Unsupported, engine_dir, find_libraries
from engines.compile.library import MODULES
from engines.errors import EngineError, EngineMissing
from engines.renderer._types import PackError, Renderer, Selection
from engines.renderer.cuda import Gpu, open_gpu
from engines.renderer.idle import IdleLoop
from engines.renderer.onnx_runtime import OnnxRuntimeRenderer
from engines.renderer.pack import AvatarPack, load_pack
from engines.renderer.tensorrt import TensorRTRenderer
from engines.renderer.tensorrt_relay import Relay, Report, prepare, target_of

__all__ = ["find_gpu", "open_face", "select"]


def find_gpu() -> tuple[tuple[Gpu, Library] | None, dict[str, str]]:
    """The GPU and the TensorRT that could draw on it, or None; and by module why each TensorRT that does not serve does not.

    The driver is asked first: without one the libraries (hundreds of megabytes) are not even loaded.
    """
    gpu, why_gpu = open_gpu()
    if gpu is None:
        reasons = "; ".join(why_gpu.values())
        return None, {name: f"{needs}; {reasons}" for name, needs in MODULES.items()}
    libraries, why_not = find_libraries()
    for library in libraries:
        try:
            library.supports(target_of(gpu))
        except Unsupported as error:
            why_not[library.name] = str(error)
            continue
        return (gpu, library), why_not
    gpu.close()
    return None, why_not


def select(pack: AvatarPack, *, threads: int = 1, cache: Path | None = None, gpu: bool = False) -> Selection:
    """The best renderer that works here. If the network cannot be run, the idle loop serves.

    With ``gpu`` a GPU takes over from the CPU as soon as it is found and its engine compiled and loaded; looking for it begins with the
    first frame, in a thread, so that no face is later because of a GPU. What became of it is in ``Relay.state``, not in ``why_not``.
    OpenCV's own thread pool is set to ``threads`` too: it is shared by the whole process.

    Raises:
        PackError: the network cannot be run and the idle clip is damaged as well.

    """
    cv2.setNumThreads(threads)
    why_not = {} if gpu else dict.fromkeys(MODULES, "a GPU was not asked for")
    name = "onnxruntime"
    try:
        engine: Renderer = OnnxRuntimeRenderer(pack, threads=threads, cache=cache)
    except Exception as e:  # noqa: BLE001 - onnx and ONNX Runtime share no error class; the face must move anyway
        why_not["onnxruntime"] = f"{pack.network}: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
        engine, name = IdleLoop(pack.path), "idle"
    return Selection(Relay(engine, lambda report: _found(pack, report)) if gpu else engine, name, why_not)


def _found(pack: AvatarPack, report: Report) -> TensorRTRenderer:
    """The renderer on this machine's GPU.

    Raises:
        EngineMissing: there is none that serves.
        EngineError: it does not work here.

    """
    found, why_not = find_gpu()
    if found is None:
        raise EngineMissing("; ".join(f"{name}: {why}" for name, why in why_not.items()))
    return prepare(pack, *found, EngineCache(engine_dir()), report)


def open_face(path: Path, *, threads: int = 1, cache: Path | None = None, gpu: bool = True) -> Selection:
    """``load_pack`` and ``select`` in one; a damaged pack still moves if its manifest and idle clip are whole.

    Raises:
        PackError: not even the idle clip can be read.

    """
    try:
        return select(load_pack(path), threads=threads, cache=cache, gpu=gpu)
    except PackError as e:
        try:
            return Selection(IdleLoop(path), "idle", {"onnxruntime": str(e)})
        except EngineError:
            raise e from None
