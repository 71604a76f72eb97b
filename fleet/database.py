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
from fleet.schema import SCHEMA, VERSION

__all__ = ["Database", "Transaction"]


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
                for statement in SCHEMA.split(";\n"):
                    tx.run(statement)
                tx.run(f"PRAGMA user_version = {VERSION}")

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
