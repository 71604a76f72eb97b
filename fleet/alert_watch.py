"""What rules look at: boxes, their health and events, as the store has them, turned into looks at subjects. No I/O; times are ms.

What is judged is the present: health counts while the box is online and told it within a few intervals, whatever was told late.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from fleet.alert_rules import Change, Events, Limits, Missing, Rule, Stale, Threshold, covers, limits
from fleet.alerting import Seen
from runtime import telemetry as t
from runtime.telemetry import METRICS, Metric, Per, Type

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
    found = dict.fromkeys(known, CLEAR)  # what is told no more is of a node that is no more
    bounds = _bounds(when)
    alone = t.metric(when.metric) is not None
    for name in [when.metric] if alone else health:
        row, limit = bounds.get(name.partition(".")[0], (None, None))
        value = health.get(name)
        if row is None or value is None:
            continue
        holds, clear = (value in when.equals, value not in when.equals) if limit is None else _past(limit, value)
        if holds or name in known:
            found[name] = Seen(holds=holds, clear=clear, text=_text(row, name, value, limit) if holds else "")
    return found


@lru_cache(maxsize=1000)
def _bounds(when: Threshold) -> dict[str, tuple[Metric, Limits | None]]:
    """The metrics that a threshold compares, by name without instance, with their limits; None where it compares with `equals`."""
    wanted = when.metric.partition(".")[0]
    found = {}
    for row in METRICS:
        limit = limits(when, row)
        if row.name == wanted or (wanted == "*" and limit is not None and row.type is not Type.COUNT):
            found[row.name] = (row, limit)
    return found


def _past(limits: Limits, value: Any) -> tuple[bool, bool]:
    """Whether a value is past the limit, and whether it is past the clear limit."""
    if limits.falling:
        return value <= limits.limit, value > limits.limit and value >= limits.clear
    return value >= limits.limit, value < limits.limit and value <= limits.clear


def _text(row: Metric, name: str, value: Any, limits: Limits | None) -> str:
    return f"{_title(row, name)}: {show(row, value)}" + (f", limit {show(row, limits.limit)}" if limits else "")


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
