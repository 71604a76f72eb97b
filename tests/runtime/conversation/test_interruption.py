"""Words over the avatar's voice: interruption, backchannel, echo, noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.conversation.interruption import Overlap, OverlapRules, judge_overlap, tokens

RULES = OverlapRules()
SPOKEN = tokens("The cappuccino is two pounds eighty and it has oat milk.")


@pytest.mark.parametrize(
    ("text", "voiced_ms", "question", "ended", "expected"),
    [
        ("", 150, False, False, Overlap.UNSURE),
        ("", 200, False, True, Overlap.BACKCHANNEL),
        ("", 900, False, False, Overlap.INTERRUPTION),
        ("mm hm", 300, False, False, Overlap.BACKCHANNEL),
        ("mm hm", 300, True, True, Overlap.BACKCHANNEL),
        ("okay", 350, False, True, Overlap.BACKCHANNEL),
        ("okay", 350, True, True, Overlap.INTERRUPTION),
        ("the cappuccino", 700, False, False, Overlap.ECHO),
        ("stop", 250, False, False, Overlap.INTERRUPTION),
        ("what about tea", 400, False, False, Overlap.INTERRUPTION),
        ("a", 180, False, False, Overlap.UNSURE),
        ("medium", 400, False, False, Overlap.UNSURE),
        ("medium", 560, False, False, Overlap.INTERRUPTION),
        ("a", 180, False, True, Overlap.BACKCHANNEL),
    ],
)
def test_verdicts(text, voiced_ms, question, ended, expected):
    """The table of what stops the avatar and what does not."""
    assert judge_overlap(RULES, text, voiced_ms, spoken=SPOKEN, question_open=question, ended=ended) is expected


@given(st.text(), st.floats(0, 5000), st.booleans(), st.booleans())
def test_any_text_has_a_verdict_and_silence_never_interrupts(text, voiced_ms, question, ended):
    """No input breaks the judge; speech that ended without words never stops the avatar."""
    verdict = judge_overlap(RULES, text, voiced_ms, spoken=SPOKEN, question_open=question, ended=ended)
    if ended and not tokens(text):
        assert verdict is Overlap.BACKCHANNEL
