"""A back-off n-gram over words: what is likely to be said, from sentences in natural proportion, and what is likely after a question.

Absolute discounting with interpolation (Ney, Essen, Kneser 1994; one discount for all orders). Costs are negative natural logarithms.
What may have been asked ("hint") stands before the start of the sentence as a word of its own. Answers are counted only where it is in
sight: it changes the first words of a sentence and nothing else, and what nobody answered costs one step back. General talk is mixed into
single words and pairs: whoever says what no pack foresees is understood, or at least not taken for an order.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from engines.recognition.ears.talk import Talk

__all__ = ["END", "Arc", "NGram", "ngram"]

END = "</s>"
_BEGIN = "<s>"
_NEVER = 20.0  # cost of an end that no context knows
Context = tuple[str, ...]
_Tables = list[dict[Context, Counter[str]]]


@dataclass(frozen=True)
class Arc:
    """A word (or END) after a context: its cost, and the context after it."""

    word: str
    cost: float
    to: Context


@dataclass(frozen=True)
class NGram:
    """Contexts with their arcs, and (cost, shorter context) for every word that has none; `starts`: contexts to begin in, by hint."""

    order: int
    starts: Mapping[str, Context]
    arcs: Mapping[Context, Sequence[Arc]]
    backoff: Mapping[Context, tuple[float, Context]]

    def end_chance(self, words: Sequence[str], hint: str = "") -> float:
        """P(the sentence ends here | `words` were said)."""
        history = (*self.starts.get(hint, self.starts[""]), *words)
        context = history[max(0, len(history) - self.order + 1) :]
        while context not in self.arcs:
            context = context[1:]
        cost = 0.0
        while True:
            for arc in self.arcs[context]:
                if arc.word == END:
                    return math.exp(-cost - arc.cost)
            if context not in self.backoff:
                return math.exp(-_NEVER)
            step, context = self.backoff[context]
            cost += step


def ngram(
    sentences: Iterable[tuple[Sequence[str], float]],
    vocabulary: Iterable[str],
    answers: Mapping[str, Iterable[Sequence[str]]] | None = None,
    talk: Talk | None = None,
    *,
    order: int = 3,
    discount: float = 0.5,
    share: float = 0.05,
) -> NGram:
    """The model of weighted `sentences`; words of `vocabulary` that they lack share one count's discount in the shortest context.

    `answers`: what may follow each question, by hint. `talk`: general talk, which has `share` of all that is said. `discount` (0 to 1) is
    what every seen count lends to what was not seen. Raises ValueError for `answers` and an order
    under 3: no context would see the question.
    """
    if answers and order < 3:
        raise ValueError(f"an n-gram of order {order} cannot know what was asked: it needs 3")
    tables: _Tables = [defaultdict(Counter) for _ in range(order)]
    for sentence, weight in sentences:
        _count(tables, (_BEGIN, *sentence, END), 1, 0, weight)
    starts: dict[str, Context] = {"": (_BEGIN,)}
    for hint, lines in (answers or {}).items():
        starts[hint] = (f"<{hint}>", _BEGIN)
        for line in lines:
            _count(tables, (*starts[hint], *line, END), 2, 2, 1.0)
    missing = sorted(set(vocabulary) - set(tables[0][()]))
    chances: dict[Context, dict[str, float]] = {}
    backoff: dict[Context, tuple[float, Context]] = {}
    _interpolate(tables, missing, discount, chances, backoff, talk, share)
    arcs = {
        context: [Arc(word, -math.log(p), _after((*context, word), chances, order)) for word, p in chance.items() if p > 0]
        for context, chance in chances.items()
    }
    return NGram(order, starts, arcs, backoff)


def _interpolate(
    tables: _Tables,
    missing: Sequence[str],
    discount: float,
    chances: dict[Context, dict[str, float]],
    backoff: dict[Context, tuple[float, Context]],
    talk: Talk | None,
    share: float,
) -> None:
    """Fill `chances` and `backoff`, shorter contexts first: what a context lends is spread as the shorter one has it."""
    for size, table in enumerate(tables):
        for context, seen in table.items():
            total = sum(seen.values())
            lent = sum(min(discount, count) for count in seen.values()) / total
            chance = {word: max(count - discount, 0.0) / total for word, count in seen.items()}
            if size:
                shorter = context[1:]
                while shorter not in chances:
                    shorter = shorter[1:]
                backoff[context] = (-math.log(max(lent, 1e-9)), shorter)
                for word in chance:
                    chance[word] += lent * _chance(word, shorter, chances, backoff)
            else:
                each = lent / (len(seen) + len(missing))
                chance = {word: p + each for word, p in chance.items()} | dict.fromkeys(missing, each)
            chances[context] = chance
        if talk is not None and size < 2:
            _mix(talk, share, size, chances, backoff)


def _count(tables: _Tables, line: Sequence[str], first: int, reach: int, weight: float) -> None:
    """Count the words of `line` from number `first` on; `reach` > 0: only in contexts that reach back to its first word."""
    for at in range(first, len(line)):
        for size in range(at if reach else 0, min(at, len(tables) - 1) + 1):
            tables[size][tuple(line[at - size : at])][line[at]] += weight  # type: ignore[assignment] # weights are not whole


def _mix(
    talk: Talk, share: float, size: int, chances: dict[Context, dict[str, float]], backoff: dict[Context, tuple[float, Context]]
) -> None:
    """Give general talk its `share` of the contexts without a word (size 0) or of those of one word (size 1)."""
    if size == 0:
        own = chances[()]
        chances[()] = {
            word: (1 - share) * own.get(word, 0.0) + share * talk.words.get(word, 0.0) for word in dict.fromkeys((*own, *talk.words))
        }
        return
    alone = chances[()]
    for context in sorted({(word,) for word in talk.pairs} | {context for context in chances if len(context) == 1}):
        general, factor = talk.chance(context[0])
        seen = chances.get(context, {})
        lent = math.exp(-backoff[context][0]) if seen else 0.0
        weight = share if seen else 1.0
        mixed = {
            word: (1 - weight) * (seen.get(word) or lent * alone.get(word, 0.0))
            + weight * (general.get(word) or factor * talk.words.get(word, 0.0))
            for word in dict.fromkeys((*seen, *general))
        }
        left = max(1.0 - sum(mixed.values()), 1e-4) / max(1.0 - sum(alone.get(word, 0.0) for word in mixed), 1e-4)
        chances[context], backoff[context] = mixed, (-math.log(left), ())


def _chance(
    word: str, context: Context, chances: Mapping[Context, Mapping[str, float]], backoff: Mapping[Context, tuple[float, Context]]
) -> float:
    """P(word | context), backing off as far as needed."""
    weight = 1.0
    while word not in chances[context] and context:
        cost, context = backoff[context]
        weight *= math.exp(-cost)
    return weight * chances[context].get(word, 0.0)


def _after(history: Context, known: Collection[Context], order: int) -> Context:
    """The longest known context that `history` ends with."""
    if history[-1] == END:
        return ()
    history = history[max(0, len(history) - order + 1) :]
    while history and history not in known:
        history = history[1:]
    return history
