"""What a box is like now, made from reports that may come in any order: two controllers share its messages, and it tells late what waited.

Health is told by exception, so a report says something of each metric in it and, if it is a whole one, that there are no others. Within a
start of the box its numbers say what is newer; between starts the time does.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Marks", "merge"]


class Marks(msgspec.Struct):
    """How new what is known is: of which start, the number of the last whole report, of each metric told since, and of the last report."""

    boot: str = ""
    whole: int = 0
    last: int = 0
    since: dict[str, int] = {}


def merge(
    health: dict[str, Any], marks: Marks, known_ts: int, values: dict[str, Any], *, whole: bool, boot: str, seq: int, ts: int
) -> tuple[dict[str, Any], Marks, int]:
    """What is known after a report, how new it is and of when; nothing of an older report replaces what a newer one said."""
    if boot != marks.boot:
        if ts < known_ts:
            return health, marks, known_ts
        if whole:
            return values, Marks(boot, seq, seq), ts
        return health | values, Marks(boot, 0, seq, dict.fromkeys(values, seq)), ts
    if seq <= marks.whole:
        return health, marks, known_ts
    ts = ts if seq > marks.last else known_ts
    last = max(marks.last, seq)
    if whole:
        newer = {name: number for name, number in marks.since.items() if number > seq}
        kept = {name: health[name] for name in newer if name in health}
        return values | kept, Marks(boot, seq, last, newer), ts
    told = {name: value for name, value in values.items() if seq > marks.since.get(name, marks.whole)}
    return health | told, Marks(boot, marks.whole, last, marks.since | dict.fromkeys(told, seq)), ts
