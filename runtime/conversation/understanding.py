"""From a pack to what the language engines work with, and from a sentence to intent and slots."""

from __future__ import annotations

import msgspec

from engines.language._types import DialogueState, SlotDeclaration, Surface, ToolDeclaration
from engines.language.grounded import GroundedEngine
from engines.language.words import normalise
from runtime.conversation.phrases import slot_values
from runtime.notation import parse
from runtime.packs import Pack, Slot, Tool

__all__ = ["Understander", "Understanding", "declare", "understand"]


class Understanding(msgspec.Struct, frozen=True):
    """What a sentence wants: the tool's name (None: no tool), canonical slot values of its first line, confidence 0 to 1."""

    intent: str | None
    slots: dict[str, str] = {}
    confidence: float = 0.0


def declare(pack: Pack) -> tuple[ToolDeclaration, ...]:
    """The pack's tools as the engines take them."""
    return tuple(_tool(tool, pack) for tool in pack.tools)


def _tool(tool: Tool, pack: Pack) -> ToolDeclaration:
    return ToolDeclaration(
        tool.name,
        tool.description,
        slots=tuple(_slot(slot) for slot in tool.slot),
        requests=_expanded(tool.request),
        starts=_expanded(tool.start),
        corrections=_expanded(pack.talk["correction"].ask),
        another=_expanded(pack.talk["another"].ask),
        removals=_expanded(pack.talk["remove"].ask) if "remove" in pack.talk else (),
    )


def _slot(slot: Slot) -> SlotDeclaration:
    surfaces = tuple(Surface(tuple(said.split()), value) for said, value, _ in slot_values(slot))
    return SlotDeclaration(slot.name, slot.about, surfaces, _expanded(slot.none), slot.required)


def _expanded(texts: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(dict.fromkeys(tuple(normalise(sentence)) for text in texts for sentence in parse(text).expand()))


class Understander:
    """`understand` for many sentences of one pack."""

    def __init__(self, pack: Pack) -> None:
        self.tools = declare(pack)
        self.engine = GroundedEngine()

    def __call__(self, text: str, state: DialogueState | None = None) -> Understanding:
        """What `text` wants, said out of nothing or (with `state`) in the middle of something."""
        for tool in self.tools:
            call = self.engine.read(tool, text, state or DialogueState())
            if call is not None:
                slots = {name: value for name, value in call.lines[0].items() if value} if call.lines else {}
                return Understanding(tool.name, slots, call.confidence)
        return Understanding(None)


def understand(pack: Pack, text: str) -> Understanding:
    """What `text` wants of `pack`. For many sentences make one Understander."""
    return Understander(pack)(text)
