"""How a node's process begins: `python -m runtime.launch FD`, where FD holds the Bootstrap that the supervisor wrote.

Everything before the node's own `main(ctx)` is here: the life-line (if the supervisor dies, so does the node), the stack dump on
SIGUSR1, logging (SIGUSR2: take the level from `run_dir`/log-level again), signals, and the one place where an unexpected exception is
caught, logged and turned into an exit status.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import logging
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import msgspec

from runtime.context import Bootstrap, Context
from runtime.supervision import CANNOT_WORK_HERE

__all__ = ["main"]

ORPHANED = 70
_PR_SET_NAME = 15


def main(fd: int) -> int:
    """Run the node described by the Bootstrap in `fd`; returns its exit status."""
    with os.fdopen(fd, "rb") as source:
        source.seek(0)
        boot = msgspec.json.decode(source.read(), type=Bootstrap)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGUSR2, lambda *_: _set_log_level(boot))  # before the name by which the uplink finds us
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"vv-{boot.name}".encode(), 0, 0, 0)
    threading.Thread(target=_watch_lifeline, args=(boot,), name="lifeline", daemon=True).start()
    logging.basicConfig(level=boot.options.get("log_level", "WARNING"), format="%(name)s: %(message)s", stream=sys.stderr)
    _set_log_level(boot)
    ctx = Context(boot)
    ctx.tidy = True
    ctx.handle_signals()
    try:
        importlib.import_module(boot.module).main(ctx)
    except Exception as error:
        if type(error).__name__ in {"ConfigError", "PackError", "ModelError", "EngineMissing"}:
            ctx.log.error("%s", error)  # noqa: TRY400 - a person's mistake gets one line, no traceback
            return CANNOT_WORK_HERE
        ctx.log.exception("unexpected error, the supervisor restarts this node")
        return 1
    finally:
        ctx.close()
    return 0


def _set_log_level(boot: Bootstrap) -> None:
    """The level in `run_dir`/log-level while there is such a file, else the configured one."""
    try:
        level = logging.getLevelName((Path(boot.run_dir) / "log-level").read_text().strip())
    except (OSError, UnicodeDecodeError):
        level = None
    logging.getLogger().setLevel(level if isinstance(level, int) else boot.options.get("log_level", "WARNING"))


def _watch_lifeline(boot: Bootstrap) -> None:
    """Block until the supervisor's end of the pipe is closed, by its exit or its death; then leave nothing behind."""
    os.read(boot.lifeline, 1)
    shutil.rmtree(boot.run_dir, ignore_errors=True)
    os._exit(ORPHANED)


if __name__ == "__main__":
    status = main(int(sys.argv[1]))
    logging.shutdown()
    # Everything is closed: the interpreter's own tear-down of numpy and models would only eat into the 2 s of a clean stop.
    os._exit(status)
