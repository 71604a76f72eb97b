"""The outbox of a simulated box: rows in memory, in the shape that the real sender reads. No number is given out twice."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from runtime.telemetry.outbox import Row

__all__ = ["Memory"]


class Memory:
    """A `Source` of `runtime.telemetry.uplink.Sender`. A row's id is its seq."""

    def __init__(self, boot: str) -> None:
        self.boot, self.newest = boot, 0
        self._rows: dict[int, Row] = {}
        self._order: dict[bool, list[int]] = {True: [], False: []}  # ids in order, of health and of the rest; some are gone
        self._begin = {True: 0, False: 0}
        self._published: set[int] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, kind: str, body: bytes, *, mono: int, ts: int, clk: str, corr: bytes = b"") -> Row:
        """Keep a message."""
        self.newest += 1
        row = Row(kind, body, mono=mono, ts=ts, clk=clk, corr=corr, boot=self.boot, seq=self.newest, id=self.newest)
        self._rows[row.id] = row
        self._order[kind == "health"].append(row.id)
        return row

    def first_time(self, id: int) -> bool:  # noqa: A002
        """Note that a row is published; whether it never was before."""
        if id in self._published:
            return False
        self._published.add(id)
        return True

    def remove(self, ids: Iterable[int]) -> list[int]:
        """These are safe at the controller; returns those that were still here."""
        gone = [id_ for id_ in ids if self._rows.pop(id_, None) is not None]
        self._published.difference_update(gone)
        for health, order in self._order.items():
            begin = self._begin[health]
            while begin < len(order) and order[begin] not in self._rows:
                begin += 1
            if begin > 512:
                del order[:begin]
                begin = 0
            self._begin[health] = begin
        return gone

    def events(self, after: int, limit: int) -> list[Row]:
        """Rows above an id that are no health reports."""
        return self._above(after, limit, health=False)

    def health(self, after: int, limit: int) -> list[Row]:
        """Health reports above an id."""
        return self._above(after, limit, health=True)

    def rows(self, ids: Iterable[int]) -> list[Row]:
        """The rows with these ids that are still there."""
        return [row for id_ in ids if (row := self._rows.get(id_)) is not None]

    def _above(self, after: int, limit: int, *, health: bool) -> list[Row]:
        order = self._order[health]
        found: list[Row] = []
        at = max(self._begin[health], bisect_right(order, after))
        while at < len(order) and len(found) < limit:
            row = self._rows.get(order[at])
            at += 1
            if row is not None:
                found.append(row)
        return found
