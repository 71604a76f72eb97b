"""What a box can set for its fleet: each setting has a lever, or one line that says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from runtime.telemetry.commands import Duty
from runtime.telemetry.settings import SETTINGS, Value, wrong

__all__ = ["Lever", "Levers"]


class Lever(msgspec.Struct, frozen=True):
    """How to set one thing. `usual` is what kiosk.toml says, and what it goes back to when the fleet wants nothing any more;
    `why_not` says in one line why a value that the setting's type allows is none for this box, "" if it is one. One that takes its time
    has `now`, where it stands, and is moved by saying the same again, too; what is refused leaves it there.
    """

    usual: Value
    apply: Callable[[Any], None]
    why_not: Callable[[Any], str] = lambda _: ""
    now: Callable[[], Value] | None = None


class Levers:
    """All of a box's levers, by the names of settings."""

    def __init__(self, levers: Mapping[str, Lever], allow: frozenset[Duty], commanded: Mapping[str, Value] | None = None) -> None:
        self._levers = dict(levers)
        self._now = {name: lever.usual for name, lever in levers.items()}
        self._duties = {row.name: row.duty for row in SETTINGS}
        self._allow = allow
        self._held: set[str] = set()  # what the fleet's settings name
        self._commanded: dict[str, Value] = dict(commanded or {})  # what a command has set, until a setting names it
        self._before: dict[str, Value | None] = {}  # and what another one had before

    def apply(self, desired: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, str]]:
        """Set what is wanted, everything else as a command or else kiosk.toml has it; returns the settings as they are now, and why
        wanted ones are not.
        """
        refused = {name: why for name, value in desired.items() if (why := self._why_not(name, value))}
        self._held = {name for name in desired if name not in refused}
        for name in self._held:
            self._commanded.pop(name, None)
        for name, lever in self._levers.items():
            if lever.now is not None and name in refused:
                continue
            value = desired[name] if name in self._held else self._commanded.get(name, lever.usual)
            if lever.now is None and value == self._now[name]:
                continue
            try:
                lever.apply(value)
            except OSError as error:
                refused[name] = f"the system refused ({type(error).__name__})"  # what it says may hold paths
            else:
                self._now[name] = value
        return self._reported(), refused

    def set(self, name: str, value: Value) -> str:
        """Set one by a command, for as long as no setting names it; returns why not, "" if it is set. Raises OSError as the lever does."""
        if name in self._held:
            return f"the settings wanted of this box name it, as {self._now[name]}: change it there"
        why = self._why_not(name, value)
        if not why:
            self._levers[name].apply(value)
            self._before[name] = self._commanded.get(name)
            self._now[name] = self._commanded[name] = value
        return why

    def missed(self, name: str, value: Value) -> None:
        """What a command had set came to nothing: what held before it holds."""
        if self._commanded.get(name) == value:
            before = self._before.get(name)
            self._commanded.pop(name)
            if before is not None:
                self._commanded[name] = before

    def renew(self, levers: Mapping[str, Lever]) -> None:
        """These levers have changed: what a command has set and cannot be any more is over. The next `apply` moves them."""
        self._levers |= levers
        for name, lever in levers.items():
            if name in self._commanded and lever.why_not(self._commanded[name]):
                self._commanded.pop(name)

    def names(self, name: str) -> bool:
        """Whether a setting names it now."""
        return name in self._held

    def _reported(self) -> dict[str, Value]:
        return {name: self._now[name] if lever.now is None else lever.now() for name, lever in self._levers.items()}

    def _why_not(self, name: str, value: Value) -> str:
        why = wrong(name, value)
        if why:
            return why
        if self._duties[name] not in self._allow:
            return f"[fleet] allow of this box does not name {self._duties[name].value!r}"
        if name not in self._levers:
            return "nothing on this box can set it"
        return self._levers[name].why_not(value)
