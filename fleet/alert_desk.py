"""What people see and do about alerts: lists, acknowledging, silences, comments, rules, maintenance, channels. Functions block.

Secrets go in and never come out: of a webhook's address only the host is told, its key once, and of mail only the password file's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from fleet.alert_channels import Channel, Message, Webhook, check_channel, new_secret
from fleet.alert_rules import Maintenance, Rule, check_maintenance, check_rule, covers, silent
from fleet.alert_store import alert_of, columns
from fleet.alerting import Alert
from fleet.database import Database, Transaction
from fleet.errors import BadRequest
from fleet.scopes import EVERYTHING, Scope

__all__ = [
    "AlertPage", "AlertQuery", "Counts", "Filed", "Note", "OneAlert", "Posted", "Shown", "acknowledge", "alerts", "channels", "comment",
    "counts", "delete", "firing", "one", "put_channel", "put_maintenance", "put_rule", "renew", "rules", "silence", "test", "windows",
]  # fmt: skip

T = TypeVar("T", Rule, Maintenance)
_MOST_ROWS = 500


class AlertQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which alerts: all that match every field that is set. `state`: firing or resolved; `before` is the id of the last one known."""

    state: str = ""
    severity: str = ""
    rule: str = ""
    device: str = ""
    site: str = ""
    before: str = ""
    limit: int = 200


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as people see it. `silenced_until` and `maintenance` (its title) say why it is not told."""

    alert: Alert
    acknowledged: int
    acknowledged_by: str
    silenced_until: int
    silenced_by: str
    maintenance: str


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many alerts fire, by severity, and how many of all nobody has acknowledged."""

    firing: int
    error: int
    warning: int
    open: int


class AlertPage(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts, the newest first."""

    alerts: list[Shown]
    counts: Counts


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did about an alert. `action`: acknowledged, silenced, comment."""

    ts: int
    author: str
    action: str
    text: str


class OneAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert with what people did about it, the oldest first, and the alerts of the same subject before it."""

    alert: Shown
    notes: list[Note]
    earlier: list[Shown]


class Filed(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with who changed it last, and how many of its alerts fire."""

    rule: Rule
    author: str
    changed: int
    firing: int


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as it may be told, how many messages wait for it, when it last took one, and what was wrong last."""

    channel: Channel
    waiting: int
    sent: int
    given_up: int
    error: str


# --- alerts


def alerts(db: Database, wanted: AlertQuery, now_ms: int, scope: Scope = EVERYTHING) -> list[Shown]:
    """The alerts of boxes of the scope that match."""
    inside, within = scope.within("a.device")
    conditions, values = [inside], list[object](within)
    for column in ("severity", "rule", "device", "site"):
        if value := getattr(wanted, column):
            conditions.append(f"a.{column} = ?")
            values.append(value)
    if wanted.state not in ("", "firing", "resolved"):
        raise BadRequest("state is firing or resolved")
    if wanted.state:
        conditions.append("a.resolved = 0" if wanted.state == "firing" else "a.resolved > 0")
    if wanted.before:
        conditions.append("(a.fired, a.id) < (SELECT fired, id FROM alert WHERE id = ?)")
        values.append(wanted.before)
    limit = max(1, min(wanted.limit, 1000))
    return _shown(db, f"{' AND '.join(conditions)} ORDER BY a.fired DESC, a.id DESC LIMIT {limit}", values, now_ms)


def _shown(db: Database, where: str, values: Sequence[object], now_ms: int) -> list[Shown]:
    sql = (
        f"SELECT {columns('a')}, a.acknowledged, a.acknowledged_by, coalesce(s.until, 0), coalesce(s.author, '') FROM alert a"  # noqa: S608
        f" LEFT JOIN alert_silence s ON s.rule = a.rule AND s.device = a.device AND s.subject = a.subject AND s.until > ? WHERE {where}"
    )
    now_silent = [window for window in windows(db) if silent(window, now_ms)]
    found = []
    for row in db.read(sql, now_ms, *values):
        alert = alert_of(row)
        place = (alert.device, alert.site, alert.model, alert.release)
        title = next((window.title for window in now_silent if covers(window.scope, *place)), "")
        found.append(
            Shown(
                alert=alert,
                acknowledged=row[-4],
                acknowledged_by=row[-3],
                silenced_until=row[-2],
                silenced_by=row[-1],
                maintenance=title if not alert.resolved else "",
            )
        )
    return found


def firing(db: Database) -> set[str]:
    """The boxes with alerts that fire."""
    return {row[0] for row in db.read("SELECT DISTINCT device FROM alert WHERE resolved = 0")}


def counts(db: Database, scope: Scope = EVERYTHING) -> Counts:
    """How many alerts of boxes of the scope fire."""
    by = {"error": 0, "warning": 0, "info": 0}
    unknown = 0
    inside, within = scope.within("device")
    sql = "SELECT severity, count(*), sum(CASE WHEN acknowledged > 0 THEN 0 ELSE 1 END) FROM alert WHERE resolved = 0"
    for severity, number, fresh in db.read(f"{sql} AND {inside} GROUP BY severity", *within):
        by[severity] = int(number)
        unknown += int(fresh)
    return Counts(firing=sum(by.values()), error=by["error"], warning=by["warning"], open=unknown)


def one(db: Database, id: str, now_ms: int, scope: Scope = EVERYTHING) -> OneAlert:  # noqa: A002
    """An alert with its history. Raises BadRequest."""
    inside, within = scope.within("a.device")
    found = _shown(db, f"a.id = ? AND {inside}", (id, *within), now_ms)
    if not found:
        raise BadRequest("there is no such alert")
    alert = found[0].alert
    where = "a.rule = ? AND a.device = ? AND a.subject = ? AND a.fired < ? ORDER BY a.fired DESC LIMIT 20"
    notes = db.read("SELECT ts, author, action, text FROM alert_note WHERE about = ? ORDER BY ts, id LIMIT 500", id)
    return OneAlert(
        alert=found[0],
        notes=[Note(ts=row[0], author=row[1], action=row[2], text=row[3]) for row in notes],
        earlier=_shown(db, where, (alert.rule, alert.device, alert.subject, alert.fired), now_ms),
    )


def acknowledge(db: Database, ids: Sequence[str], author: str, text: str, now_ms: int, scope: Scope = EVERYTHING) -> set[str]:
    """Somebody cares: no more reminders. Returns the boxes whose alerts were open."""
    only = "AND resolved = 0 AND acknowledged = 0"
    return _about(db, ids, author, "acknowledged", text, now_ms, _acknowledge, scope, only)


def _acknowledge(tx: Transaction, row: Sequence[Any], author: str, now_ms: int) -> None:
    tx.run("UPDATE alert SET acknowledged = ?, acknowledged_by = ? WHERE id = ?", now_ms, author, row[0])


def silence(db: Database, ids: Sequence[str], author: str, until: int, text: str, now_ms: int, scope: Scope = EVERYTHING) -> set[str]:
    """Tell nothing of these subjects until then, also if they come again; a time that is over lifts it. Returns the boxes."""

    def put(tx: Transaction, row: Sequence[Any], author: str, _: int) -> None:
        sql = "INSERT INTO alert_silence (rule, device, subject, until, author) VALUES (?, ?, ?, ?, ?)"
        more = "ON CONFLICT (rule, device, subject) DO UPDATE SET until = excluded.until, author = excluded.author"
        tx.run(f"{sql} {more}", row[2], row[1], row[3], until, author)

    return _about(db, ids, author, "silenced" if until > now_ms else "silence lifted", text, now_ms, put, scope)


def comment(db: Database, id: str, author: str, text: str, now_ms: int, scope: Scope = EVERYTHING) -> set[str]:  # noqa: A002
    """Somebody says something. Raises BadRequest."""
    return _about(db, [id], author, "comment", text, now_ms, lambda *_: None, scope)


def _about(
    db: Database, ids: Sequence[str], author: str, action: str, text: str, now_ms: int, do: Any, scope: Scope, only: str = ""
) -> set[str]:
    marks, (inside, within) = ", ".join("?" * len(ids)), scope.within("device")
    with db.write() as tx:
        sql = f"SELECT id, device, rule, subject FROM alert WHERE id IN ({marks}) AND {inside} {only}"  # noqa: S608 - marks; values are bound
        rows = tx.run(sql, *ids, *within)
        if not rows and not only:
            raise BadRequest("there is no such alert")
        for row in rows:
            do(tx, row, author, now_ms)
        sql = "INSERT INTO alert_note (about, ts, author, action, text) VALUES (?, ?, ?, ?, ?)"
        tx.many(sql, [(row[0], now_ms, author, action, text) for row in rows])
    return {row[1] for row in rows}


# --- rules and maintenance


def rules(db: Database) -> list[Filed]:
    """All rules."""
    firing = dict(db.read("SELECT rule, count(*) FROM alert WHERE resolved = 0 GROUP BY rule"))
    rows = db.read("SELECT body, author, changed FROM alert_rule ORDER BY id")
    made = [(msgspec.json.decode(row[0], type=Rule), row[1], row[2]) for row in rows]
    return [Filed(rule=rule, author=author, changed=changed, firing=firing.get(rule.id, 0)) for rule, author, changed in made]


def windows(db: Database) -> list[Maintenance]:
    """All maintenance."""
    return [msgspec.json.decode(row[0], type=Maintenance) for row in db.read("SELECT body FROM alert_window ORDER BY id")]


def put_rule(db: Database, rule: Rule, author: str, now_ms: int) -> None:
    """A new rule, or another one in its place. Raises BadRequest."""
    check_rule(rule)
    _put(db, "alert_rule", rule, author, now_ms)


def put_maintenance(db: Database, window: Maintenance, author: str, now_ms: int) -> None:
    """New maintenance, or other in its place. Raises BadRequest."""
    check_maintenance(window)
    _put(db, "alert_window", window, author, now_ms)


def _put(db: Database, table: str, value: T, author: str, now_ms: int) -> None:
    with db.write() as tx:
        _room(tx, table, value.id)
        sql = f"INSERT INTO {table} (id, body, author, changed) VALUES (?, ?, ?, ?)"  # noqa: S608 - a table of ours
        more = "ON CONFLICT (id) DO UPDATE SET body = excluded.body, author = excluded.author, changed = excluded.changed"
        tx.run(f"{sql} {more}", value.id, _text(value), author, now_ms)


def _room(tx: Transaction, table: str, id: str) -> None:  # noqa: A002
    if tx.run(f"SELECT count(*) FROM {table} WHERE id <> ?", id)[0][0] >= _MOST_ROWS:  # noqa: S608 - a table of ours
        raise BadRequest(f"there are {_MOST_ROWS} of these already")


def delete(db: Database, table: str, id: str) -> None:  # noqa: A002
    """Delete a rule (`alert_rule`), maintenance (`alert_window`) or a channel (`alert_channel`). Raises BadRequest."""
    with db.write() as tx:
        if not tx.count(f"DELETE FROM {table} WHERE id = ?", id):  # noqa: S608 - a table of ours
            raise BadRequest(f"there is no {id!r}")


# --- channels


def channels(db: Database) -> list[Posted]:
    """All channels, without their secrets."""
    found = []
    for name, body in db.read("SELECT id, body FROM alert_channel ORDER BY id"):
        sql = "SELECT state, count(*), max(ended) FROM alert_delivery WHERE channel = ? GROUP BY state"
        by = {row[0]: (row[1], row[2]) for row in db.read(sql, name)}
        errors = db.read("SELECT error FROM alert_delivery WHERE channel = ? AND (attempts > 0) ORDER BY id DESC LIMIT 1", name)
        found.append(
            Posted(
                channel=_masked(msgspec.json.decode(body, type=Channel)),
                waiting=by.get("queued", (0, 0))[0],
                sent=by.get("sent", (0, 0))[1],
                given_up=by.get("given up", (0, 0))[0],
                error=errors[0][0] if errors else "",
            )
        )
    return found


def _masked(channel: Channel) -> Channel:
    if not isinstance(channel.to, Webhook):
        return channel
    parts = urlsplit(channel.to.url)
    return msgspec.structs.replace(channel, to=Webhook(url=f"{parts.scheme}://{parts.netloc}/…"))


def put_channel(db: Database, channel: Channel, author: str, now_ms: int) -> str:
    """A new channel, or another one in its place; returns a new webhook's key, told this once, else "". Raises BadRequest.

    A webhook's address as it was told (without its path) stays as it is.
    """
    rows = db.read("SELECT body, secret FROM alert_channel WHERE id = ?", channel.id)
    old = msgspec.json.decode(rows[0][0], type=Channel) if rows else None
    secret, fresh = (rows[0][1], "") if rows else ("", "")
    if old is not None and channel.to == _masked(old).to:
        channel = msgspec.structs.replace(channel, to=old.to)
    elif isinstance(channel.to, Webhook) and "…" in channel.to.url:
        raise BadRequest("give the webhook's whole address")
    check_channel(channel)
    if isinstance(channel.to, Webhook) and not secret:
        secret = fresh = new_secret()
    with db.write() as tx:
        _room(tx, "alert_channel", channel.id)
        sql = "INSERT INTO alert_channel (id, body, secret, author, changed) VALUES (?, ?, ?, ?, ?)"
        more = "body = excluded.body, secret = excluded.secret, author = excluded.author, changed = excluded.changed"
        tx.run(f"{sql} ON CONFLICT (id) DO UPDATE SET {more}", channel.id, _text(channel), secret, author, now_ms)
    return fresh


def renew(db: Database, id: str, now_ms: int) -> str:  # noqa: A002
    """Another key for a webhook, told this once; the one before is no longer used. Raises BadRequest."""
    secret = new_secret()
    with db.write() as tx:
        if not tx.count("UPDATE alert_channel SET secret = ?, changed = ? WHERE id = ? AND secret <> ''", secret, now_ms, id):
            raise BadRequest(f"there is no webhook {id!r}")
    return secret


def test(db: Database, id: str, author: str, fleet: str, console: str, now_ms: int) -> None:  # noqa: A002
    """Send a message that says that it is a test. Raises BadRequest."""
    told = Message(
        id=f"test-{now_ms}",
        fleet=fleet,
        rule="test",
        title="Test",
        severity="info",
        state="firing",
        reminder=False,
        summary=f"Test: {author} asks whether messages arrive here",
        firing=0,
        resolved=0,
        sites={},
        alerts=[],
        more=0,
        console=console,
    )
    with db.write() as tx:
        if not tx.run("SELECT 1 FROM alert_channel WHERE id = ?", id):
            raise BadRequest(f"there is no channel {id!r}")
        sql = "INSERT INTO alert_delivery (name, channel, created, body, due) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        tx.run(sql, f"{told.id}.{id}", id, now_ms, _text(told), now_ms)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
