"""Words: one spelling, likeness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.language.words import forget, normalise, number_words, similarity, sound, stem

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A 12oz latte, please!", "a twelve ounce latte please"),
        ("I\u2019d like 2 sugars", "i'd like two sugars"),
        ("Wi-Fi?", "wi fi"),
        ("café au lait", "cafe au lait"),
        ("it's 120", "it's one hundred and twenty"),
        ("  ", ""),
        ("'hello'", "hello"),
    ],
)
def test_text_becomes_words(text: str, words: str) -> None:
    """Typed, recognised and declared text meet in one spelling."""
    assert " ".join(normalise(text)) == words


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    """And nothing in any script makes it fail."""
    words = normalise(text)
    assert normalise(" ".join(words)) == words


@given(st.integers(0, 999_999))
def test_numbers_are_words_only(number: int) -> None:
    """No digit is left."""
    assert number_words(number).replace(" ", "").isalpha()


def test_misheard_words_are_near_and_others_are_not() -> None:
    """The order is what counts: a mishearing is nearer than another word."""
    assert similarity("expresso", "espresso") > 0.8
    assert similarity("capuchino", "cappuccino") > 0.75
    assert similarity("window", "cappuccino") < 0.5
    assert similarity("garage", "large") < 0.74
    assert similarity("latte", "latte") == 1.0


def test_plural_and_singular_share_a_stem() -> None:
    """Toilets and toilet, lose nothing short."""
    assert stem("toilets") == stem("toilet")
    assert stem("gas") == "gas"
    assert stem("dresses") == stem("dress")


def test_words_are_let_go() -> None:
    """What was compared with a visitor's word is not kept beyond the visit."""
    similarity("zeppelins", "latte")
    stem("zeppelins")
    forget()
    assert [kept.cache_info().currsize for kept in (similarity, sound, stem)] == [0, 0, 0]
