"""Which renderer serves on this machine, and why the others do not."""

from __future__ import annotations

import importlib
from pathlib import Path

import cv2

from engines.errors import EngineError
from engines.renderer._types import PackError, Renderer, Selection
from engines.renderer.idle import IdleLoop
from engines.renderer.onnx_runtime import OnnxRuntimeRenderer
from engines.renderer.pack import AvatarPack, load_pack

__all__ = ["open_face", "select"]

_TENSORRT = {
    "tensorrt": "needs TensorRT (JetPack) and its Python bindings",
    "tensorrt_rtx": "needs an RTX GPU and the tensorrt-rtx wheels",
}


def _no_tensorrt(module: str) -> str:
    """Why this runtime does not draw here; importing it is the test, and the import may fail in any way."""
    try:
        importlib.import_module(module)
    except Exception as e:  # noqa: BLE001 - onnx and ONNX Runtime share no error class; the face must move anyway
        return f"{_TENSORRT[module]}: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
    return "installed, but compiled engines are made by engines.compile on the device; this build draws on the CPU"


def select(pack: AvatarPack, *, threads: int = 1, cache: Path | None = None) -> Selection:
    """The best renderer that works here. If the network cannot be run, the idle loop serves.

    OpenCV's own thread pool is set to ``threads`` too: it is shared by the whole process.

    Raises:
        PackError: the network cannot be run and the idle clip is damaged as well.

    """
    cv2.setNumThreads(threads)
    why_not = {module: _no_tensorrt(module) for module in _TENSORRT}
    try:
        engine: Renderer = OnnxRuntimeRenderer(pack, threads=threads, cache=cache)
    except Exception as e:  # noqa: BLE001 - onnx and ONNX Runtime share no error class; the face must move anyway
        why_not["onnxruntime"] = f"{pack.network}: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
        return Selection(IdleLoop(pack.path), "idle", why_not)
    return Selection(engine, "onnxruntime", why_not)


def open_face(path: Path, *, threads: int = 1, cache: Path | None = None) -> Selection:
    """``load_pack`` and ``select`` in one; a damaged pack still moves if its manifest and idle clip are whole.

    Raises:
        PackError: not even the idle clip can be read.

    """
    try:
        return select(load_pack(path), threads=threads, cache=cache)
    except PackError as e:
        try:
            return Selection(IdleLoop(path), "idle", {"onnxruntime": str(e)})
        except EngineError:
            raise e from None
