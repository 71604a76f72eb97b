"""The uplink without the patience that a fleet of thousands needs: it connects at once, and looks twenty times a second."""

from __future__ import annotations

import asyncio

from runtime.context import Context
from runtime.telemetry import box, uplink
from runtime.telemetry.times import SystemTimes


def main(ctx: Context) -> None:
    """As the uplink's own."""
    uplink.FIRST_MS, uplink.BASE_MS = 50, 100
    box._TICK_S = 0.05
    asyncio.run(box.Uplink(ctx, SystemTimes()).run())
