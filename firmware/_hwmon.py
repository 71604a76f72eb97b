"""hwmon devices in sysfs: temperatures, fans, power rails and over-current counters, by the driver's name and the channel's label."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from firmware._files import integer_or_none, text_or_none
from firmware._zones import ABSURD, milli_celsius, numbered
from firmware.readings import Event, Fan, Rail, Temperature

__all__ = ["Hwmon"]

_LIMITS = {
    "coretemp": ("crit", None),  # crit is TjMax, where Intel's processors throttle; max is only the advice to turn the fan up
    "k10temp": ("crit", None),
    "amdgpu": ("crit", "emergency"),
    "nvme": ("max", "crit"),  # the drive's own warning and critical composite temperature
}
"""Which attributes mean (throttles, switches off); other drivers' limits are alarm levels that somebody may have set to anything."""
_OVER_CURRENT = {"oc1": ("under-voltage", True), "oc2": ("average over-current", True), "oc3": ("instantaneous over-current", False)}
"""Orin's soctherm_oc. oc3 counts up to some 7 a second in ordinary bursts; the other two must stand still."""
_RAILS = (1, 2, 3)  # the other channels of an INA3221 are sums and shunt voltages


class Hwmon:
    """The devices under `root`. `zone_types` are the thermal zones, which the kernel shows here a second time."""

    def __init__(self, root: Path) -> None:
        self._dir = root / "sys/class/hwmon"
        self._counters: dict[str, int] = {}

    def devices(self) -> list[tuple[str, Path]]:
        """(driver's name, directory) of all devices that tell their name."""
        try:
            paths = sorted(self._dir.iterdir())
        except OSError:
            return []
        return [(name, path) for path in paths if (name := text_or_none(path / "name"))]

    def read(self, zone_types: frozenset[str]) -> tuple[list[Temperature], list[Fan], list[Rail], list[Event]]:
        """Everything that the devices tell."""
        shadows = {kind.replace("-", "_") for kind in zone_types}
        temperatures: list[Temperature] = []
        fans: list[Fan] = []
        rails: list[Rail] = []
        events: list[Event] = []
        for name, path in self.devices():
            if name == "soctherm_oc":
                events += self._over_current(path)
            elif name.startswith("ina3221"):
                rails += _rails(path)
            elif name not in shadows:
                temperatures += _temperatures(name, path)
            fans += _fans(name, path)
        return _renamed(temperatures), fans, rails, events

    def _over_current(self, path: Path) -> list[Event]:
        events = []
        for key, (meaning, alarming) in _OVER_CURRENT.items():
            total = integer_or_none(path / f"{key}_event_cnt")
            if total is None:
                continue
            new = max(0, total - self._counters.get(key, total))
            self._counters[key] = total
            events.append(Event(name=key, meaning=meaning, total=total, new=new, alarming=alarming))
        return events


def _channels(path: Path, pattern: str) -> list[int]:
    """The numbers of the channels that have a file of this pattern; none where the directory has vanished."""
    try:
        names = [entry.name for entry in path.iterdir()]
    except OSError:
        return []
    return sorted(int(found[1]) for name in names if (found := re.fullmatch(pattern, name)))


def _temperatures(driver: str, path: Path) -> list[Temperature]:
    found = []
    slow, stop = _LIMITS.get(driver, (None, None))
    for channel in _channels(path, r"temp(\d+)_input"):
        state, celsius, trouble = milli_celsius(path / f"temp{channel}_input")
        label = text_or_none(path / f"temp{channel}_label") or f"temp{channel}"
        found.append(
            Temperature(
                name=f"{driver} {label}",
                source="hwmon",
                state=state,
                celsius=celsius,
                slows_c=_limit(path, channel, slow),
                stops_c=_limit(path, channel, stop),
                trouble=trouble,
            )
        )
    return found


def _limit(path: Path, channel: int, kind: str | None) -> float | None:
    milli = integer_or_none(path / f"temp{channel}_{kind}") if kind else None
    return milli / 1000 if milli is not None and 0 < milli / 1000 <= ABSURD[1] else None


def _renamed(temperatures: list[Temperature]) -> list[Temperature]:
    names = numbered([t.name for t in temperatures])
    return [msgspec.structs.replace(t, name=name) for t, name in zip(temperatures, names, strict=True)]


def _fans(driver: str, path: Path) -> list[Fan]:
    fans = []
    turning = _channels(path, r"fan(\d+)_input")
    driven = _channels(path, r"pwm(\d+)")
    for channel in sorted({*turning, *driven}):
        pwm = integer_or_none(path / f"pwm{channel}") if channel in driven else None
        rpm = integer_or_none(path / f"fan{channel}_input") if channel in turning else None
        label = text_or_none(path / f"fan{channel}_label") or f"fan{channel}"
        if pwm is not None or rpm is not None:
            fans.append(Fan(name=f"{driver} {label}", rpm=rpm, duty=None if pwm is None else pwm / 255))
    if not turning and (rpm := integer_or_none(path / "rpm")) is not None:  # Jetson's tachometer is a device of its own
        fans.append(Fan(name=f"{driver} fan", rpm=rpm))
    return fans


def _rails(path: Path) -> list[Rail]:
    rails = []
    for channel in _RAILS:
        millivolts, milliamperes = (integer_or_none(path / f"{kind}{channel}_input") for kind in ("in", "curr"))
        label = text_or_none(path / f"in{channel}_label") or f"rail {channel}"
        if millivolts is None or milliamperes is None or label == "NC":  # not connected
            continue
        most = integer_or_none(path / f"curr{channel}_crit")
        limit = millivolts * most / 1e6 if most else None
        rails.append(Rail(name=label, watts=millivolts * milliamperes / 1e6, limit_w=limit))
    return rails
