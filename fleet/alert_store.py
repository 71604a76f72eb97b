"""What of alerts is in the store. The evaluator's own state changes only in `commit`, with what is to be delivered, under a turn number:
of two evaluators that began from the same state one commits. People's part (rules, silences, comments) is in tables of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import msgspec

from fleet.alert_channels import Channel
from fleet.alert_rules import DEFAULTS, Maintenance, Rule
from fleet.alert_watch import Box
from fleet.alerting import Alert, Key, Pace, Track
from fleet.database import Database, Transaction

__all__ = [
    "Changes",
    "Delivery",
    "Plan",
    "State",
    "alert_of",
    "bounces",
    "boxes",
    "columns",
    "commit",
    "event_counts",
    "fill",
    "healths",
    "latest",
    "load",
    "plan",
    "prune",
    "readings",
]

T = TypeVar("T")
_PART = 500
_DELIVERED_MS, _ALERTS_MS = 30 * 86_400_000, 730 * 86_400_000
_ALERT = "id, rule, title, severity, device, subject, site, model, release, text, began, fired, resolved, flapping, changed, told, told_at"


@dataclass(slots=True)
class State:
    """The evaluator's own: what was committed at `turn`."""

    turn: int
    tracks: dict[str, dict[tuple[str, str], Track]]  # by rule, then box and subject
    alerts: dict[Key, Alert]  # firing
    untold: list[Alert]  # over, but people have not heard it
    paces: dict[str, Pace]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """People's part as it is now. `silences`: until when, by rule, box and subject."""

    rules: dict[str, Rule]
    windows: tuple[Maintenance, ...]
    channels: tuple[Channel, ...]
    silences: dict[Key, int]
    acknowledged: frozenset[str]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message for a channel, to be sent until it is taken. `key` is the same at every try."""

    key: str
    channel: str
    body: bytes


@dataclass(slots=True)
class Changes:
    """What one turn changed; None for a track that is no more."""

    tracks: dict[Key, Track | None] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)
    paces: dict[str, Pace] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.tracks or self.alerts or self.paces or self.deliveries)


def fill(db: Database, now_ms: int) -> None:
    """The rules that a new store begins with, once: deleted ones stay away."""
    with db.write() as tx:
        if tx.count("INSERT INTO alert_turn (id, turn) VALUES (1, 0) ON CONFLICT DO NOTHING"):
            rows = [(rule.id, msgspec.json.encode(rule).decode(), "visavis", now_ms) for rule in DEFAULTS]
            tx.many("INSERT INTO alert_rule (id, body, author, changed) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)


# --- the evaluator's part


def load(db: Database) -> State:
    """What was committed last."""
    turn = db.read("SELECT turn FROM alert_turn WHERE id = 1")[0][0]
    tracks: dict[str, dict[tuple[str, str], Track]] = {}
    for rule, device, subject, body in db.read("SELECT rule, device, subject, body FROM alert_track"):
        tracks.setdefault(rule, {})[device, subject] = msgspec.json.decode(body, type=Track)
    paces = {rule: msgspec.json.decode(body, type=Pace) for rule, body in db.read("SELECT rule, body FROM alert_pace")}
    sql = f"SELECT {_ALERT} FROM alert WHERE resolved = 0 OR told IN ('firing', 'flapping')"  # noqa: S608 - columns of ours
    alerts = [alert_of(row) for row in db.read(sql)]
    firing = {(alert.rule, alert.device, alert.subject): alert for alert in alerts if not alert.resolved}
    return State(turn, tracks, firing, [alert for alert in alerts if alert.resolved], paces)


def columns(table: str) -> str:
    """The columns of an alert, of a table by this name."""
    return ", ".join(f"{table}.{name}" for name in _ALERT.split(", "))


def alert_of(row: Sequence[Any]) -> Alert:
    """A row of `_ALERT` columns."""
    return msgspec.convert(dict(zip(_ALERT.split(", "), row, strict=False)), Alert, strict=False)


def commit(db: Database, turn: int, changes: Changes, now_ms: int) -> bool:
    """Keep what a turn changed, all or nothing; False if somebody else committed after `turn` was loaded: load again."""
    with db.write() as tx:
        if not tx.count("UPDATE alert_turn SET turn = turn + 1 WHERE id = 1 AND turn = ?", turn):
            return False
        gone = [key for key, track in changes.tracks.items() if track is None]
        tx.many("DELETE FROM alert_track WHERE rule = ? AND device = ? AND subject = ?", gone)
        kept = [(*key, _text(track)) for key, track in changes.tracks.items() if track is not None]
        sql = "INSERT INTO alert_track (rule, device, subject, body) VALUES (?, ?, ?, ?)"
        tx.many(f"{sql} ON CONFLICT (rule, device, subject) DO UPDATE SET body = excluded.body", kept)
        _keep_alerts(tx, changes.alerts.values())
        sql = "INSERT INTO alert_pace (rule, body) VALUES (?, ?) ON CONFLICT (rule) DO UPDATE SET body = excluded.body"
        tx.many(sql, [(rule, _text(pace)) for rule, pace in changes.paces.items()])
        rows = [(one.key, one.channel, now_ms, one.body.decode(), now_ms) for one in changes.deliveries]
        sql = "INSERT INTO alert_delivery (name, channel, created, body, due) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        tx.many(sql, rows)
    return True


def _keep_alerts(tx: Transaction, alerts: Iterable[Alert]) -> None:
    rows = [tuple(value.value if isinstance(value, Enum) else value for value in msgspec.structs.astuple(alert)) for alert in alerts]
    marks = ", ".join("?" * len(_ALERT.split(", ")))
    changing = ("text", "resolved", "flapping", "changed", "told", "told_at")
    sets = ", ".join(f"{name} = excluded.{name}" for name in changing)
    tx.many(f"INSERT INTO alert ({_ALERT}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {sets}", rows)  # noqa: S608 - columns of ours


def plan(db: Database, now_ms: int) -> Plan:
    """Rules, windows, channels and silences as people left them."""
    return Plan(
        rules={rule.id: rule for rule in _bodies(db, "alert_rule", Rule)},
        windows=tuple(_bodies(db, "alert_window", Maintenance)),
        channels=tuple(_bodies(db, "alert_channel", Channel)),
        silences={
            (row[0], row[1], row[2]): row[3]
            for row in db.read("SELECT rule, device, subject, until FROM alert_silence WHERE until > ?", now_ms)
        },
        acknowledged=frozenset(row[0] for row in db.read("SELECT id FROM alert WHERE resolved = 0 AND acknowledged > 0")),
    )


def _bodies(db: Database, table: str, kind: type[T]) -> list[T]:
    rows = db.read(f"SELECT body FROM {table} ORDER BY id")  # noqa: S608 - a table of ours
    return [msgspec.json.decode(row[0], type=kind) for row in rows]


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


# --- what rules look at


def boxes(db: Database) -> dict[str, Box]:
    """All boxes."""
    retired = {row[0] for row in db.read("SELECT device FROM certificate GROUP BY device HAVING count(*) = count(revoked)")}
    sql = "SELECT name, state, since, health_ts, health_s, site, model, release FROM device"
    return {row[0]: Box._make((*row, row[0] in retired)) for row in db.read(sql)}


def healths(db: Database, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What these boxes told last."""
    wanted, found = sorted(names), {}
    for begin in range(0, len(wanted), _PART):
        part = wanted[begin : begin + _PART]
        marks = ", ".join("?" * len(part))
        for name, health in db.read(f"SELECT name, health FROM device WHERE name IN ({marks})", *part):  # noqa: S608 - marks
            found[name] = msgspec.json.decode(health)
    return found


def bounces(db: Database, box: Box, after: int, states: Iterable[str]) -> int:
    """How often a box went into one of `states` since `after`, without the one that it may be in now."""
    codes = [f"box_{state}" for state in states]
    marks = ", ".join("?" * len(codes))
    sql = f"SELECT count(*) FROM event WHERE device = ? AND ts > ? AND ts <= ? AND boot = '' AND code IN ({marks})"  # noqa: S608 - marks
    number: int = db.read(sql, box.name, after, box.since, *codes)[0][0]
    return max(0, number - (box.state in states))


def event_counts(db: Database, codes: Sequence[str], after: int) -> dict[str, int]:
    """By box, how many such events happened since `after`. Not those that came late and without a time of their own."""
    marks = ", ".join("?" * len(codes))
    sql = f"SELECT device, count(*) FROM event WHERE code IN ({marks}) AND ts > ? AND late = 0 GROUP BY device"  # noqa: S608 - marks
    return {row[0]: row[1] for row in db.read(sql, *codes, after)}


def latest(db: Database, metric: str) -> dict[str, int]:
    """By box that ever told this metric, when it last did; 0 if no sample is kept any more."""
    sql = "SELECT s.device, (SELECT max(r.ts) FROM raw r WHERE r.series = s.id) FROM series s WHERE s.metric = ?"
    return {row[0]: row[1] or 0 for row in db.read(sql, metric)}


def readings(db: Database, metric: str, at: int) -> list[tuple[str, str, float, float]]:
    """Box, metric (of all instances), its value at `at` (or the first one after) and its last one."""
    before = "(SELECT r.value FROM raw r WHERE r.series = s.id AND r.ts <= ? ORDER BY r.ts DESC LIMIT 1)"
    after = "(SELECT r.value FROM raw r WHERE r.series = s.id AND r.ts > ? ORDER BY r.ts LIMIT 1)"
    last = "(SELECT r.value FROM raw r WHERE r.series = s.id ORDER BY r.ts DESC LIMIT 1)"
    sql = f"SELECT s.device, s.metric, coalesce({before}, {after}), {last} FROM series s WHERE s.metric = ? OR s.metric LIKE ?"  # noqa: S608
    like = metric.replace("_", "\\_") + ".%"
    rows = db.read(f"{sql} ESCAPE '\\'", at, at, metric, like)
    return [(row[0], row[1], row[2], row[3]) for row in rows if row[2] is not None]


def prune(db: Database, now_ms: int) -> None:
    """Drop what is old: deliveries after 30 days, alerts that are over after two years, silences that ended."""
    with db.write() as tx:
        tx.run("DELETE FROM alert_delivery WHERE state <> 'queued' AND created < ?", now_ms - _DELIVERED_MS)
        tx.run("DELETE FROM alert WHERE resolved > 0 AND resolved < ?", now_ms - _ALERTS_MS)
        tx.run("DELETE FROM alert_note WHERE ts < ? AND NOT EXISTS (SELECT 1 FROM alert a WHERE a.id = about)", now_ms - _ALERTS_MS)
        tx.run("DELETE FROM alert_silence WHERE until < ?", now_ms - _DELIVERED_MS)
