"""What the pack knows, found in milliseconds: SQLite FTS5 narrows down (BM25), then each candidate is scored against the question.

BM25 has no scale, so it cannot tell "found" from "nothing fits". The second score can: it is the part of the question's information
(rare words count more) that the entry answers, and the part of the entry's own question that was asked.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence

from engines.language._types import Passage
from engines.language.words import normalise, number_words, similarity, stem
from runtime.conversation.phrases import wordings
from runtime.packs import Entry, Pack, Tool

__all__ = ["ANSWERED", "Knowledge", "spoken_price"]

ANSWERED = 0.5
"""A passage of at least this score answers the question."""

_STOP = frozenset(
    "a an the i me my we us our you your it its he she they them their is are am was were be been do does did can could will would shall"
    " should may might must have has had of to in on at by for from with and or but not there here this that these those what's whats which"
    " who whom any some so please just um uh er tell know find get go want need like much many got give show about if is it's i'm i'd"
    " thing things anything something really also too".split()
)
# Words of a question that say which kind of answer is wanted; they weigh less than what it is about.
_ASKING = frozenset(["what", "how", "where", "when", "why", "whose"])
_CANDIDATES = 12
_MISHEARD = 0.87


class Knowledge:
    """The entries of one pack in memory."""

    def __init__(self, pack: Pack) -> None:
        self.entries: tuple[Entry, ...] = (*pack.knowledge, *(entry for tool in pack.tools for entry in _prices(tool)))
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute("CREATE VIRTUAL TABLE facts USING fts5(question, keywords, answer, tokenize='unicode61')")
        self._questions = [[_content(normalise(question)) for question in entry.questions] for entry in self.entries]
        self._keywords = [_content(normalise(" ".join(entry.keywords))) for entry in self.entries]
        self._answers = [_content(normalise(entry.answer)) for entry in self.entries]
        rows = [
            (" ".join(stem for question in questions for stem in question), " ".join(keywords), " ".join(answer))
            for questions, keywords, answer in zip(self._questions, self._keywords, self._answers, strict=True)
        ]
        self._db.executemany("INSERT INTO facts VALUES (?, ?, ?)", rows)
        self._exact = {
            " ".join(_bare(question)): index for index, entry in reversed(list(enumerate(self.entries))) for question in entry.questions
        }
        self._weight = self._weights(rows)
        self._vocabulary = tuple(self._weight)

    def _weights(self, rows: Sequence[tuple[str, str, str]]) -> dict[str, float]:
        """Inverse document frequency of each stem."""
        count: dict[str, int] = {}
        for row in rows:
            for word in {word for cell in row for word in cell.split()}:
                count[word] = count.get(word, 0) + 1
        return {word: math.log(1 + len(rows) / seen) * (0.4 if word in _ASKING else 1.0) for word, seen in count.items()}

    def search(self, question: str, limit: int = 3) -> tuple[Passage, ...]:
        """The passages that fit `question` best, best first; scores from 0 to 1, 1: the very question is in the knowledge."""
        exact = self._exact.get(" ".join(_bare(question)))
        if exact is not None:
            return (self._passage(exact, 1.0),)
        asked = [self._meant(word) for word in dict.fromkeys(_content(normalise(question)))]
        known = [word for word in asked if word in self._weight]
        if not known or all(word in _ASKING for word in known):
            return ()
        match = " OR ".join(f'"{word}"' for word in known)
        rows = self._db.execute(
            "SELECT rowid FROM facts WHERE facts MATCH ? ORDER BY bm25(facts, 4.0, 4.0, 1.0) LIMIT ?", (match, _CANDIDATES)
        )
        scored = sorted(((self._score(asked, rowid - 1), rowid - 1) for (rowid,) in rows), key=lambda pair: (-pair[0], pair[1]))
        return tuple(self._passage(index, score) for score, index in scored[:limit])

    def _meant(self, word: str) -> str:
        """The word itself, or the known one that it was probably misheard for."""
        if word in self._weight or len(word) < 4:
            return word
        near = [known for known in self._vocabulary if abs(len(known) - len(word)) <= 2 and known[0] == word[0]]
        best = max(near, key=lambda known: similarity(word, known), default=word)
        return best if similarity(word, best) >= _MISHEARD else word

    def _score(self, asked: Sequence[str], index: int) -> float:
        unknown = max(self._weight.values())  # a word that nobody wrote is the rarest of all
        total = sum(self._weight.get(word, unknown) for word in asked)
        best = 0.0
        for question in self._questions[index]:
            words = set(question)
            hit = sum(self._weight[word] for word in asked if word in words)
            helped = sum(
                self._weight[word] * (0.85 if word in self._keywords[index] else 0.3)
                for word in asked
                if word not in words and (word in self._keywords[index] or word in self._answers[index])
            )
            own = sum(self._weight[word] for word in words) or 1.0
            best = max(best, 0.7 * (hit + helped) / total + 0.3 * min(1.0, (hit + 0.5 * helped) / own))
        return round(min(best, 0.99), 3)

    def _passage(self, index: int, score: float) -> Passage:
        entry = self.entries[index]
        return Passage(entry.questions[0], entry.answer, score, entry.topic)


def _content(words: Iterable[str]) -> list[str]:
    return [stem(word) for word in words if word not in _STOP]


def _bare(text: str) -> list[str]:
    """The words that decide whether it is the very same question: politeness and hesitation left out."""
    return [
        word for word in normalise(text) if word not in ("please", "um", "uh", "er", "so", "well", "the", "a", "an", "okay", "hi", "hello")
    ]


def _prices(tool: Tool) -> Iterable[Entry]:
    """Facts about prices, made of the tool's own declaration, so that the menu cannot contradict the order."""
    if not tool.price_answer or not tool.price_ask or not tool.slot:
        return
    for value in tool.slot[0].values:
        if not value.price:
            continue
        said = tool.price_answer.replace("{value}", value.value).replace("{price}", spoken_price(value.price, tool.currency))
        words = wordings(value)
        questions = tuple(f"{ask} {name}" for name in words for ask in ("how much is", "what does it cost the", "what is the price of"))
        yield Entry(questions, said[:1].upper() + said[1:], ("price", "cost", "much", "pound"), f"{tool.name} prices")


_MONEY = {"£": ("pound", "pounds", "pence"), "$": ("dollar", "dollars", "cents"), "€": ("euro", "euros", "cents")}


def spoken_price(amount: float, currency: str) -> str:
    """3.2, "£" → "three pounds twenty"."""
    whole, cents = divmod(round(amount * 100), 100)
    one, many, small = _MONEY.get(currency, ("", "", ""))
    if not one:
        return f"{number_words(whole)} {f'point {number_words(cents)} ' if cents else ''}{currency}".strip()
    if not whole:
        return f"{number_words(cents)} {small}"
    return f"{number_words(whole)} {one if whole == 1 else many}" + (f" {number_words(cents)}" if cents else "")
