"""What all boxes of a process share, and clocks that are wrong on purpose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from runtime.telemetry.times import Times
from visavis.simulate.certificates import Identities
from visavis.simulate.ledger import Ledger

__all__ = ["House", "Skewed"]


class Skewed:
    """Another's clocks, with the wall clock wrong by so much."""

    def __init__(self, times: Times, skew_ms: int, *, synced: bool) -> None:
        self._times, self._skew_ms, self._synced = times, skew_ms, synced

    def mono_ms(self) -> int:
        """As the other says."""
        return self._times.mono_ms()

    def wall_ms(self) -> int:
        """Wrong by the skew."""
        return max(0, self._times.wall_ms() + self._skew_ms)

    def synced(self) -> bool:
        """What this box believes."""
        return self._synced


@dataclass(slots=True)
class House:
    """What all boxes of a process share."""

    address: tuple[str, int]
    server_name: str
    tenant: str
    health_s: float
    event_s: float
    start_s: float  # boxes come within this, by chance
    identities: Identities
    ledger: Ledger
    times: Times
    counts: Counter[str] = field(default_factory=Counter)
    connected: int = 0
    waiting: int = 0
    living: bool = True  # False: nothing new is made, what waits is still sent
