"""Finding a tool's words in a sentence: slots, requests and corrections, also where the recogniser misheard a word.

The sentence is covered with the longest known phrases (a dynamic program over word positions). A word that nobody knows may stand for
a known one that sounds like it ("expresso", "cap a chino"), at a cost, so that an exact reading always wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from engines.language._types import ToolDeclaration
from engines.language.words import normalise, similarity, sound

__all__ = ["FILLERS", "Spot", "Spotter"]

FILLERS = frozenset(
    "a an the with and please um uh er erm hm well so just of for me my to some then also too thanks thank you hi hello hey okay yes"
    " yeah could it that's is in now there ones coffee's kind".split()
)
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_ALIKE = 0.74  # a single misheard word must be at least so like the known one
_ALIKE_SPLIT = 0.7  # a word heard as several ("cap a chino") is unlikely to be anything else
_ALIKE_IN_PHRASE = 0.6  # in a phrase of several words, the others support it
_ALIKE_PHRASE = 0.76  # mean over a phrase with misheard words


class Spot(msgspec.Struct, frozen=True):
    """Words [start, end) say this; certainty 1.0 when exact.

    `kind`: slot | none | request | start | correction | another | remove | number.
    """

    kind: str
    start: int
    end: int
    slot: str = ""
    value: str = ""
    certainty: float = 1.0


class _Node:
    """A node of the tree of known phrases."""

    __slots__ = ("ends", "next")

    def __init__(self) -> None:
        self.next: dict[str, _Node] = {}
        self.ends: list[tuple[str, str, str]] = []  # kind, slot, value


class Spotter:
    """Everything a tool's declaration lets people say, ready to be found."""

    def __init__(self, tool: ToolDeclaration) -> None:
        self.tool = tool
        self._root = _Node()
        self._slot_words: set[str] = set()
        for slot in tool.slots:
            for surface in slot.surfaces:
                self._add(surface.words, "slot", slot.name, surface.value)
                self._slot_words.update(surface.words)
            for words in slot.none:
                self._add(words, "none", slot.name, "")
        for kind, phrases in (
            ("request", tool.requests),
            ("start", tool.starts),
            ("correction", tool.corrections),
            ("another", tool.another),
            ("remove", tool.removals),
        ):
            for words in phrases:
                self._add(words, kind, "", "")
        for word in _NUMBERS:
            self._add((word,), "number", "", word)
        self._by_sound: dict[str, list[str]] = {}
        for word in sorted(self._slot_words):
            if len(word) > 3:
                self._by_sound.setdefault(sound(word)[:1], []).append(word)
        self._known = self._words_of(self._root) | FILLERS
        self._meant = lru_cache(maxsize=4096)(self._find_meant)

    def forget(self) -> None:
        """Let go of the words that were looked up."""
        self._meant.cache_clear()

    def _add(self, words: Sequence[str], kind: str, slot: str, value: str) -> None:
        node = self._root
        for word in words:
            node = node.next.setdefault(word, _Node())
        if (kind, slot, value) not in node.ends:
            node.ends.append((kind, slot, value))

    def _words_of(self, node: _Node) -> set[str]:
        found = set(node.next)
        for child in node.next.values():
            found |= self._words_of(child)
        return found

    def spot(self, words: Sequence[str]) -> list[Spot]:
        """The spots of the best cover, left to right, without overlap."""
        best: list[tuple[float, list[Spot]]] = [(0.0, [])] * (len(words) + 1)
        for start in range(len(words) - 1, -1, -1):
            best[start] = best[start + 1]
            for spot in self._spots_at(words, start):
                length = spot.end - spot.start
                # Longer phrases beat the same words in pieces; slots beat what merely leads to them.
                gain = length * spot.certainty**3 + 0.1 * (length - 1) + _RANK[spot.kind]
                score = gain + best[spot.end][0]
                if score > best[start][0]:
                    best[start] = (score, [spot, *best[spot.end][1]])
        return best[0][1]

    def _spots_at(self, words: Sequence[str], start: int) -> Iterator[Spot]:
        stack: list[tuple[_Node, int, float, int, float]] = [(self._root, start, 0.0, 0, 1.0)]
        while stack:
            node, at, total, steps, least = stack.pop()
            if steps:
                mean = total / steps
                if least == 1.0 or (
                    mean >= (_ALIKE_SPLIT if steps == 1 else _ALIKE_PHRASE) and (steps > 1 or least >= _ALIKE or at - start > 1)
                ):
                    for kind, slot, value in node.ends:
                        # Four letters ("this", "late") sound like too much to stand for a drink on their own.
                        heard_enough = steps > 1 or len(words[start]) + at - start > 5
                        if least == 1.0 or (kind in ("slot", "none") and heard_enough):
                            yield Spot(kind, start, at, slot, value, mean)
            if at >= len(words):
                continue
            child = node.next.get(words[at])
            if child is not None:
                stack.append((child, at + 1, total + 1.0, steps + 1, least))
            for known, length, likeness in self._meant(tuple(words[at : at + 3])):
                child = node.next.get(known)
                if child is not None:
                    stack.append((child, at + length, total + likeness, steps + 1, min(least, likeness)))

    def _find_meant(self, window: tuple[str, ...]) -> list[tuple[str, int, float]]:
        """Slot words that the beginning of `window` may be mishearings of: (word, words used, likeness)."""
        found = []
        for length in range(1, len(window) + 1):
            part = window[:length]
            if all(word in self._known for word in part):
                continue
            said = "".join(part)
            # Recognisers rarely miss the first sound; looking only there keeps this to a few comparisons.
            for known in self._by_sound.get(sound(said)[:1], ()):
                too_short = length > 1 and len(known) < 6
                if known == said or too_short or abs(len(known) - len(said)) > 3:
                    continue
                likeness = similarity(said, known) - 0.02 * (length - 1)
                if likeness >= (_ALIKE_SPLIT if length > 1 else _ALIKE_IN_PHRASE):
                    found.append((known, length, likeness))
        return found

    def begins(self, slot: str, word: str) -> str:
        """The value of `slot` of which `word` begins a wording ("medium" of "medium roast", "two" of "two sugars"), "" none."""
        declaration = next((item for item in self.tool.slots if item.name == slot), None)
        for surface in declaration.surfaces if declaration else ():
            if surface.words[0] == word:
                return surface.value
        return ""

    def leads_on(self, words: Sequence[str]) -> bool:
        """Whether a longer phrase begins with these words of a phrase: "no" with "no sugar" in the pack."""
        node = self._root
        for word in words:
            node = node.next[word]
        return bool(node.next)

    def covered(self, words: Sequence[str], spots: Sequence[Spot]) -> float:
        """The part of the words that spots and fillers explain, 0 to 1."""
        explained = [word in FILLERS for word in words]
        for spot in spots:
            explained[spot.start : spot.end] = [True] * (spot.end - spot.start)
        return sum(explained) / len(words) if words else 0.0

    @staticmethod
    def number(word: str) -> int:
        """The count that a number word says."""
        return _NUMBERS[word]

    @staticmethod
    def words(text: str) -> list[str]:
        """The text as this module reads it."""
        return normalise(text)


_RANK = {"slot": 0.05, "none": 0.06, "start": 0.04, "request": 0.03, "correction": 0.02, "another": 0.02, "remove": 0.015, "number": 0.01}
