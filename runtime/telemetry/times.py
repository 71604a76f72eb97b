"""The two clocks of a message: wall time for people, monotonic time for order. Boxes without a battery begin in 1970."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Protocol

__all__ = ["SystemTimes", "Times", "kernel_boot", "time_zone"]

_TIME_ERROR = 5
_EARLIEST_MS = 1_735_689_600_000  # 2025-01-01: no box is older; a clock before that was never set, whatever the kernel says


class Times(Protocol):
    """What the outbox and the uplink know of time."""

    def mono_ms(self) -> int:
        """Milliseconds since the machine started; never steps back within a boot."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 as the wall clock has it, right or wrong."""

    def synced(self) -> bool:
        """Whether the wall clock was set by a time server."""


class SystemTimes:
    """The machine's clocks; whether it was set is asked of the kernel (adjtimex(2))."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def mono_ms(self) -> int:
        """CLOCK_MONOTONIC."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """CLOCK_REALTIME: the one place of the kiosk that asks for it, because people read these times."""
        return max(0, time.time_ns() // 1_000_000)

    def synced(self) -> bool:
        """By adjtimex with modes 0, which only asks; where the kernel does not tell, a plausible date counts."""
        if self.wall_ms() < _EARLIEST_MS:
            return False
        # struct timex is 208 bytes on 64-bit Linux; all zero asks without setting anything.
        state = self._libc.adjtimex(ctypes.create_string_buffer(256))
        return bool(state != _TIME_ERROR)


def kernel_boot(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """The kernel's name for this start of the machine."""
    return path.read_text().strip()


def time_zone(path: Path = Path("/etc/localtime")) -> str:
    """The machine's time zone as the IANA names it, e.g. Europe/Berlin; "" if it cannot be told (localtime(5))."""
    try:
        target = str(path.readlink())
    except OSError:
        return ""
    return target.partition("/zoneinfo/")[2]
