"""The notation in which a pack writes what people say, close to JSGF.

    can I (get | have) [a] {size} {coffeeDrink}     (a | b) one of · [a] perhaps · {slot} a slot's value · <name> a named part
    &([{size}] [{roast}])                           the parts in any order

`parse` gives a tree; `expand` lists what it can say, `sample` draws one, `render` fills a template with what is known.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

__all__ = ["NotationError", "Phrase", "parse"]

_LEXEME = re.compile(
    r"\s*(?:(?P<slot>\{[^{}]*\})|(?P<rule><[^<>]*>)|(?P<open>&\(|\(|\[)|(?P<close>\)|\])|(?P<bar>\|)|(?P<word>[^\s{}<>()\[\]|&]+))"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIMIT = 100_000


class NotationError(ValueError):
    """The text is not in the notation; says what is wrong and where."""


class Word(msgspec.Struct, frozen=True):
    """A word to say, spelt as in the pack."""

    text: str


class Slot(msgspec.Struct, frozen=True):
    """Stands for any value of the slot."""

    name: str


class Sequence(msgspec.Struct, frozen=True):
    """Parts one after another; `any_order` for &( … )."""

    parts: tuple[Node, ...]
    any_order: bool = False


class Choice(msgspec.Struct, frozen=True):
    """One of the options; `optional` for [ … ]."""

    options: tuple[Node, ...]
    optional: bool = False


Node = Word | Slot | Sequence | Choice


class Phrase(msgspec.Struct, frozen=True):
    """A parsed phrase and its source."""

    source: str
    root: Node

    def slots(self) -> set[str]:
        """Names of all slots in it."""
        return set(_slots(self.root))

    def words(self) -> set[str]:
        """All words in it, as written."""
        return {node.text for node in _walk(self.root) if isinstance(node, Word)}

    def expand(self, limit: int = _LIMIT) -> Iterator[str]:
        """Everything it can say, slots left as {name}; NotationError after `limit`."""
        for count, lexemes in enumerate(_expand(self.root)):
            if count >= limit:
                raise NotationError(f"{self.source!r} stands for more than {limit} sentences")
            yield _join(lexemes)

    def sample(self, rng: random.Random, fill: Callable[[str], str] | None = None) -> str:
        """One sentence at random; `fill` gives the words for a slot."""
        return _join(_sample(self.root, rng, fill or "{{{}}}".format))

    def render(self, known: Mapping[str, str]) -> str | None:
        """The fullest sentence whose slots are all known: optional parts with unknown slots fall away, of options the first that
        works is taken. None when something that is not optional is unknown.
        """
        found = _render(self.root, known)
        return None if found is None else _join(found)


def parse(text: str, rules: Mapping[str, Phrase] | None = None) -> Phrase:
    """The tree of `text`; <name> is looked up in `rules`. Raises NotationError."""
    reader = _Reader(text, rules or {})
    root = reader.choice("")
    return Phrase(text, root)


class _Reader:
    """Recursive descent over the lexemes."""

    def __init__(self, text: str, rules: Mapping[str, Phrase]) -> None:
        self._text, self._rules = text, rules
        self._lexemes: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            match = _LEXEME.match(text, at)
            if match is None or match.lastgroup is None:
                raise NotationError(f"unexpected {text[at:].strip()[0]!r} in {text!r}")
            self._lexemes.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        self._at = 0

    def choice(self, closing: str) -> Node:
        options = [self.sequence()]
        while self._peek()[0] == "bar":
            self._at += 1
            options.append(self.sequence())
        kind, lexeme = self._peek()
        if (kind == "close" and lexeme != closing) or (kind == "end" and closing):
            raise NotationError(f"{repr(closing) + ' is missing' if closing else repr(lexeme) + ' closes nothing'} in {self._text!r}")
        if kind == "close":
            self._at += 1
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while (item := self._peek())[0] not in ("bar", "close", "end"):
            self._at += 1
            parts.append(self._part(*item))
        if not parts:
            raise NotationError(f"empty alternative in {self._text!r}")
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _part(self, kind: str, lexeme: str) -> Node:
        if kind == "word":
            if lexeme.startswith("'"):
                raise NotationError(f"{lexeme} is no word in {self._text!r}: write short forms whole, such as (i'd | we'd)")
            return Word(lexeme)
        if kind in ("slot", "rule"):
            name = lexeme[1:-1].strip()
            if not _NAME.fullmatch(name):
                raise NotationError(f"{lexeme} is no name in {self._text!r}")
            if kind == "slot":
                return Slot(name)
            if name not in self._rules:
                raise NotationError(f"<{name}> is not defined, in {self._text!r}")
            return self._rules[name].root
        if lexeme == "[":
            inner = self.choice("]")
            return Choice(inner.options if isinstance(inner, Choice) and not inner.optional else (inner,), optional=True)
        inner = self.choice(")")
        if lexeme == "&(":
            return Sequence(inner.parts if isinstance(inner, Sequence) else (inner,), any_order=True)
        return inner

    def _peek(self) -> tuple[str, str]:
        return self._lexemes[self._at] if self._at < len(self._lexemes) else ("end", "")


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in _children(node):
        yield from _walk(child)


def _children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Sequence):
        return node.parts
    return node.options if isinstance(node, Choice) else ()


def _slots(node: Node) -> Iterator[str]:
    return (item.name for item in _walk(node) if isinstance(item, Slot))


def _expand(node: Node) -> Iterator[tuple[str, ...]]:
    if isinstance(node, Word):
        yield (node.text,)
    elif isinstance(node, Slot):
        yield ("{" + node.name + "}",)
    elif isinstance(node, Choice):
        if node.optional:
            yield ()
        for option in node.options:
            yield from _expand(option)
    else:
        orders = itertools.permutations(node.parts) if node.any_order else iter((node.parts,))
        for order in orders:
            for combination in itertools.product(*(tuple(_expand(part)) for part in order)):
                yield tuple(itertools.chain.from_iterable(combination))


def _sample(node: Node, rng: random.Random, fill: Callable[[str], str]) -> tuple[str, ...]:
    if isinstance(node, Word):
        return (node.text,)
    if isinstance(node, Slot):
        return (fill(node.name),)
    if isinstance(node, Choice):
        return () if node.optional and rng.random() < 0.5 else _sample(rng.choice(node.options), rng, fill)
    parts = list(node.parts)
    if node.any_order:
        rng.shuffle(parts)
    return tuple(itertools.chain.from_iterable(_sample(part, rng, fill) for part in parts))


def _render(node: Node, known: Mapping[str, str]) -> tuple[str, ...] | None:
    if isinstance(node, Word):
        return (node.text,)
    if isinstance(node, Slot):
        value = known.get(node.name)
        return None if not value else (value,)
    if isinstance(node, Choice):
        for option in node.options:
            found = _render(option, known)
            if found is not None:
                return found
        return () if node.optional else None
    made: list[str] = []
    for part in node.parts:
        found = _render(part, known)
        if found is None:
            return None
        made.extend(found)
    return tuple(made)


def _join(lexemes: tuple[str, ...]) -> str:
    return re.sub(r"\s+([,.;:?!])", r"\1", " ".join(lexeme for lexeme in lexemes if lexeme))
