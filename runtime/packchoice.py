"""Which experience pack serves: the one that the fleet chose, as kept on the disk, or kiosk.toml's.

Installed are the packs beside kiosk.toml's own and those in `packs_path`. The choice is a file beside what waits for the fleet, so that it
is kept and lost together with the settings that the fleet wants; a box without a fleet has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from firmware._files import write_record
from runtime.config import Config, environment
from runtime.packs import PackError, load

__all__ = ["MOST_PACKS", "Choice", "first_line", "fleet_folder", "installed", "keep_choice", "kept_choice", "serving"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""As the fleet may name a pack: one plain folder, nothing that leads elsewhere."""
MOST_PACKS = 64
_FILE = "pack.json"


class Choice(msgspec.Struct, frozen=True):
    """A pack that the fleet chose, by a command or by a setting, which a box keeps by itself."""

    pack: str
    by: Literal["command", "setting"]


class _Damaged(Exception):
    """The file does not hold a choice."""


def fleet_folder(config: Config) -> Path:
    """Where a box keeps what it owes the fleet and what the fleet wants of it."""
    return config.fleet.outbox_path or environment().state / "fleet"


def installed(config: Config) -> dict[str, Path]:
    """The packs that the fleet may choose from, by name; those beside kiosk.toml's own before those of `packs_path`."""
    found: dict[str, Path] = {}
    for folder in (config.pack_path.parent, *([config.packs_path] if config.packs_path else [])):
        for path in _folders(folder):
            if len(found) < MOST_PACKS and _NAME.fullmatch(path.name) and (path / "pack.toml").is_file():
                found.setdefault(path.name, path)
    return found


def _folders(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:  # not there, or closed to us: nothing is installed in it
        return


def kept_choice(config: Config) -> Choice | None:
    """What the fleet chose; None if nothing, or if the file is damaged."""
    try:
        return _read(config)
    except _Damaged:
        return None


def keep_choice(config: Config, choice: Choice | None) -> None:
    """Keep it over a restart; None: kiosk.toml decides again. After a power cut the old one or the new one holds. Raises OSError."""
    path = fleet_folder(config) / _FILE
    if choice is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, msgspec.json.encode(choice))


def serving(config: Config) -> tuple[Path, str]:
    """The folder of the pack to start with, which is whole, and in one line why it is not the one that the fleet chose ("" if it is).

    Raises PackError if kiosk.toml's pack has to serve and is broken.
    """
    try:
        choice, why = _read(config), ""
    except _Damaged as damage:
        choice, why = None, f"the fleet's choice of a pack cannot be read ({damage})"
    if choice is not None:
        path = installed(config).get(choice.pack)
        try:
            if path is not None:
                load(path)
                return path, ""
            why = f"the fleet chose pack {choice.pack}, which is not installed"
        except PackError as error:
            why = f"the fleet chose pack {choice.pack}, which is broken ({first_line(error)})"
    load(config.pack_path)
    return config.pack_path, f"{why}: {config.pack_path.name} of kiosk.toml serves" if why else ""


def first_line(error: PackError) -> str:
    """The first mistake, and how many more there are."""
    first, *more = str(error).splitlines()
    return f"{first} (and {len(more)} more)" if more else first


def _read(config: Config) -> Choice | None:
    if not config.fleet.broker:
        return None
    try:
        return msgspec.json.decode((fleet_folder(config) / _FILE).read_bytes(), type=Choice)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _Damaged(error.strerror) from error
    except msgspec.MsgspecError as error:
        raise _Damaged("damaged") from error
