"""A box that sends more than any box has reason to is held back, so that the others do not wait for it.

What is too much is not kept and not acknowledged to the box: one that means well sends it again later, so nothing is lost. Whoever goes
on beyond all measure loses the connection. Rules without I/O but for `tell`, which puts it among the box's events.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from fleet.database import Database

__all__ = ["BURST", "RATE_HZ", "Flood", "tell"]

RATE_HZ = 50.0
"""Messages a second of one box, all kinds together; a box that was away sends ten a second (`backlog_hz`) beside what is new."""
BURST = 500.0
"""So many at once: the births, events and answers of a box after a long night."""
_GROSS = 5000
"""Held back since it was last looked at: no rule of the uplink makes so many, this is no box of ours any more."""
_TELL_AGAIN_MS = 3_600_000
_MOST_BOXES = 200_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_ms: int
    held_back: int = 0
    told_ms: int = -_TELL_AGAIN_MS


class Flood:
    """Counts each box's messages; for one thread. Times are monotonic ms."""

    def __init__(self) -> None:
        self._boxes: dict[str, _Bucket] = {}
        self._wet: set[str] = set()

    def passes(self, topic: str, now_ms: int) -> bool:
        """Whether a message on this topic may be worked on."""
        parts = topic.split("/", 4)
        device = parts[3] if len(parts) == 5 else ""
        bucket = self._boxes.get(device)
        if bucket is None:
            if len(self._boxes) >= _MOST_BOXES:
                self._boxes.clear()
            bucket = self._boxes[device] = _Bucket(BURST, now_ms)
        bucket.tokens = min(BURST, bucket.tokens + (now_ms - bucket.filled_ms) * RATE_HZ / 1000)
        bucket.filled_ms = now_ms
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return True
        bucket.held_back += 1
        self._wet.add(device)
        return False

    def look(self, now_ms: int) -> tuple[dict[str, int], list[str]]:
        """Boxes to tell of, at most once an hour each, with how many messages were held back; and those whose connection should end."""
        told, gross = {}, []
        for device in self._wet:
            bucket = self._boxes.get(device)
            if bucket is None:
                continue
            if bucket.held_back >= _GROSS:
                gross.append(device)
            if now_ms - bucket.told_ms >= _TELL_AGAIN_MS:
                bucket.told_ms = now_ms
                told[device] = bucket.held_back
            bucket.held_back = 0
        self._wet.clear()
        return told, sorted(gross)


def tell(db: Database, told: dict[str, int], now_ms: int) -> None:
    """An event `box_floods` for each, `now_ms` in wall time. Raises Unavailable."""
    sql = (
        "INSERT INTO event (device, boot, seq, ts, arrived, code, severity, details)"
        " SELECT name, '', 0, ?, ?, 'box_floods', 'warning', ? FROM device WHERE name = ?"
    )
    with db.write() as tx:
        for device, count in told.items():
            tx.run(sql, now_ms, now_ms, msgspec.json.encode({"times": count}).decode(), device)
