"""The settings that a fleet may want of a box, as data, and what may be taken of a wanted one. No I/O.

A box has a lever for some of them and says in one line why not for the rest (`levers`). As with commands, `duty` is what the box's owner
allows by `[fleet] allow`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from runtime.telemetry.commands import Duty, Level, Pack, Ratio, Rung, Tag

__all__ = ["SETTINGS", "SettingKind", "Value", "setting_kind", "wrong"]

Value = int | float | bool | str
_Seconds = Annotated[float, Meta(ge=5, le=3600)]
_Rate = Annotated[float, Meta(ge=1, le=1000)]


class SettingKind(msgspec.Struct, frozen=True, kw_only=True):
    """One setting; `type` is what its value has to be."""

    name: str
    title: str
    duty: Duty
    type: Any

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of a value."""
        return msgspec.json.schema(self.type)


def _row(name: str, title: str, duty: Duty, kind: Any) -> SettingKind:
    return SettingKind(name=name, title=title, duty=duty, type=kind)


SETTINGS: tuple[SettingKind, ...] = (
    _row("health_s", "Seconds between two reports of health", Duty.OBSERVE, _Seconds),
    _row("backlog_hz", "Messages a second of what waited while the line was down", Duty.OBSERVE, _Rate),
    _row("log_level", "How much the nodes tell", Duty.OPERATE, Level),
    _row("volume", "Loudness of the voice", Duty.OPERATE, Ratio),
    _row("brightness", "Brightness of the screen", Duty.OPERATE, Ratio),
    _row("language", "Language (BCP 47)", Duty.OPERATE, Tag),
    _row("pack", "Experience pack", Duty.CHANGE, Pack),
    _row("rung", "Highest rung of the quality ladder", Duty.CHANGE, Rung),
)

_SETTINGS = {row.name: row for row in SETTINGS}


def setting_kind(name: str) -> SettingKind | None:
    """The row of a setting; None if there is none."""
    return _SETTINGS.get(name)


def wrong(name: str, value: object) -> str:
    """Why nothing can be set so, in one line; "" if it can."""
    row = _SETTINGS.get(name)
    if row is None:
        return "unknown setting"
    try:
        msgspec.convert(value, row.type)
    except msgspec.ValidationError as error:
        return str(error)[:150]
    return ""
