"""What happened: events of the boxes, commands to them with their answers, and who did what at the controller."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from fleet.database import Database, Transaction
from fleet.errors import BadRequest
from fleet.scopes import EVERYTHING, Scope
from runtime import telemetry as t

__all__ = [
    "PAGE",
    "Audited",
    "Order",
    "Told",
    "audit",
    "audited",
    "came",
    "due",
    "events",
    "expire",
    "order",
    "orders",
    "reopen",
    "sent",
    "waiting",
]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An event. `box_online`, `box_offline`, `box_lost` and `box_silent` are the controller's own."""

    id: int
    device: str
    ts: int
    code: str
    severity: str
    details: dict[str, Any]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A command. `state`: queued (the box is away), sent, answered (then `outcome` says how it went), expired, withdrawn."""

    id: str
    device: str
    name: str
    args: dict[str, Any]
    author: str
    issued: int
    expires: int
    state: str
    outcome: str
    reason: str
    result: dict[str, Any]
    answered: int
    took_ms: int


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody did something, or tried to."""

    id: int
    ts: int
    author: str
    action: str
    target: str
    details: dict[str, Any]
    address: str


_ORDER = "id, device, name, args, author, issued, expires, state, outcome, reason, result, answered, took_ms"
_JSON = {"args", "result", "details"}
PAGE = 1000
"""So many commands at most `due` returns at once."""


def _struct(kind: type[Any], names: str, row: tuple[Any, ...]) -> Any:
    fields = zip(names.split(", "), row, strict=True)
    return kind(**{name: msgspec.json.decode(value) if name in _JSON else value for name, value in fields})


def events(
    db: Database, *, device: str = "", severity: str = "", code: str = "", before: int = 0, limit: int = 100, scope: Scope = EVERYTHING
) -> list[Told]:
    """Events, the newest first; `before` is the id of the last one that is known already."""
    names = "id, device, ts, code, severity, details"
    inside, within = scope.within("device")
    conditions: list[str] = [inside]
    values: list[object] = [*within]
    for column, value in (("device", device), ("severity", severity), ("code", code)):
        if value:
            conditions.append(f"{column} = ?")
            values.append(value)
    if before:
        # In the order of time, and among equals by number.
        conditions.append("(ts, id) < (SELECT ts, id FROM event WHERE id = ?)")
        values.append(before)
    where = " AND ".join(conditions)
    rows = db.read(f"SELECT {names} FROM event WHERE {where} ORDER BY ts DESC, id DESC LIMIT {_limit(limit)}", *values)  # noqa: S608 - bound
    return [_struct(Told, names, row) for row in rows]


def order(db: Database, device: str, name: str, args: dict[str, Any], author: str, expires_s: int, now_ms: int) -> Order:
    """Keep a command for a box. Raises BadRequest if the box, the command or its arguments cannot be."""
    if t.command_kind(name) is None:
        raise BadRequest(f"there is no command {name!r}")
    if not 5 <= expires_s <= 30 * 86_400:
        raise BadRequest("a command lives from 5 seconds to 30 days")
    made = t.Command(id=secrets.token_hex(12), name=name, issued=now_ms, expires=now_ms + expires_s * 1000, by=author, args=args)
    try:
        t.arguments(made)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{name}: {error}") from error
    with db.write() as tx:
        if not tx.run("SELECT 1 FROM device WHERE name = ?", device):
            raise BadRequest(f"there is no box {device!r}")
        sql = "INSERT INTO command (id, device, name, args, author, issued, expires, state) VALUES (?, ?, ?, ?, ?, ?, ?, 'queued')"
        tx.run(sql, made.id, device, name, msgspec.json.encode(args).decode(), author, made.issued, made.expires)
        return _struct(Order, _ORDER, tx.run(f"SELECT {_ORDER} FROM command WHERE id = ?", made.id)[0])  # type: ignore[no-any-return]  # noqa: S608


def orders(db: Database, *, device: str = "", id: str = "", limit: int = 50, scope: Scope = EVERYTHING) -> list[Order]:  # noqa: A002
    """Commands, the newest first."""
    where, values = ("id = ?", [id]) if id else ("device = ?", [device]) if device else ("1 = 1", [])
    inside, within = scope.within("device")
    sql = f"SELECT {_ORDER} FROM command WHERE {where} AND {inside} ORDER BY issued DESC, id LIMIT {_limit(limit)}"  # noqa: S608 - bound
    rows = db.read(sql, *values, *within)
    return [_struct(Order, _ORDER, row) for row in rows]


def due(db: Database, device: str, now_ms: int, after: tuple[int, str] = (0, "")) -> list[Order]:
    """Commands that wait to be sent to a box, or with `device` "" to any, the oldest first: at most PAGE of those that come `after` one's
    `issued` and `id`.
    """
    where, values = ("AND device = ?", (device,)) if device else ("", ())
    waits = f"state = 'queued' AND expires > ? AND (issued, id) > (?, ?) {where}"
    sql = f"SELECT {_ORDER} FROM command WHERE {waits} ORDER BY issued, id LIMIT {PAGE}"  # noqa: S608 - ours; values are bound
    return [_struct(Order, _ORDER, row) for row in db.read(sql, now_ms, *after, *values)]


def waiting(db: Database, now_ms: int) -> list[str]:
    """Boxes that are there, and have a command that waits to be sent."""
    waits = "c.state = 'queued' AND c.expires > ? AND d.state = 'online'"
    return [row[0] for row in db.read(f"SELECT DISTINCT d.name FROM command c JOIN device d ON d.name = c.device WHERE {waits}", now_ms)]  # noqa: S608


def sent(db: Database, id: str) -> None:  # noqa: A002
    """The broker took it for the box."""
    with db.write() as tx:
        tx.run("UPDATE command SET state = 'sent' WHERE id = ? AND state = 'queued'", id)


def reopen(db: Database) -> None:
    """The broker may have forgotten what it held for boxes: send again what has no answer. A box does a command only once."""
    with db.write() as tx:
        tx.run("UPDATE command SET state = 'queued' WHERE state = 'sent'")


def came(tx: Transaction, devices: Sequence[str]) -> None:
    """These boxes have a connection anew. What a broker held for them may be gone with their session, as after a day: send it again."""
    marks = ", ".join("?" * len(devices))
    tx.run(f"UPDATE command SET state = 'queued' WHERE state = 'sent' AND device IN ({marks})", *devices)  # noqa: S608 - ours; values are bound


def expire(db: Database, now_ms: int) -> list[str]:
    """Close commands whose time is over; returns their boxes. The answer of a box that was cut off may still come and counts."""
    with db.write() as tx:
        over = "state IN ('queued', 'sent') AND expires <= ?"
        names = [row[0] for row in tx.run(f"SELECT DISTINCT device FROM command WHERE {over}", now_ms)]  # noqa: S608 - ours
        if names:
            tx.run(f"UPDATE command SET state = 'expired' WHERE {over}", now_ms)  # noqa: S608 - ours
    return names


def audit(
    db: Database, now_ms: int, author: str, action: str, target: str = "", details: dict[str, Any] | None = None, address: str = ""
) -> None:
    """Write down that somebody did something. Never secrets."""
    with db.write() as tx:
        sql = "INSERT INTO audit (ts, author, action, target, details, address) VALUES (?, ?, ?, ?, ?, ?)"
        tx.run(sql, now_ms, author, action, target, msgspec.json.encode(details or {}).decode(), address)


def audited(db: Database, *, author: str = "", target: str = "", before: int = 0, limit: int = 100) -> list[Audited]:
    """The audit log, the newest first."""
    names = "id, ts, author, action, target, details, address"
    conditions: list[str] = ["id < ?"]
    values: list[object] = [before or 2**62]
    for column, value in (("author", author), ("target", target)):
        if value:
            conditions.append(f"{column} = ?")
            values.append(value)
    where = " AND ".join(conditions)
    rows = db.read(f"SELECT {names} FROM audit WHERE {where} ORDER BY id DESC LIMIT {_limit(limit)}", *values)  # noqa: S608 - bound
    return [_struct(Audited, names, row) for row in rows]


def _limit(limit: int) -> int:
    return max(1, min(limit, 1000))
