"""When a box may be worked on: its maintenance window in its own local time, and a delay of its own so that not all begin at once. Pure."""

from __future__ import annotations

import datetime
import hashlib
import re
from functools import lru_cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from runtime.telemetry.contract import END

__all__ = ["Window", "is_open", "own_window", "share", "zone"]

_DAY_S = 86_400
_OWN = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")
Time = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d" + END)]


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From when to when, "HH:MM" of the box's local time; an end that is not later is of the next day.

    `days` are those on which it begins, 0 is Monday; none: every day. On the night when clocks are put forward, an hour that does not
    exist is missing from the window.
    """

    begin: Time
    end: Time
    days: Annotated[tuple[Annotated[int, Meta(ge=0, le=6)], ...], Meta(max_length=7)] = ()


def share(*parts: str) -> float:
    """A number of [0, 1) that is always the same for these parts: the first 8 bytes of their SHA-256."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big") / 2**64


def is_open(window: Window, zone: datetime.tzinfo, now_ms: int, delay_s: float = 0.0) -> bool:
    """Whether the window is open for a box in this zone; `delay_s` is how much later it opens for this box, at most half its length."""
    local = datetime.datetime.fromtimestamp(now_ms / 1000, zone)
    begin, end = _seconds(window.begin), _seconds(window.end)
    length = (end - begin) % _DAY_S or _DAY_S
    since = (local.hour * 3600 + local.minute * 60 + local.second - begin) % _DAY_S
    day = (local - datetime.timedelta(seconds=since)).weekday()
    return min(delay_s, length / 2) <= since < length and (not window.days or day in window.days)


def own_window(attributes: dict[str, Any]) -> Window | None:
    """The window that a box tells in its attribute `maintenance`, as 02:00-05:00; None if it tells none that can be read."""
    text = attributes.get("maintenance", "")
    if not isinstance(text, str) or not _OWN.fullmatch(text):
        return None
    begin, _, end = text.partition("-")
    return Window(begin=begin, end=end)


@lru_cache(maxsize=1000)
def zone(name: str) -> datetime.tzinfo | None:
    """A time zone by its IANA name; None if there is none of that name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _seconds(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 3600 + int(minutes) * 60
