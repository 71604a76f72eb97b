"""The tables of an experience pack's files, as `runtime.packs` offers them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

TALK = ("hello", "thanks", "bye", "help", "repeat", "stop", "wait", "staff", "yes", "no", "cancel", "start_over", "correction", "another")
"""What every pack must be able to understand; a pack may add small talk of its own."""
BEGINNINGS = ("correction", "another", "remove")
"""Talk that only begins something: a change of what was ordered, one more thing, one less (a pack may be without `remove`)."""

Text = Annotated[str, Meta(min_length=1)]
Price = Annotated[float, Meta(ge=0, le=100_000)]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all tables."""


class Persona(Table, frozen=True, kw_only=True):
    """Who speaks; `role` and `style` also begin the language model's prompt."""

    name: Text
    role: Text
    style: str = ""
    voice: str = ""  # name of a voice for the synthesis engine, "" its default


class Brand(Table, frozen=True, kw_only=True):
    """How the page looks: colours as #rrggbb, background a colour or a picture beside pack.toml."""

    title: Text
    accent: Annotated[str, Meta(pattern="^#[0-9a-fA-F]{6}$")] = "#2f6f5e"
    background: str = "#e9e4da"
    logo: str = ""


class Say(Table, frozen=True, kw_only=True):
    """What is said on the way, each with wordings to choose from in turn."""

    greeting: tuple[Text, ...]
    still_there: tuple[Text, ...]
    farewell: tuple[Text, ...]
    unsure: tuple[Text, ...]  # the question is understood as one, the answer is not known
    not_understood: tuple[Text, ...]
    staff_called: tuple[Text, ...]
    nothing_to_repeat: tuple[Text, ...] = ("I haven't said anything yet.",)
    nothing_to_cancel: tuple[Text, ...] = ("There is nothing to cancel.",)
    started_over: tuple[Text, ...] = ("All right, let's start again.",)
    corrected: tuple[Text, ...] = ("All right.",)
    anything_else: tuple[Text, ...] = ("Anything else?",)
    acknowledged: tuple[Text, ...] = ("All right.",)


class Talk(Table, frozen=True, kw_only=True):
    """One thing people say that needs no knowledge: phrases in the notation, replies to choose from in turn (empty: none is given)."""

    ask: tuple[Text, ...]
    say: tuple[Text, ...] = ()


class Suggestion(Table, frozen=True, kw_only=True):
    """A button on the page: what it shows, and what touching it says."""

    label: Text
    text: Text


class Value(Table, frozen=True, kw_only=True):
    """A value of a slot: its canonical name, other ways to say it (notation; the name itself always counts), what it adds to the price."""

    value: Text
    say: tuple[Text, ...] = ()
    price: Price = 0.0


class Part(Table, frozen=True, kw_only=True):
    """A part of a composed slot, such as the amount in "a bit of milk"."""

    name: Text
    values: tuple[Value, ...]


class Slot(Table, frozen=True, kw_only=True):
    """Something a tool must know.

    Simple slots list `values`. Composed ones list `parts` and `forms`, e.g. "[{amount}] {kind}": the value is the parts' values put
    together as the form says. `none` are ways to say that nothing of it is wanted.
    """

    name: Text
    ask: str = ""
    required: bool = False
    default: str = ""
    values: tuple[Value, ...] = ()
    parts: tuple[Part, ...] = ()
    forms: tuple[Text, ...] = ()
    none: tuple[Text, ...] = ()
    about: str = ""


class Tool(Table, frozen=True, kw_only=True):
    """Something the kiosk does for the visitor: it collects the slots, reads them back, does it when the visitor agrees.

    `request` are the words that begin such a wish ("can I get"); they serve as <request> in `phrases`, which are whole sentences.
    `summary` (notation, unknown optional parts fall away) names one line. `confirm` asks for the agreement (`confirm_again` after an
    answer in between), `done` follows it: they may use {summary}, {total} and, once done, {number}.
    `price_answer` answers `price_ask` for each priced value of the first slot: {value}, {price}; `total_answer` with {total} answers
    `total_ask` while an order is under way.
    """

    name: Text
    description: Text
    request: tuple[Text, ...]
    phrases: tuple[Text, ...]
    slot: tuple[Slot, ...]
    summary: Text
    confirm: Text
    confirm_again: str = ""
    done: Text
    cancelled: Text
    start: tuple[Text, ...] = ()  # sentences that ask for the tool without naming any slot
    label: str = "Order"
    currency: str = ""
    price_answer: str = ""
    price_ask: tuple[Text, ...] = ()
    total_answer: str = ""
    total_ask: tuple[Text, ...] = ()

    def find(self, slot: str) -> Slot | None:
        """The slot of that name."""
        return next((item for item in self.slot if item.name == slot), None)


class Guardrail(Table, frozen=True, kw_only=True):
    """A rule on what visitors say (`in`) or on what the kiosk is about to say (`out`): words, or patterns (regular expressions)."""

    name: Text
    when: Literal["in", "out"] = "in"
    words: tuple[Text, ...] = ()
    patterns: tuple[Text, ...] = ()
    say: tuple[Text, ...] = ()
    staff: bool = False  # call staff when it strikes


class Guardrails(Table, frozen=True, kw_only=True):
    """All rules, and how long an answer may become (a voice is slow)."""

    rule: tuple[Guardrail, ...] = ()
    max_sentences: Annotated[int, Meta(ge=1, le=10)] = 3
    max_input_chars: Annotated[int, Meta(ge=50, le=5000)] = 400


class Objective(Table, frozen=True, kw_only=True):
    """What a visit should achieve: reached when tool `tool` was done, or when an answer had one of the `topics` (knowledge files)."""

    name: Text
    description: Text
    tool: str = ""
    topics: tuple[Text, ...] = ()


class Main(Table, frozen=True, kw_only=True):
    """pack.toml."""

    name: Text
    languages: Annotated[tuple[Text, ...], Meta(min_length=1)]
    persona: Persona
    brand: Brand
    say: Say
    talk: dict[str, Talk]
    suggestions: tuple[Suggestion, ...] = ()
    backchannels: tuple[Text, ...] = ()
    notices: tuple[Text, ...] = ()
    pronunciations: dict[str, str] = {}


class Tools(Table, frozen=True, kw_only=True):
    """tools.toml."""

    tool: tuple[Tool, ...] = ()


class Objectives(Table, frozen=True, kw_only=True):
    """objectives.toml."""

    objective: tuple[Objective, ...] = ()
