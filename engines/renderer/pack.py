"""Avatar packs: a folder with ``avatar.toml``, the network, the plate and an idle clip, every file with its sha256."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer._types import PackError, Rung
from engines.renderer.compose import HAIR_BOX, Hair

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["AvatarPack", "load_manifest", "load_pack"]

MANIFEST = "avatar.toml"


@dataclass(frozen=True)
class AvatarPack:
    """A checked pack. ``network`` is the ONNX file's path, ``plate`` (512, 512, 4) premultiplied RGBA, ``hair`` the layer
    before it if the face has one, ``digests`` the sha256 by file name; the rest is as in ``avatar.toml``.
    """

    path: Path
    name: str
    title: str
    licence: str
    voice: str
    controls: tuple[str, ...]
    ranges: NDArray[np.float32]
    idle: NDArray[np.float32]
    rungs: tuple[Rung, ...]
    network: Path
    plate: NDArray[np.uint8]
    thumbnail: Path
    hair: Hair | None
    digests: Mapping[str, str]


class _Table:
    """A TOML table that names the file and the key in every complaint."""

    def __init__(self, file: Path, values: Any, prefix: str = "") -> None:
        self.file, self.values, self.prefix = file, values, prefix

    def get(self, key: str, kind: type | tuple[type, ...]) -> Any:
        value = self.values.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            state = "missing" if value is None else f"is {value!r}"
            raise PackError(f"{self.file}: key {self.prefix}{key} {state}; install the avatar pack again")
        return value

    def table(self, key: str) -> _Table:
        return _Table(self.file, self.get(key, dict), f"{self.prefix}{key}.")

    def array(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        try:
            array = np.array(self.get(key, list), np.float32)
        except (TypeError, ValueError):
            array = np.zeros(0, np.float32)
        if array.shape != shape or not np.isfinite(array).all():
            raise PackError(f"{self.file}: key {self.prefix}{key} must be numbers of shape {shape}; install the avatar pack again")
        return array


def _read(pack: Path) -> _Table:
    file = pack / MANIFEST
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except OSError as e:
        raise PackError(f"{file}: cannot be read ({e.strerror}); name a folder that holds an avatar pack") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise PackError(f"{file}: no TOML ({e}); install the avatar pack again") from None
    table = _Table(file, values)
    if table.get("format", int) != 1:
        raise PackError(f"{file}: key format is {values['format']}, this version reads 1; update one of the two")
    return table


def _rungs(table: _Table) -> tuple[Rung, ...]:
    rungs = []
    for row in table.get("rungs", list):
        entry = _Table(table.file, row if isinstance(row, dict) else {}, "rungs.")
        rungs.append(Rung(entry.get("name", str), entry.get("width", int), entry.get("height", int)))
        if rungs[-1].width != rungs[-1].height or rungs[-1].width % 4 or not 64 <= rungs[-1].width <= 1080:
            raise PackError(f"{table.file}: key rungs: {rungs[-1]} must be square, a multiple of 4, from 64 to 1080")
    if not rungs:
        raise PackError(f"{table.file}: key rungs is empty; install the avatar pack again")
    return tuple(rungs)


def _check(table: _Table, name: str) -> Path:
    """The path of a file of the pack, its contents verified."""
    wanted = table.table("sha256").get(name, str)
    file = table.file.parent / name
    if Path(name).name != name:
        raise PackError(f"{table.file}: key sha256: {name!r} leaves the folder; install the avatar pack again")
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as e:
        raise PackError(f"{file}: cannot be read ({e.strerror}), named by sha256 in {MANIFEST}; install the avatar pack again") from None
    if found != wanted:
        raise PackError(f"{file}: damaged, its sha256 is not the one in {MANIFEST}; install the avatar pack again")
    return file


def load_picture(file: Path) -> NDArray[np.uint8]:
    """An RGBA picture (h, w, 4).

    Raises:
        PackError: it cannot be decoded.

    """
    picture = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        raise PackError(f"{file}: no RGBA picture; install the avatar pack again")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA), np.uint8)


def _hair(m: Manifest) -> Hair | None:
    """The hair layer: one picture of seven rows, the hair itself and its shades around grey 128, in units of ``hair_scale``."""
    files = m.table.table("files")
    if "hair" not in files.values:
        return None
    file = m.file("hair")
    scale = files.get("hair_scale", float)
    x0, y0, x1, y1 = HAIR_BOX
    sheet = load_picture(file)
    if sheet.shape != (7 * (y1 - y0), x1 - x0, 4):
        raise PackError(
            f"{file}: {sheet.shape[1]} x {sheet.shape[0]} pixels, it must hold 7 of {x1 - x0} x {y1 - y0}; install the pack again"
        )
    picture, *shades = np.split(sheet, 7)
    return Hair(picture, (np.stack(shades).astype(np.float32) - 128) * np.float32(scale))


@dataclass(frozen=True)
class Manifest:
    """What every renderer of a pack needs, the idle loop included, which must work without the network."""

    table: _Table
    controls: tuple[str, ...]
    ranges: NDArray[np.float32]
    idle: NDArray[np.float32]
    rungs: tuple[Rung, ...]

    def file(self, key: str) -> Path:
        """The verified file that ``files.<key>`` names.

        Raises:
            PackError: no such key, or the file is missing or damaged.

        """
        return _check(self.table, self.table.table("files").get(key, str))


def load_manifest(path: Path) -> Manifest:
    """Read ``avatar.toml`` alone.

    Raises:
        PackError: see ``load_pack``.

    """
    table = _read(path)
    controls = table.table("controls")
    names = tuple(str(n) for n in controls.get("names", list))
    ranges = controls.array("ranges", (len(names), 2))
    return Manifest(table, names, ranges, controls.array("idle", (len(names),)), _rungs(table))


def load_pack(path: Path) -> AvatarPack:
    """Read and verify an avatar pack.

    Raises:
        PackError: one line naming the file and the key that is missing, wrong or damaged.

    """
    m = load_manifest(path)
    plate = load_picture(m.file("plate"))
    if plate.shape != (512, 512, 4):
        raise PackError(
            f"{m.file('plate')}: {plate.shape[1]} x {plate.shape[0]} pixels, the plate has 512 x 512; install the avatar pack again"
        )
    return AvatarPack(
        path=path,
        name=m.table.get("name", str),
        title=m.table.get("title", str),
        licence=m.table.get("licence", str),
        voice=m.table.get("voice", str),
        controls=m.controls,
        ranges=m.ranges,
        idle=m.idle,
        rungs=m.rungs,
        network=m.file("network"),
        plate=plate,
        thumbnail=m.file("thumbnail"),
        hair=_hair(m),
        digests=dict(m.table.get("sha256", dict)),
    )
