"""What this box runs: versions of what an admin asks for when two boxes behave differently."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib import metadata

__all__ = ["versions"]

_PACKAGES = ("visavis", "vosk", "piper-tts", "onnxruntime", "pocketsphinx", "espeakng-loader", "paho-mqtt")


def versions() -> dict[str, str]:
    """Of Python, the kernel, and those of our packages that are installed, by name."""
    found = {"python": platform.python_version(), "kernel": platform.release()[:64]}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
