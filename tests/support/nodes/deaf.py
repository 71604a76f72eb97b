"""A node that beats and ignores SIGTERM."""

from __future__ import annotations

import signal

from runtime.context import Context


def main(ctx: Context) -> None:
    """Go on whatever happens."""
    ctx.ready()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        ctx.receive(0.05)
        ctx.beat()
