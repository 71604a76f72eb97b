"""The ledger against the store: what boxes kept and the store has not is lost, what had an effect twice is a duplicate."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict

import msgspec

from fleet.database import Database
from visavis.simulate.ledger import Key, Record

__all__ = ["Verdict", "compare"]

_SHOWN = 5


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the messages of a ledger.

    `lost`: kept and not in the store, for whatever reason; `acknowledged_lost` are those of them that the box was told are safe.
    `unacknowledged`: in the store or not, the box still has them. `duplicates_in_effect`: events that stand in the store more than once,
    commands carried out more than once, and metrics in the curves beyond those that were sent. `examples` names some of what is wrong.
    """

    boxes: int
    kept: int
    stored: int
    events: int
    lost: int
    acknowledged_lost: int
    unacknowledged: int
    duplicates_in_effect: int
    commands_done: int
    examples: tuple[str, ...] = ()


def compare(record: Record, db: Database) -> Verdict:
    """Count. Reads all of the store's events: it is of a benchmark, not of a chain."""
    boots = {(box, boot) for box, boot, _ in record.messages}
    seen = _seen(db, boots)
    events: Counter[Key] = Counter()
    for box, boot, seq, count in db.read("SELECT device, boot, seq, count(*) FROM event WHERE seq > 0 GROUP BY device, boot, seq"):
        if (box, boot) in boots:
            events[box, boot, seq] = count
    lost = [key for key, kept in record.messages.items() if not _holds(seen, key) or (kept.kind == "event" and not events[key])]
    twice = [key for key, count in events.items() if count > 1]
    again = [key for key, count in record.done.items() if count > 1]
    surplus = _surplus(record, db)
    examples = [f"lost: {key}" for key in lost[:_SHOWN]] + [f"twice: {key}" for key in [*twice, *again, *surplus][:_SHOWN]]
    return Verdict(
        boxes=len({box for box, _ in boots}),
        kept=len(record.messages),
        stored=len(record.messages) - len(lost),
        events=sum(kept.kind == "event" for kept in record.messages.values()),
        lost=len(lost),
        acknowledged_lost=sum(record.messages[key].acked for key in lost),
        unacknowledged=sum(not kept.acked for kept in record.messages.values()),
        duplicates_in_effect=sum(events[key] - 1 for key in twice) + sum(record.done[key] - 1 for key in again) + sum(surplus.values()),
        commands_done=len(record.done),
        examples=tuple(examples),
    )


def _seen(db: Database, boots: set[tuple[str, str]]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Ranges of numbers that the store knows, by box and boot, in order."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for box, boot, first, last in db.read("SELECT device, boot, first, last FROM seen ORDER BY device, boot, first"):
        if (box, boot) in boots:
            found[box, boot].append((first, last))
    return found


def _holds(seen: dict[tuple[str, str], list[tuple[int, int]]], key: Key) -> bool:
    ranges = seen.get(key[:2], [])
    place = bisect_right(ranges, (key[2], 2**63)) - 1
    return place >= 0 and ranges[place][1] >= key[2]


def _surplus(record: Record, db: Database) -> dict[str, int]:
    """By box: values in the curves beyond those that its reports held. Only of boxes that the store knows from this ledger alone."""
    sent: Counter[str] = Counter()
    for (box, _, _), kept in record.messages.items():
        sent[box] += kept.values
    boots = Counter(box for box, _ in {(box, boot) for box, boot, _ in record.messages})
    known = dict(db.read("SELECT device, count(DISTINCT boot) FROM seen GROUP BY device"))
    rows = db.read("SELECT s.device, sum(h.count) FROM hour h JOIN series s ON s.id = h.series GROUP BY s.device")
    return {box: int(count) - sent[box] for box, count in rows if count > sent[box] and known.get(box) == boots[box]}
