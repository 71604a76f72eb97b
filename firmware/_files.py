"""Small files: sysfs attributes read one by one, and records that a power cut leaves whole."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["GATED", "integer", "integer_or_none", "text", "text_or_none", "why", "write_record"]

GATED = (errno.EAGAIN, errno.ENODATA)
"""A sensor of a powered-down part answers with these, for as long as the part sleeps: no fault, and no reason to ask again at once.
EAGAIN: Jetson's GPU and CV zones; ENODATA: Wi-Fi cards and drives."""
_LARGEST = 2**64


def text(path: Path) -> str:
    """The one line of a sysfs attribute, without its end. Raises OSError."""
    return path.read_bytes().decode("utf-8", "replace").strip()


def text_or_none(path: Path) -> str | None:
    """The line, or None where it is empty or cannot be read."""
    try:
        return text(path) or None
    except OSError:
        return None


def integer(path: Path) -> int:
    """The number in a sysfs attribute. Raises OSError, or ValueError for anything else than a number of the kernel's."""
    value = int(text(path))
    if abs(value) > _LARGEST:
        raise ValueError(f"{path} holds no number of the kernel's")
    return value


def integer_or_none(path: Path) -> int | None:
    """The number, or None where there is none."""
    try:
        return integer(path)
    except (OSError, ValueError):
        return None


def why(error: OSError | ValueError) -> str:
    """The reason in a few words, without the path."""
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return "not a number"


def write_record(path: Path, content: bytes) -> None:
    """Replace the file at `path` so that after a power cut either the old or the new content is there, whole.

    Raises OSError; then the old content is still there.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        with suppress(FileNotFoundError):
            beside.unlink()  # left by a power cut, or put there: whoever may write in the folder must not choose where root writes
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "wb") as out:  # noqa: PTH123
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)  # the new name is on the disk, too
    finally:
        os.close(directory)
