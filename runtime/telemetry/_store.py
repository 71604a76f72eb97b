"""One SQLite file of messages that wait for the controller, and of the commands that were carried out. Rules are in `outbox`.

WAL, opened exclusively: its index is then in our own memory, and a damaged or cut file cannot end the process by SIGBUS.
`synchronous` is FULL for a durable transaction (the commit returns when the WAL is on the disk) and NORMAL for the rest (a power cut may
take the newest commits, the file stays whole; measured 4 ms against 13 µs a commit).
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

__all__ = ["Key", "Row", "Store", "is_damage"]

Key = tuple[int, str, int]
"""Id, boot, seq of a row."""

_OVERHEAD = 96
"""Bytes a row costs beside its body: columns, two indices, the share of half-empty pages."""
_PAGE = 4096
_COMMANDS_KEPT = 10_000
_COLUMNS = "id, boot, seq, kind, mono, ts, clk, n, body, corr"
_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rows(
    id INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, mono INTEGER NOT NULL,
    ts INTEGER NOT NULL, clk TEXT NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL, corr BLOB NOT NULL, UNIQUE(boot, seq));
CREATE INDEX by_kind ON rows(kind, n, id);
CREATE TABLE commands(number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, answer BLOB);
"""


class _Answer(msgspec.Struct):
    id: str


class Row(msgspec.Struct, frozen=True):
    """A message as it is kept: `seq` 0 until it is stored, `n` reports merged into it, `corr` correlation data of an answer."""

    kind: str
    body: bytes
    mono: int
    ts: int
    clk: str
    n: int = 1
    corr: bytes = b""
    boot: str = ""
    seq: int = 0
    id: int = 0

    @property
    def key(self) -> Key:
        """What the row is as long as nothing is merged into it: an id stays when another report takes the place."""
        return self.id, self.boot, self.seq

    @property
    def cost(self) -> int:
        """Bytes it takes on the disk, about."""
        return len(self.body) + len(self.corr) + _OVERHEAD


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken, as against a disk that takes nothing."""
    text = str(error)
    return isinstance(error, sqlite3.DatabaseError) and any(
        sign in text for sign in ("malformed", "not a database", "no such table", "no such column", "encrypted", "unsupported file format")
    )


class Store:
    """The file at `path`, or memory for None. Any method may raise sqlite3.Error; after that a transaction has had no effect."""

    def __init__(self, path: Path | None, max_bytes: int, first_seq: int = 0) -> None:
        fresh = path is None or not path.exists() or path.stat().st_size == 0
        self._db = sqlite3.connect(":memory:" if path is None else path, isolation_level=None, timeout=1.0, check_same_thread=True)
        try:
            self._open(fresh, max_bytes, first_seq)
        except BaseException:
            self._db.close()
            raise

    def _open(self, fresh: bool, max_bytes: int, first_seq: int) -> None:
        run = self._db.execute
        run("PRAGMA locking_mode=EXCLUSIVE")
        if fresh:
            run("PRAGMA auto_vacuum=INCREMENTAL")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA cache_size=-512")
        run("PRAGMA journal_size_limit=1048576")
        # A little more than the rules allow: they are to evict by choice before the file is at its end.
        run(f"PRAGMA max_page_count={64 + max_bytes * 3 // 2 // _PAGE}")
        self._synchronous("FULL")
        if run("SELECT count(*) FROM sqlite_master WHERE name='meta'").fetchone()[0] == 0:
            with self._transaction(durable=True):
                for statement in _SCHEMA.strip().split(";\n"):
                    run(statement)
                run("INSERT INTO meta VALUES('store', ?)", (secrets.token_hex(8),))
                if first_seq:
                    run("INSERT INTO sqlite_sequence VALUES('rows', ?)", (first_seq,))
        elif run("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("database disk image is malformed")
        self.name: str = self.meta("store")
        found = run("SELECT count(*), coalesce(sum(length(body) + length(corr)), 0) FROM rows").fetchone()
        self.rows: int = found[0]
        self.bytes: int = found[1] + self.rows * _OVERHEAD

    def _synchronous(self, how: str) -> None:
        self._db.execute(f"PRAGMA synchronous={how}")

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        self._synchronous("FULL" if durable else "NORMAL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file; the WAL is written back."""
        self._db.close()

    # --- messages

    def add(self, rows: Sequence[Row], *, durable: bool, boot: str) -> list[Row]:
        """Keep rows in one transaction; those without a boot get `boot` and the next numbers. An answer ends its command with it."""
        kept = []
        with self._transaction(durable=durable):
            for row in rows:
                number = self._insert(row, row.boot or boot, row.seq)
                kept.append(msgspec.structs.replace(row, boot=row.boot or boot, seq=row.seq or number, id=number))
                if row.kind == "job":
                    self._db.execute("UPDATE commands SET answer=? WHERE id=?", (row.body, msgspec.json.decode(row.body, type=_Answer).id))
        self.rows += len(kept)
        self.bytes += sum(row.cost for row in kept)
        return kept

    def _insert(self, row: Row, boot: str, seq: int) -> int:
        values = (boot, seq, row.kind, row.mono, row.ts, row.clk, row.n, row.body, row.corr)
        # A message's number is that of its row: AUTOINCREMENT never gives one out twice.
        number = self._db.execute(
            "INSERT INTO rows(boot, seq, kind, mono, ts, clk, n, body, corr) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (boot, seq or -1, *values[2:]),
        ).lastrowid
        assert number is not None
        if not seq:
            self._db.execute("UPDATE rows SET seq=id WHERE id=?", (number,))
        return number

    def select(self, where: str, values: Iterable[object], limit: int) -> list[Row]:
        """The first rows of a condition, oldest first."""
        found = self._db.execute(f"SELECT {_COLUMNS} FROM rows WHERE {where} ORDER BY id LIMIT ?", (*values, limit))  # noqa: S608
        return [
            Row(id=row[0], boot=row[1], seq=row[2], kind=row[3], mono=row[4], ts=row[5], clk=row[6], n=row[7], body=row[8], corr=row[9])
            for row in found
        ]

    def newest(self) -> int:
        """The highest row number there is or was."""
        found = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name='rows'").fetchone()
        return int(found[0]) if found else 0

    def remove(self, rows: Sequence[Row], merged: Sequence[Row] = (), *, durable: bool = False) -> None:
        """Forget rows, and keep those that they were merged into, in one transaction: each in its old place with a new number.

        A new number, because the controller may have the old one already, with less in it.
        """
        if not rows:
            return
        with self._transaction(durable=durable):
            self._db.executemany("DELETE FROM rows WHERE id=?", [(row.id,) for row in rows])
            for row in merged:
                self._db.execute("UPDATE rows SET id=? WHERE id=?", (row.id, self._insert(row, row.boot, 0)))
        self.rows += len(merged) - len(rows)
        self.bytes += sum(row.cost for row in merged) - sum(row.cost for row in rows)

    def shrink(self) -> None:
        """Give free pages back to the file system."""
        self._db.execute("PRAGMA incremental_vacuum(256)").fetchall()

    # --- commands and settings

    def command(self, id: str) -> tuple[bool, bytes | None]:  # noqa: A002
        """Whether the command was begun, and its answer if it was finished."""
        found = self._db.execute("SELECT answer FROM commands WHERE id=?", (id,)).fetchone()
        return (False, None) if found is None else (True, found[0])

    def begin(self, id: str) -> bool:  # noqa: A002
        """Note, durably, that the command is about to be carried out; returns True."""
        with self._transaction(durable=True):
            number = self._db.execute("INSERT INTO commands(id) VALUES(?)", (id,)).lastrowid or 0
            self._db.execute("DELETE FROM commands WHERE number <= ?", (number - _COMMANDS_KEPT,))
        return True

    def unanswered(self) -> list[str]:
        """Commands that were begun and never finished."""
        return [row[0] for row in self._db.execute("SELECT id FROM commands WHERE answer IS NULL ORDER BY number")]

    def meta(self, key: str) -> str:
        """A kept setting, "" if there is none."""
        found = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return str(found[0]) if found else ""

    def set_meta(self, key: str, value: str) -> None:
        """Keep a setting, durably."""
        with self._transaction(durable=True):
            self._db.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key, value))
