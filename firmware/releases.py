"""Releases side by side: `releases/<id>/`, and the links `current` and `previous` that name two of them. A switch is one rename."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from firmware.errors import FirmwareError

__all__ = ["BASE", "has_previous", "roll_back"]

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
    previous, current, beside = base / "previous", base / "current", base / ".current.new"
    left = current.resolve().name
    try:
        with suppress(FileNotFoundError):
            beside.unlink()
        beside.symlink_to(previous.readlink())
        beside.replace(current)  # atomic: at any moment `current` names a whole release
        previous.unlink()
    except OSError as error:
        raise FirmwareError(f"{base}: {error.strerror}: the previous release cannot be made current") from error
    return left
