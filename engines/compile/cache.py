"""Compiled engines on disk: each file says what it was made from, by what and for which GPU, and is checked before it is used.

A file that is damaged, or was made by another version, for another GPU or under another driver, is made again; nobody has to clear
anything. Files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from engines.compile.library import Progress, Target
from engines.models import cache_dir

__all__ = ["Builds", "Built", "EngineCache", "Entry", "engine_dir"]

_MAGIC = b"visavis engine 1\n"
_SUFFIX = ".engine"


def engine_dir() -> Path:
    """Where engines lie: beside the models."""
    return cache_dir().parent / "engines"


class Builds(Protocol):
    """What the cache asks of a library: see ``engines.compile.Library``."""

    name: str
    version: str

    def build(self, onnx: bytes, target: Target | None = None, progress: Progress | None = None) -> bytes:
        """The engine."""


class _About(msgspec.Struct, frozen=True):
    """The key, and what was found while building. Whatever of the key differs makes the file another one."""

    network: str  # sha256 of the ONNX file
    library: str
    version: str
    gpu: str  # empty: compiled ahead of time, for no GPU in particular
    capability: tuple[int, int]
    driver: int


class _Header(msgspec.Struct, frozen=True):
    about: _About
    sha256: str
    seconds: float


class Built(NamedTuple):
    """An engine. `seconds` is what building took (then, if it was kept); `kept` whether it came from the cache, `why` why it did not."""

    plan: bytes
    path: Path
    seconds: float
    kept: bool
    why: str


class Entry(NamedTuple):
    """A file of the cache. `state` is ok or damaged."""

    path: Path
    state: str
    network: str
    library: str
    gpu: str
    driver: int
    size: int
    seconds: float


class EngineCache:
    """A folder of engines. `clock` counts seconds for the figure that building took.

    Several processes may use one folder: who builds last wins, with the same content.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self._clock = clock

    def path(self, library: Builds, onnx: bytes, target: Target | None) -> Path:
        """The file of this network, library and GPU."""
        about = _about(library, onnx, target)
        key = hashlib.sha256(msgspec.json.encode(about)).hexdigest()
        return self.folder / f"{about.network[:16]}-{about.library}-{key[:16]}{_SUFFIX}"

    def kept(self, library: Builds, onnx: bytes, target: Target | None) -> Built | None:
        """What the cache holds for it, checked; None if nothing."""
        path = self.path(library, onnx, target)
        read = _read(path)
        if isinstance(read, str) or read[0].about != _about(library, onnx, target):
            return None
        return Built(read[1], path, read[0].seconds, kept=True, why="")

    def plan(self, library: Builds, onnx: bytes, target: Target | None, progress: Progress | None = None) -> Built:
        """The engine, from the cache or built now.

        Raises:
            CompileError: it cannot be built. A folder that cannot be written is no reason to fail: then it is built each time.

        """
        if kept := self.kept(library, onnx, target):
            return kept
        path = self.path(library, onnx, target)
        why = self._why(path, library, onnx)
        began = self._clock()
        plan = library.build(onnx, target, progress)
        seconds = self._clock() - began
        about = _about(library, onnx, target)
        header = msgspec.json.encode(_Header(about, hashlib.sha256(plan).hexdigest(), round(seconds, 3)))
        try:
            self._write(path, _MAGIC + header + b"\n" + plan)
        except OSError as error:
            why += f"; it could not be kept: {path.parent}: {error.strerror}"
        else:
            self._forget(path, about)
        return Built(plan, path, seconds, kept=False, why=why)

    def side(self, built: Path) -> bytes:
        """What was kept beside an engine (TensorRT-RTX's kernels, our own kernel); empty if nothing or damaged."""
        try:
            digest, _, data = built.read_bytes().partition(b"\n")
        except OSError:
            return b""
        return data if digest == hashlib.sha256(data).hexdigest().encode() else b""

    def keep_side(self, path: Path, data: bytes) -> bool:
        """Keep something beside the engines; False if the disk refuses, which only costs time at the next start."""
        try:
            self._write(path, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
        except OSError:
            return False
        return True

    def entries(self) -> list[Entry]:
        """All engines of the folder, by name."""
        rows = []
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            size, read = path.stat().st_size, _read(path)
            if isinstance(read, str):
                rows.append(Entry(path, f"damaged: {read}", "", "", "", 0, size, 0.0))
                continue
            head, about = read[0], read[0].about
            rows.append(Entry(path, "ok", about.network, f"{about.library} {about.version}", about.gpu, about.driver, size, head.seconds))
        return rows

    def _why(self, path: Path, library: Builds, onnx: bytes) -> str:
        """Why the cache does not serve, for people."""
        if path.exists():
            return f"the kept engine is damaged ({_read(path)})"
        prefix = f"{hashlib.sha256(onnx).hexdigest()[:16]}-{library.name}-"
        if any(p.name.startswith(prefix) for p in self.folder.glob(f"*{_SUFFIX}")):
            return "the kept engine was made for another version, GPU or driver"
        return "there was none"

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # a power cut leaves the old file or the new one
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _forget(self, fresh: Path, about: _About) -> None:
        """Remove engines of the same network and library for the same machine that nothing asks for any more."""
        for path in self.folder.glob(f"{about.network[:16]}-{about.library}-*{_SUFFIX}"):
            read = _read(path)
            same_machine = isinstance(read, str) or bool(read[0].about.gpu) == bool(about.gpu)
            if path != fresh and same_machine:
                path.unlink(missing_ok=True)
                path.with_suffix(".kernels").unlink(missing_ok=True)


def _about(library: Builds, onnx: bytes, target: Target | None) -> _About:
    gpu, capability, driver = target or Target("", (0, 0), 0)
    return _About(hashlib.sha256(onnx).hexdigest(), library.name, library.version, gpu, capability, driver)


def _read(path: Path) -> tuple[_Header, bytes] | str:
    """Header and engine, or what is wrong with the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return error.strerror or "cannot be read"
    if not data.startswith(_MAGIC):
        return "no engine of this program"
    head, _, plan = data[len(_MAGIC) :].partition(b"\n")
    try:
        header = msgspec.json.decode(head, type=_Header)
    except msgspec.MsgspecError:
        return "its header is broken"
    return (header, plan) if hashlib.sha256(plan).hexdigest() == header.sha256 else "its checksum is wrong"
