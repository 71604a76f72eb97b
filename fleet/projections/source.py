"""The boxes as the projections see them: what the catalogue knows of each, read from the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from fleet.database import Database
from runtime.telemetry import Metric, metric

__all__ = ["Box", "boxes", "marks", "values"]

_MANY = 500
_GONE = (
    "CASE WHEN EXISTS (SELECT 1 FROM certificate c WHERE c.device = d.name AND c.revoked IS NOT NULL)"
    " AND NOT EXISTS (SELECT 1 FROM certificate c WHERE c.device = d.name AND c.revoked IS NULL) THEN 1 ELSE 0 END"
)


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """One box. `online`: connected and reporting; `seen`: ever heard; `gone`: all its certificates were revoked. `values` are its last
    health by name, `told` when (wall time, ms).
    """

    name: str
    state: str
    condition: str
    site: str
    model: str
    release: str
    told: int
    values: dict[str, Any]
    gone: bool

    @property
    def online(self) -> bool:
        """Whether what it told last still holds."""
        return self.state == "online" and not self.gone

    @property
    def seen(self) -> bool:
        """Whether it was ever heard."""
        return self.state != "new"


def boxes(db: Database, names: Sequence[str] | None = None) -> Iterator[Box]:
    """These boxes, or all, by name; not all at once."""
    if names is not None:
        for begin in range(0, len(names), _MANY):
            part = names[begin : begin + _MANY]
            yield from _rows(db, f"d.name IN ({', '.join('?' * len(part))})", *part)
        return
    last = ""
    while page := _rows(db, "d.name > ?", last):
        yield from page
        last = page[-1].name


def marks(db: Database) -> dict[str, tuple[Any, ...]]:
    """Of every box, what changes when anything of it changes: cheap to compare."""
    rows = db.read(f"SELECT d.name, d.state, d.state_of_health, d.health_ts, d.born, {_GONE} FROM device d")  # noqa: S608 - ours
    return {row[0]: tuple(row[1:]) for row in rows}


def values(box: Box) -> Iterator[tuple[str, Metric, Any]]:
    """The box's values that the catalogue knows, each with its row."""
    for name, value in box.values.items():
        row = metric(name)
        if row is not None:
            yield name, row, value


def _rows(db: Database, where: str, *given: object) -> list[Box]:
    columns = "d.name, d.state, d.state_of_health, d.site, d.model, d.release, d.health_ts, d.health"
    sql = f"SELECT {columns}, {_GONE} FROM device d WHERE {where} ORDER BY d.name LIMIT {_MANY}"  # noqa: S608 - ours; values are bound
    return [
        Box(
            **dict(zip(("name", "state", "condition", "site", "model", "release", "told"), row, strict=False)),
            values=msgspec.json.decode(row[7]),
            gone=bool(row[8]),
        )
        for row in db.read(sql, *given)
    ]
