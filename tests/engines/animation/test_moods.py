"""Tags in a reply: taken out of what is said, kept for what is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.animation import TAGS, take_tags


@pytest.mark.parametrize(
    ("text", "said", "tags"),
    [
        ("Sure.", "Sure.", []),
        ("[happy] Sure, a latte.", "Sure, a latte.", [("happy", 0)]),
        ("[sorry] We are out. [happy] [nod] But there is soy!", "We are out. But there is soy!", [("sorry", 0), ("happy", 3), ("nod", 3)]),
        ("Here it is. [screen]", "Here it is.", [("screen", 3)]),
        ("Press [enter] or [1].", "Press [enter] or [1].", []),
        ("[nod]", "", [("nod", 0)]),
        ("", "", []),
    ],
)
def test_tags_are_taken_out(text: str, said: str, tags: list[tuple[str, int]]):
    """Each known tag is remembered with the word it precedes; other brackets stay."""
    assert take_tags(text) == (said, tuple(tags))


@given(st.text(alphabet="ab [].", max_size=30), st.lists(st.sampled_from(sorted(TAGS)), max_size=3))
def test_what_is_said_has_no_tags_and_all_its_words(text: str, tags: list[str]):
    """Whatever surrounds them."""
    tagged = " ".join([*(f"[{tag}]" for tag in tags), text])
    said, found = take_tags(tagged)
    assert said.split() == text.split()
    assert [tag.name for tag in found] == tags
