"""A chain's store, grown: boxes × days of health at the resolution that the policy keeps, through the store's own tables.

One day of a few invented machines is reported by the real `Reporter`, merged as the controller merges, and repeated for every box and
day. Rows go in in the order of time, for a few boxes at once: pages are then filled and split as those of a live store, which bulk
loading in the order of the key would hide. Then the console's queries are timed, with the file's pages taken out of memory before.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Protocol

from fleet import history, inventory, journal
from fleet.database import Database, is_url, open_database
from fleet.inventory import Filter
from runtime.telemetry.collect import Reporter
from runtime.telemetry.times import SystemTimes
from visavis.rehearse.measure import quantiles
from visavis.simulate.plausible import Machine

__all__ = ["grow"]

_KINDS = 4
_BLOCK = 25
_DAY_MS, _HOUR_MS, _FIVE_MS = 86_400_000, 3_600_000, 300_000
_HEALTH_S = 30
_RAW_DAYS = history.RAW_MS // _DAY_MS
_EVENTS_A_DAY = 4
_ASKED = 100
_TABLES = ("raw", "five_minutes", "hour", "event", "device", "series", "seen")


def grow(*, devices: int, days: int, seed: int, database: str = "") -> dict[str, Any]:
    """Make the store and measure it; `database` is a PostgreSQL to fill instead of a file, and must be empty."""
    now = SystemTimes().wall_ms()
    with tempfile.TemporaryDirectory(prefix="visavis-bench-growth-") as folder, ExitStack() as stack:
        place = database or str(Path(folder) / "fleet.db")
        open_database(place).close()
        began = time.perf_counter()
        rows = _fill(lambda: _writing(place), devices, days, now - now % _DAY_MS, seed)
        filled_s = time.perf_counter() - began
        db = open_database(place)
        stack.callback(db.close)
        weighed = _weigh(db, place)
        pruned = time.perf_counter()
        history.prune(db, now)
        figures = {
            "growth": "PostgreSQL" if is_url(place) else "SQLite",
            "devices": devices,
            "days": days,
            "health_s": _HEALTH_S,
            "rows_a_box_and_day": {name: round(count / devices / (_RAW_DAYS if name == "raw" else days)) for name, count in rows.items()},
            "bytes_a_row": {name: round(weighed[name] / count, 1) for name, count in rows.items()},
            "bytes_a_box_and_day": {
                name: round(weighed[name] / devices / (_RAW_DAYS if name == "raw" else days)) for name in rows
            },
            "megabytes": round(sum(weighed.values()) / 1e6, 1),
            "filled_s": round(filled_s, 1),
            "pruned_s": round(time.perf_counter() - pruned, 1),
        }  # fmt: skip
        if not is_url(place):
            _forget(Path(place))
        return figures | {"query_ms": _ask(db, devices, now, seed)}


# --- filling


class _Day:
    """One machine's day: rows by table as (metric, ms since midnight, …), in the order of time."""

    def __init__(self, seed: int) -> None:
        machine, reporter, recorder = Machine(Random(seed), hot=seed % 4 == 3), Reporter(), history.Recorder()
        self.metrics: dict[str, int] = {}
        self.raw: list[tuple[int, int, float]] = []
        merged: dict[int, dict[tuple[int, int], list[float]]] = {_FIVE_MS: defaultdict(list), _HOUR_MS: defaultdict(list)}
        known: dict[str, Any] = {}
        for at_s in range(0, _DAY_MS // 1000, _HEALTH_S):
            report = reporter.report(machine.values(at_s, at_s), at_s * 1000)
            repeats = report.full and not recorder.first_of_hour("box", at_s * 1000)
            for name, value in report.m.items():
                number = history.number(name, value)
                series = self.metrics.setdefault(name, len(self.metrics))
                self.raw.append((series, at_s * 1000, number))
                if not (repeats and known.get(name) == value):
                    for step, buckets in merged.items():
                        buckets[series, at_s * 1000 // step * step].append(number)
            known |= report.m
        self.five, self.hour = (
            sorted(((series, ts, min(v), max(v), sum(v), len(v)) for (series, ts), v in merged[step].items()), key=lambda row: row[1])
            for step in (_FIVE_MS, _HOUR_MS)
        )


class _Many(Protocol):
    """Takes rows."""

    def many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        """One statement with many rows of parameters."""


class _Careless:
    """The SQLite file without journal and without waiting for the disk: a generated store that breaks is generated again."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -262144", "locking_mode = EXCLUSIVE"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("BEGIN")

    def many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        """See `_Many`."""
        self._connection.executemany(sql, rows)

    def close(self) -> None:
        """All is in the file."""
        self._connection.execute("COMMIT")
        self._connection.close()


@contextmanager
def _writing(place: str) -> Iterator[_Many]:
    if is_url(place):
        with closing(open_database(place)) as db, db.write() as tx:
            yield tx
    else:
        with closing(_Careless(place)) as fast:
            yield fast


def _fill(writing: Callable[[], AbstractContextManager[_Many]], devices: int, days: int, end: int, seed: int) -> dict[str, int]:
    """Rows by table."""
    kinds, rng = [_Day(seed + n) for n in range(_KINDS)], Random(seed)
    names = sorted({name for kind in kinds for name in kind.metrics})
    place = {name: number for number, name in enumerate(names)}
    for kind in kinds:  # the same metric has the same place everywhere
        told = {series: place[name] for name, series in kind.metrics.items()}
        kind.raw = [(told[row[0]], *row[1:]) for row in kind.raw]
        kind.five = [(told[row[0]], *row[1:]) for row in kind.five]
        kind.hour = [(told[row[0]], *row[1:]) for row in kind.hour]
    counts: dict[str, int] = defaultdict(int)
    for first in range(0, devices, _BLOCK):
        boxes = range(first, min(first + _BLOCK, devices))
        with writing() as tx:
            _register(tx, boxes, names, end, rng)
            for day in range(days, 0, -1):
                begin = end - day * _DAY_MS
                for table, rows, columns in _rows(kinds, boxes, len(names), begin, raw=day <= _RAW_DAYS):
                    marks = ", ".join("?" * columns)
                    tx.many(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - a table of ours
                    counts[table] += len(rows)
                counts["event"] += _events(tx, boxes, begin, rng)
    return dict(counts)


def _rows(kinds: list[_Day], boxes: range, width: int, begin: int, *, raw: bool) -> Iterator[tuple[str, list[tuple[Any, ...]], int]]:
    tables: tuple[tuple[str, Callable[[_Day], list[Any]], int], ...] = (
        ("raw", lambda kind: kind.raw, 3),
        ("five_minutes", lambda kind: kind.five, 6),
        ("hour", lambda kind: kind.hour, 6),
    )
    for table, of, columns in tables:
        if table == "raw" and not raw:
            continue
        rows = [(1 + box * width + row[0], begin + row[1], *row[2:]) for box in boxes for row in of(kinds[box % _KINDS])]
        rows.sort(key=lambda row: row[1])
        yield table, rows, columns


def _register(tx: _Many, boxes: range, names: list[str], now: int, rng: Random) -> None:
    health = '{"temperature":61.5,"rung":0,"fps":29.7,"memory_free":0.41,"load":0.5}'
    sql = "INSERT INTO device (name, state, since, seen, created, site, model, release, health, health_ts, state_of_health)"
    rows = [(f"box-{box:05}", now, now, now, f"Store {box // 3}", rng.choice(("orin", "rtx")), health, now) for box in boxes]
    tx.many(f"{sql} VALUES (?, 'online', ?, ?, ?, ?, ?, '1.0.0', ?, ?, 'ok')", rows)
    series = [(1 + box * len(names) + number, f"box-{box:05}", name) for box in boxes for number, name in enumerate(names)]
    tx.many("INSERT INTO series (id, device, metric) VALUES (?, ?, ?)", series)
    tx.many("INSERT INTO seen (device, boot, first, last) VALUES (?, ?, 1, 100000)", [(f"box-{box:05}", f"{box:016x}") for box in boxes])


def _events(tx: _Many, boxes: range, begin: int, rng: Random) -> int:
    moments = sorted((begin + rng.randrange(_DAY_MS), box) for box in boxes for _ in range(_EVENTS_A_DAY))
    sql = "INSERT INTO event (device, boot, seq, ts, arrived, code, severity, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    details = '{"node":"voice","cause":"signal","restarts":1}'
    tx.many(sql, [(f"box-{box:05}", f"{box:016x}", n, ts, ts, "node_down", "warning", details) for n, (ts, box) in enumerate(moments, 1)])
    return len(moments)


# --- weighing and asking


def _weigh(db: Database, place: str) -> dict[str, int]:
    """Bytes by table, with its indices; SQLite tells them by its table dbstat. Raises Unavailable where it was built without."""
    if is_url(place):
        return {name: int(db.read(f"SELECT pg_total_relation_size('{name}')")[0][0]) for name in _TABLES}
    # Page by page: what dbstat adds up itself (`aggregate`) is 32 bits wide, and a table of 10 GB came out as one of 1.4.
    sizes = dict(db.read("SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name GROUP BY 1"))
    return {name: int(sizes.get(name, 0)) for name in _TABLES}


def _forget(path: Path) -> None:
    """Have the kernel drop the file's pages, so that the first look at each box reads the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _ask(db: Database, devices: int, now: int, seed: int) -> dict[str, Any]:
    rng = Random(seed)

    def box() -> str:
        return f"box-{rng.randrange(devices):05}"

    def chart(hours: int) -> Callable[[], object]:
        metrics = ("temperature", "fps", "node_cpu.voice", "mic_level_db", "stage_p95_ms.sound_heard")
        return lambda: history.curve(db, box(), rng.choice(metrics), now - hours * _HOUR_MS, now, now)

    queries: dict[str, Callable[[], object]] = {
        "overview": lambda: (inventory.devices(db, Filter()), inventory.facets(db)),
        "one_box": lambda: inventory.device(db, box()),
        "chart_of_hours": chart(6),
        "chart_of_a_week": chart(7 * 24),
        "chart_of_a_month": chart(30 * 24),
        "events": lambda: journal.events(db, limit=100),
        "events_of_a_box": lambda: journal.events(db, device=box(), limit=100),
    }
    found = {}
    for name, query in queries.items():
        took = []
        for _ in range(_ASKED):
            began = time.perf_counter()
            query()
            took.append((time.perf_counter() - began) * 1000)
        found[name] = quantiles(took)
    return found
