"""The commands of the fleet as data, and the rules by which a box obeys them. No I/O.

Each command has a duty; a box obeys the duties that its `[fleet] allow` names. A command is done once: its id is kept with the answer.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from runtime.telemetry.contract import END, Command, Part

__all__ = [
    "COMMANDS",
    "FUTURE_MS",
    "LONGEST_MS",
    "CommandKind",
    "Duty",
    "Refusal",
    "arguments",
    "command_kind",
    "judge",
]

FUTURE_MS = 10 * 60_000
"""A command issued further ahead of a set clock than this is refused: somebody's clock is wrong, or somebody plays."""
LONGEST_MS = 30 * 24 * 3600_000
"""Longest life of a command or job; ids are remembered for longer than this."""


class Duty(str, Enum):
    """What a command may do to a box, as the box's owner allows it."""

    OBSERVE = "observe"  # changes nothing
    OPERATE = "operate"  # what a person in the shop could do too
    CHANGE = "change"  # what the kiosk is or how it works


Ratio = Annotated[float, Meta(ge=0, le=1)]
Tag = Annotated[str, Meta(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}" + END, max_length=35)]
Level = Literal["debug", "info", "warning", "error"]
Rung = Annotated[int, Meta(ge=0, le=32)]
Pack = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}" + END, max_length=63)]


class _Args(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of a command."""


class NoArgs(_Args, frozen=True, kw_only=True):
    """None."""


class RestartNode(_Args, frozen=True, kw_only=True):
    """Which node."""

    node: Part


class Volume(_Args, frozen=True, kw_only=True):
    """Loudness of the voice, 0 to 1."""

    level: Ratio


class Brightness(_Args, frozen=True, kw_only=True):
    """Of the screen, 0 to 1."""

    level: Ratio


class Language(_Args, frozen=True, kw_only=True):
    """A BCP 47 tag."""

    tag: Tag


class SwitchPack(_Args, frozen=True, kw_only=True):
    """An experience pack that is installed on the box."""

    pack: Pack


class LogLevel(_Args, frozen=True, kw_only=True):
    """How much the nodes tell, and for how long."""

    level: Level
    minutes: Annotated[int, Meta(ge=1, le=240)] = 15


class Snapshot(_Args, frozen=True, kw_only=True):
    """Picture of the avatar, at most so wide."""

    width: Annotated[int, Meta(ge=64, le=960)] = 480


class Governor(_Args, frozen=True, kw_only=True):
    """Hold this rung until the time is over; the box's own protection against heat stays."""

    rung: Rung
    minutes: Annotated[int, Meta(ge=1, le=1440)]


class Update(_Args, frozen=True, kw_only=True):
    """Install this release; whether it may be installed is decided by its signatures."""

    release: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}" + END, max_length=63)]


class CommandKind(msgspec.Struct, frozen=True, kw_only=True):
    """One command. `result` says what its answer holds."""

    name: str
    title: str
    duty: Duty
    args: type[_Args]
    result: str = ""


def _row(name: str, title: str, duty: Duty, args: type[_Args] = NoArgs, result: str = "") -> CommandKind:
    return CommandKind(name=name, title=title, duty=duty, args=args, result=result)


COMMANDS: tuple[CommandKind, ...] = (
    _row("ping", "Say that you are there", Duty.OBSERVE, result="uptime_s, clock"),
    _row("diagnostics", "Counters of all nodes, links and the uplink; no words, no paths", Duty.OBSERVE, result="report (JSON)"),
    _row("snapshot", "What the avatar looks like now, never the camera", Duty.OBSERVE, Snapshot, "jpeg (base64), width, height, age_ms"),
    _row("self_test", "Test the box while it is in use", Duty.OBSERVE, result="passed, checks"),
    _row("restart_node", "Restart one node", Duty.OPERATE, RestartNode),
    _row("restart_service", "Restart the kiosk", Duty.OPERATE),
    _row("restart_box", "Restart the machine", Duty.OPERATE),
    _row("volume", "Set the volume", Duty.OPERATE, Volume),
    _row("brightness", "Set the brightness", Duty.OPERATE, Brightness),
    _row("language", "Set the language", Duty.OPERATE, Language),
    _row("log_level", "Tell more or less for a while", Duty.OPERATE, LogLevel, "until_ms"),
    _row("switch_pack", "Show another experience pack", Duty.CHANGE, SwitchPack),
    _row("governor", "Hold a rung of the quality ladder", Duty.CHANGE, Governor, "until_ms"),
    _row("update", "Install a release", Duty.CHANGE, Update),
)

_COMMANDS = {row.name: row for row in COMMANDS}


class Refusal(str, Enum):
    """Why a command was not obeyed. Expired and too early ones get no answer: nobody waits, or somebody plays."""

    UNKNOWN = "unknown"
    ARGUMENTS = "arguments"
    NOT_ALLOWED = "not_allowed"
    EXPIRED = "expired"
    FUTURE = "future"
    TOO_LONG = "too_long"  # it would live longer than ids are remembered
    NO_EXPIRY = "no_expiry"  # the clock is not set, and the broker was not told when to drop the command

    @property
    def answered(self) -> bool:
        """Whether the sender is told."""
        return self in (Refusal.UNKNOWN, Refusal.ARGUMENTS, Refusal.NOT_ALLOWED)


def command_kind(name: str) -> CommandKind | None:
    """The row of a command; None if there is none."""
    return _COMMANDS.get(name)


def arguments(command: Command) -> Any:
    """The command's arguments as the struct of its row. Raises msgspec.ValidationError; KeyError for an unknown command."""
    return msgspec.convert(command.args, _COMMANDS[command.name].args)


def judge(command: Command, allow: frozenset[Duty], now_ms: int, *, synced: bool, expiry_s: int | None) -> Refusal | None:
    """Whether the box obeys: None, or why not.

    `now_ms` is the box's wall clock, `synced` whether it was ever set, `expiry_s` the message expiry interval as the broker delivered it.
    """
    if command.expires - command.issued > LONGEST_MS or command.expires < command.issued:
        return Refusal.TOO_LONG
    if synced:
        if command.expires <= now_ms:
            return Refusal.EXPIRED
        if command.issued > now_ms + FUTURE_MS:
            return Refusal.FUTURE
    elif expiry_s is None:
        return Refusal.NO_EXPIRY
    row = _COMMANDS.get(command.name)
    if row is None:
        return Refusal.UNKNOWN
    if row.duty not in allow:
        return Refusal.NOT_ALLOWED
    try:
        arguments(command)
    except msgspec.MsgspecError:
        return Refusal.ARGUMENTS
    return None
