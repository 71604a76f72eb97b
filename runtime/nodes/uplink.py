"""The uplink: the box's end of the fleet, in a process of its own. Without a broker in kiosk.toml it only lives."""

from __future__ import annotations

import asyncio

from runtime.context import Context

__all__ = ["main"]


def main(ctx: Context) -> None:
    """Run the uplink until it is told to stop."""
    if ctx.config.fleet.broker:
        # Only here: what it needs costs a second of CPU at the start, and memory, which a box without a fleet shall not pay.
        from runtime.telemetry.box import Uplink
        from runtime.telemetry.times import SystemTimes

        asyncio.run(Uplink(ctx, SystemTimes()).run())
        return
    ctx.ready()
    while not ctx.stopping:
        ctx.receive(1.0)
        ctx.beat()
