"""Experience packs: the shipped one is valid, a broken one tells all its mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runtime.config import Config
from runtime.packs import TALK, PackError, load

pytestmark = pytest.mark.unit


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped pack, to be broken."""
    return Path(shutil.copytree(Config().pack_path, tmp_path / "pack"))


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def _mistakes(path: Path) -> list[str]:
    with pytest.raises(PackError) as caught:
        load(path)
    return str(caught.value).splitlines()


def test_the_coffee_bar_is_valid_and_knows_its_store() -> None:
    """Some sixty facts, one tool, all the talk that is needed."""
    pack = load(Config().pack_path)
    assert len(pack.knowledge) >= 60
    assert [tool.name for tool in pack.tools] == ["orderDrink"]
    assert set(TALK) <= set(pack.talk)
    assert "hold on" in pack.spoken("wait")
    assert "stop" in pack.spoken("stop")
    assert {template.kind for template in pack.phrases()} == {"tool", "start", "price", "total", "talk"}


def test_all_mistakes_of_all_files_are_told_at_once(copy: Path) -> None:
    """One line each, with file and key."""
    _edit(copy / "pack.toml", 'accent = "#2f6f5e"', 'accnet = "#2f6f5e"')
    _edit(copy / "tools.toml", "required = true", "requird = true")
    _edit(copy / "guardrails.toml", "max_sentences = 3", 'max_sentences = "many"')
    _edit(copy / "objectives.toml", 'tool = "orderDrink"', 'tool = "orderDring"')
    (copy / "knowledge" / "notes.docx").write_text("x")
    lines = _mistakes(copy)
    assert "pack.toml: brand.accnet: unknown key (did you mean accent?)" in lines
    assert "tools.toml: tool[orderDrink].slot[coffeeDrink].requird: unknown key (did you mean required?)" in lines
    assert any(line.startswith("guardrails.toml: max_sentences: expected int") for line in lines)
    assert any(line.startswith("knowledge/notes.docx: ") for line in lines)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("<request> [a | an] {size}", "<request> [a | an] {sise}", "phrases: slot {sise} is not defined (did you mean size?)"),
        ('summary = "[{size}]', 'summary = "[{cup}]', "summary: slot {cup} is not defined"),
        ("That's {summary}, {total}.", "That's {summary}, {sum}.", "confirm: {sum} is not known here"),
        ('forms = ["[{amount}] {kind}"]', 'forms = ["[{amount}] {sort}"]', "slot[milkAmount].forms: slot {sort} is not defined"),
        ('value = "mocha"', 'value = "latte"', "slot[coffeeDrink].values: 'latte' appears twice"),
        ("<request> [a | an] {size}", "<wish> [a | an] {size}", "phrases: <wish> is not defined"),
        ('"let me (get | have)"', '"let me (get | have"', "request: ')' is missing"),
    ],
)  # fmt: skip
def test_a_tool_that_refers_to_nothing_is_a_mistake(copy: Path, old: str, new: str, expected: str) -> None:
    """Slots, parts and rules must exist wherever they are used."""
    _edit(copy / "tools.toml", old, new)
    assert any(line.startswith(f"tools.toml: tool[orderDrink].{expected}") for line in _mistakes(copy))


def test_missing_talk_is_a_mistake(copy: Path) -> None:
    """Every pack must understand stop."""
    _edit(copy / "pack.toml", "[talk.stop]", "[talk.halt]")
    assert _mistakes(copy) == ["pack.toml: talk.stop: is missing: every pack must understand it"]


def test_objectives_must_name_a_tool_that_exists(copy: Path) -> None:
    """With the nearest name."""
    _edit(copy / "objectives.toml", 'tool = "orderDrink"', 'tool = "orderDring"')
    assert _mistakes(copy) == ["objectives.toml: objective[order].tool: no tool 'orderDring' (did you mean orderDrink?)"]


def test_broken_patterns_and_empty_rules_are_mistakes(copy: Path) -> None:
    """A guardrail must be able to strike and to answer."""
    with (copy / "guardrails.toml").open("a") as file:
        file.write('\n[[rule]]\nname = "odd"\npatterns = [\'(\']\n[[rule]]\nname = "empty"\nsay = ["x"]\n')
    lines = _mistakes(copy)
    assert [line.split(": ")[1] for line in lines] == ["rule[odd].say", "rule[odd].patterns", "rule[empty]"]


def test_knowledge_mistakes_name_the_line(copy: Path) -> None:
    """Questions without answers, rows with stray commas, questions asked twice."""
    (copy / "knowledge" / "extra.csv").write_text("question,answer\nwho bakes,a baker, in town\n,x\n")
    (copy / "knowledge" / "extra.md").write_text("## Where is nothing?\n\n## When are you open?\nAlways.\n")
    lines = _mistakes(copy)
    assert "knowledge/extra.csv: line 2: 3 cells for 2 columns (a comma in a text needs quotes)" in lines
    assert "knowledge/extra.csv: line 3: has no question or no answer" in lines
    assert "knowledge/extra.md: line 1: 'Where is nothing?' has no answer" in lines
    assert any("is asked in knowledge/extra.md" in line for line in lines)


def test_a_folder_without_a_pack_is_one_line(tmp_path: Path) -> None:
    """The missing file is named."""
    assert _mistakes(tmp_path) == [f"pack.toml: no such file ({tmp_path / 'pack.toml'})"]


def test_a_pack_may_do_without_tools_rules_and_knowledge(copy: Path) -> None:
    """Only pack.toml is needed."""
    for name in ("tools.toml", "guardrails.toml", "objectives.toml"):
        (copy / name).unlink()
    shutil.rmtree(copy / "knowledge")
    pack = load(copy)
    assert pack.tools == ()
    assert pack.knowledge == ()
