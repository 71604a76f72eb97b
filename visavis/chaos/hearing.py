"""What a visitor heard and saw, as pure functions of what came when. Times in ns of CLOCK_MONOTONIC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kiosk._protocol import FLUSH, PCM
from runtime.messages import VOICE_RATE

__all__ = ["Loudspeaker", "Span", "longest_gap", "longest_silence"]

_NS = 1_000_000_000


@dataclass(slots=True)
class Span:
    """Sound of turn `turn` without a break."""

    turn: int
    begin_ns: int
    end_ns: int
    index: int  # speech-ring sample at its beginning


class Loudspeaker:
    """Plays what the stage sends at the nominal rate, from the moment it comes. Pure: the time is a parameter.

    `take` and `report` return what the page has to tell the stage, as (kind, fields).
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._told_dry = True

    def take(self, header: tuple[Any, ...], samples: int, now_ns: int) -> list[tuple[str, dict[str, Any]]]:
        """One message of the voice's socket: its VOICE_HEADER's fields and how many samples follow."""
        kind, _, _, turn, index = header
        if kind == FLUSH:
            at = self._at(now_ns) if self.sounds(now_ns) and self.spans[-1].turn <= turn else -1
            self.cut(now_ns)
            return [("silent", {"turn": turn, "index": at, "ms": now_ns / 1e6})]
        if kind != PCM:
            return []
        length = samples * _NS // VOICE_RATE
        if self.sounds(now_ns) and self.spans[-1].turn == turn:
            self.spans[-1].end_ns += length
            return []
        begin = max(now_ns, self.spans[-1].end_ns if self.spans else 0)
        self.spans.append(Span(turn, begin, begin + length, round(index)))
        self._told_dry = False
        return [("started", {"turn": turn, "index": round(index), "ms": begin / 1e6})]

    def report(self, now_ns: int) -> list[tuple[str, dict[str, Any]]]:
        """The loudspeaker's place, while it plays and once when it has run dry."""
        if self._told_dry:
            return []
        sounds = self.sounds(now_ns)
        self._told_dry = not sounds
        return [("playhead", {"turn": self.spans[-1].turn, "index": self._at(now_ns), "ms": now_ns / 1e6, "playing": sounds})]

    def cut(self, now_ns: int) -> None:
        """Silent at once."""
        if self.sounds(now_ns):
            self.spans[-1].end_ns = max(now_ns, self.spans[-1].begin_ns)

    def sounds(self, now_ns: int) -> bool:
        """Whether something is heard, or queued."""
        return bool(self.spans) and self.spans[-1].end_ns > now_ns

    def _at(self, now_ns: int) -> int:
        span = self.spans[-1]
        since = min(max(now_ns, span.begin_ns), span.end_ns) - span.begin_ns
        return span.index + since * VOICE_RATE // _NS


def longest_gap(times: Sequence[int], begin_ns: int, end_ns: int) -> tuple[int, int]:
    """The longest stretch without any of `times` (ascending) that touches begin..end: its two ends. A stretch that was running at the
    begin counts whole; one that still runs at the end counts up to it.
    """
    before = [t for t in times if t < begin_ns]
    points = [before[-1] if before else begin_ns, *(t for t in times if begin_ns <= t < end_ns), end_ns]
    return max(pairwise(points), key=lambda pair: pair[1] - pair[0])


def longest_silence(spans: Sequence[Span], begin_ns: int, end_ns: int) -> tuple[int, int]:
    """The longest break of the voice after `begin_ns` that ended in sound before `end_ns`: its two ends, equal if there was none.

    What is silent for good after the last sound is no break: the answer was over.
    """
    longest = (begin_ns, begin_ns)
    until = begin_ns
    for span in spans:
        if span.end_ns <= begin_ns or span.begin_ns >= end_ns:
            continue
        if span.begin_ns - until > longest[1] - longest[0]:
            longest = (until, span.begin_ns)
        until = max(until, span.end_ns)
    return longest
