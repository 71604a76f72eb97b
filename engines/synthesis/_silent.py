"""The voice of last resort: no sound, but the time to read. Captions, the floor and the history go on as if it spoke."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engines.synthesis._spoken import sentences
from engines.synthesis._types import Clip, TimedWord

__all__ = ["SilentSynthesiser"]

_RATE = 22_050
_WORDS_PER_S = 3.0
"""A slow reader's pace."""


class SilentSynthesiser:
    """Makes silence as long as the words take to read, each word at its time."""

    rate = _RATE

    def speak(self, text: str) -> Iterator[Clip]:
        """A clip of silence for each sentence of `text`."""
        step = round(_RATE / _WORDS_PER_S)
        for sentence in sentences(text):
            words = sentence.split()
            timed = tuple(TimedWord(word, step * i) for i, word in enumerate(words))
            yield Clip(sentence, np.zeros(step * len(words), np.int16), (), timed)
