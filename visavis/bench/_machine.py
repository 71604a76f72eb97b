"""On what and with what a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import zmq

from runtime.bus import FENCE

__all__ = ["machine"]

_PACKAGES = ("numpy", "msgspec", "pyzmq", "onnxruntime", "iceoryx2", "vosk", "piper-tts", "pocketsphinx", "llama-cpp-python", "tensorrt")


def machine() -> dict[str, Any]:
    """Hardware, system, versions, commit and the load at this moment; what is unknown is "" or absent."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "board": _text("/proc/device-tree/model") or _text("/sys/class/dmi/id/product_name"),
        "gpus": _gpus(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {**_versions(), "libzmq": zmq.zmq_version()},
        "fence": FENCE,
        "commit": _commit(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _cpu() -> str:
    # x86 calls it "model name"; most ARM kernels only give numbers, then the architecture has to do.
    for line in _text("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    found = []
    for folder in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        model = [line.partition(":")[2].strip() for line in _text(str(folder)).splitlines() if line.startswith("Model")]
        found += model
    return found


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The commit of the source tree, with "+" if files differ from it; "" where there is no git."""
    root = Path(__file__).resolve().parents[2]
    try:
        head = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "-C", str(root), "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")
