"""A real uplink as a process of its own, for `visavis bench fleet`: `python -m visavis.bench._fleet_uplink KIOSK_TOML LEDGER`.

It is the uplink of the product with its outbox on the disk, without the rest of a kiosk. Each second an event is made through it and
written to LEDGER (a line: code and number) once the outbox has taken it, which is the promise that it will arrive.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

from runtime import topology
from runtime.context import Bootstrap, Context
from runtime.sharedstate import create_board, create_checkpoint
from runtime.supervisor import make_rings
from runtime.telemetry.box import Uplink
from runtime.telemetry.times import SystemTimes, Times

__all__ = ["CODE", "Watched", "main"]

CODE = "node_ready"
_EVERY_MS = 1000
_LIFE = 1_000_000


class Watched(Uplink):
    """The uplink, with an event each second and a ledger of them."""

    def __init__(self, ctx: Context, times: Times, ledger: Path, over: threading.Event) -> None:
        super().__init__(ctx, times)
        self._ledger = os.open(ledger, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(self._ledger, b"life\n")
        # An event that the outbox took just before a kill may be missing here: its number is not used again.
        self._number = ledger.read_bytes().count(b"life\n") * _LIFE
        self._due_ms = 0
        self._over = over  # no more events; what is there is still sent

    def _tick(self) -> None:
        super()._tick()
        now = self._times.mono_ms()
        if not self._over.is_set() and now >= self._due_ms:
            self._due_ms = now + _EVERY_MS
            self._number += 1
            self._event(CODE, {"node": "voice"}, {"restarts": self._number})
            if not self._outbox.trouble:  # what only memory holds is no promise
                os.write(self._ledger, f"{CODE} {self._number}\n".encode())


def main(config: Path, ledger: Path) -> None:
    """Until SIGTERM; SIGUSR1 ends the making of events."""
    run_dir = Path(tempfile.mkdtemp(prefix="visavis-uplink-"))
    boot = Bootstrap(
        name="uplink",
        run_dir=str(run_dir),
        config=str(config),
        rings=make_rings(),
        board=create_board(len(topology.NODES)),
        line=[row.name for row in topology.NODES].index("uplink"),
        checkpoint=create_checkpoint("uplink"),
        lifeline=os.pipe()[0],
    )
    context, over = Context(boot), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: context.stop())
    signal.signal(signal.SIGUSR1, lambda *_: over.set())
    # The ledger's "life" comes after this: whoever saw it may send the signal.
    uplink = Watched(context, SystemTimes(), ledger, over)
    try:
        asyncio.run(uplink.run())
    finally:
        context.close()
        shutil.rmtree(run_dir, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
