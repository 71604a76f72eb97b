"""What a language engine is given and what it gives back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

import msgspec

__all__ = [
    "ChatRequest",
    "DialogueState",
    "Done",
    "Event",
    "LanguageEngine",
    "Message",
    "Passage",
    "SlotDeclaration",
    "Surface",
    "TextDelta",
    "ToolCall",
    "ToolDeclaration",
]


class Surface(msgspec.Struct, frozen=True):
    """One way to say one value of a slot: normalised words, and the value's canonical name."""

    words: tuple[str, ...]
    value: str


class SlotDeclaration(msgspec.Struct, frozen=True):
    """A slot of a tool: every way to say its values, and the ways to say that nothing of it is wanted."""

    name: str
    about: str
    surfaces: tuple[Surface, ...]
    none: tuple[tuple[str, ...], ...] = ()
    required: bool = False


class ToolDeclaration(msgspec.Struct, frozen=True):
    """A tool: its slots, the words that begin a wish for it, whole sentences that ask for it, and what begins a correction, one more or one
    less.
    """

    name: str
    description: str
    slots: tuple[SlotDeclaration, ...]
    requests: tuple[tuple[str, ...], ...] = ()
    starts: tuple[tuple[str, ...], ...] = ()
    corrections: tuple[tuple[str, ...], ...] = ()
    another: tuple[tuple[str, ...], ...] = ()
    removals: tuple[tuple[str, ...], ...] = ()

    def schema(self) -> dict[str, Any]:
        """The tool as a JSON schema function, as OpenAI-compatible servers want it."""
        properties: dict[str, Any] = {}
        for slot in self.slots:
            values = list(dict.fromkeys(surface.value for surface in slot.surfaces))
            properties[slot.name] = {"type": "string", "description": slot.about, "enum": values}
        # Nothing is required of the model: what is missing is asked for by the dialogue, with the pack's own words.
        parameters = {"type": "object", "properties": properties, "additionalProperties": False}
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": parameters}}


class Passage(msgspec.Struct, frozen=True):
    """A piece of knowledge found for the question; `score` from 0 to 1, 1: the question itself is in the knowledge."""

    question: str
    answer: str
    score: float
    topic: str = ""


class Message(msgspec.Struct, frozen=True):
    """One message of the conversation so far; `role` is user or assistant."""

    role: str
    content: str


class DialogueState(msgspec.Struct, frozen=True):
    """What the dialogue is about: the tool under way ("" none), what is known of the line last spoken of and how many of it, what was just
    asked, and the values of the first slot of all lines.
    """

    tool: str = ""
    slots: dict[str, str] = {}
    expects: str = ""
    quantity: int = 1
    there: tuple[str, ...] = ()


class ChatRequest(msgspec.Struct, frozen=True):
    """Everything an engine needs for one answer.

    `system` is the same for all requests of a pack, so that a server can keep its KV cache; passages and state go behind the history.
    `unsure` is what to say when there is no answer. `share`: of the longest answer that the engine may make; below 1 a short one is wanted.
    """

    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolDeclaration, ...] = ()
    passages: tuple[Passage, ...] = ()
    state: DialogueState = DialogueState()
    unsure: str = ""
    share: float = 1.0


class TextDelta(msgspec.Struct, frozen=True):
    """More text of the answer."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """The visitor wants a tool. `lines` are the things wanted: slot → canonical value, "" for a slot that is expressly not wanted.

    `quantities` goes with `lines`, 0 where none was said; `correction` and `another` tell whether the words meant to change a line that is
    there or to add to them, `fresh` that they began a new wish ("can I have"). `removed` are the things not wanted any more,
    each with how many of it (0: all).
    """

    name: str
    lines: tuple[dict[str, str], ...]
    quantities: tuple[int, ...] = ()
    correction: bool = False
    another: bool = False
    fresh: bool = False
    confidence: float = 1.0
    removed: tuple[tuple[dict[str, str], int], ...] = ()


class Done(msgspec.Struct, frozen=True):
    """The end. reason: tool | answer | unsure | stop | length."""

    reason: str


Event = TextDelta | ToolCall | Done


class LanguageEngine(Protocol):
    """Makes one answer at a time. Cancel by closing the iterator (or cancelling the task that reads it): it ends at once."""

    name: str

    def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Events of the answer, Done last. Raises EngineError with one line for the technician."""
        ...
