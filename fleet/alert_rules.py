"""When an admin wants to be told, as data: rules, whom they are for, when they are silent. No I/O; wall times are ms.

A rule watches subjects: with `missing` the box itself, else a metric or an event of it. Limits of metrics are the catalogue's unless a
rule says its own.
"""

from __future__ import annotations

from enum import Enum
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
from msgspec import Meta

from fleet.errors import BadRequest
from fleet.windows import Window, is_open, zone
from runtime import telemetry as t
from runtime.telemetry import EVENTS, METRICS, Metric, Severity, Type

__all__ = ["DEFAULTS", "OWN_EVENTS", "Change", "Events", "Id", "Level", "Limits", "Maintenance", "Missing", "Rule", "Scope", "Stale",
           "Threshold", "Title", "When", "check_maintenance", "check_rule", "covers", "limits", "silent"]  # fmt: skip

OWN_EVENTS = ("box_online", "box_offline", "box_lost", "box_silent")
"""Events that the controller itself notes of a box."""
_DAY_S = 86_400
Id = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,39}$", max_length=40)]
Title = Annotated[str, Meta(min_length=1, max_length=100)]
Word = Annotated[str, Meta(max_length=100)]
Words = Annotated[tuple[Word, ...], Meta(max_length=200)]
Seconds = Annotated[int, Meta(ge=0, le=30 * _DAY_S)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]


class _Closed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What nobody knows is refused."""


class Scope(_Closed, frozen=True, kw_only=True):
    """Which boxes: one of each list that is not empty; `names` are patterns with * and ?."""

    sites: Words = ()
    models: Words = ()
    releases: Words = ()
    names: Words = ()


class Missing(_Closed, frozen=True, kw_only=True, tag="missing", tag_field="kind"):
    """The box is in one of these states for the rule's time."""

    states: tuple[str, ...] = ("lost", "silent")


class Stale(_Closed, frozen=True, kw_only=True, tag="stale", tag_field="kind"):
    """A metric was not told for the rule's time although the box is online. A box that never told it is not judged."""

    metric: Word


class Level(str, Enum):
    """Which limit of the catalogue."""

    OWN = ""
    WARN = "warn"
    BAD = "bad"


class Threshold(_Closed, frozen=True, kw_only=True, tag="threshold", tag_field="kind"):
    """A metric reached a limit, at `above` or more, `below` or less, or is one of `equals`, for the rule's time.

    `metric` is `name`, `name.instance`, the name of one that has instances (then any of them), or `*`: all that have a limit of `level`
    but for counts, which only grow. It has to come back past `clear`; by default half way to the milder limit of the catalogue, or 5 %.
    """

    metric: Word
    level: Level = Level.OWN
    above: float | None = None
    below: float | None = None
    equals: Annotated[tuple[bool | Word, ...], Meta(max_length=20)] = ()
    clear: float | None = None


class Events(_Closed, frozen=True, kw_only=True, tag="events", tag_field="kind"):
    """More than `more_than` events with one of these codes within `within_s`, by the time when they happened."""

    codes: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=20)]
    more_than: Annotated[int, Meta(ge=0, le=100_000)] = 0
    within_s: Annotated[int, Meta(ge=60, le=7 * _DAY_S)] = 3600


class Change(_Closed, frozen=True, kw_only=True, tag="change", tag_field="kind"):
    """A metric rose (or fell, if `falling`) by more than `more_than` within `within_s`; a count that began anew rose from 0."""

    metric: Word
    more_than: Annotated[float, Meta(ge=0)]
    within_s: Annotated[int, Meta(ge=300, le=_DAY_S)] = 3600
    falling: bool = False


When = Missing | Stale | Threshold | Events | Change


class Rule(_Closed, frozen=True, kw_only=True):
    """When there is an alert: `when` holds for `for_s` on a box of `scope`; it is over when that was not so for `clear_s`.

    `flaps` times within `flap_s` (for `missing` each coming and going counts, else each alert) is one alert that lasts until it was
    well for half of `flap_s`; 0 turns that off. An alert that nobody acknowledged is told again after `remind_s`; 0 is never.
    """

    id: Id
    title: Title
    when: When
    severity: Severity = Severity.WARNING
    scope: Scope = Scope()
    for_s: Seconds = 300
    clear_s: Seconds = 60
    flaps: Annotated[int, Meta(ge=0, le=100)] = 5
    flap_s: Annotated[int, Meta(ge=60, le=_DAY_S)] = 3600
    remind_s: Seconds = 0
    enabled: bool = True


class Maintenance(_Closed, frozen=True, kw_only=True):
    """Between `since` and `until` (0: open) alerts of `scope` are kept but not told; with `again` only in those hours, in the time zone."""

    id: Id
    title: Title
    scope: Scope = Scope()
    since: Milliseconds = 0
    until: Milliseconds = 0
    again: Window | None = None
    zone: Annotated[str, Meta(max_length=64)] = "UTC"


class Limits(msgspec.Struct, frozen=True):
    """Where a metric's alert begins and where it is over; below them if `falling`."""

    limit: float
    clear: float
    falling: bool


def covers(scope: Scope, name: str, site: str, model: str, release: str) -> bool:
    """Whether a box is meant."""
    lists = ((scope.sites, site), (scope.models, model), (scope.releases, release))
    if any(wanted and value not in wanted for wanted, value in lists):
        return False
    return not scope.names or any(fnmatchcase(name, pattern) for pattern in scope.names)


def limits(when: Threshold, row: Metric) -> Limits | None:
    """The limits of a threshold for one metric; None if it has none or is compared by `equals`."""
    if when.equals or row.type in (Type.NAME, Type.BOOL):
        return None
    if when.level is Level.OWN:
        falling = when.above is None
        limit = when.below if falling else when.above
    else:
        falling, limit = row.falling, getattr(row, when.level.value)
    if limit is None:
        return None
    if when.clear is not None:
        return Limits(limit, when.clear, falling)
    milder = row.warn if when.level is Level.BAD else None
    harder = row.bad if when.level is Level.WARN else None
    if milder is not None:
        step = abs(limit - milder) / 2
    elif harder is not None:
        step = min(abs(harder - limit) / 2, abs(limit) / 4)
    else:
        step = abs(limit) / 20
    return Limits(limit, limit + step if falling else limit - step, falling)


# --- what cannot be


def check_rule(rule: Rule) -> None:
    """Raises BadRequest, in one line, for a rule that could never work."""
    when = rule.when
    if isinstance(when, Missing):
        if not when.states or not set(when.states) <= {"lost", "silent", "offline"}:
            raise BadRequest("a box is missing when it is lost, silent or offline: name one of these states")
    elif isinstance(when, Events):
        known = {row.code for row in EVENTS} | set(OWN_EVENTS)
        for code in when.codes:
            if code not in known:
                raise BadRequest(f"there is no event {code!r}")
    elif not (isinstance(when, Threshold) and when.metric == "*"):
        _row(when.metric)
    if isinstance(when, Threshold):
        _check_threshold(when)
    if isinstance(when, Stale) and rule.for_s < 1200:
        raise BadRequest("a box tells all its metrics every 10 minutes: a metric is stale after 20 minutes or more")
    if isinstance(when, Change) and _row(when.metric).type in (Type.NAME, Type.BOOL):
        raise BadRequest(f"{when.metric} is no number")


def _row(name: str) -> Metric:
    found = t.metric(name) or next((row for row in METRICS if row.name == name), None)
    if found is None:
        raise BadRequest(f"there is no metric {name!r}")
    return found


def _check_threshold(when: Threshold) -> None:
    if sum((when.level is not Level.OWN, when.above is not None, when.below is not None, bool(when.equals))) != 1:
        raise BadRequest("a threshold has one of level, above, below and equals")
    if when.metric == "*":
        if when.level is Level.OWN or when.clear is not None:
            raise BadRequest("all metrics (*) are compared with a level of the catalogue, and come back by it")
        return
    row = _row(when.metric)
    if when.equals:
        right = bool if row.type is Type.BOOL else str
        if row.type not in (Type.BOOL, Type.NAME) or any(type(value) is not right for value in when.equals):
            raise BadRequest(f"{when.metric} cannot be compared with equals, or not with these values")
        if row.type is Type.NAME and not set(when.equals) <= set(row.values):
            raise BadRequest(f"{when.metric} is one of {', '.join(row.values)}")
        return
    found = limits(when, row)
    if found is None:
        raise BadRequest(f"{when.metric} has no such limit in the catalogue: say above, below or equals")
    if found.clear < found.limit if found.falling else found.clear > found.limit:
        raise BadRequest("clear lies on the well side of the limit")


def check_maintenance(window: Maintenance) -> None:
    """Raises BadRequest, in one line."""
    if zone(window.zone) is None:
        raise BadRequest(f"there is no time zone {window.zone!r}: it is named like Europe/Rome")
    if window.again is None and not window.until:
        raise BadRequest("maintenance ends, or comes again at certain hours")
    if window.until and window.until <= window.since:
        raise BadRequest("maintenance ends after it began")


def silent(window: Maintenance, now_ms: int) -> bool:
    """Whether there is maintenance now."""
    if now_ms < window.since or (window.until and now_ms >= window.until):
        return False
    if window.again is None:
        return True
    place = zone(window.zone)
    return place is not None and is_open(window.again, place, now_ms)


def _rule(id: str, title: str, severity: Severity, when: When, **more: int) -> Rule:  # noqa: A002
    return msgspec.convert({"id": id, "title": title, "severity": severity, "when": msgspec.to_builtins(when), **more}, Rule)


_W, _E = Severity.WARNING, Severity.ERROR
DEFAULTS: tuple[Rule, ...] = (
    _rule("missing", "Box is missing", _E, Missing(), for_s=300, flaps=3, remind_s=_DAY_S),
    _rule("off-for-days", "Box is switched off for days", _W, Missing(states=("offline",)), for_s=3 * _DAY_S),
    _rule("act", "A value is past its limit", _E, Threshold(metric="*", level=Level.BAD), for_s=300, clear_s=300),
    _rule("disk", "The disk fills", _W, Threshold(metric="disk_free", level=Level.WARN), for_s=3600, clear_s=600),
    _rule("slow-answers", "Answers are slow", _W, Threshold(metric="stage_p95_ms.sound_heard", level=Level.WARN), for_s=1800, clear_s=600),
    _rule("heat-alarm", "The box calls for a technician: heat", _E, Threshold(metric="heat_alarm", equals=(True,)), for_s=60),
    _rule("node-given-up", "A node cannot come back", _E, Threshold(metric="node_state", equals=("given_up",)), for_s=0),
    _rule("no-microphone", "No microphone", _E, Threshold(metric="mic_live", equals=(False,)), for_s=600),
    _rule("clock", "The clock is not set", _W, Threshold(metric="clock_synced", equals=(False,)), for_s=_DAY_S),
    _rule("not-told", "The box is there but tells no temperature", _W, Stale(metric="temperature"), for_s=3600),
    _rule("node-restarts", "A node ends again and again", _W, Events(codes=("node_down",), more_than=3, within_s=3600), for_s=0),
    _rule("outbox", "The box cannot keep its reports", _E, Events(codes=("outbox_damaged", "outbox_unwritable")), for_s=0),
    _rule("identity", "Another machine uses this box's identity", _E, Events(codes=("identity_in_use",), within_s=_DAY_S), for_s=0),
    _rule("reports-dropped", "Reports were dropped", _W, Change(metric="outbox_evicted", more_than=0, within_s=3600), for_s=0),
)
"""What a new controller begins with; an admin changes or deletes them like any other."""
