"""Thermal zones and cooling devices in sysfs, found by their type and never by their number, which changes from boot to boot."""

from __future__ import annotations

from pathlib import Path

from firmware._files import GATED, integer, integer_or_none, text, text_or_none, why
from firmware.readings import CapKind, State, Temperature, Throttle

__all__ = ["ABSURD", "Zones", "milli_celsius", "numbered"]

ABSURD = (-40.0, 150.0)
"""A shop's box is never outside. Broken sensors answer -256, -273, 0 K, or 255."""

_TRIPS = 32
_WAKE_UP = ("x86_pkg_temp",)
"""Zones whose passive trips a user program (thermald) sets to be woken there: the kernel throttles nothing at them."""


def numbered(names: list[str]) -> list[str]:
    """The names, those that occur more than once with #2, #3 … behind the later ones."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique


def milli_celsius(path: Path) -> tuple[State, float | None, str]:
    """A temperature attribute: (state, degrees, trouble)."""
    try:
        celsius = integer(path) / 1000
    except OSError as error:
        return (State.OFF, None, "") if error.errno in GATED else (State.UNREADABLE, None, why(error))
    except ValueError as error:
        return State.UNREADABLE, None, why(error)
    if not ABSURD[0] <= celsius <= ABSURD[1]:
        return State.UNREADABLE, None, f"{celsius:g} °C cannot be"
    return State.OK, celsius, ""


class Zones:
    """The zones under `root`. Reading lists the directory again only when a zone came or went."""

    def __init__(self, root: Path) -> None:
        self._dir = root / "sys/class/thermal"
        self._listed: list[str] | None = None
        self._zones: list[tuple[str, Path, float | None, float | None]] = []
        self._alerts: list[tuple[str, Path]] = []

    def read(self) -> tuple[list[Temperature], list[Throttle]]:
        """All enabled zones, and the throttle alerts."""
        self._discover()
        temperatures = []
        for name, path, slows, stops in self._zones:
            if text_or_none(path / "mode") == "disabled":
                continue
            state, celsius, trouble = milli_celsius(path / "temp")
            temperatures.append(
                Temperature(name=name, source="zone", state=state, celsius=celsius, slows_c=slows, stops_c=stops, trouble=trouble)
            )
        alerts = [(name, integer_or_none(path / "cur_state")) for name, path in self._alerts]
        return temperatures, [Throttle(name=name, kind=CapKind.HEAT, active=level > 0) for name, level in alerts if level is not None]

    @property
    def types(self) -> frozenset[str]:
        """The types of all zones; hwmon shows some of them a second time."""
        self._discover()
        return frozenset(name.partition(" #")[0] for name, *_ in self._zones)

    def _discover(self) -> None:
        try:
            listed = sorted((entry.name for entry in self._dir.iterdir()), key=_by_number)
        except OSError:
            listed = []
        if listed == self._listed:
            return
        self._listed = listed
        zones = [(_type(self._dir / name), self._dir / name) for name in listed if name.startswith("thermal_zone")]
        names = numbered([kind for kind, _ in zones])
        self._zones = [(name, path, *_limits(path)) for name, (_, path) in zip(names, zones, strict=True)]
        coolers = [(_type(self._dir / name), self._dir / name) for name in listed if name.startswith("cooling_device")]
        # Jetson's BPMP reports through these that it throttles; the other cooling devices are what a policy asked for.
        self._alerts = [(kind, path) for kind, path in coolers if kind.endswith("-throttle-alert")]


def _by_number(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def _type(path: Path) -> str:
    try:
        return text(path / "type") or path.name
    except OSError:
        return path.name


def _limits(path: Path) -> tuple[float | None, float | None]:
    """(where the box begins to throttle, where it switches off) by the zone's own trip points."""
    found: dict[str, list[float]] = {}
    for trip in range(_TRIPS):
        kind = text_or_none(path / f"trip_point_{trip}_type")
        if kind is None:
            break
        limit = integer_or_none(path / f"trip_point_{trip}_temp")
        # An unset trip reads 0 or -274000.
        if limit is not None and 0 < limit / 1000 <= ABSURD[1]:
            found.setdefault(kind, []).append(limit / 1000)
    if _type(path) in _WAKE_UP:
        found.pop("passive", None)
    return min(found.get("passive", ()), default=None), min(found.get("critical", ()), default=None)
