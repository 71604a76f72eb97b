"""systemd's notification protocol, sd_notify(3): lines of KEY=VALUE in a datagram to $NOTIFY_SOCKET. Without it nothing is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

__all__ = ["Notifier"]


class Notifier:
    """Talks to the service manager; every method is cheap and none raises. Safe from any thread."""

    def __init__(self, address: str = "", watchdog_ns: int = 0) -> None:
        self._address = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else os.fsencode(address)
        self.watchdog_ns = watchdog_ns if address else 0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> Notifier:
        """By NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; `pid` is ours: a watchdog for another process is none of our business."""
        address = environ.get("NOTIFY_SOCKET", "")
        period, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        ours = period.isdecimal() and whose in ("", str(pid))
        return cls(address if address[:1] in ("/", "@") else "", int(period) * 1000 if ours else 0)

    @property
    def active(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    def send(self, **values: str | int) -> bool:
        """Send these, e.g. `send(READY=1, STATUS="…")`; False when nobody could be told."""
        if not self._address:
            return False
        lines = "\n".join(f"{key}={str(value).splitlines()[0] if value != '' else ''}" for key, value in values.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)  # a busy manager must not hold up the supervisor: the next ping comes soon
                out.sendto(lines.encode(), self._address)
        except OSError:
            return False
        return True
