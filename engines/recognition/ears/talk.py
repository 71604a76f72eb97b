"""General English, for what no pack foresees: a bigram of frequent words, cut from the model that the pocketsphinx wheel brings.

The file is text in xz: a line "word log10(P)" for each word, an empty line, then "word next:log10(P) next:log10(P) …" for each word.
`</s>` ends a sentence, `<s>` begins one. Made by `visavis ears talk`.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engines.errors import ModelError

__all__ = ["TALK", "Talk", "read"]

TALK = Path(__file__).with_name("talk.txt.xz")


@dataclass(frozen=True)
class Talk:
    """P(word), and P(word | the word before) where that is much another."""

    words: Mapping[str, float]
    pairs: Mapping[str, Mapping[str, float]]

    def chance(self, before: str) -> tuple[Mapping[str, float], float]:
        """Words after `before` that have a probability of their own, and the factor for P(word) of all others."""
        seen = self.pairs.get(before, {})
        left = max(1.0 - sum(seen.values()), 1e-4)
        others = max(1.0 - sum(self.words.get(word, 0.0) for word in seen), 1e-4)
        return seen, left / others


@lru_cache(maxsize=2)
def read(path: Path = TALK) -> Talk:
    """The model in `path`. Raises ModelError."""
    try:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            words = {}
            for line in lines:
                if not line.strip():
                    break
                word, _, log = line.partition(" ")
                words[word] = 10 ** float(log)
            pairs = {}
            for line in lines:
                before, *after = line.split()
                pairs[before] = {word: 10 ** float(log) for word, _, log in (part.rpartition(":") for part in after)}
        if not words:
            raise ValueError("no words")
    except (OSError, ValueError, OverflowError, EOFError, lzma.LZMAError) as error:
        raise ModelError(f"{path}: cannot be read ({error}): reinstall visavis") from None
    total = sum(words.values())
    return Talk({word: chance / total for word, chance in words.items()}, pairs)
