"""Answers without a model: tools from spotted phrases, facts from the passages that retrieval found.

It says only what the pack says; where that is not enough, it says so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise

import msgspec

from engines.language._types import ChatRequest, DialogueState, Done, Event, TextDelta, ToolCall, ToolDeclaration
from engines.language.removal import take_out
from engines.language.spotting import Spot, Spotter
from engines.language.words import forget, normalise

__all__ = ["GroundedEngine", "read_tool"]

_QUESTION_WORDS = frozenset(
    "how what what's which where where's when who who's why is are do does did was were has have had am isn't don't doesn't will whose"
    " tell".split()
)
_JOINTS = ("and", "plus", "another", "also", "then")
_HANGING = ("and", "plus", "another", "then", "add")
_ARTICLES = ("a", "an", "one", "two", "three", "four", "five", "six")
_SURE_PASSAGE = 0.45
_ENOUGH = {"drink": 0.75, "request": 0.55, "slots": 0.8}


class GroundedEngine:
    """The engine that is always there."""

    name = "grounded"

    def __init__(self) -> None:
        self._spotters: dict[str, Spotter] = {}

    def respond(self, request: ChatRequest) -> tuple[Event, ...]:
        """The whole answer at once: a tool call, an answer from the passages, or that nobody here knows."""
        text = next((message.content for message in reversed(request.messages) if message.role == "user"), "")
        for tool in request.tools:
            call = self.read(tool, text, request.state)
            if call is not None:
                return (call, Done("tool"))
        if request.passages and request.passages[0].score >= _SURE_PASSAGE:
            return (TextDelta(request.passages[0].answer), Done("answer"))
        return (TextDelta(request.unsure), Done("unsure"))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """The events of `respond`."""
        for event in self.respond(request):
            yield event

    def read(self, tool: ToolDeclaration, text: str, state: DialogueState) -> ToolCall | None:
        """The call that `text` makes of `tool`, None when it makes none. With the tool under way, less is needed to believe it."""
        spotter = self._spotters.get(tool.name)
        if spotter is None or spotter.tool is not tool:
            spotter = self._spotters[tool.name] = Spotter(tool)
        return read_tool(spotter, text, state)

    def forget(self) -> None:
        """Let go of all that visitors' words left in here."""
        forget()
        for spotter in self._spotters.values():
            spotter.forget()


class _Reading(msgspec.Struct):
    """A sentence on its way to a tool call."""

    words: list[str]
    spots: list[Spot]
    covered: float

    def of(self, *kinds: str) -> list[Spot]:
        """The spots of these kinds."""
        return [spot for spot in self.spots if spot.kind in kinds]


def read_tool(spotter: Spotter, text: str, state: DialogueState) -> ToolCall | None:
    """The call that `text` makes of the spotter's tool, None when it makes none."""
    words = normalise(text)
    if not words:
        return None
    under_way = state.tool == spotter.tool.name
    # Where nothing is ordered yet, nothing can be taken out of it.
    spots = [spot for spot in spotter.spot(words) if under_way or spot.kind != "remove"]
    reading = _Reading(words, spots, spotter.covered(words, spots))
    if under_way and not reading.of("slot", "remove"):
        reading = _answer_to(spotter, reading, state)
    count = _count(spotter, reading) if under_way else 0
    confidence = reading.covered if count else _belief(spotter, reading, under_way=under_way)
    if confidence <= 0:
        return None
    removed, reading.spots = take_out(spotter, words, reading.spots, state.there)
    lines, quantities = ([{}], [count]) if count else _lines(spotter, reading)
    return ToolCall(
        spotter.tool.name,
        lines=tuple(lines),
        quantities=tuple(quantities),
        correction=bool(reading.of("correction")) and not _one_more(reading),
        another=bool(reading.of("another")),
        fresh=bool(reading.of("request", "start")),
        confidence=confidence,
        removed=tuple(removed),
    )


def _answer_to(spotter: Spotter, reading: _Reading, state: DialogueState) -> _Reading:
    """A short answer may be the beginning of a value of what was asked, or of what was said last: "two", "medium", "the oat one"."""
    asked = [name for name in (state.expects, *reversed(list(state.slots))) if name]
    for at, word in enumerate(reading.words):
        for slot in asked:
            value = spotter.begins(slot, word) if word not in ("a", "an", "the", "some") else ""
            # "Just one" of two lattes with two sugars is a latte; of one, a sugar; "make it two" of the latter means the latte again.
            counts = word in _ARTICLES and state.quantity == 1 and value != state.slots.get(slot)
            if value and (slot == state.expects or counts):
                spots = [spot for spot in reading.spots if spot.end <= at or spot.start > at]
                spots = sorted([*spots, Spot("slot", at, at + 1, slot, value, 0.9)], key=lambda spot: spot.start)
                return _Reading(reading.words, spots, spotter.covered(reading.words, spots))
    return reading


def _count(spotter: Spotter, reading: _Reading) -> int:
    """How many of what was last spoken of, where the sentence says nothing else ("no, just one", "make it three"), else 0."""
    numbers = reading.of("number")
    if len(numbers) != 1 or reading.covered < 1.0 or reading.of("slot", "none", "another", "remove"):
        return 0
    return spotter.number(numbers[0].value)


def _belief(spotter: Spotter, reading: _Reading, *, under_way: bool) -> float:
    """How sure it is that the words mean this tool, 0 to 1."""
    slots, requests = reading.of("slot", "none"), reading.of("request")
    covered = reading.covered
    first, opens = reading.words[0], [spot.start for spot in reading.of("request", "remove")]
    if reading.of("start") and covered >= 0.8:
        return covered
    if first in _QUESTION_WORDS and 0 not in opens:
        return 0.0
    if not slots:
        return 0.0
    certain = sum(spot.certainty for spot in slots) / len(slots)
    if under_way:
        return certain * covered if covered >= 0.5 else 0.0
    main = spotter.tool.slots[0].name
    drinks = [spot for spot in slots if spot.slot == main]
    exact = any(spot.certainty == 1.0 for spot in drinks)
    if requests and drinks and covered >= (_ENOUGH["request"] if exact and len(slots) > 1 else 0.7):
        return certain * covered
    if exact and not requests and covered >= _ENOUGH["drink"] and (len(slots) > 1 or len(reading.words) <= 4):
        return 0.9 * certain * covered
    if drinks and not exact and len(slots) > 1 and covered >= 0.85:
        return 0.8 * certain * covered
    if not drinks and covered == 1.0 and len(reading.words) <= 4 and certain == 1.0:
        return 0.5
    if requests and not drinks and covered >= _ENOUGH["slots"] and any(spot.certainty == 1.0 for spot in slots):
        return 0.8 * certain * covered
    return 0.0


def _lines(spotter: Spotter, reading: _Reading) -> tuple[list[dict[str, str]], list[int]]:
    """The slots, one dict per thing wanted: a second thing begins at the joint before it ("and a small mocha")."""
    main = spotter.tool.slots[0].name
    borders = [0]
    last: Spot | None = None
    for spot in reading.of("slot"):
        if spot.slot != main:
            continue
        if last is not None and not any(item.kind == "correction" and last.end <= item.start < spot.start for item in reading.spots):
            border = _joint(reading.words, reading.spots, last.end, spot.start)
            if border is not None:
                borders.append(border)
        last = spot
    borders.append(len(reading.words))
    lines: list[dict[str, str]] = []
    quantities: list[int] = []
    for begin, end in pairwise(borders):
        part = [spot for spot in reading.spots if begin <= spot.start < end]
        lines.append({spot.slot: spot.value for spot in part if spot.kind in ("slot", "none")})
        quantities.append(_quantity(spotter, reading.words, part))
    return lines, quantities


def _joint(words: Sequence[str], spots: Sequence[Spot], begin: int, end: int) -> int | None:
    """Where between two drinks the second thing begins: at the last "and" outside of any slot, else at the last article."""
    inside = {at for spot in spots if spot.kind == "slot" for at in range(spot.start, spot.end)}
    for joints in (_JOINTS, _ARTICLES):
        for at in range(end - 1, begin - 1, -1):
            if words[at] in joints and at not in inside:
                return at
    return None


def _one_more(reading: _Reading) -> bool:
    """Whether a sentence with words of a correction wants one more all the same: "no, also a tea", "no, I'd like a tea as well".

    Before the first slot the last such word decides; behind the last slot one is enough, unless the sentence hangs at it ("a tea and").
    """
    slots = reading.of("slot", "none")
    if not slots:
        return False
    leading = [spot.kind for spot in reading.of("correction", "another") if spot.start < slots[0].start]
    trailing = [spot for spot in reading.of("another") if spot.start >= slots[-1].end and reading.words[spot.end - 1] not in _HANGING]
    return leading[-1:] == ["another"] or bool(trailing)


def _quantity(spotter: Spotter, words: Sequence[str], spots: Sequence[Spot]) -> int:
    """How many of the thing: a number word before it that belongs to nothing else; 0 where none is said.

    "One" is a number only right before the thing and its properties: not in "the small one", nor in "make that one a tea".
    """
    main = next((spot.start for spot in spots if spot.slot == spotter.tool.slots[0].name), None)
    for spot in spots:
        if spot.kind == "number" and (main is None or spot.start < main):
            number = spotter.number(spot.value)
            if number > 1 or (main is not None and not {"a", "an", "the"} & set(words[spot.end : main])):
                return number
    return 0
