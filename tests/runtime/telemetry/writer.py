"""A process that keeps messages, for tests that kill it: `python -m tests.runtime.telemetry.writer FILE FIRST COUNT [SECONDS]`.

Tells the number of each event on stdout once it is kept. With SECONDS it writes on until the kernel ends it after them, at whatever
instruction it is, and COUNT means nothing.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

from runtime.telemetry import EventBody, Health, UpKind, encode
from runtime.telemetry.outbox import Outbox
from runtime.telemetry.times import SystemTimes, kernel_boot


def main(path: Path, first: int, count: int, seconds: float) -> None:
    outbox = Outbox(path, SystemTimes(), kernel_boot())
    signal.setitimer(signal.ITIMER_REAL, seconds)
    for number in itertools.count(first) if seconds else range(first, first + count):
        for _ in range(number % 7):
            outbox.put(UpKind.HEALTH, encode(Health(m={"turns": number})))
        if number % 3 == 0:
            outbox.flush(force=True)
        if number % 5 == 0:
            outbox.remove(row.key for row in outbox.health(0, 3))
        if not outbox.put(UpKind.EVENT, encode(EventBody(code="node_down", numbers={"restarts": number}))):
            raise SystemExit(f"not kept: {outbox.trouble}")
        os.write(1, f"kept {number}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else 0.0)
