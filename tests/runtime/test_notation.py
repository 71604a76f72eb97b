"""The notation of phrases."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.notation import NotationError, parse

pytestmark = pytest.mark.unit


def test_alternatives_options_slots_and_orders_expand() -> None:
    """Each construct says what it should."""
    assert list(parse("(a | b) [c]").expand()) == ["a", "a c", "b", "b c"]
    assert list(parse("[a | b] x").expand()) == ["x", "a x", "b x"]
    assert set(parse("&({p} {q} r)").expand()) == {"{p} {q} r", "{p} r {q}", "{q} {p} r", "{q} r {p}", "r {p} {q}", "r {q} {p}"}
    assert parse("i want {size} {size} <x>", {"x": parse("now {when}")}).slots() == {"size", "when"}


def test_render_takes_the_fullest_that_is_known() -> None:
    """Optional parts with unknown slots fall away; without a needed slot there is no sentence."""
    summary = parse("[{size}] {drink} [with {milk} and {sugar} | with {milk} | with {sugar}]")
    assert summary.render({"drink": "latte"}) == "latte"
    assert summary.render({"drink": "latte", "sugar": "sugar", "size": "small"}) == "small latte with sugar"
    assert summary.render({"drink": "latte", "milk": "cream", "sugar": "sugar"}) == "latte with cream and sugar"
    assert summary.render({"size": "small"}) is None


@pytest.mark.parametrize("text", ["(a", "a)", "[a", "(a | )", "", "{}", "{a b}", "<x>", "a ]", "()", "a { b", "&(a", "(i | we) 'd like"])
def test_broken_phrases_are_refused_with_a_reason(text: str) -> None:
    """Never an accident later on."""
    with pytest.raises(NotationError, match=r"."):
        parse(text)


def test_a_phrase_that_stands_for_too_much_is_refused() -> None:
    """Expansion is bounded."""
    with pytest.raises(NotationError, match="more than 10"):
        list(parse("[a] [b] [c] [d]").expand(limit=10))


_phrases = st.recursive(
    st.sampled_from(["a", "b", "{s}", "it's"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(" ".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({' | '.join(parts)})"),
        inner.map(lambda part: f"[{part}]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"&({' '.join(parts)})"),
    ),
    max_leaves=6,
)


@given(_phrases, st.integers(0, 1000))
def test_what_is_sampled_can_be_expanded(text: str, seed: int) -> None:
    """Sampling never leaves the language of the phrase."""
    phrase = parse(text)
    assert phrase.sample(random.Random(seed)) in set(phrase.expand())
