"""What a box can set for its fleet: each setting has a lever, or one line that says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from runtime.telemetry.commands import Duty
from runtime.telemetry.executors import MISSING
from runtime.telemetry.settings import SETTINGS, Value, wrong

__all__ = ["Lever", "Levers"]

_MISSING = {
    "volume": MISSING["volume"],
    "brightness": MISSING["brightness"],
    "language": MISSING["language"],
    "pack": MISSING["switch_pack"],
    "rung": MISSING["governor"],
}


class Lever(msgspec.Struct, frozen=True):
    """How to set one thing. `usual` is what kiosk.toml says, and what it goes back to when the fleet wants nothing any more."""

    usual: Value
    apply: Callable[[Any], None]


class Levers:
    """All of a box's levers, by the names of settings."""

    def __init__(self, levers: Mapping[str, Lever], allow: frozenset[Duty]) -> None:
        self._levers = dict(levers)
        self._now = {name: lever.usual for name, lever in levers.items()}
        self._duties = {row.name: row.duty for row in SETTINGS}
        self._allow = allow

    def apply(self, desired: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, str]]:
        """Set what is wanted, everything else as kiosk.toml has it; returns the settings as they are now, and why wanted ones are not."""
        refused = {name: why for name, value in desired.items() if (why := self._why_not(name, value))}
        for name, lever in self._levers.items():
            value = desired[name] if name in desired and name not in refused else lever.usual
            if value == self._now[name]:
                continue
            try:
                lever.apply(value)
            except OSError as error:
                refused[name] = f"the system refused ({type(error).__name__})"  # what it says may hold paths
            else:
                self._now[name] = value
        return dict(self._now), refused

    def _why_not(self, name: str, value: Value) -> str:
        why = wrong(name, value)
        if why:
            return why
        if self._duties[name] not in self._allow:
            return f"[fleet] allow of this box does not name {self._duties[name].value!r}"
        return "" if name in self._levers else _MISSING.get(name, "nothing on this box can set it")
