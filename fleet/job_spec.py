"""A rollout as somebody wants it, and whether it can be."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fleet import desired, windows
from fleet.errors import BadRequest
from fleet.phases import Plan
from fleet.selection import Selection
from runtime import telemetry as t

__all__ = ["Spec", "Task"]


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done at each box: a command with its arguments, or a change of its own settings (null takes one back)."""

    command: str = ""
    args: dict[str, Any] = {}
    settings: dict[str, Any] = {}

    def check(self) -> None:
        """Raise BadRequest unless it is exactly one of the two and may be."""
        if bool(self.command) == bool(self.settings):
            raise BadRequest("a rollout has either a command or settings")
        if self.settings:
            desired.check({name: value for name, value in self.settings.items() if value is not None})
            return
        if t.command_kind(self.command) is None:
            raise BadRequest(f"there is no command {self.command!r}")
        try:
            t.arguments(t.Command(id="x", name=self.command, issued=0, expires=0, args=self.args))
        except msgspec.ValidationError as error:
            raise BadRequest(f"{self.command}: {error}") from error

    @property
    def duty(self) -> t.Duty:
        """What it does to a box, at the most."""
        if self.command:
            kind = t.command_kind(self.command)
            return kind.duty if kind is not None else t.Duty.CHANGE
        return t.Duty.CHANGE


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rollout as somebody wants it.

    The boxes are those selected at its start; if it is `dynamic`, also those that come to be selected while it runs, and not those that
    cease to be. With a `window` a box gets it only then, by its own clock (its attribute `timezone`, else `zone`); a box that tells a
    window of its own (its attribute `maintenance`, as 02:00-05:00) goes by that. Each box waits up to `jitter_s` longer, always the same.
    """

    title: Annotated[str, Meta(min_length=1, max_length=100)]
    task: Task
    selection: Selection = Selection()
    dynamic: bool = False
    plan: Plan = Plan()
    window: windows.Window | None = None
    zone: Annotated[str, Meta(max_length=64)] = "UTC"
    jitter_s: Annotated[int, Meta(ge=0, le=86_400)] = 0

    def check(self) -> None:
        """Raise BadRequest unless all of it may be."""
        self.task.check()
        if self.selection.wrong():
            raise BadRequest(self.selection.wrong())
        if windows.zone(self.zone) is None:
            raise BadRequest(f"there is no time zone {self.zone!r}: a name as Europe/Berlin")
        if self.plan.reach_s < self.jitter_s:
            raise BadRequest(
                f"plan.reach_s is {self.plan.reach_s}, shorter than jitter_s, {self.jitter_s}: boxes would be missed before their turn;"
                f" give at least {self.jitter_s} s to reach a box, or spread over less"
            )
