"""A controller's part that judges and delivers alerts, as a process that can be killed. Its clock runs two hundred times as fast.

It begins when its standard input ends: whoever kills one after the other has the next one ready.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from fleet.alerts import Alerts
from fleet.database import open_database


def clock(started_ns, begin_ms):
    """The wall clock that parent and child share."""
    return lambda: begin_ms + (time.monotonic_ns() - started_ns) // 5_000


async def main(path, started_ns, begin_ms):
    now = clock(started_ns, begin_ms)
    service = Alerts(
        open_database(path),
        Path(path).parent,
        now,
        fleet="Visavis",
        console="http://console",
        listening=lambda: begin_ms - 3_600_000,
        mine=lambda: True,
        tell=lambda _: None,
    )
    await service.run(0.01)


if __name__ == "__main__":
    sys.stdin.read()
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
