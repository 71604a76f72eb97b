"""The figures of docs/heat.md are those of the kept result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from visavis.bench.report import HEAT, RESULTS
from visavis.bench.thermal_page import BEGIN, END, fill, text

pytestmark = pytest.mark.unit


@pytest.fixture
def result() -> dict[str, Any]:
    """What is kept in docs/benchmarks."""
    return msgspec.json.decode((RESULTS / "thermal.json").read_bytes(), type=dict[str, Any])


def test_the_page_shows_the_kept_result(result: dict[str, Any]) -> None:
    """Nobody wrote a figure by hand, or forgot to make the page after a run."""
    between = HEAT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert between == f"\n\n{text(result)}\n"


def test_only_what_is_between_the_marks_changes(tmp_path: Path, result: dict[str, Any]) -> None:
    """The prose around stays; a second time changes nothing."""
    page = tmp_path / "heat.md"
    page.write_text(f"before\n\n{BEGIN}\nold figures\n{END}\n\nafter\n", encoding="utf-8")
    fill(page, result | {"seed": 77})
    once = page.read_text(encoding="utf-8")
    assert once.startswith("before\n\n")
    assert once.endswith(f"{END}\n\nafter\n")
    assert "old figures" not in once
    assert "Seed 77, " in once
    assert "| governor | " in once
    fill(page, result | {"seed": 77})
    assert page.read_text(encoding="utf-8") == once


def test_a_page_without_the_marks_is_left_alone(tmp_path: Path, result: dict[str, Any]) -> None:
    """And it is said which."""
    page = tmp_path / "heat.md"
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="has no place for the figures"):
        fill(page, result)
    assert page.read_text(encoding="utf-8") == "nothing"
