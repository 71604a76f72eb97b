"""Health over time: every sample for two days, then minimum, maximum and mean of 5 minutes, then of hours.

The coarser tables are written together with the samples, so that what a box tells after a week offline lands in them too.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fleet.database import Database, Transaction
from runtime.telemetry import Type, metric

__all__ = ["HOURS_MS", "MINUTES_MS", "MOST_SERIES", "RAW_MS", "Curve", "Recorder", "curve", "number", "prune"]

_DAY = 86_400_000
RAW_MS, MINUTES_MS, HOURS_MS = 2 * _DAY, 90 * _DAY, 730 * _DAY
MOST_SERIES = 256
"""Metrics of one box; a box that invents more is not believed."""
_FIVE, _HOUR = 300_000, 3_600_000
_UPSERT = """
INSERT INTO {table} (series, ts, low, high, total, count) VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT (series, ts) DO UPDATE SET
  low = CASE WHEN excluded.low < {table}.low THEN excluded.low ELSE {table}.low END,
  high = CASE WHEN excluded.high > {table}.high THEN excluded.high ELSE {table}.high END,
  total = {table}.total + excluded.total, count = {table}.count + 1
"""


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One metric over time. `ts` in ms; where samples were merged, `low`, `mean` and `high` of each step of `step_ms`, else the same."""

    metric: str
    step_ms: int
    ts: list[int]
    low: list[float]
    mean: list[float]
    high: list[float]


def number(name: str, value: object) -> float:
    """A metric's value on an axis: booleans are 0 and 1, names their place in the catalogue's list."""
    row = metric(name)
    if row is not None and row.type is Type.NAME:
        return float(row.values.index(str(value)))
    assert isinstance(value, (int, float))
    return float(value)


class Recorder:
    """Writes samples; remembers the numbers of series."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], int] = {}

    def forget(self) -> None:
        """After a transaction that failed: numbers may have been given in it."""
        self._series.clear()

    def write(self, tx: Transaction, samples: Sequence[tuple[str, str, int, float]], now_ms: int) -> None:
        """Samples as (device, metric, ts, value)."""
        rows = [(self._number(tx, device, name), ts, value) for device, name, ts, value in samples]
        fresh = [row for row in rows if row[1] > now_ms - RAW_MS]
        tx.many("INSERT INTO raw (series, ts, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", fresh)
        for table, step in (("five_minutes", _FIVE), ("hour", _HOUR)):
            tx.many(_UPSERT.format(table=table), [(series, ts - ts % step, value, value, value) for series, ts, value in rows])

    def _number(self, tx: Transaction, device: str, name: str) -> int:
        key = (device, name)
        if key not in self._series:
            tx.run("INSERT INTO series (device, metric) VALUES (?, ?) ON CONFLICT DO NOTHING", device, name)
            self._series[key] = tx.run("SELECT id FROM series WHERE device = ? AND metric = ?", device, name)[0][0]
        return self._series[key]


def curve(db: Database, device: str, name: str, begin: int, end: int, now_ms: int) -> Curve:
    """A metric from `begin` to `end`, from the finest table that still has all of it and gives at most some 3000 points."""
    span = end - begin
    found = db.read("SELECT id FROM series WHERE device = ? AND metric = ?", device, name)
    series = found[0][0] if found else 0
    if begin > now_ms - RAW_MS and span <= _DAY // 2:
        rows = db.read("SELECT ts, value FROM raw WHERE series = ? AND ts BETWEEN ? AND ? ORDER BY ts LIMIT 10000", series, begin, end)
        # Health is told by exception: what was true before the window began still holds in it.
        before = db.read("SELECT value FROM raw WHERE series = ? AND ts < ? ORDER BY ts DESC LIMIT 1", series, begin)
        rows = [(begin, before[0][0]), *rows] if before else rows
        values = [value for _, value in rows]
        return Curve(metric=name, step_ms=0, ts=[ts for ts, _ in rows], low=values, mean=values, high=values)
    table, step = ("five_minutes", _FIVE) if begin > now_ms - MINUTES_MS and span <= 10 * _DAY else ("hour", _HOUR)
    merged = db.read(
        f"SELECT ts, low, total / count, high FROM {table} WHERE series = ? AND ts BETWEEN ? AND ? ORDER BY ts LIMIT 20000",  # noqa: S608 - a table of ours
        *(series, begin - begin % step, end),
    )
    columns = [list(column) for column in zip(*merged, strict=True)] if merged else [[], [], [], []]
    return Curve(metric=name, step_ms=step, ts=columns[0], low=columns[1], mean=columns[2], high=columns[3])


def prune(db: Database, now_ms: int) -> int:
    """Drop what is older than its table keeps; returns how many rows went. Writers get their turn after every thousand series."""
    last, gone = 0, 0
    while numbers := [row[0] for row in db.read("SELECT id FROM series WHERE id > ? ORDER BY id LIMIT 1000", last)]:
        last = numbers[-1]
        with db.write() as tx:
            for table, keep in (("raw", RAW_MS), ("five_minutes", MINUTES_MS), ("hour", HOURS_MS)):
                for series in numbers:
                    gone += tx.count(f"DELETE FROM {table} WHERE series = ? AND ts < ?", series, now_ms - keep)  # noqa: S608 - ours
    with db.write() as tx:
        gone += tx.count("DELETE FROM event WHERE ts < ?", now_ms - HOURS_MS)
        gone += tx.count("DELETE FROM command WHERE issued < ?", now_ms - HOURS_MS)
    return gone
