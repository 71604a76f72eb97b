"""The experience pack: everything a store changes, in one folder.

    pack.toml         who speaks and where: persona, languages, brand, what is said on the way, small talk, suggestions
    tools.toml        what the kiosk can do: each tool's slots with values and the ways to say them (optional)
    guardrails.toml   what it will not talk about (optional)
    objectives.toml   what a visit should achieve (optional)
    knowledge/        what it knows: Markdown (`## question`, `? other wording`, `keywords: …`, answer) and CSV (question, answer, keywords)

`load` reads it strictly and tells all mistakes at once. What people say is written in the notation of `runtime.notation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from runtime._knowledge import Entry, read_knowledge
from runtime._pack_checks import check_guardrails, check_main, check_objectives, check_tool, request_rule
from runtime._pack_schema import (
    BEGINNINGS,
    TALK,
    Brand,
    Guardrail,
    Guardrails,
    Main,
    Objective,
    Objectives,
    Part,
    Persona,
    Say,
    Slot,
    Suggestion,
    Talk,
    Tool,
    Tools,
    Value,
)
from runtime._strict import Mistakes, build, read_toml
from runtime.notation import Phrase, parse

__all__ = [
    "BEGINNINGS",
    "TALK",
    "Brand",
    "Entry",
    "Guardrail",
    "Guardrails",
    "Objective",
    "Pack",
    "PackError",
    "Part",
    "Persona",
    "PhraseTemplate",
    "Say",
    "Slot",
    "Suggestion",
    "Talk",
    "Tool",
    "Value",
    "brand_of",
    "load",
    "request_rule",
]

T = TypeVar("T", bound=msgspec.Struct)


class PackError(Exception):
    """The pack is wrong; the text has one line per mistake: file, key, what is wrong."""


class PhraseTemplate(msgspec.Struct, frozen=True):
    """A way to say something: `kind` is tool, start, price, total or talk; `name` the tool's or the talk's."""

    kind: str
    name: str
    phrase: Phrase


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """A validated experience pack."""

    path: Path
    name: str
    languages: tuple[str, ...]
    persona: Persona
    brand: Brand
    say: Say
    talk: Mapping[str, Talk]
    suggestions: tuple[Suggestion, ...]
    backchannels: tuple[str, ...]
    notices: tuple[str, ...]  # lines the page always shows, e.g. about privacy
    pronunciations: Mapping[str, str]  # word → how to say it
    tools: tuple[Tool, ...]
    guardrails: Guardrails
    objectives: tuple[Objective, ...]
    knowledge: tuple[Entry, ...]

    def tool(self, name: str) -> Tool | None:
        """The tool of that name."""
        return next((item for item in self.tools if item.name == name), None)

    def spoken(self, talk: str) -> tuple[str, ...]:
        """All sentences of one kind of talk, expanded, lower case: `pack.spoken("stop")`, `"wait"`, `"yes"` …"""
        return tuple(sentence.lower() for text in self.talk[talk].ask for sentence in parse(text).expand())

    def phrases(self) -> Iterator[PhraseTemplate]:
        """Everything visitors may say to this pack, except free questions (those are in `knowledge`)."""
        for tool in self.tools:
            rules = request_rule(tool)
            for kind, texts in (("tool", tool.phrases), ("start", tool.start), ("price", tool.price_ask), ("total", tool.total_ask)):
                for text in texts:
                    yield PhraseTemplate(kind, tool.name, parse(text, rules))
        for name, talk in self.talk.items():
            for text in talk.ask:
                yield PhraseTemplate("talk", name, parse(text))


def load(path: Path) -> Pack:
    """The pack in folder `path`.

    Raises PackError with one line for every mistake in any of its files.
    """
    mistakes = Mistakes()
    main = _read(Main, path / "pack.toml", mistakes, required=True)
    tools = _read(Tools, path / "tools.toml", mistakes)
    guardrails = _read(Guardrails, path / "guardrails.toml", mistakes)
    objectives = _read(Objectives, path / "objectives.toml", mistakes)
    knowledge = read_knowledge(path / "knowledge", mistakes)
    if main is not None:
        check_main(main, path, mistakes)
    for tool in tools.tool if tools else ():
        check_tool(tool, mistakes)
    if guardrails is not None:
        check_guardrails(guardrails, mistakes)
    if tools is not None and objectives is not None:
        check_objectives(objectives, tools, mistakes)
    if mistakes:
        raise PackError(str(mistakes))
    assert main is not None
    assert tools is not None
    assert guardrails is not None
    assert objectives is not None
    return Pack(
        path=path,
        name=main.name,
        languages=main.languages,
        persona=main.persona,
        brand=main.brand,
        say=main.say,
        talk=main.talk,
        suggestions=main.suggestions,
        backchannels=main.backchannels,
        notices=main.notices,
        pronunciations=main.pronunciations,
        tools=tools.tool,
        guardrails=guardrails,
        objectives=objectives.objective,
        knowledge=knowledge,
    )


def brand_of(path: Path) -> Brand:
    """How the pack in folder `path` looks, without the rest of it. Raises PackError if its pack.toml is wrong."""
    mistakes = Mistakes()
    main = _read(Main, path / "pack.toml", mistakes, required=True)
    if main is None:
        raise PackError(str(mistakes))
    return main.brand


def _read(kind: type[T], path: Path, mistakes: Mistakes, *, required: bool = False) -> T | None:
    if not required and not path.exists():
        return kind()
    tables = read_toml(path, mistakes)
    return None if tables is None else build(kind, tables, path.name, mistakes)
