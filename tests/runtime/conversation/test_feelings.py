"""What a visitor's words say of how they feel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.animation.moods import MIRRORED
from runtime.conversation.feelings import feeling

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "felt"),
    [
        ("Thank you, that's great!", "happy"),
        ("I love it", "happy"),
        ("a large latte with soy milk please", ""),
        ("where is the lost property", ""),
        ("I've lost my umbrella", "sad"),
        ("a really large latte", ""),
        ("I can't find my daughter", "sad"),
        ("I cannot find my daughter", "sad"),
        ("wow, really?", "surprised"),
        ("this is ridiculous", "angry"),
        ("I have been waiting for ages", "angry"),
        ("your screen doesn\N{RIGHT SINGLE QUOTATION MARK}t work", "angry"),
        ("that was not a very lovely coffee", "angry"),
        ("it isn't great", "angry"),
        ("no thanks", ""),
        ("no, thank you", ""),
        ("that's not terrible", ""),
        ("great, but the queue was awful", "angry"),
        ("ein großer Kaffee, danke", ""),
        ("", ""),
    ],
)
def test_what_is_felt(text: str, felt: str) -> None:
    """Plain signs count, denied ones do not, denied praise is a complaint, the worst feeling is the one to answer."""
    assert feeling(text) == felt


@given(st.text())
def test_any_text_has_a_feeling_that_the_face_can_meet(text: str) -> None:
    """Whatever was recognised or typed, the result is none or one that the animation knows."""
    assert feeling(text) in {"", *MIRRORED}
