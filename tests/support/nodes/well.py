"""A node that does nothing, well."""

from __future__ import annotations

from runtime.context import Context


def main(ctx: Context) -> None:
    """Be ready and beat until told to stop."""
    ctx.ready()
    while not ctx.stopping:
        ctx.receive(0.05)
        ctx.beat()
