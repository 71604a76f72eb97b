"""What visitors may say to a pack, as sentences: training text for recognisers, and test cases for what understands them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

from engines.language.words import normalise
from runtime.notation import Phrase, parse
from runtime.packs import BEGINNINGS, Pack, Slot, Tool, Value, request_rule

__all__ = ["sample_sentences", "slot_values", "vocabulary", "wordings"]

_KINDS = (
    ("order", 46),
    ("answer", 10),
    ("correction", 12),
    ("question", 18),
    ("price", 3),
    ("agree", 6),
    ("talk", 5),
    ("count", 1),
    ("removal", 2),
)
_COUNTS = ("one", "two", "three", "four")


def slot_values(slot: Slot) -> Iterator[tuple[str, str, float]]:
    """Every way to say every value of a slot: (words as spoken, canonical value, what it adds to the price)."""
    if slot.values:
        for value in slot.values:
            for words in wordings(value):
                yield words, value.value, value.price
        return
    parts = {part.name: [(words, value) for value in part.values for words in wordings(value)] for part in slot.parts}
    seen: set[str] = set()
    for form in slot.forms:
        for template in parse(form).expand():
            names = [word[1:-1] for word in template.split() if word.startswith("{")]
            for chosen in itertools.product(*(parts[name] for name in names)):
                said, meant, price = template, template, 0.0
                for name, (words, value) in zip(names, chosen, strict=True):
                    said = said.replace("{" + name + "}", words, 1)
                    meant = meant.replace("{" + name + "}", value.value, 1)
                    price += value.price
                said = " ".join(normalise(said))
                if said not in seen:
                    seen.add(said)
                    yield said, meant, price


def wordings(value: Value) -> list[str]:
    """All ways to say a value, its own name first, as spoken (lower case, numbers as words)."""
    said = [value.value, *(sentence for text in value.say for sentence in parse(text).expand())]
    return list(dict.fromkeys(" ".join(normalise(text)) for text in said))


def sample_sentences(pack: Pack, n: int, seed: int) -> list[str]:
    """`n` sentences as spoken (lower case, numbers as words, no punctuation but apostrophes), in roughly natural proportions:
    orders in all their orders, single answers, corrections, removals, questions, prices, agreeing, small talk. The same seed gives
    the same.
    """
    rng = random.Random(seed)
    source = _Source(pack, rng)
    kinds = [(kind, weight) for kind, weight in _KINDS if kind in source.makers]
    drawn = rng.choices([kind for kind, _ in kinds], [weight for _, weight in kinds], k=n)
    return [" ".join(normalise(source.makers[kind]())) for kind in drawn]


def vocabulary(pack: Pack) -> list[str]:
    """All words that visitors are expected to use, sorted."""
    words: set[str] = set()
    for template in pack.phrases():
        words |= {word for text in template.phrase.words() for word in normalise(text)}
    for tool in pack.tools:
        for slot in tool.slot:
            words |= {word for said, _, _ in slot_values(slot) for word in said.split()}
            words |= {word for text in slot.none for said in parse(text).expand() for word in normalise(said)}
    for entry in pack.knowledge:
        words |= {word for text in (*entry.questions, *entry.keywords) for word in normalise(text)}
    return sorted(word for word in words if word.strip("'"))


class _Source:
    """Makers of one sentence each, by kind."""

    def __init__(self, pack: Pack, rng: random.Random) -> None:
        self._pack, self._rng = pack, rng
        self._tools = list(pack.tools)
        self._phrases: dict[str, list[Phrase]] = {}
        for template in pack.phrases():
            self._phrases.setdefault(f"{template.kind} {template.name}", []).append(template.phrase)
        self.makers: dict[str, Callable[[], str]] = {"talk": self._talk, "agree": self._agree}
        if pack.knowledge:
            self.makers["question"] = lambda: self._rng.choice(self._rng.choice(pack.knowledge).questions)
        if self._tools:
            self.makers |= {"order": self._order, "answer": self._answer, "correction": self._correction, "count": self._count}
        if self._tools and "remove" in pack.talk:
            self.makers["removal"] = self._removal
        if any(tool.price_ask for tool in self._tools):
            self.makers["price"] = self._price

    def _value(self, tool: Tool, name: str) -> str:
        slot = tool.find(name)
        assert slot is not None, name
        rng = self._rng
        if slot.values:
            value = rng.choice(slot.values)
            return value.value if rng.random() < 0.75 else rng.choice(wordings(value))
        parts = {part.name: part.values for part in slot.parts}

        def fill(part: str) -> str:
            value = rng.choice(parts[part])
            return value.value if rng.random() < 0.8 else rng.choice(wordings(value))

        return parse(slot.forms[0] if rng.random() < 0.85 else rng.choice(slot.forms)).sample(rng, fill)

    def _order(self) -> str:
        tool = self._rng.choice(self._tools)
        phrases = self._phrases[f"tool {tool.name}"]
        if tool.start and self._rng.random() < 0.04:
            return self._rng.choice(self._phrases[f"start {tool.name}"]).sample(self._rng)
        # The first phrase is the fullest: half of the orders, so that every order of the slots is heard.
        phrase = phrases[0] if self._rng.random() < 0.6 else self._rng.choice(phrases)
        return phrase.sample(self._rng, lambda name: self._value(tool, name))

    def _answer(self) -> str:
        tool = self._rng.choice(self._tools)
        slot = self._rng.choice(tool.slot)
        if slot.none and self._rng.random() < 0.2:
            return parse(self._rng.choice(slot.none)).sample(self._rng)
        lead = self._rng.choice(("", "", "", "a ", "with ", "just ", "can i have ", "i'd like "))
        return lead + self._value(tool, slot.name) + self._rng.choice(("", "", " please"))

    def _correction(self) -> str:
        tool = self._rng.choice(self._tools)
        name = "correction" if self._rng.random() < 0.7 else "another"
        begin = self._rng.choice(self._phrases[f"talk {name}"]).sample(self._rng)
        first = self._value(tool, tool.slot[0].name)
        slot = self._rng.choice(tool.slot)
        if name == "another":
            return f"{begin} {self._rng.choice(('', 'small ', 'medium ', 'large ')) if tool.find('size') else ''}{first}"
        if slot.none and self._rng.random() < 0.15:
            return f"{begin} {parse(self._rng.choice(slot.none)).sample(self._rng)}"
        return f"{begin} {self._rng.choice(('', 'a ', 'with '))}{self._value(tool, slot.name)}"

    def _count(self) -> str:
        begin = self._rng.choice(self._phrases["talk correction"]).sample(self._rng)
        return f"{begin} {self._rng.choice(('', 'just '))}{self._rng.choice(_COUNTS)}"

    def _removal(self) -> str:
        tool = self._rng.choice(self._tools)
        begin = self._rng.choice(self._phrases["talk remove"]).sample(self._rng)
        return f"{begin} {self._rng.choice(('', 'the '))}{self._value(tool, tool.slot[0].name)}"

    def _price(self) -> str:
        tool = self._rng.choice([tool for tool in self._tools if tool.price_ask])
        phrase = parse(self._rng.choice(tool.price_ask), request_rule(tool))
        return phrase.sample(self._rng, lambda _: self._value(tool, tool.slot[0].name))

    def _agree(self) -> str:
        name = self._rng.choice(("yes", "yes", "yes", "no", "no", "cancel", "repeat", "stop", "wait"))
        if self._rng.random() < 0.4:  # most people agree and refuse in one word
            return next(self._phrases[f"talk {name}"][0].expand())
        return self._rng.choice(self._phrases[f"talk {name}"]).sample(self._rng)

    def _talk(self) -> str:
        names = [name for name in self._pack.talk if name not in BEGINNINGS]
        return self._rng.choice(self._phrases[f"talk {self._rng.choice(names)}"]).sample(self._rng)
