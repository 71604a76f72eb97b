"""A back-off n-gram over words as a weighted acceptor: what is likely to be said, from sentences in natural proportion.

Absolute discounting with interpolation (Ney, Essen, Kneser 1994; the discount is one for all orders). Costs are negative natural logs.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["END", "Arc", "NGram", "ngram"]

END = "</s>"
Context = tuple[str, ...]


@dataclass(frozen=True)
class Arc:
    """A word (or END) after a context: its cost, and the context after it."""

    word: str
    cost: float
    to: Context


@dataclass(frozen=True)
class NGram:
    """Contexts with their arcs, and (cost, shorter context) for every word that has none. `start` is the context of a sentence's start."""

    start: Context
    arcs: dict[Context, list[Arc]]
    backoff: dict[Context, tuple[float, Context]]

    def end_cost(self, words: Sequence[str]) -> float:
        """-ln P(the sentence ends here), having heard `words`."""
        context, cost = self.after(words), 0.0
        while True:
            for arc in self.arcs[context]:
                if arc.word == END:
                    return cost + arc.cost
            if context not in self.backoff:
                return cost + 20.0
            weight, context = self.backoff[context]
            cost += weight

    def after(self, words: Sequence[str]) -> Context:
        """The longest known context that `words` end with."""
        history = (*self.start, *words)
        for size in range(len(self.start) + 3, -1, -1):
            if (context := tuple(history[len(history) - size :]) if size else ()) in self.arcs:
                return context
        return ()


def ngram(sentences: Iterable[tuple[Sequence[str], float]], vocabulary: Iterable[str], order: int = 4, discount: float = 0.5) -> NGram:
    """The model of weighted `sentences`; words of `vocabulary` that they lack share one count's discount in the shortest context.

    `discount` (0 to 1) is what every seen count lends to what was not seen.
    """
    counts: list[dict[Context, Counter[str]]] = [defaultdict(Counter) for _ in range(order)]
    begin = ("<s>",)
    words_seen: set[str] = set()
    for sentence, weight in sentences:
        words_seen.update(sentence)
        line = (*begin, *sentence, END)
        for at in range(1, len(line)):
            for size in range(min(at, order - 1) + 1):
                counts[size][tuple(line[at - size : at])][line[at]] += weight  # type: ignore[assignment]
    missing = set(vocabulary) - words_seen
    arcs: dict[Context, list[Arc]] = {}
    backoff: dict[Context, tuple[float, Context]] = {}
    known = {context for table in counts for context in table}

    def longest(history: Context) -> Context:
        while history and (history not in known or len(history) > order - 1):
            history = history[1:]
        return history

    lower: dict[Context, dict[str, float]] = {}
    for size, table in enumerate(counts):
        for context, seen in table.items():
            total = sum(seen.values())
            lent = sum(min(discount, count) for count in seen.values()) / total
            probabilities = {word: max(count - discount, 0.0) / total for word, count in seen.items()}
            if size == 0:
                share = lent / (len(seen) + len(missing))
                probabilities = {word: p + share for word, p in probabilities.items()} | dict.fromkeys(missing, share)
            else:
                below = lower[context[1:]]
                for word in probabilities:
                    probabilities[word] += lent * _chance(word, context[1:], lower, below, backoff)
                backoff[context] = (-math.log(max(lent, 1e-9)), context[1:])
            lower[context] = probabilities
            arcs[context] = [
                Arc(word, -math.log(p), () if word == END else longest((*context, word))) for word, p in probabilities.items() if p > 0
            ]
    return NGram(begin, arcs, backoff)


def _chance(
    word: str,
    context: Context,
    tables: dict[Context, dict[str, float]],
    below: dict[str, float],
    backoff: dict[Context, tuple[float, Context]],
) -> float:
    """P(word | context), backing off as far as needed."""
    weight = 1.0
    while word not in below and context:
        cost, context = backoff[context]
        weight *= math.exp(-cost)
        below = tables[context]
    return weight * below.get(word, 0.0)
