"""A controller's part that judges and delivers alerts, as a process that can be killed.

It says `up` when it is, and begins when its standard input ends: whoever kills one after the other has the next one ready. At each turn it
says what time it has. That stands in a file, so that it passes only as the test wants, however long the machine lets anybody wait.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from fleet.alerts import Alerts
from fleet.database import open_database


class Clock:
    """The wall clock (ms) that parent and child share: eight bytes of a file."""

    def __init__(self, path):
        self._path = path

    def set(self, now_ms):
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(file, now_ms.to_bytes(8, "little"), 0)
        os.close(file)

    def now(self):
        return int.from_bytes(Path(self._path).read_bytes(), "little")


async def main(path, clock, begin_ms):
    def mine():
        print(clock.now(), flush=True)
        return True

    service = Alerts(
        open_database(path),
        Path(path).parent,
        clock.now,
        fleet="Visavis",
        console="http://console",
        listening=lambda: begin_ms - 3_600_000,
        mine=mine,
        tell=lambda _: None,
    )
    await service.run(0.01)


if __name__ == "__main__":
    print("up", flush=True)
    sys.stdin.read()
    asyncio.run(main(sys.argv[1], Clock(sys.argv[2]), int(sys.argv[3])))
