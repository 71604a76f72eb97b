"""Releases side by side: `releases/<id>/`, and links that name them: `staged` (to become current), `current`, `previous`.

A switch is one rename. Everything here belongs to root; whoever links `staged` has verified what it names.
"""

from __future__ import annotations

import os
from pathlib import Path

from firmware.errors import FirmwareError

__all__ = ["BASE", "has_previous", "roll_back", "switch"]

BASE = Path("/opt/visavis")


def has_previous(base: Path = BASE) -> bool:
    """Whether there is a release to go back to."""
    previous, current = base / "previous", base / "current"
    try:
        return previous.is_dir() and previous.resolve(strict=True) != current.resolve()
    except OSError:
        return False


def roll_back(base: Path = BASE) -> str:
    """Make `previous` the current release and forget the link, so that it is done once; gives the id of the release that was left.

    Raises FirmwareError.
    """
    if not has_previous(base):
        raise FirmwareError(f"{base}/previous: there is no release to go back to")
    left = (base / "current").resolve().name
    _point(base / "current", (base / "previous").readlink())
    _forget(base / "previous")
    return left


def switch(base: Path = BASE, refused: str = "") -> str:
    """Make `staged` the current release and the current one `previous`; gives the id of the new one.

    `refused` is the release that this box has left before: it is not tried again. Raises FirmwareError; then `staged` is gone and the
    current release is what it was.
    """
    staged, current = base / "staged", base / "current"
    try:
        target = staged.resolve(strict=True)
    except OSError as error:
        _forget(staged)
        raise FirmwareError(f"{staged}: {error.strerror}: no release is waiting") from error
    trouble = ""
    if target.parent != (base / "releases").resolve():
        trouble = f"names {target}, which is not in {base}/releases"
    elif not os.access(target / "bin" / "visavis", os.X_OK):
        trouble = f"{target.name} has no program bin/visavis"
    elif refused and target.name == refused:
        trouble = f"{target.name} was left before because the kiosk did not work with it"
    if not trouble and target != current.resolve():
        if current.is_symlink():
            _point(base / "previous", current.readlink())
        _point(current, Path("releases") / target.name)
    _forget(staged)
    if trouble:
        raise FirmwareError(f"{staged}: {trouble}")
    return target.name


def _point(link: Path, target: Path) -> None:
    """Atomic: at any moment the link names a whole release."""
    beside = link.with_name(f".{link.name}.new")
    try:
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(link)
    except OSError as error:
        raise FirmwareError(f"{link}: {error.strerror}: the release cannot be changed") from error


def _forget(link: Path) -> None:
    try:
        link.unlink(missing_ok=True)
    except OSError as error:
        raise FirmwareError(f"{link}: {error.strerror}") from error
