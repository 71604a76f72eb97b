"""What the controller must know and does not know yet: survives a crash, a power cut, a week offline, a full disk and a wrong clock.

Events, answers, births and reported settings are on the disk (fsync) when `put` returns; health is committed in groups. A row goes when the
controller has acknowledged it. Space is bounded: old health reports are merged first, then dropped, then old events; answers never.
While the disk takes nothing, a small store in memory stands in, so that the fleet can still be told that the disk is full.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import msgspec

from runtime.telemetry._store import Key, Row, Store, is_damage
from runtime.telemetry.contract import ClockState, Health, UpKind
from runtime.telemetry.times import Times

__all__ = ["Counts", "Limits", "Outbox", "Row"]

log = logging.getLogger("outbox")

GROUP_MS = 2000
"""Health waits at most so long for its commit: a flash page is written once for several reports."""
RETRY_MS = 20_000
"""A disk that took nothing is asked again after so long."""
_TIDY_MS = 600_000
_MERGE = 8
_LARGEST_MERGE = _MERGE**3
_BATCH = 512
_MEMORY_SEQ = 1 << 40
_DAY_MS = 24 * 3600_000

T = TypeVar("T")


class Limits(msgspec.Struct, frozen=True):
    """How much may wait. Memory is what stands in while the disk takes nothing."""

    max_bytes: int = 64 << 20
    memory_bytes: int = 2 << 20
    health_days: float = 14.0
    event_days: float = 90.0


class Counts(msgspec.Struct):
    """What happened since the process started; `rows` and `bytes` are what waits now."""

    rows: int = 0
    bytes: int = 0
    merged: int = 0
    evicted: int = 0
    unstored: int = 0
    corrupt: int = 0


class Outbox:
    """The queue to the controller; for one thread. No method raises for what a disk does: `trouble` says why it takes nothing, else ""."""

    def __init__(self, path: Path, times: Times, kernel_boot: str, limits: Limits | None = None) -> None:
        self._path, self._times, self._kernel_boot = path, times, kernel_boot
        self._limits = limits or Limits()
        self._pending: list[Row] = []
        self._pending_ms = self._retry_ms = self._tidied_ms = 0
        self._counts = Counts()
        self.trouble = ""
        self._closed = False
        self._memory: Store | None = None
        self._boots: set[str] = set()  # all names of this start
        self._disk = self._open_disk()
        self._boots.add(self.boot)

    def close(self) -> None:
        """Commit what waits and close the files. The end of this object."""
        if self._closed:
            return
        self.flush(force=True)
        self._closed = True
        for store in (self._disk, self._memory):
            if store is not None:
                store.close()

    # --- keeping

    def put(self, kind: UpKind, body: bytes, corr: bytes = b"") -> bool:
        """Keep a message; True when it is on the disk to stay (always False for health, which is committed in groups).

        An answer also ends its command, in the same transaction.
        """
        now = self._times.mono_ms()
        clk = ClockState.SYNCED if self._times.synced() else ClockState.UNSYNCED
        row = Row(kind.value, body, mono=now, ts=self._times.wall_ms(), clk=clk.value, corr=corr)
        if not self._pending:
            self._pending_ms = now
        self._pending.append(row)
        if kind is UpKind.HEALTH:
            return False
        return self._commit(durable=True)

    def flush(self, *, force: bool = False) -> None:
        """Let time pass: commit health that has waited long enough, ask a full disk again, keep to the limits."""
        now = self._times.mono_ms()
        if self._pending and (force or now - self._pending_ms >= GROUP_MS):
            self._commit(durable=False)
        waiting = self.trouble or self._disk is None or self._memory is not None
        if waiting and (force or now - self._retry_ms >= RETRY_MS):
            self._return_to_disk()
        if now - self._tidied_ms >= _TIDY_MS:
            self._tidied_ms = now
            self._guard(lambda store: self._tidy(store, now))

    def _commit(self, *, durable: bool) -> bool:
        rows, self._pending = self._pending, []
        disk = self._add_to_disk(rows, durable=durable)
        if not disk:
            self._standing_in().add(rows, durable=False, boot=self.boot)
        self._keep_to_limits()
        return disk and durable

    def _add_to_disk(self, rows: Sequence[Row], *, durable: bool) -> bool:
        for _ in range(2):  # a damaged file is replaced by a new one, which then takes them
            if self.trouble:
                break
            if self._guard(lambda store: store.add(rows, durable=durable, boot=self.boot)) is not None:
                return True
        return False

    def _keep_to_limits(self) -> None:
        if self._memory is not None:
            self._counts.unstored += self._make_room(self._memory, self._limits.memory_bytes)
        if not self.trouble and self._disk is not None and self._disk.bytes > self._limits.max_bytes:
            self._counts.evicted += self._guard(lambda store: self._make_room(store, self._limits.max_bytes)) or 0

    # --- sending

    @property
    def boot(self) -> str:
        """Names this start of the machine and this file: numbers of one boot are never given out twice."""
        name = hashlib.sha256(f"{self._kernel_boot} {self._store.name}".encode()).hexdigest()[:16]
        self._boots.add(name)
        return name

    @property
    def newest(self) -> int:
        """Every row kept from now on has a higher id (until another store stands in, see `life`)."""
        return self._guard(lambda store: store.newest(), anywhere=True) or 0

    @property
    def life(self) -> str:
        """Changes when row ids begin anew: another file, or memory standing in."""
        return self._store.name

    def events(self, after: int, limit: int) -> list[Row]:
        """Rows with an id above `after` that are no health reports, oldest first."""
        return self._select("id > ? AND kind <> 'health'", (after,), limit)

    def health(self, after: int, limit: int) -> list[Row]:
        """Health reports with an id above `after`, oldest first."""
        return self._select("id > ? AND kind = 'health'", (after,), limit)

    def rows(self, ids: Iterable[int]) -> list[Row]:
        """The rows with these ids that are still there."""
        wanted = list(ids)
        return self._select(f"id IN ({','.join('?' * len(wanted))})", wanted, len(wanted)) if wanted else []

    def stamp(self, row: Row) -> tuple[int, ClockState]:
        """Wall time and clock state to send a row with: what was written before the clock was set is put right within the same boot."""
        if row.clk == ClockState.UNSYNCED.value and row.boot in self._boots and self._times.synced():
            return max(0, self._times.wall_ms() - (self._times.mono_ms() - row.mono)), ClockState.CORRECTED
        return row.ts, ClockState(row.clk)

    def age_ms(self, row: Row) -> int | None:
        """Since the row was written; None if the machine was started anew meanwhile."""
        return self._times.mono_ms() - row.mono if row.boot in self._boots else None

    def remove(self, keys: Iterable[Key]) -> list[int]:
        """The controller has committed these rows. One into which others were merged since is another one: it stays, its id is returned."""
        known = set(keys)
        found = self.rows({id_ for id_, _, _ in known})
        committed = [row for row in found if row.key in known]
        self._guard(lambda store: store.remove(committed), anywhere=True)
        return [row.id for row in found if row.key not in known]

    def counts(self) -> Counts:
        """A copy of the counters."""
        store = self._store
        return msgspec.structs.replace(self._counts, rows=store.rows + len(self._pending), bytes=store.bytes)

    # --- commands

    def command(self, id: str) -> tuple[bool, bytes | None]:  # noqa: A002
        """Whether a command was begun here before, and its answer if it was finished."""
        for store in (self._memory, self._disk):
            if store is not None:
                begun = self._guard(lambda store: store.command(id), store)
                if begun is not None and begun[0]:
                    return begun
        return False, None

    def begin(self, id: str) -> bool:  # noqa: A002
        """Note that a command is about to be carried out. False: only in memory, so after a crash nobody would know."""
        if not self.trouble and self._guard(lambda store: store.begin(id)):
            return True
        self._standing_in().begin(id)
        return False

    def interrupted(self) -> list[str]:
        """Commands that were begun and never finished; ask once, at the start."""
        return self._guard(lambda store: store.unanswered(), anywhere=True) or []

    def setting(self, key: str) -> str:
        """A setting kept by `keep`, "" if there is none."""
        return self._guard(lambda store: store.meta(key), anywhere=True) or ""

    def keep(self, key: str, value: str) -> None:
        """Keep a setting over restarts."""
        self._guard(lambda store: store.set_meta(key, value), anywhere=True)

    @property
    def room_for_answers(self) -> bool:
        """False when so much is unacknowledged that no more commands should be taken: answers are never dropped."""
        store = self._store
        return store.bytes <= (self._limits.max_bytes if store is self._disk else self._limits.memory_bytes)

    # --- the disk

    @property
    def _store(self) -> Store:
        return self._disk if self._disk is not None and not self.trouble else self._standing_in()

    def _standing_in(self) -> Store:
        if self._memory is None:
            self._memory = Store(None, 4 * self._limits.memory_bytes, first_seq=_MEMORY_SEQ)
        return self._memory

    def _select(self, where: str, values: Sequence[object], limit: int) -> list[Row]:
        return self._guard(lambda store: store.select(where, values, limit), anywhere=True) or []

    def _guard(self, do: Callable[[Store], T], store: Store | None = None, *, anywhere: bool = False) -> T | None:
        """`do` with a store (default the file; `anywhere`: what stands in for it too); None when its disk failed, which is noted."""
        store = store or (self._store if anywhere else self._disk)
        if store is None:
            return None
        try:
            return do(store)
        except sqlite3.Error as error:
            if store is self._memory:
                raise
            self._failed(error)
            return None

    def _failed(self, error: sqlite3.Error) -> None:
        if not is_damage(error):
            self._take_note(error)
            return
        if self._disk is not None:
            self._disk.close()
        self._disk = None
        self._set_aside(error)
        self._disk = self._open_disk()

    def _take_note(self, error: Exception) -> None:
        if not self.trouble:
            log.error("%s takes nothing (%s): reports are kept in memory until it does", self._path, error)
        self.trouble = str(error) or type(error).__name__
        self._retry_ms = self._times.mono_ms()

    def _open_disk(self) -> Store | None:
        for _ in range(2):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                return Store(self._path, self._limits.max_bytes)
            except sqlite3.Error as error:
                if not is_damage(error):
                    self._take_note(error)
                    return None
                self._set_aside(error)
            except OSError as error:
                self._take_note(error)
                return None
        self._take_note(sqlite3.DatabaseError("damaged again at once"))
        return None

    def _set_aside(self, error: Exception) -> None:
        """Keep the newest damaged file for whoever wants to look, and begin a new one."""
        self._counts.corrupt += 1
        log.error("%s is damaged (%s): moved to %s.damaged, beginning a new one", self._path, error, self._path.name)
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            try:
                part.replace(self._path.with_name(f"{self._path.name}.damaged{suffix}"))
            except FileNotFoundError:
                continue
            except OSError as why:
                self._take_note(why)

    def _return_to_disk(self) -> None:
        """Try the disk again, and give it what was kept in memory; each row keeps its boot and number."""
        self._retry_ms = self._times.mono_ms()
        if self.trouble and self._disk is not None:  # a connection that failed may go on failing
            self._disk.close()
            self._disk = None
        if self._disk is None:
            self._disk = self._open_disk()
        memory, disk = self._memory, self._disk
        if disk is None:
            return
        try:
            disk.set_meta("asked", str(self._retry_ms))  # something has to be written to know
            disk.add(memory.select("1", (), -1) if memory is not None else [], durable=True, boot=self.boot)
        except sqlite3.Error as error:
            self._failed(error)
            return
        if self.trouble:
            log.warning("%s takes reports again", self._path)
        self.trouble = ""
        if memory is not None:
            memory.close()
        self._memory = None
        self._keep_to_limits()

    # --- limits

    def _tidy(self, store: Store, now: int) -> None:
        self._drop_old(store, now)
        store.shrink()

    def _drop_old(self, store: Store, now: int) -> None:
        """What is too old. A row of an earlier boot has an age only if both clocks were set; of unknown age, it is kept."""
        for kinds, days in (
            ("kind = 'health'", self._limits.health_days),
            ("kind IN ('event', 'birth', 'shadow')", self._limits.event_days),
        ):
            age = round(days * _DAY_MS)
            old = store.select(f"{kinds} AND boot = ? AND mono < ?", (self.boot, now - age), _BATCH)
            if self._times.synced():
                before = self._times.wall_ms() - age
                old += store.select(f"{kinds} AND boot <> ? AND clk = 'synced' AND ts < ?", (self.boot, before), _BATCH)
            store.remove(old)
            self._counts.evicted += sum(row.n for row in old)

    def _make_room(self, store: Store, limit: int) -> int:
        """Merge, then drop, until a tenth is free; returns how many reports were dropped."""
        dropped = 0
        while store.bytes > limit * 0.9:
            if self._merge_some(store):
                continue
            rows = store.select("kind = 'health'", (), _BATCH) or store.select("kind IN ('event', 'birth', 'shadow')", (), _BATCH)
            if not rows:
                break
            store.remove(rows)
            dropped += sum(row.n for row in rows)
        return dropped

    def _merge_some(self, store: Store) -> bool:
        """Make one of every eight of the oldest health reports that were merged least; False when there are none to merge."""
        n = 1
        while n < _LARGEST_MERGE:
            rows = store.select("kind = 'health' AND n >= ? AND n < ?", (n, n * _MERGE), _BATCH)
            merged, gone = self._merge(rows)
            if merged:
                store.remove(gone, merged)
                self._counts.merged += len(gone) - len(merged)
                return True
            n *= _MERGE
        return False

    @staticmethod
    def _merge(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        merged: list[Row] = []
        gone: list[Row] = []
        for _, boot in groupby(rows, key=lambda row: row.boot):
            same = list(boot)
            for start in range(0, len(same) - _MERGE + 1, _MERGE):
                group = same[start : start + _MERGE]
                merged.append(_merged(group))
                gone.extend(group)
        return merged, gone


def _merged(rows: Sequence[Row]) -> Row:
    """One report for several: the newest value of each metric, at the time of the last, and how many it stands for."""
    bodies = [msgspec.json.decode(row.body, type=Health) for row in rows]
    values = {name: value for body in bodies for name, value in body.m.items()}
    n = sum(row.n for row in rows)
    body = Health(m=values, full=any(body.full for body in bodies), n=n)
    return msgspec.structs.replace(rows[-1], body=msgspec.json.encode(body), n=n, seq=0)
