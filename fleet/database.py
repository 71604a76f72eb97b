"""The store: SQL in a dialect that SQLite and PostgreSQL both speak, behind an interface of three methods.

SQLite in WAL mode with full durability: what was committed survives a power cut, which is why a box may forget it. One writer at a
time, any number of readers. Methods may be called from any thread and block it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.errors import Unavailable

__all__ = ["Database", "Transaction"]

_VERSION = 1
_SCHEMA = """
CREATE TABLE device (
  name TEXT PRIMARY KEY, state TEXT NOT NULL, since INTEGER NOT NULL, seen INTEGER NOT NULL, created INTEGER NOT NULL,
  born INTEGER NOT NULL DEFAULT 0, birth TEXT NOT NULL DEFAULT '{}', site TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '',
  release TEXT NOT NULL DEFAULT '', health_s REAL NOT NULL DEFAULT 0, health TEXT NOT NULL DEFAULT '{}',
  health_ts INTEGER NOT NULL DEFAULT 0, state_of_health TEXT NOT NULL DEFAULT 'unknown', reported TEXT NOT NULL DEFAULT '{}',
  reported_version INTEGER NOT NULL DEFAULT 0);
CREATE TABLE certificate (
  serial TEXT PRIMARY KEY, device TEXT NOT NULL, issued INTEGER NOT NULL, expires INTEGER NOT NULL, revoked INTEGER,
  applied INTEGER NOT NULL DEFAULT 0);
CREATE INDEX certificate_device ON certificate (device);
CREATE TABLE seen (
  device TEXT NOT NULL, boot TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (device, boot, first)
) WITHOUT ROWID;
CREATE TABLE series (id INTEGER PRIMARY KEY, device TEXT NOT NULL, metric TEXT NOT NULL, UNIQUE (device, metric));
CREATE TABLE raw (series INTEGER NOT NULL, ts INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY (series, ts)) WITHOUT ROWID;
CREATE TABLE five_minutes (
  series INTEGER NOT NULL, ts INTEGER NOT NULL, low REAL NOT NULL, high REAL NOT NULL, total REAL NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (series, ts)) WITHOUT ROWID;
CREATE TABLE hour (
  series INTEGER NOT NULL, ts INTEGER NOT NULL, low REAL NOT NULL, high REAL NOT NULL, total REAL NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (series, ts)) WITHOUT ROWID;
CREATE TABLE event (
  id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, boot TEXT NOT NULL, seq INTEGER NOT NULL, ts INTEGER NOT NULL,
  arrived INTEGER NOT NULL, code TEXT NOT NULL, severity TEXT NOT NULL, details TEXT NOT NULL);
CREATE INDEX event_ts ON event (ts);
CREATE INDEX event_device ON event (device, ts);
CREATE TABLE command (
  id TEXT PRIMARY KEY, device TEXT NOT NULL, name TEXT NOT NULL, args TEXT NOT NULL, author TEXT NOT NULL, issued INTEGER NOT NULL,
  expires INTEGER NOT NULL, state TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
  result TEXT NOT NULL DEFAULT '{}', answered INTEGER NOT NULL DEFAULT 0, took_ms INTEGER NOT NULL DEFAULT 0);
CREATE INDEX command_device ON command (device, issued);
CREATE INDEX command_open ON command (state, expires);
CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT, ts INTEGER NOT NULL, author TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL,
  details TEXT NOT NULL, address TEXT NOT NULL);
CREATE TABLE account (
  name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT NOT NULL, created INTEGER NOT NULL, disabled INTEGER NOT NULL DEFAULT 0);
CREATE TABLE session (digest TEXT PRIMARY KEY, account TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE TABLE token (
  id INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE, title TEXT NOT NULL, role TEXT NOT NULL, author TEXT NOT NULL,
  created INTEGER NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0);
"""


class Transaction:
    """Statements that are committed together. Parameters are `?`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, *values: object) -> list[Any]:
        """One statement and its rows."""
        return self._connection.execute(sql, values).fetchall()

    def count(self, sql: str, *values: object) -> int:
        """One statement; how many rows it changed."""
        return self._connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        """One statement with many rows of parameters."""
        self._connection.executemany(sql, rows)


class Database:
    """The SQLite file at `path`, made if it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._local = threading.local()
        self._writer = self._open()
        with self.write() as tx:
            if tx.run("PRAGMA user_version")[0][0] == 0:
                for statement in _SCHEMA.split(";\n"):
                    tx.run(statement)
                tx.run(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction, committed at the end of the block, undone if an error leaves it. Raises Unavailable."""
        with self._lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield Transaction(self._writer)
                self._writer.commit()
            except BaseException as error:
                self._writer.rollback()
                if isinstance(error, sqlite3.OperationalError):
                    raise Unavailable(f"the store {self._path} cannot be written: {error}") from error
                raise

    def read(self, sql: str, *values: object) -> list[Any]:
        """The rows of a query, as they were last committed."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open()
            with self._lock:
                self._readers.append(connection)
        return connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close all connections; nobody may use it any more."""
        with self._lock:
            for connection in (*self._readers, self._writer):
                connection.close()
            self._readers.clear()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection
