"""What the sensors say at one moment. Degrees Celsius, watts, revolutions per minute; None is "not told", never zero."""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = ["CapKind", "Event", "Fan", "Rail", "Snapshot", "State", "Temperature", "Throttle"]

RESERVE_C = 6.0
"""Below a critical trip with no passive one beside it. Orin throttles 5.5 below its critical trip (device tree: 99.0 and 104.5);
a Thor, which names only the critical 114.5, was seen throttling at 108.9."""


class State(str, Enum):
    """How a sensor is."""

    OK = "ok"
    OFF = "off"  # the part it measures is powered down
    UNREADABLE = "unreadable"


class CapKind(str, Enum):
    """Why clocks are held down."""

    HEAT = "heat"
    POWER = "power"  # normal on many boxes, says nothing of heat
    EMERGENCY = "emergency"  # the hardware itself halves the clocks or worse


class Temperature(msgspec.Struct, frozen=True, kw_only=True):
    """One temperature and the box's own limits for it: `slows_c` where it begins to throttle, `stops_c` where it switches off."""

    name: str
    source: str  # "zone", "hwmon" or "nvml"
    state: State
    celsius: float | None = None
    slows_c: float | None = None
    stops_c: float | None = None
    told_margin_c: float | None = None  # NVML measures the distance to its nearest slowdown itself
    trouble: str = ""

    @property
    def margin_c(self) -> float | None:
        """Degrees until the box throttles; None without a reading or a limit."""
        if self.told_margin_c is not None:
            return self.told_margin_c
        if self.celsius is None:
            return None
        if self.slows_c is not None:
            return self.slows_c - self.celsius
        return None if self.stops_c is None else self.stops_c - RESERVE_C - self.celsius


class Throttle(msgspec.Struct, frozen=True, kw_only=True):
    """Something that holds the clocks down, or would."""

    name: str
    kind: CapKind
    active: bool


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A counter of the hardware: `total` since it was switched on, `new` since the last reading."""

    name: str
    meaning: str
    total: int
    new: int
    alarming: bool  # Orin's oc3 climbs in ordinary bursts of load and is not


class Fan(msgspec.Struct, frozen=True, kw_only=True):
    """A fan: how fast it turns, and how hard it is driven (0 to 1)."""

    name: str
    rpm: int | None = None
    duty: float | None = None


class Rail(msgspec.Struct, frozen=True, kw_only=True):
    """Power drawn, and the limit the box enforces, where it tells one."""

    name: str
    watts: float
    limit_w: float | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. An unreadable sensor is in `temperatures` with its trouble, and counts for nothing."""

    temperatures: tuple[Temperature, ...] = ()
    throttles: tuple[Throttle, ...] = ()
    events: tuple[Event, ...] = ()
    fans: tuple[Fan, ...] = ()
    rails: tuple[Rail, ...] = ()

    @property
    def tightest(self) -> Temperature | None:
        """The temperature that is nearest to its own limit; None if no sensor tells a margin."""
        told = [t for t in self.temperatures if t.margin_c is not None]
        return min(told, key=lambda t: t.margin_c or 0.0, default=None)

    @property
    def margin_c(self) -> float | None:
        """Degrees until something throttles; None: the box is blind, keep to the safe sustained setting."""
        nearest = self.tightest
        return None if nearest is None else nearest.margin_c

    def capped(self, kind: CapKind) -> bool:
        """Whether something of that kind holds the clocks down now."""
        return any(t.active and t.kind is kind for t in self.throttles)

    @property
    def alarms(self) -> tuple[Event, ...]:
        """Counters that moved since the last reading and must not."""
        return tuple(e for e in self.events if e.alarming and e.new > 0)
