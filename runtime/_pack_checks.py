"""What the tables of a pack cannot say about themselves: references, phrases and patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from runtime._pack_schema import TALK, Guardrails, Main, Objectives, Slot, Tool, Tools
from runtime._strict import Mistakes, did_you_mean
from runtime.notation import NotationError, Phrase, parse


def request_rule(tool: Tool) -> dict[str, Phrase]:
    """The named parts that a tool's phrases may use: <request>."""
    return {"request": parse("(" + " | ".join(f"({text})" for text in tool.request) + ")")}


def check_main(main: Main, path: Path, mistakes: Mistakes) -> None:
    file = "pack.toml"
    for name in TALK:
        if name not in main.talk:
            mistakes.add(file, f"talk.{name}", "is missing: every pack must understand it")
    for name, talk in main.talk.items():
        for text in talk.ask:
            _phrase(text, f"talk.{name}.ask", set(), file, mistakes)
    for key, picture in (("brand.background", main.brand.background), ("brand.logo", main.brand.logo)):
        if picture and not re.fullmatch("#[0-9a-fA-F]{6}", picture) and not (path / picture).is_file():
            mistakes.add(file, key, f"{picture!r} is neither a colour (#rrggbb) nor a file in the pack")


def check_tool(tool: Tool, mistakes: Mistakes) -> None:
    file, key = "tools.toml", f"tool[{tool.name}]"
    names = [slot.name for slot in tool.slot]
    _unique(names, f"{key}.slot", file, mistakes)
    for slot in tool.slot:
        _check_slot(slot, f"{key}.slot[{slot.name}]", file, mistakes)
    fine = [_phrase(text, f"{key}.request", set(), file, mistakes) for text in tool.request]
    rules = request_rule(tool) if all(fine) else {}
    for field, texts, known in (
        ("phrases", tool.phrases, names),
        ("start", tool.start, []),
        ("price_ask", tool.price_ask, ["value"]),
        ("total_ask", tool.total_ask, []),
        ("summary", (tool.summary,), names),
    ):
        for text in texts:
            _phrase(text, f"{key}.{field}", set(known), file, mistakes, rules=rules)
    for field, text, allowed in (
        ("confirm", tool.confirm, {"summary", "total"}),
        ("confirm_again", tool.confirm_again, {"summary", "total"}),
        ("done", tool.done, {"summary", "total", "number"}),
        ("cancelled", tool.cancelled, {"summary"}),
        ("price_answer", tool.price_answer, {"value", "price"}),
        ("total_answer", tool.total_answer, {"summary", "total"}),
    ):
        for name in re.findall(r"\{([^{}]*)\}", text):
            if name not in allowed:
                mistakes.add(
                    file,
                    f"{key}.{field}",
                    f"{{{name}}} is not known here{did_you_mean(name, allowed)}; known: {', '.join(sorted(allowed))}",
                )


def _check_slot(slot: Slot, key: str, file: str, mistakes: Mistakes) -> None:
    if bool(slot.values) == bool(slot.parts):
        mistakes.add(file, key, "needs either values or parts with forms")
    if bool(slot.parts) != bool(slot.forms):
        mistakes.add(file, f"{key}.forms", "parts and forms belong together")
    if slot.required and not slot.ask:
        mistakes.add(file, f"{key}.ask", "is missing: a required slot must be asked for")
    _unique([part.name for part in slot.parts], f"{key}.part", file, mistakes)
    for where, values in ((key, slot.values), *((f"{key}.parts[{part.name}]", part.values) for part in slot.parts)):
        _unique([value.value for value in values], f"{where}.values", file, mistakes)
        for value in values:
            for text in value.say:
                _phrase(text, f"{where}.values[{value.value}].say", set(), file, mistakes)
    for text in slot.none:
        _phrase(text, f"{key}.none", set(), file, mistakes)
    for form in slot.forms:
        _phrase(form, f"{key}.forms", {part.name for part in slot.parts}, file, mistakes)
    if slot.default and slot.values and slot.default not in {value.value for value in slot.values}:
        mistakes.add(file, f"{key}.default", f"{slot.default!r} is no value{did_you_mean(slot.default, [v.value for v in slot.values])}")


def _phrase(text: str, key: str, slots: set[str], file: str, mistakes: Mistakes, *, rules: Mapping[str, Phrase] | None = None) -> bool:
    try:
        phrase = parse(text, rules)
    except NotationError as error:
        mistakes.add(file, key, str(error))
        return False
    unknown = sorted(phrase.slots() - slots)
    for name in unknown:
        mistakes.add(file, key, f"slot {{{name}}} is not defined{did_you_mean(name, slots)}, in {text!r}")
    return not unknown


def _unique(names: list[str], key: str, file: str, mistakes: Mistakes) -> None:
    for name in sorted({name for name in names if names.count(name) > 1}):
        mistakes.add(file, key, f"{name!r} appears twice")


def check_guardrails(guardrails: Guardrails, mistakes: Mistakes) -> None:
    for rule in guardrails.rule:
        key = f"rule[{rule.name}]"
        if not rule.words and not rule.patterns:
            mistakes.add("guardrails.toml", key, "needs words or patterns")
        if not rule.say:
            mistakes.add("guardrails.toml", f"{key}.say", "is missing: the visitor must get an answer")
        for pattern in rule.patterns:
            _regex(pattern, f"{key}.patterns", mistakes)


def _regex(pattern: str, key: str, mistakes: Mistakes) -> None:
    try:
        re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        mistakes.add("guardrails.toml", key, f"{pattern!r} is no regular expression: {error}")


def check_objectives(objectives: Objectives, tools: Tools, mistakes: Mistakes) -> None:
    names = [tool.name for tool in tools.tool]
    for objective in objectives.objective:
        key = f"objective[{objective.name}]"
        if objective.tool and objective.tool not in names:
            mistakes.add("objectives.toml", f"{key}.tool", f"no tool {objective.tool!r}{did_you_mean(objective.tool, names)}")
        if not objective.tool and not objective.topics:
            mistakes.add("objectives.toml", key, "needs a tool or topics to be judged by")
