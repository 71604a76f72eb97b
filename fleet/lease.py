"""Of several controllers on one store one at a time does what has to be done once: timers, alerts, rollouts, presence, commands.

Nobody compares the clocks of two machines: whoever leads counts its row up every few seconds, and whoever sees the count stand still for
`LEASE_MS` by its own monotonic clock takes over. The row is changed in transactions that come one after the other, so there is never a
second one in the store; one that could not count in time knows it by its own clock before another takes over. What it had begun then may
still end a moment later: what must not happen twice asks `holds` in its own transaction.
"""

from __future__ import annotations

import msgspec

from fleet.database import Database, Transaction

__all__ = ["LEASE_MS", "RENEW_MS", "Lease"]

LEASE_MS = 15_000
"""Who did not count for so long leads no more."""
RENEW_MS = 3_000
"""How often to call `leads`; a few calls may fail."""
_SURE_MS = LEASE_MS - 3_000
"""So long somebody is sure to lead after counting: another begins to watch a moment later."""


class _Row(msgspec.Struct, frozen=True):
    holder: str
    count: int
    deaf: bool = False  # the holder does not hear the boxes
    wanted: bool = False  # and somebody else does


class Lease:
    """The lease `name` as `holder` sees it, whose name nobody else has. `now_ms` is always monotonic time of this machine.

    A store that nobody shares is led by whoever has it open.
    """

    def __init__(self, db: Database, name: str, holder: str) -> None:
        self._db, self._key, self._holder = db, f"lease.{name}", holder
        self._seen: tuple[str, int] | None = None  # holder and count
        self._seen_ms = 0
        self._until_ms = 0
        self._released = False
        self.after_crash = False  # whoever led before did not let go

    def leads(self, now_ms: int, *, hears: bool = True) -> bool:
        """Whether this one leads; takes the lease if it is free. Call it every `RENEW_MS`. Blocks. Raises Unavailable.

        `hears` is whether the boxes are heard here. Who leads and does not hear them goes on until another asks who does: somebody has to
        send what alerts there are while the broker is down for all.
        """
        if not self._db.shared:
            return True
        with self._db.write() as tx:
            if self._released:  # meanwhile, in another thread
                return False
            row = self._row(tx) or _Row("", 0)
            if (row.holder, row.count) != self._seen:
                self._seen, self._seen_ms = (row.holder, row.count), now_ms
            mine = row.holder == self._holder
            if mine and row.wanted and not hears:
                self._until_ms = 0  # before it is committed: another may lead from then on
                self._keep(tx, _Row("", row.count + 1))
                return False
            free = (hears and not row.holder) or now_ms - self._seen_ms >= LEASE_MS
            if free and not mine:
                self.after_crash = bool(row.holder)
            if mine or free:
                self._keep(tx, _Row(self._holder, row.count + 1, deaf=not hears))
            elif hears and row.deaf and not row.wanted:
                self._keep(tx, msgspec.structs.replace(row, wanted=True))
        if mine or free:
            # Counted from before the transaction, so that others cannot have seen it earlier.
            self._until_ms = now_ms + _SURE_MS
        else:
            self._until_ms = 0
        return mine or free

    def held(self, now_ms: int) -> bool:
        """Whether this one leads for sure, by what `leads` found last. Asks nobody."""
        return not self._db.shared or now_ms < self._until_ms

    def holds(self, tx: Transaction) -> bool:
        """Whether this one leads, in the order of transactions: if so nobody else does anything before this one is committed."""
        row = self._row(tx) if self._db.shared else None
        return not self._db.shared or (row is not None and row.holder == self._holder)

    def release(self) -> None:
        """Let the next one lead at once, and lead no more. Blocks. Raises Unavailable."""
        self._released, self._until_ms = True, 0
        if self._db.shared:
            with self._db.write() as tx:
                row = self._row(tx)
                if row is not None and row.holder == self._holder:
                    self._keep(tx, _Row("", row.count + 1))

    def _row(self, tx: Transaction) -> _Row | None:
        found = tx.run("SELECT content FROM memo WHERE name = ?", self._key)
        return msgspec.json.decode(found[0][0], type=_Row) if found else None

    def _keep(self, tx: Transaction, row: _Row) -> None:
        sql = "INSERT INTO memo (name, content) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET content = excluded.content"
        tx.run(sql, self._key, msgspec.json.encode(row).decode())
