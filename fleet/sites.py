"""Where the boxes are: sites with a place on earth, and how their boxes are. A box tells its place in its attribute `position`."""

from __future__ import annotations

import re

import msgspec

from fleet import inventory
from fleet.database import Database, Transaction
from fleet.inventory import Filter
from fleet.scopes import EVERYTHING, Scope

__all__ = ["Site", "Sites", "note_place", "position", "sites"]

_POSITION = re.compile(r"\s*(-?\d{1,2}(?:\.\d{1,8})?)\s*,\s*(-?\d{1,3}(?:\.\d{1,8})?)\s*")
_MOST = 5000


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A site, or a box that tells none, at its boxes' mean latitude and longitude (WGS 84, degrees). `away`: lost or silent."""

    site: str
    device: str  # the only box, if it tells no site
    latitude: float
    longitude: float
    boxes: int
    bad: int
    warn: int
    away: int


class Sites(msgspec.Struct, frozen=True, kw_only=True):
    """The sites that match; `unplaced` boxes match too but tell no place."""

    sites: list[Site]
    unplaced: int


def position(text: str) -> tuple[float, float] | None:
    """`LATITUDE, LONGITUDE` in degrees; None if it is none."""
    found = _POSITION.fullmatch(text)
    if found is None:
        return None
    latitude, longitude = float(found[1]), float(found[2])
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else None


def note_place(tx: Transaction, device: str, text: str) -> None:
    """Keep what a box tells of its place; nothing takes the place away."""
    tx.run("DELETE FROM place WHERE device = ?", device)
    found = position(text)
    if found is not None:
        tx.run("INSERT INTO place (device, latitude, longitude) VALUES (?, ?, ?)", device, *found)


def sites(db: Database, wanted: Filter, scope: Scope = EVERYTHING) -> Sites:
    """The sites of the boxes that match, by name."""
    where, values = inventory.matching(wanted, scope)
    label = "CASE WHEN d.site = '' THEN d.name ELSE d.site END"
    alone = "CASE WHEN d.site = '' THEN d.name ELSE '' END"
    counted = ", ".join(
        f"sum(CASE WHEN {condition} THEN 1 ELSE 0 END)"
        for condition in ("d.state_of_health = 'bad'", "d.state_of_health = 'warn'", "d.state IN ('lost', 'silent')")
    )
    rows = db.read(
        f"SELECT {label}, {alone}, avg(p.latitude), avg(p.longitude), count(*), {counted} FROM device d"  # noqa: S608 - ours; values are bound
        f" JOIN place p ON p.device = d.name WHERE {where} GROUP BY {label}, {alone} ORDER BY {label}, {alone} LIMIT {_MOST}",
        *values,
    )
    sql = f"SELECT count(*) FROM device d LEFT JOIN place p ON p.device = d.name WHERE {where} AND p.device IS NULL"  # noqa: S608 - the same
    names = ("site", "device", "latitude", "longitude", "boxes", "bad", "warn", "away")
    found = [Site(**dict(zip(names, row, strict=True))) for row in rows]
    return Sites(sites=found, unplaced=int(db.read(sql, *values)[0][0]))
