"""Cutting answers into clauses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.conversation.clauses import ClauseCutter, clauses

pytestmark = pytest.mark.unit


def test_the_first_clause_is_short_and_later_ones_are_sentences() -> None:
    """The voice can begin early, and then phrases well."""
    text = "You can return anything unused, within thirty days, with the receipt. Ask at the desk, please."
    assert clauses(text) == ["You can return anything unused,", "within thirty days, with the receipt.", "Ask at the desk, please."]
    assert clauses("Yes, the store is open.") == ["Yes, the store is open."]
    assert clauses("It costs 3.50 today. Really.") == ["It costs 3.50 today.", "Really."]


def test_a_clause_is_given_as_soon_as_it_is_sure() -> None:
    """The mark counts once the next word begins."""
    cutter = ClauseCutter()
    assert list(cutter.feed("Good morning, vis")) == ["Good morning,"]
    assert list(cutter.feed("itor.")) == []
    assert list(cutter.feed(" What")) == ["visitor."]
    assert list(cutter.finish()) == ["What"]


@given(st.text(alphabet="ab ,.?!;:\n", max_size=400), st.integers(1, 40))
def test_nothing_is_lost_however_it_comes(text: str, step: int) -> None:
    """Clauses joined are the text, in whatever pieces it was fed."""
    cutter = ClauseCutter()
    cut = [clause for at in range(0, len(text), step) for clause in cutter.feed(text[at : at + step])]
    cut += cutter.finish()
    assert "".join("".join(cut).split()) == "".join(text.split())
    assert all(cut)
