"""The speech of one turn while it is played: its clauses, and how far the loudspeaker is with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.messages import Speech

__all__ = ["Utterance"]


@dataclass
class Utterance:
    """The speech of one turn, as far as it is known."""

    turn: int
    clauses: list[Speech] = field(default_factory=list)
    complete: bool = False
    next: int = -1  # ring index that is sent next
    real: bool = False  # a page plays it; else the virtual loudspeaker
    started: bool = False  # its first sample was heard
    anchor: tuple[int, int] | None = None  # index heard at ns
    base: int = 0  # where it stands while there is no anchor
    reported_ns: int = 0  # last sign of the page's loudspeaker
    announced: int = 0  # clauses whose captions went out
    ended: bool = False  # the loudspeaker knows the end
    flushed_ns: int = 0
    paused_ns: int = 0

    @property
    def start(self) -> int:
        return self.clauses[0].start

    @property
    def end(self) -> int:
        return self.clauses[-1].start + self.clauses[-1].samples

    def offset(self, index: int) -> int:
        """Samples of this turn before ring index `index`."""
        return sum(min(max(index - clause.start, 0), clause.samples) for clause in self.clauses)

    def text(self, index: int) -> str:
        """The words that began before `index`."""
        parts = []
        for clause in self.clauses:
            if clause.words:
                parts += [word.text for word in clause.words if word.start < index]
            elif clause.start < index:
                parts.append(clause.text)
        return " ".join(part for part in parts if part)

    def word_start(self, index: int) -> int:
        """Where the word that sounds at `index` begins."""
        starts = [word.start for clause in self.clauses for word in clause.words if word.start <= index]
        return max(starts, default=self.start)
