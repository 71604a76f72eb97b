"""Health over time: every sample for two days, then minimum, maximum and mean of 5 minutes, then of hours.

The coarser tables are written together with the samples, so that what a box tells after a week offline lands in them too.
"""

from __future__ import annotations

import sys
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


_Sample = tuple[str, str, int, float]
"""Device, metric, ts, value."""


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
    """Writes samples; remembers the numbers of series, and the hours that have a whole report."""

    def __init__(self) -> None:
        self._series: dict[str, dict[str, int]] = {}
        self._hours: dict[str, int] = {}

    def forget(self) -> None:
        """After a transaction that failed: numbers may have been given in it."""
        self._series.clear()
        self._hours.clear()

    def first_of_hour(self, device: str, ts: int) -> bool:
        """Whether this is the first whole report of its hour that is seen here.

        A box tells everything every ten minutes. All but the first in an hour are mostly repetitions, which half of the merged tables
        would otherwise be; a curve needs no more than one point an hour where nothing moves.
        """
        hour = ts // _HOUR
        if self._hours.get(device) == hour:
            return False
        self._hours[device] = hour
        return True

    def write(self, tx: Transaction, samples: Sequence[_Sample], repeated: Sequence[_Sample], now_ms: int) -> None:
        """Samples, and those that only say again what is known: these are kept for as long as every sample is, and not merged."""
        every = [*samples, *repeated]
        self._number(tx, every)
        rows = [(self._series[device][name], ts, value) for device, name, ts, value in every]
        fresh = [row for row in rows if row[1] > now_ms - RAW_MS]
        tx.many("INSERT INTO raw (series, ts, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", fresh)
        del rows[len(samples) :]
        for table, step in (("five_minutes", _FIVE), ("hour", _HOUR)):
            tx.many(_UPSERT.format(table=table), [(series, ts - ts % step, value, value, value) for series, ts, value in rows])

    def _number(self, tx: Transaction, samples: Sequence[_Sample]) -> None:
        """Have a number for every series: asked for once a box, given where there is none."""
        missing: dict[str, set[str]] = {}
        for device, name, _, _ in samples:
            if name not in self._series.get(device, ()):
                missing.setdefault(device, set()).add(name)
        for device, names in missing.items():
            if device not in self._series:
                self._learn(tx, device)
            new = sorted(names - self._series[device].keys())
            if new:
                tx.many("INSERT INTO series (device, metric) VALUES (?, ?) ON CONFLICT DO NOTHING", [(device, name) for name in new])
                self._learn(tx, device)

    def _learn(self, tx: Transaction, device: str) -> None:
        rows = tx.run("SELECT metric, id FROM series WHERE device = ?", device)
        self._series[device] = {sys.intern(name): number for name, number in rows}  # ten thousand boxes have the same names


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
