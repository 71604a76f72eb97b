"""A node that is ready and then hangs, deaf to SIGTERM, in its first life; in the second (its checkpoint tells) it is well."""

from __future__ import annotations

import signal
import threading

from runtime.context import Context
from tests.support.nodes import well


def main(ctx: Context) -> None:
    """Hang once."""
    if ctx.checkpoint.load():
        well.main(ctx)
        return
    ctx.checkpoint.save(b"hung once")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctx.ready()
    threading.Event().wait()
