"""What a recogniser is told, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATE", "HeardWord", "Hypothesis", "Pcm", "Recogniser", "Selection", "SpeechDomain"]

RATE = 16_000
"""Samples per second of all sound that goes in."""

Pcm = NDArray[np.int16]


@dataclass(frozen=True)
class SpeechDomain:
    """What visitors are expected to say: lower case, numbers as words, no punctuation but apostrophes.

    `sentences` stand in natural proportion (a language model is made of them); `vocabulary` are words that must be reachable even if no
    sentence has them; `pronunciations` respell words ("wi fi": "why fye"); `hints` are further sentences for each thing that may have been
    asked ("size": "medium", "a large one please").
    """

    sentences: tuple[str, ...]
    vocabulary: tuple[str, ...] = ()
    pronunciations: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class HeardWord:
    """A recognised word and its samples [start, end), counted from `begin`; -1 where the engine does not know."""

    text: str
    start: int = -1
    end: int = -1
    confidence: float = 1.0


@dataclass(frozen=True)
class Hypothesis:
    """What the recogniser understands so far. The first `stable` characters of the text are not expected to change.

    `confidence` is 0 to 1: below 0.5 it is more likely that something else was said than this (a partial one has 0 where the engine does
    not judge those). `ends` is the chance that a sentence is complete after these words, by the words alone; -1: the engine cannot tell.
    `alternatives` are other texts that fit nearly as well, best first. `worded` is the chance, by the sound alone and early, that somebody
    here says words, no hum, cough, noise or voice from afar; -1: the engine cannot tell.
    """

    text: str = ""
    words: tuple[HeardWord, ...] = ()
    confidence: float = 0.0
    stable: int = 0
    ends: float = -1.0
    alternatives: tuple[str, ...] = ()
    worded: float = -1.0


class Recogniser(Protocol):
    """Sound in, words out, one utterance at a time. One thread; calls may hold the GIL as long as they run."""

    def prepare(self, domain: SpeechDomain) -> None:
        """Learn what will be said (seconds); between utterances only. Raises EngineError."""

    def begin(self) -> None:
        """A new utterance; one that was running is dropped."""

    def feed(self, pcm: Pcm) -> None:
        """More sound of the utterance, shape (n,), 16 kHz."""

    def partial(self) -> Hypothesis:
        """What was said up to here; cheap."""

    def finish(self) -> Hypothesis:
        """The end of the utterance, decoded as well as can be; the next is begun by `begin`."""

    def cancel(self) -> None:
        """Drop the utterance; harmless when none runs."""

    def expect(self, hint: str) -> None:
        """What was asked for (a key of the domain's `hints`, "" nothing in particular): counts from the next `begin`."""


@dataclass(frozen=True)
class Selection:
    """The recogniser that serves here, its name for people, and why better ones do not serve: (engine, one line)."""

    engine: Recogniser
    name: str
    why_not: tuple[tuple[str, str], ...] = ()
