"""What the pack will not talk about: rules on what comes in and on what is about to be said. Pure; compiled once per pack."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from engines.language.words import normalise
from runtime.packs import Guardrail, Guardrails

__all__ = ["Gate", "Verdict"]


class Verdict(msgspec.Struct, frozen=True):
    """A rule has struck: its name, the replies to choose from, whether staff shall come."""

    rule: str
    say: tuple[str, ...]
    staff: bool = False


class Gate:
    """The rules of one pack, ready to judge."""

    def __init__(self, rules: Guardrails) -> None:
        self.max_input_chars = rules.max_input_chars
        self.max_sentences = rules.max_sentences
        self._in = [_compiled(rule) for rule in rules.rule if rule.when == "in"]
        self._out = [_compiled(rule) for rule in rules.rule if rule.when == "out"]

    def incoming(self, text: str) -> Verdict | None:
        """The first rule that what the visitor said breaks."""
        return _judge(self._in, text)

    def outgoing(self, text: str) -> Verdict | None:
        """The first rule that an answer breaks."""
        return _judge(self._out, text)

    def trim(self, text: str) -> str:
        """What the visitor typed, no longer than the pack allows, cut at a word; control characters become blanks."""
        text = "".join(char if char.isprintable() else " " for char in text).strip()
        if len(text) <= self.max_input_chars:
            return text
        return text[: self.max_input_chars].rsplit(" ", 1)[0]


def _compiled(rule: Guardrail) -> tuple[Guardrail, frozenset[tuple[str, ...]], list[re.Pattern[str]]]:
    words = frozenset(tuple(normalise(word)) for word in rule.words)
    return rule, words, [re.compile(pattern, re.IGNORECASE) for pattern in rule.patterns]


def _judge(rules: Iterable[tuple[Guardrail, frozenset[tuple[str, ...]], list[re.Pattern[str]]]], text: str) -> Verdict | None:
    said = normalise(text)
    plain = " ".join(said)
    pairs = {(word,) for word in said} | set(pairwise(said))
    for rule, words, patterns in rules:
        # Patterns see the text as typed, for markup, and as words, for curly quotes and odd spacing.
        if words & pairs or any(pattern.search(text) or pattern.search(plain) for pattern in patterns):
            return Verdict(rule.name, rule.say, rule.staff)
    return None
