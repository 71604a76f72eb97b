"""How the fleet stands to the settings that are wanted of it: by box and by group.

Thousands of boxes are looked at for each answer, so what most of them are, as wanted, is found without making anything of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from fleet.database import Database
from fleet.desired import BoxSettings, Group, groups, of_boxes
from fleet.selection import Crowd, Face

__all__ = ["Drift", "GroupView", "drift", "views"]


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet: boxes by state, and those that are not as they should be."""

    states: dict[str, int]
    boxes: list[BoxSettings]


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group, and how its boxes stand: how many have its settings, have not said so yet, or differ."""

    group: Group
    same: int
    pending: int
    differs: int


class _Told(msgspec.Struct, frozen=True):
    """What of a box's report is compared."""

    reported: dict[str, Any] = {}
    refused: dict[str, str] = {}


class _Stand(msgspec.Struct, frozen=True):
    """A box of which something is wanted. `origins`: of which groups it has settings otherwise, "" its own."""

    face: Face
    pending: bool
    origins: frozenset[str]


_SAME: frozenset[str] = frozenset()


def _stands(db: Database) -> Iterator[_Stand]:
    """By name."""
    sql = (
        "SELECT d.name, d.site, d.model, d.release, w.wanted, w.origin, d.reported, d.reported_version < w.version"
        " FROM desired w JOIN device d ON d.name = w.device WHERE w.version > 0 ORDER BY d.name"
    )
    told = msgspec.json.Decoder(_Told)
    known: dict[str, dict[str, Any]] = {}  # what is wanted of one is wanted of many, in the same words

    def read(text: str) -> dict[str, Any]:
        found = known.get(text)
        if found is None:
            found = known[text] = msgspec.json.decode(text)
        return found

    for *face, wanted_text, origin_text, report, pending in db.read(sql):
        origins = _SAME
        if not pending:
            wanted, found = read(wanted_text), told.decode(report)
            if not wanted.items() <= found.reported.items() or not found.refused.keys().isdisjoint(wanted):
                origin = read(origin_text)
                wrong = [name for name, value in wanted.items() if name in found.refused or found.reported.get(name) != value]
                origins = frozenset(origin.get(name, "") for name in wrong)
        yield _Stand(Face(*face), bool(pending), origins)


def drift(db: Database, limit: int = 200) -> Drift:
    """How all boxes of which something is wanted stand; those that differ first, then those that have not reported, by name."""
    differs, pending, same = list[str](), list[str](), 0
    for stand in _stands(db):
        if stand.pending:
            pending.append(stand.face.name)
        elif stand.origins:
            differs.append(stand.face.name)
        else:
            same += 1
    states = {"same": same, "pending": len(pending), "differs": len(differs)}
    return Drift(states=states, boxes=of_boxes(db, [*differs, *pending][:limit]))


def views(db: Database) -> list[GroupView]:
    """All groups, the one that wins first, and how their boxes stand by this group's settings alone."""
    stands = {stand.face.name: stand for stand in _stands(db)}
    crowd = Crowd(stand.face for stand in stands.values())
    found = []
    for group in groups(db.read):
        mine = [stands[face.name] for face in crowd.select(group.selection)]
        pending = len([stand for stand in mine if stand.pending])
        differs = len([stand for stand in mine if group.name in stand.origins])
        found.append(GroupView(group=group, same=len(mine) - pending - differs, pending=pending, differs=differs))
    return found
