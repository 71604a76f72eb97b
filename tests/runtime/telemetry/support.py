"""What the tests of the box's end of the fleet share: clocks turned by hand, a small CA, a real mosquitto, a wire that can be cut."""

from __future__ import annotations

from runtime.telemetry.times import SystemTimes

__all__ = ["HandTimes"]


class HandTimes(SystemTimes):
    """Clocks that move when told to."""

    def __init__(self, mono_ms: int = 60_000, wall_ms: int = 1_790_000_000_000, *, synced: bool = True) -> None:
        super().__init__()
        self.mono, self.wall, self.is_synced = mono_ms, wall_ms, synced

    def mono_ms(self) -> int:
        return self.mono

    def wall_ms(self) -> int:
        return self.wall

    def synced(self) -> bool:
        return self.is_synced

    def advance(self, seconds: float) -> None:
        """Let time pass on both."""
        self.mono += round(seconds * 1000)
        self.wall += round(seconds * 1000)
