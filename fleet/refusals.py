"""How many refused single sign-ons the audit log takes: nobody must be able to fill it from outside. Pure; for one loop."""

from __future__ import annotations

from collections import Counter
from enum import Enum

__all__ = ["Kind", "Refusals"]

_HOUR_MS = 3_600_000


class Kind(str, Enum):
    """Why somebody was refused, by who can bring it about."""

    UNKNOWN = "unknown"  # an answer to nothing that was begun here: whoever sends one
    UNCONFIRMED = "unconfirmed"  # the provider does not confirm it, or does not answer: whoever begins one
    PERSON = "person"  # the provider vouches for somebody who may not enter: whoever has an account there


_MOST = {Kind.UNKNOWN: 0, Kind.UNCONFIRMED: 1, Kind.PERSON: 100}
"""Rows an hour. Wrong passwords are not among these: `Throttle` bounds them."""


class Refusals:
    """Counts what is refused; `counts` is all of it, by kind."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self._begun: dict[Kind, int] = {}
        self._written: Counter[Kind] = Counter()
        self._held: Counter[Kind] = Counter()

    def note(self, kind: Kind, now_ms: int) -> int | None:
        """How many were not written down since the last that was, if this one is to be; None if it is only counted. Wall time."""
        self.counts[kind] += 1
        if not 0 <= now_ms - self._begun.get(kind, now_ms - _HOUR_MS) < _HOUR_MS:
            self._begun[kind], self._written[kind] = now_ms, 0
        if self._written[kind] >= _MOST[kind]:
            self._held[kind] += 1
            return None
        self._written[kind] += 1
        return self._held.pop(kind, 0)
