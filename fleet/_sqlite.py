"""The store as a SQLite file, in WAL mode with full durability. One writer at a time, any number of readers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.database import prepare
from fleet.errors import Unavailable

__all__ = ["Sqlite"]


_CHECKPOINT_PAGES = 8192
"""Pages of 4 kB in the journal before they go into the file: the five minutes of a box are written again with each of its reports, and of
what waits together only the last writing reaches the file."""


class _Transaction:
    """See fleet.database.Transaction."""

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


class Sqlite:
    """The file at `path`, made if it is not there; see fleet.database.Database. Raises Unavailable."""

    shared = False

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        self._lock, self._listed = threading.Lock(), threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._local = threading.local()
        self._writer = self._open()
        try:
            with self.write() as tx:
                version = prepare(tx, tx.run("PRAGMA user_version")[0][0], self.place)
                tx.run(f"PRAGMA user_version = {version}")
        except BaseException:
            self._writer.close()
            raise

    @contextmanager
    def write(self) -> Iterator[_Transaction]:
        """A transaction. Raises Unavailable."""
        with self._lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield _Transaction(self._writer)
                self._writer.commit()
            except BaseException as error:
                self._writer.rollback()
                if isinstance(error, sqlite3.OperationalError):
                    raise Unavailable(f"the store {self._path} cannot be written: {error}") from error
                raise

    def read(self, sql: str, *values: object) -> list[Any]:
        """The rows of a query. Raises Unavailable."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open()
            with self._listed:  # not the writer's lock: nobody waits for it to read
                self._readers.append(connection)
        try:
            return connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            raise Unavailable(f"the store {self._path} cannot be read: {error}") from error

    async def heard(self, channel: str) -> AsyncGenerator[str, None]:
        """Nobody says anything."""
        nobody: dict[str, str] = {}
        for text in nobody.get(channel, ()):
            yield text

    def close(self) -> None:
        """Close all connections."""
        with self._lock, self._listed:
            for connection in (*self._readers, self._writer):
                connection.close()
            self._readers.clear()

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        except sqlite3.Error as error:
            raise Unavailable(f"the store {self._path} cannot be opened: {error}") from error
        return connection
