"""What a voice is asked and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clip", "Pcm", "Selection", "Synthesiser", "TimedPhoneme", "TimedWord"]

Pcm = NDArray[np.int16]


class TimedPhoneme(NamedTuple):
    """An IPA phoneme, stress mark included (empty: pause), and its samples [start, end) in the clip."""

    symbol: str
    start: int
    end: int


class TimedWord(NamedTuple):
    """A word as it was written (punctuation included) and the sample of the clip at which its sound begins."""

    text: str
    start: int


@dataclass(frozen=True)
class Clip:
    """One sentence or clause of speech, mono, at the synthesiser's rate; begins with sound, ends with a pause fitting its punctuation."""

    text: str
    pcm: Pcm
    phonemes: tuple[TimedPhoneme, ...]
    words: tuple[TimedWord, ...]


class Synthesiser(Protocol):
    """Text in, clips out. One thread at a time."""

    @property
    def rate(self) -> int:
        """Samples per second of every clip."""

    def speak(self, text: str) -> Iterator[Clip]:
        """Speak `text`, a sentence at a time; close the iterator to cancel the rest. Raises EngineError when the engine fails."""


@dataclass(frozen=True)
class Selection:
    """The voice that serves here, its name for people, and why better ones do not serve: (engine, one line)."""

    engine: Synthesiser
    name: str
    why_not: tuple[tuple[str, str], ...] = ()
