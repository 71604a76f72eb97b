"""The store behind an interface of three methods: SQLite by default, PostgreSQL where several controllers share it.

Whoever keeps something here writes plain SQL once, in the dialect of SQLite, and it runs on both:

- Parameters are `?`; text, integers, floats, bytes, booleans (kept as 0 and 1) and None.
- Tables have the types TEXT, INTEGER, REAL and BLOB; `id INTEGER PRIMARY KEY AUTOINCREMENT` for a number of its own; WITHOUT ROWID may
  be said. Text is compared byte by byte, LIKE does not tell ASCII capitals from small letters.
- An upsert is INSERT … ON CONFLICT (…) DO UPDATE or DO NOTHING; RETURNING and row values `(a, b) < (?, ?)` work on both.
- Not on both: INSERT OR …, PRAGMA, rowid, json_…, datetime(), ifnull (coalesce is), max and min of two values (CASE is), a column
  after SELECT that is neither merged nor in GROUP BY, an INTEGER where a condition belongs (`flag = 1`, not `flag`), a parameter whose
  type nothing tells (`? IS NULL`), names that are words of SQL (user, order, group, window, end, offset, desc …), NULL in an ORDER BY.
- A statement that fails ends its transaction: let the error leave the block.

What was committed survives a power cut, which is why a box may forget it. Transactions come one after the other, on PostgreSQL too,
whichever controller they are of: what was read in a transaction still holds when it writes. Methods may be called from any thread and
block it; a transaction is over before its thread begins another.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from fleet.errors import Unavailable
from fleet.schema import CHANGES, SCHEMA, VERSION

__all__ = ["Database", "Transaction", "is_url", "open_database", "prepare"]


class Transaction(Protocol):
    """Statements that are committed together."""

    def run(self, sql: str, *values: object) -> list[Any]:
        """One statement and its rows, as tuples."""

    def count(self, sql: str, *values: object) -> int:
        """One statement; how many rows it changed."""

    def many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        """One statement with many rows of parameters."""


class Database(Protocol):
    """A store. `place` names it to people, without secrets; `shared`: several controllers may use it."""

    place: str
    shared: bool

    def write(self) -> AbstractContextManager[Transaction]:
        """A transaction, committed at the end of the block, undone if an error leaves it. Raises Unavailable: it may be tried again.

        If the connection to PostgreSQL is lost during the commit itself, Unavailable does not say whether it is kept: what is tried
        again must be the same thing by its key.
        """

    def read(self, sql: str, *values: object) -> list[Any]:
        """The rows of a query, as they were last committed. Raises Unavailable."""

    def heard(self, channel: str) -> AsyncGenerator[str, None]:
        """What others that share the store say there (`SELECT pg_notify(?, ?)` is how), until the connection is lost: Unavailable.

        First "", when it listens: what was said before is lost. Nobody else says anything where it is not shared.
        """

    def close(self) -> None:
        """Close all connections; nobody may use it any more."""


def is_url(where: str | Path) -> bool:
    """Whether this names a PostgreSQL, and not a file."""
    return str(where).startswith(("postgresql://", "postgres://"))


def open_database(where: str | Path) -> Database:
    """The store at `where`, made if it is not there: a file, or `postgresql://[USER[:PASSWORD]@][HOST][:PORT]/NAME[?…]`.

    Raises Unavailable.
    """
    if is_url(where):
        try:
            from fleet._postgres import Postgres
        except ImportError as error:
            raise Unavailable("PostgreSQL needs psycopg: pip install 'visavis[fleet-postgres]'") from error
        return Postgres(str(where))
    from fleet._sqlite import Sqlite

    return Sqlite(Path(where))


def prepare(tx: Transaction, found: int, place: str) -> int:
    """Make the tables that are not there yet; `found` is the version of the store, 0 if it is new. Returns the version it has now.

    Raises Unavailable if a newer Visavis has changed it.
    """
    if found > VERSION:
        raise Unavailable(f"the store {place} is of a newer Visavis (version {found}, this one knows {VERSION}): update this controller")
    for version in range(found + 1, VERSION + 1) if found else ():
        for statement in CHANGES[version]:
            tx.run(statement)
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            words = statement.strip().split(maxsplit=2)  # CREATE TABLE|INDEX …
            tx.run(f"{words[0]} {words[1]} IF NOT EXISTS {words[2]}")
    return VERSION
