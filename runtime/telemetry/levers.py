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
    "pack": MISSING["switch_pack"],
}


class Lever(msgspec.Struct, frozen=True):
    """How to set one thing. `usual` is what kiosk.toml says, and what it goes back to when the fleet wants nothing any more;
    `why_not` says in one line why a value that the setting's type allows is none for this box, "" if it is one.
    """

    usual: Value
    apply: Callable[[Any], None]
    why_not: Callable[[Any], str] = lambda _: ""


class Levers:
    """All of a box's levers, by the names of settings."""

    def __init__(self, levers: Mapping[str, Lever], allow: frozenset[Duty]) -> None:
        self._levers = dict(levers)
        self._now = {name: lever.usual for name, lever in levers.items()}
        self._duties = {row.name: row.duty for row in SETTINGS}
        self._allow = allow
        self._held: set[str] = set()  # what the fleet's settings name
        self._commanded: dict[str, Value] = {}  # what a command has set, until a setting names it

    def apply(self, desired: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, str]]:
        """Set what is wanted, everything else as a command or else kiosk.toml has it; returns the settings as they are now, and why
        wanted ones are not.
        """
        refused = {name: why for name, value in desired.items() if (why := self._why_not(name, value))}
        self._held = {name for name in desired if name not in refused}
        for name in self._held:
            self._commanded.pop(name, None)
        for name, lever in self._levers.items():
            value = desired[name] if name in self._held else self._commanded.get(name, lever.usual)
            if value == self._now[name]:
                continue
            try:
                lever.apply(value)
            except OSError as error:
                refused[name] = f"the system refused ({type(error).__name__})"  # what it says may hold paths
            else:
                self._now[name] = value
        return dict(self._now), refused

    def set(self, name: str, value: Value) -> str:
        """Set one by a command, for as long as no setting names it; returns why not, "" if it is set. Raises OSError as the lever does."""
        if name in self._held:
            return f"the settings wanted of this box name it, as {self._now[name]}: change it there"
        why = self._why_not(name, value)
        if not why:
            self._levers[name].apply(value)
            self._now[name] = self._commanded[name] = value
        return why

    def _why_not(self, name: str, value: Value) -> str:
        why = wrong(name, value)
        if why:
            return why
        if self._duties[name] not in self._allow:
            return f"[fleet] allow of this box does not name {self._duties[name].value!r}"
        if name not in self._levers:
            return _MISSING.get(name, "nothing on this box can set it")
        return self._levers[name].why_not(value)
