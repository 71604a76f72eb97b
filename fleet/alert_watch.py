"""What rules look at: boxes, their health and events, as the store has them, turned into looks at subjects. No I/O; times are ms.

What is judged is the present: health counts while the box is online and told it within a few intervals, whatever was told late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fleet.alert_rules import Change, Events, Limits, Missing, Rule, Stale, Threshold, covers, limits
from fleet.alerting import Seen
from runtime import telemetry as t
from runtime.telemetry import Metric, Per, Type

__all__ = ["Box", "change", "count", "fresh", "meant", "missing", "show", "span", "stale", "thresholds"]

_FRESH_MS = 5 * 60_000
UNKNOWN = Seen(known=False)
CLEAR = Seen(clear=True)
_STATES = {"lost": "the connection was lost", "silent": "nothing was heard for too long", "offline": "switched off"}


class Box(NamedTuple):
    """What of a box decides when its rules are looked at again. `retired`: no certificate of it is valid any more."""

    name: str
    state: str
    since: int
    health_ts: int
    health_s: float
    site: str
    model: str
    release: str
    retired: bool


def meant(rule: Rule, box: Box) -> bool:
    """Whether a rule is for this box."""
    return not box.retired and covers(rule.scope, box.name, box.site, box.model, box.release)


def fresh(box: Box, now: int) -> bool:
    """Whether what the box told last is the present."""
    return box.state == "online" and now - box.health_ts <= _FRESH_MS + 3000 * box.health_s


def missing(when: Missing, box: Box, bounced: int, listening: bool) -> Seen:
    """A box that is away; not judged while the controller cannot hear it (`listening`). `bounced`: how often it came and went unseen."""
    if not listening:
        return UNKNOWN
    if box.state in when.states:
        return Seen(holds=True, since=box.since, bounced=bounced, text=_STATES[box.state])
    return Seen(clear=True, bounced=bounced, text="it comes and goes")


def thresholds(when: Threshold, box: Box, health: Mapping[str, Any], known: set[str], now: int) -> dict[str, Seen]:
    """By metric: those past a limit, and those of `known` that were looked at before."""
    if not fresh(box, now):
        return dict.fromkeys(known, UNKNOWN)
    names = health.keys() | known if when.metric == "*" else _named(when.metric, health.keys() | known)
    found = {}
    for name in names:
        row = t.metric(name)
        value = health.get(name)
        if row is None or value is None:
            seen = CLEAR  # a node that is no more
        elif when.equals:
            seen = Seen(holds=value in when.equals, clear=value not in when.equals, text=f"{_title(row, name)}: {show(row, value)}")
        else:
            bounds = None if when.metric == "*" and row.type is Type.COUNT else limits(when, row)
            seen = _compared(bounds, row, name, value)
        if seen.holds or name in known:
            found[name] = seen
    return found


def _named(metric: str, names: Any) -> set[str]:
    row = t.metric(metric)
    if row is not None:
        return {metric}
    return {name for name in names if name.partition(".")[0] == metric}


def _compared(bounds: Limits | None, row: Metric, name: str, value: Any) -> Seen:
    if bounds is None or isinstance(value, (bool, str)):
        return CLEAR
    limit, clear, falling = bounds.limit, bounds.clear, bounds.falling
    holds = value <= limit if falling else value >= limit
    well = not holds and (value >= clear if falling else value <= clear)
    return Seen(holds=holds, clear=well, text=f"{_title(row, name)}: {show(row, value)}, limit {show(row, limit)}")


def stale(rule: Rule, when: Stale, box: Box, last: int, now: int) -> Seen:
    """A metric that was told at `last` (0: longer ago than samples are kept) and not since."""
    if box.state != "online":
        return UNKNOWN
    since = max(box.since, last)
    if now - since < rule.for_s * 1000:
        return CLEAR
    row = t.metric(when.metric)
    return Seen(holds=True, since=since, text=f"{_title(row, when.metric) if row else when.metric}: not told for {span(rule.for_s)}")


def count(when: Events, number: int) -> Seen:
    """So many events in the time."""
    if number <= when.more_than:
        return CLEAR
    codes = ", ".join(code.replace("_", " ") for code in when.codes)
    return Seen(holds=True, text=f"{number} × {codes} in {span(when.within_s)}")


def change(when: Change, name: str, before: float, value: float) -> Seen:
    """A metric that was `before` and is `value` now."""
    row = t.metric(name)
    assert row is not None
    if row.type is Type.COUNT and value < before:
        before = 0  # it began anew
    moved = before - value if when.falling else value - before
    if moved <= when.more_than:
        return CLEAR
    verb = "fell" if when.falling else "rose"
    return Seen(holds=True, text=f"{_title(row, name)} {verb} by {show(row, moved)} in {span(when.within_s)}, to {show(row, value)}")


# --- words


def _title(row: Metric, name: str) -> str:
    part = t.instance(name)
    return f"{row.title}, {part.replace('_', ' ')}" if row.per is not Per.BOX and part else row.title


_UNITS = {"celsius": " °C", "watts": " W", "hertz": " Hz", "ms": " ms", "megabytes": " MB", "percent": " %", "dBFS": " dBFS"}


def show(row: Metric, value: float | str) -> str:
    """A metric's value as a person reads it; the console has the same rule."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value.replace("_", " ")
    if row.unit == "ratio":
        return f"{value * 100:.0f} %"
    if row.unit == "seconds":
        return span(value)
    if row.unit == "bytes":
        return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB"
    text = f"{value:.0f}" if value == int(value) or abs(value) >= 10 else f"{value:.1f}"
    return text + _UNITS.get(row.unit, "")


def span(seconds: float) -> str:
    """A length of time."""
    for size, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds / size:g} {word}" if seconds % size == 0 else f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"
