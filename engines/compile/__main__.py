"""Build one engine in a process of its own: `python -m engines.compile NETWORK --library tensorrt_rtx --cache DIR --gpu NAME …`.

The kiosk draws on while this runs, and what happens here (memory, a crash inside the library) happens to this process, which ends with
the one that started it. Progress goes to stdout, one JSON line a step; what went wrong is the last line on stderr, with exit status 1.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path

import msgspec

from engines.compile.cache import EngineCache
from engines.compile.errors import CompileError
from engines.compile.library import Target, find_libraries

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="engines.compile")
    parser.add_argument("network", type=Path)
    parser.add_argument("--library", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--gpu", required=True)
    parser.add_argument("--capability", type=int, nargs=2, required=True)
    parser.add_argument("--driver", type=int, required=True)
    given = parser.parse_args(arguments)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.nice(10)  # the face is being drawn meanwhile
    libraries, why_not = find_libraries()
    library = next((found for found in libraries if found.name == given.library), None)
    if library is None:
        sys.stderr.write(f"{given.library} {why_not.get(given.library, 'is unknown')}\n")
        return 1
    target = Target(given.gpu, (given.capability[0], given.capability[1]), given.driver)
    try:
        built = EngineCache(given.cache).plan(library, given.network.read_bytes(), target, _say)
    except (CompileError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not built.path.exists():
        sys.stderr.write(f"{built.why}\n")
        return 1
    _say(built.why or "kept", 1, 1)
    return 0


def _say(what: str, done: int, steps: int) -> None:
    sys.stdout.write(msgspec.json.encode({"what": what, "done": done, "steps": steps}).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
