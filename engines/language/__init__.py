"""From what a visitor said to what to say or do: a grounded engine without a model, and any OpenAI-compatible server."""

from __future__ import annotations

import msgspec

from engines.language._types import (
    ChatRequest,
    DialogueState,
    Done,
    Event,
    LanguageEngine,
    Message,
    Passage,
    SlotDeclaration,
    Surface,
    TextDelta,
    ToolCall,
    ToolDeclaration,
)
from engines.language.grounded import GroundedEngine

__all__ = [
    "ChatRequest",
    "DialogueState",
    "Done",
    "Event",
    "GroundedEngine",
    "LanguageEngine",
    "Message",
    "Passage",
    "Selection",
    "SlotDeclaration",
    "Surface",
    "TextDelta",
    "ToolCall",
    "ToolDeclaration",
    "select",
]


class Selection(msgspec.Struct, frozen=True):
    """The engine taken, and why each better one was not ("openai: no server configured")."""

    engine: LanguageEngine
    reasons: tuple[str, ...] = ()


def select(
    engine: str = "auto", base_url: str = "", model: str = "", api_key: str = "", timeout_s: float = 5.0, max_tokens: int = 160
) -> Selection:
    """The engine that `engine` (auto | grounded | openai) names; grounded, with the reason, where it cannot be had.

    A server is not asked here: it may start after the kiosk. When it does not answer, the dialogue answers without it.
    """
    if engine == "grounded":
        return Selection(GroundedEngine(), ("openai: switched off by language.engine",))
    if not base_url:
        return Selection(GroundedEngine(), ("openai: no server configured (language.base_url)",))
    from engines.language.openai import OpenAIEngine

    return Selection(OpenAIEngine(base_url, model, api_key, timeout_s, max_tokens=max_tokens))
