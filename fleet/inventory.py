"""The boxes: who has a certificate, who is there, what each said last."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from fleet.authority import Authority, Issued
from fleet.database import Database
from fleet.errors import BadRequest
from fleet.scopes import EVERYTHING, Scope
from runtime.telemetry import is_id

__all__ = [
    "Certificate",
    "Device",
    "Filter",
    "apply_revocations",
    "belongs",
    "certificates",
    "device",
    "devices",
    "enrol",
    "enrol_all",
    "facets",
    "matching",
    "revocations_to_apply",
    "revoke",
    "revoked_serials",
    "silent",
]

_SILENT_MS = 30_000
_COLUMNS = (
    "d.name, d.state, d.since, d.seen, d.created, d.site, d.model, d.release, d.state_of_health, d.health_ts, d.health_s, d.health,"
    " d.birth, d.reported, NOT EXISTS (SELECT 1 FROM certificate c WHERE c.device = d.name AND c.revoked IS NULL)"
)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A box as the console shows it. `state`: new (never seen), online, offline (by intent), lost (no goodbye), silent (a connection,
    but no reports). `condition`: ok, warn, bad or unknown by the catalogue's thresholds. Times are wall time in ms.
    """

    name: str
    state: str
    since: int
    seen: int
    created: int
    site: str
    model: str
    release: str
    condition: str
    health_ts: int
    health_s: float
    health: dict[str, Any]
    birth: dict[str, Any]
    settings: dict[str, Any]
    revoked: bool  # no certificate of it is valid


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate of a box; `revoked` is when, or null."""

    serial: str
    issued: int
    expires: int
    revoked: int | None


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which boxes: all that match every field that is set. `q` is part of a name or a site."""

    q: str = ""
    state: str = ""
    condition: str = ""
    site: str = ""
    model: str = ""
    release: str = ""
    after: str = ""
    limit: int = 200


def enrol(db: Database, authority: Authority, name: str, days: int, now_ms: int) -> Issued:
    """A new certificate for a box; those it has stay valid until they are revoked. Raises BadRequest for a name that cannot be."""
    return enrol_all(db, authority, (name,), days, now_ms)[0]


def enrol_all(db: Database, authority: Authority, names: Sequence[str], days: int, now_ms: int) -> list[Issued]:
    """As `enrol` for each, in one transaction: all of them or none."""
    for name in names:
        if not is_id(name):
            raise BadRequest(f"{name!r} cannot name a box: letters, digits, '.', '_', '-', at most 63, the first no sign")
    if not 1 <= days <= 3650:
        raise BadRequest("a certificate is valid from 1 to 3650 days")
    issued = [authority.issue(name, days, now_ms) for name in names]
    with db.write() as tx:
        sql = "INSERT INTO device (name, state, since, seen, created) VALUES (?, 'new', ?, 0, ?) ON CONFLICT DO NOTHING"
        tx.many(sql, [(one.name, now_ms, now_ms) for one in issued])
        sql = "INSERT INTO certificate (serial, device, issued, expires) VALUES (?, ?, ?, ?)"
        tx.many(sql, [(one.serial, one.name, now_ms, one.expires) for one in issued])
    return issued


def revoke(db: Database, name: str, now_ms: int) -> int:
    """Take back all certificates of a box; returns how many. The controller then refuses it and ends its session. Raises BadRequest."""
    with db.write() as tx:
        if not tx.run("SELECT 1 FROM device WHERE name = ?", name):
            raise BadRequest(f"there is no box {name!r}")
        return tx.count("UPDATE certificate SET revoked = ? WHERE device = ? AND revoked IS NULL", now_ms, name)


def revoked_serials(db: Database) -> list[str]:
    """All certificates that were taken back."""
    return [row[0] for row in db.read("SELECT serial FROM certificate WHERE revoked IS NOT NULL")]


def revocations_to_apply(db: Database) -> list[str]:
    """Boxes that have to be put out: a certificate was taken back since they last were, or they are back though they have none."""
    late = (
        "NOT EXISTS (SELECT 1 FROM certificate c WHERE c.device = certificate.device AND c.revoked IS NULL)"
        " AND EXISTS (SELECT 1 FROM device d WHERE d.name = certificate.device AND d.seen > certificate.applied)"
    )
    sql = f"SELECT DISTINCT device FROM certificate WHERE revoked IS NOT NULL AND (applied = 0 OR ({late})) ORDER BY device"  # noqa: S608
    return [row[0] for row in db.read(sql)]


def apply_revocations(db: Database, name: str, now_ms: int) -> None:
    """The broker was told, and the session ended at `now_ms`."""
    with db.write() as tx:
        tx.run("UPDATE certificate SET applied = ? WHERE device = ? AND revoked IS NOT NULL", now_ms, name)


def belongs(db: Database, authority: Authority) -> None:
    """The store is of one authority, whichever controller opens it. Raises BadRequest for another one."""
    mark = hashlib.sha256(authority.pem).hexdigest()
    with db.write() as tx:
        tx.run("INSERT INTO memo (name, content) VALUES ('authority', ?) ON CONFLICT (name) DO NOTHING", mark)
        if tx.run("SELECT content FROM memo WHERE name = 'authority'")[0][0] != mark:
            raise BadRequest(
                f"the store {db.place} is of another fleet's authority: copy authority/ca.pem and ca.key of the first controller"
            )


def certificates(db: Database, name: str) -> list[Certificate]:
    """All certificates that a box ever got, the newest first."""
    rows = db.read("SELECT serial, issued, expires, revoked FROM certificate WHERE device = ? ORDER BY issued DESC", name)
    return [Certificate(serial=row[0], issued=row[1], expires=row[2], revoked=row[3]) for row in rows]


def device(db: Database, name: str) -> Device | None:
    """One box."""
    rows = db.read(f"SELECT {_COLUMNS} FROM device d WHERE name = ?", name)  # noqa: S608 - columns of ours
    return _device(rows[0]) if rows else None


def devices(db: Database, wanted: Filter, scope: Scope = EVERYTHING) -> list[Device]:
    """The boxes that match, by name."""
    where, values = matching(wanted, scope)
    limit = max(1, min(wanted.limit, 1000))
    rows = db.read(f"SELECT {_COLUMNS} FROM device d WHERE {where} ORDER BY d.name LIMIT {limit}", *values)  # noqa: S608 - ours; values are bound
    return [_device(row) for row in rows]


def matching(wanted: Filter, scope: Scope = EVERYTHING) -> tuple[str, list[str]]:
    """A condition upon the table `device` as `d`, and its values."""
    inside, within = scope.where()
    conditions, values = ["d.name > ?", inside], [wanted.after, *within]
    for column, value in (
        ("state", wanted.state),
        ("state_of_health", wanted.condition),
        ("site", wanted.site),
        ("model", wanted.model),
        ("release", wanted.release),
    ):
        if value:
            conditions.append(f"d.{column} = ?")
            values.append(value)
    if wanted.q:
        like = "%" + wanted.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        conditions.append("(d.name LIKE ? ESCAPE '\\' OR d.site LIKE ? ESCAPE '\\')")
        values += [like, like]
    return " AND ".join(conditions), values


def facets(db: Database, scope: Scope = EVERYTHING) -> dict[str, dict[str, int]]:
    """How many boxes there are of each state, condition, site, model and release."""
    found = {}
    inside, values = scope.where()
    for name, column in (
        ("state", "state"),
        ("condition", "state_of_health"),
        ("site", "site"),
        ("model", "model"),
        ("release", "release"),
    ):
        sql = f"SELECT {column}, count(*) FROM device d WHERE {inside} GROUP BY {column} ORDER BY {column} LIMIT 500"  # noqa: S608 - ours
        rows = db.read(sql, *values)
        found[name] = {str(row[0]): int(row[1]) for row in rows}
    return found


def silent(db: Database, now_ms: int, since_ms: int) -> list[str]:
    """Mark boxes that should have reported three times and did not; nobody is judged before the controller listened so long (`since_ms`).

    This is what finds boxes whose will the broker lost together with its memory.
    """
    with db.write() as tx:
        heard = "CASE WHEN seen > ? THEN seen ELSE ? END"
        period = "CASE WHEN health_s > 3600 THEN 3600 WHEN health_s > 5 THEN health_s ELSE 30 END"
        late = f"state = 'online' AND ? - {heard} > {_SILENT_MS} + 3000 * {period}"
        names = [row[0] for row in tx.run(f"SELECT name FROM device WHERE {late}", now_ms, since_ms, since_ms)]  # noqa: S608 - ours
        for name in names:
            tx.run("UPDATE device SET state = 'silent', since = ? WHERE name = ?", now_ms, name)
            columns = "device, boot, seq, ts, arrived, code, severity, details"
            sql = f"INSERT INTO event ({columns}) VALUES (?, '', 0, ?, ?, 'box_silent', 'warning', '{{}}')"  # noqa: S608 - columns of ours
            tx.run(sql, name, now_ms, now_ms)
    return names


def _device(row: tuple[Any, ...]) -> Device:
    decode = msgspec.json.decode
    return Device(
        **dict(zip(("name", "state", "since", "seen", "created", "site", "model", "release", "condition"), row, strict=False)),
        health_ts=row[9],
        health_s=row[10],
        health=decode(row[11]),
        birth=decode(row[12]),
        settings=decode(row[13]),
        revoked=bool(row[14]),
    )
