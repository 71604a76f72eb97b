"""The settings that boxes should have: a box's own, and those of groups. Kept with a version; the box reports which one it has.

Precedence: what a box's own settings name wins over every group; among groups that select the box the higher priority wins, with equal
priority the name that comes first. Each setting is decided by itself. A setting that nobody names is the box's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from fleet.database import Database, Transaction
from fleet.errors import BadRequest
from fleet.selection import Crowd, Face, Run, Selection, matches
from runtime import telemetry as t

__all__ = [
    "BoxSettings",
    "Difference",
    "Group",
    "change_own",
    "check",
    "due",
    "effective",
    "groups",
    "of_box",
    "of_boxes",
    "put_group",
    "put_own",
    "refresh",
    "refresh_in",
    "remove_group",
]

Settings = dict[str, Any]
MOST_GROUPS = 200
MOST_VERSION = 2**62
"""So that the next version too is an integer of the database."""
_CHUNK = 500


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Settings for all boxes that are selected, now and later."""

    name: str
    priority: int
    selection: Selection
    settings: Settings
    author: str
    changed: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One setting that is not as it should be; `found` is null if the box does not say, `reason` what it gives as reason."""

    name: str
    wanted: Any
    found: Any
    reason: str


class HeldRung(msgspec.Struct, frozen=True, kw_only=True):
    """The rung that a command holds on a box, until when by the box's clock (ms)."""

    rung: int
    until: int


class BoxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A box's settings. `state`: none (nothing is wanted), pending (this version is not reported yet), same or differs.

    `origin` names the group of each wanted setting, "" for the box's own. `told` is when it reported (ms), 0: never. `held`: null, or what
    a command holds.
    """

    device: str
    state: str
    own: Settings
    wanted: Settings
    origin: dict[str, str]
    version: int
    changed: int
    reported: Settings
    refused: dict[str, str]
    reported_version: int
    told: int
    differences: list[Difference]
    held: HeldRung | None


# --- rules ------------------------------------------------------------------------------------------------------------------


def effective(own: Mapping[str, Any], groups: Iterable[Group], face: Face) -> tuple[Settings, dict[str, str]]:
    """What a box should have, and which group each of it is from ("" its own). Pure."""
    wanted: Settings = {}
    origin: dict[str, str] = {}
    mine = [group for group in groups if matches(group.selection, face)]
    for group in sorted(mine, key=lambda group: (-group.priority, group.name)):
        for name, value in group.settings.items():
            if name not in wanted:
                wanted[name], origin[name] = value, group.name
    return {**wanted, **own}, {**origin, **dict.fromkeys(own, "")}


def check(settings: Mapping[str, Any]) -> None:
    """Raise BadRequest unless these are settings of the catalogue with values that can be."""
    for name, value in settings.items():
        why = t.wrong(name, value)
        if why:
            raise BadRequest(f"{name}: {why}")


def _differences(wanted: Settings, reported: Settings, refused: dict[str, str]) -> list[Difference]:
    return [
        Difference(name=name, wanted=value, found=reported.get(name), reason=refused.get(name, ""))
        for name, value in wanted.items()
        if name in refused or reported.get(name) != value
    ]


# --- groups -----------------------------------------------------------------------------------------------------------------


def groups(run: Run) -> list[Group]:
    """All groups, the one that wins first."""
    rows = run("SELECT name, priority, selection, settings, author, changed FROM desired_group ORDER BY priority DESC, name")
    return [
        Group(
            name=row[0],
            priority=row[1],
            selection=msgspec.json.decode(row[2], type=Selection),
            settings=msgspec.json.decode(row[3]),
            author=row[4],
            changed=row[5],
        )
        for row in rows
    ]


def put_group(db: Database, group: Group) -> set[str]:
    """Make or change a group; returns the boxes for which something changed. Raises BadRequest."""
    check(group.settings)
    if not t.is_id(group.name):
        raise BadRequest(f"{group.name!r} cannot name a group: letters, digits, '.', '_', '-', at most 63, the first no sign")
    if not group.settings:
        raise BadRequest("a group needs at least one setting")
    if group.selection.wrong():
        raise BadRequest(group.selection.wrong())
    with db.write() as tx:
        if tx.run("SELECT count(*) FROM desired_group WHERE name <> ?", group.name)[0][0] >= MOST_GROUPS:
            raise BadRequest(f"more than {MOST_GROUPS} groups nobody can oversee: remove one first")
        tx.run(
            "INSERT INTO desired_group (name, priority, selection, settings, author, changed) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET priority = excluded.priority, selection = excluded.selection,"
            " settings = excluded.settings, author = excluded.author, changed = excluded.changed",
            *(group.name, group.priority, _text(group.selection), _text(group.settings), group.author, group.changed),
        )
        return refresh_in(tx, group.changed)


def remove_group(db: Database, name: str, now_ms: int) -> set[str]:
    """Its boxes go back to what else is wanted of them; returns those for which something changed. Raises BadRequest."""
    with db.write() as tx:
        if not tx.count("DELETE FROM desired_group WHERE name = ?", name):
            raise BadRequest(f"there is no group {name!r}")
        return refresh_in(tx, now_ms)


# --- boxes ------------------------------------------------------------------------------------------------------------------


def put_own(db: Database, device: str, changes: Mapping[str, Any], now_ms: int) -> set[str]:
    """Change a box's own settings; null takes one back. Returns the box if something changed. Raises BadRequest."""
    check({name: value for name, value in changes.items() if value is not None})
    with db.write() as tx:
        if not tx.run("SELECT 1 FROM device WHERE name = ?", device):
            raise BadRequest(f"there is no box {device!r}")
        before = _version(tx, device)
        return {device} if change_own(tx, device, changes, now_ms) != before else set()


def _version(tx: Transaction, device: str) -> int:
    found = tx.run("SELECT version FROM desired WHERE device = ?", device)
    return int(found[0][0]) if found else 0


def change_own(tx: Transaction, device: str, changes: Mapping[str, Any], now_ms: int, *, anew: bool = False) -> int:
    """As `put_own`, in a transaction, with `anew` as in `refresh_in`; returns the version that holds now."""
    found = tx.run("SELECT own FROM desired WHERE device = ?", device)
    own = {**(msgspec.json.decode(found[0][0]) if found else {}), **changes}
    own = {name: value for name, value in own.items() if value is not None}
    tx.run(
        "INSERT INTO desired (device, own, wanted, origin, version, changed) VALUES (?, ?, '{}', '{}', 0, ?)"
        " ON CONFLICT (device) DO UPDATE SET own = excluded.own",
        *(device, _text(own), now_ms),
    )
    refresh_in(tx, now_ms, (device,), anew=anew)
    return _version(tx, device)


def refresh(db: Database, now_ms: int, names: Sequence[str] = ()) -> set[str]:
    """Work out anew what these boxes should have (none named: all), e.g. after a box told another site; returns those that changed."""
    changed: set[str] = set()
    for first in range(0, max(1, len(names)), _CHUNK):
        with db.write() as tx:
            changed |= refresh_in(tx, now_ms, names[first : first + _CHUNK])
    return changed


def refresh_in(tx: Transaction, now_ms: int, names: Sequence[str] = (), *, anew: bool = False) -> set[str]:
    """As `refresh`, in a transaction. `anew`: a new version in any case, so that the box reports again."""
    rules = groups(tx.run)
    where = f"WHERE d.name IN ({','.join('?' * len(names))})" if names else ""
    rows = tx.run(
        "SELECT d.name, d.site, d.model, d.release, d.reported_version, w.own, w.wanted, w.origin, w.version FROM device d"  # noqa: S608 - ours
        f" LEFT JOIN desired w ON w.device = d.name {where}",
        *names,
    )
    crowd, mine = Crowd(Face(*row[:4]) for row in rows), dict[str, list[Group]]()
    for group in rules:
        for face in crowd.select(group.selection):
            mine.setdefault(face.name, []).append(group)
    changed: list[tuple[object, ...]] = []
    moved: list[tuple[object, ...]] = []
    for device, site, model, release, told, own_text, old_text, old_origin, old_version in rows:
        reported = min(told, MOST_VERSION)  # older stores took more
        own = msgspec.json.decode(own_text) if own_text else {}
        wanted, origin = effective(own, mine.get(device, ()), Face(device, site, model, release))
        version, text = old_version or 0, _text(dict(sorted(wanted.items())))
        # A box that has a higher version than we ever gave (this store is an old copy) would ignore ours for ever.
        if text != (old_text or "{}") or (version and version < reported) or anew:
            changed.append((device, own_text or "{}", text, _text(origin), max(now_ms, version + 1, reported + 1), now_ms))
        elif old_text is not None and _text(origin) != old_origin:
            moved.append((_text(origin), device))
    tx.many(
        "INSERT INTO desired (device, own, wanted, origin, version, changed) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE"
        " SET wanted = excluded.wanted, origin = excluded.origin, version = excluded.version, changed = excluded.changed",
        changed,
    )
    tx.many("UPDATE desired SET origin = ? WHERE device = ?", moved)
    return {str(row[0]) for row in changed}


def due(db: Database, names: Iterable[str] | None = None) -> list[tuple[str, t.Shadow]]:
    """What has to be sent to boxes that are online and have not reported it; of these boxes, or of all."""
    sql = (
        "SELECT w.device, w.version, w.wanted FROM desired w JOIN device d ON d.name = w.device"
        " WHERE d.state = 'online' AND d.reported_version < w.version"
    )
    if names is None:
        rows = db.read(sql)
    else:
        wanted = list(names)
        rows = []
        for first in range(0, len(wanted), _CHUNK):
            part = wanted[first : first + _CHUNK]
            rows += db.read(f"{sql} AND w.device IN ({','.join('?' * len(part))})", *part)
    return [(row[0], t.Shadow(version=row[1], desired=msgspec.json.decode(row[2]))) for row in rows]


# --- for people -------------------------------------------------------------------------------------------------------------

_COLUMNS = "d.name, w.own, w.wanted, w.origin, w.version, w.changed, d.reported, d.reported_version"


def of_box(db: Database, device: str) -> BoxSettings:
    """A box's settings. Raises BadRequest."""
    rows = db.read(f"SELECT {_COLUMNS} FROM device d LEFT JOIN desired w ON w.device = d.name WHERE d.name = ?", device)  # noqa: S608 - ours
    if not rows:
        raise BadRequest(f"there is no box {device!r}")
    return _box(rows[0])


def of_boxes(db: Database, names: Sequence[str]) -> list[BoxSettings]:
    """The settings of these boxes, in this order; those that there are."""
    found: dict[str, BoxSettings] = {}
    for first in range(0, len(names), _CHUNK):
        part = names[first : first + _CHUNK]
        marks = ",".join("?" * len(part))
        sql = f"SELECT {_COLUMNS} FROM device d LEFT JOIN desired w ON w.device = d.name WHERE d.name IN ({marks})"  # noqa: S608 - ours
        found |= {box.device: box for box in map(_box, db.read(sql, *part))}
    return [found[name] for name in names if name in found]


def _box(row: tuple[Any, ...]) -> BoxSettings:
    decode = msgspec.json.decode
    own, wanted, origin = (decode(text) if text else {} for text in row[1:4])
    version, changed, reported_version = row[4] or 0, row[5] or 0, row[7]
    told = decode(row[6])
    reported, refused = told.get("reported", {}), told.get("refused", {})
    differences = _differences(wanted, reported, refused)
    state = "none" if not version else "pending" if reported_version < version else "differs" if differences else "same"
    return BoxSettings(
        device=row[0],
        state=state,
        own=own,
        wanted=wanted,
        origin=origin,
        version=version,
        changed=changed,
        reported=reported,
        refused=refused,
        reported_version=reported_version,
        told=told.get("ts", 0),
        differences=differences,
        held=msgspec.convert(held, HeldRung) if (held := told.get("held")) else None,
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
