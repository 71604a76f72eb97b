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


def judge(text, voiced_ms, **facts):
    """The verdict while no question is open and the voice sounds on."""
    return judge_overlap(RULES, text, voiced_ms, spoken=SPOKEN, question_open=False, ended=facts.pop("ended", False), **facts)


@pytest.mark.parametrize(
    ("text", "voiced_ms", "confidence", "expected"),
    [
        ("large latte", 260, 0.9, Overlap.INTERRUPTION),
        ("large latte", 260, 0.5, Overlap.UNSURE),
        ("large latte", 260, 0.0, Overlap.UNSURE),
        ("large latte", 320, 0.5, Overlap.INTERRUPTION),
        ("latte", 340, 0.9, Overlap.UNSURE),
        ("latte", 440, 0.9, Overlap.UNSURE),
        ("latte", 490, 0.9, Overlap.INTERRUPTION),
        ("tea", 490, 0.9, Overlap.INTERRUPTION),
        ("", 490, 0.0, Overlap.UNSURE),
        ("large latte", 450, 0.02, Overlap.UNSURE),
        ("large latte", 450, 0.1, Overlap.INTERRUPTION),
        ("stop", 260, 0.02, Overlap.UNSURE),
        ("stop", 260, 0.1, Overlap.INTERRUPTION),
        ("okay", 900, 0.1, Overlap.INTERRUPTION),
        ("okay", 550, 0.1, Overlap.BACKCHANNEL),
        ("okay", 550, 0.005, Overlap.INTERRUPTION),
        ("latte", 550, 0.1, Overlap.INTERRUPTION),
        ("okay", 900, 0.9, Overlap.INTERRUPTION),
        ("okay", 500, 0.9, Overlap.BACKCHANNEL),
        ("okay yes right", 900, 0.9, Overlap.BACKCHANNEL),
        ("the", 600, 0.9, Overlap.INTERRUPTION),
        ("can the cappuccino", 320, 0.0, Overlap.INTERRUPTION),
    ],
)
def test_confident_words_need_less_time_and_doubtful_ones_are_none(text, voiced_ms, confidence, expected):
    """Sure words stop early, unlikely ones leave it to the time, and so do too few; one word of their own makes the avatar's theirs."""
    assert judge(text, voiced_ms, confidence=confidence) is expected


def test_doubtful_words_that_are_over_stop_nothing():
    """What a recogniser makes of a cough is neither believed nor sustained."""
    assert judge("brew who", 500, confidence=0.02, ended=True) is Overlap.BACKCHANNEL


@pytest.mark.parametrize(("text", "voiced_ms"), [("", 800), ("large latte please", 500), ("medium", 500)])
def test_a_voice_that_dies_away_may_be_a_short_word(text, voiced_ms):
    """Time counts only while the voice is near its own loudness; two confident words do not wait for that."""
    assert judge(text, voiced_ms, fallen_db=25.0) is Overlap.UNSURE
    assert judge(text, voiced_ms, fallen_db=5.0) is Overlap.INTERRUPTION
    sure = Overlap.INTERRUPTION if len(tokens(text)) > 1 else Overlap.UNSURE
    assert judge(text, voiced_ms, fallen_db=25.0, confidence=0.9) is sure


@pytest.mark.parametrize("confidence", [0.0, 0.9])
def test_a_voice_far_softer_than_the_visitors_does_not_stop_the_avatar(confidence):
    """Other people talk for minutes, and from so far even a sure "stop" is a guess."""
    for text in ("two large lattes please", "stop"):
        assert judge(text, 3000, softer_db=15.0, confidence=confidence) is Overlap.DISTANT
        assert judge(text, 3000, softer_db=5.0, confidence=confidence) is Overlap.INTERRUPTION


@pytest.mark.parametrize(
    ("text", "confidence", "expected"),
    [
        ("two large lattes", 0.9, Overlap.INTERRUPTION),
        ("two large lattes", 0.5, Overlap.DISTANT),
        ("two large lattes", 0.0, Overlap.DISTANT),
        ("stop", 0.9, Overlap.DISTANT),
        ("", 0.0, Overlap.DISTANT),
    ],
)
def test_a_softer_voice_is_the_visitors_if_its_words_are_clear(text, confidence, expected):
    """Who turns away still stops the avatar with a phrase that is beyond doubt; a word or a sound is taken for somebody else's."""
    assert judge(text, 3000, softer_db=10.0, confidence=confidence) is expected


@pytest.mark.parametrize(
    ("text", "voiced_ms", "worded", "expected"),
    [
        ("", 300, 0.95, Overlap.INTERRUPTION),
        ("", 200, 0.95, Overlap.UNSURE),
        ("", 300, 0.8, Overlap.UNSURE),
        ("tea", 300, 0.95, Overlap.INTERRUPTION),
        ("okay", 500, 0.95, Overlap.BACKCHANNEL),
        ("the cappuccino", 500, 0.95, Overlap.ECHO),
        ("large latte", 500, 0.5, Overlap.BACKCHANNEL),
        ("large latte", 520, 0.5, Overlap.INTERRUPTION),
        ("", 900, 0.3, Overlap.UNSURE),
        ("", 900, 0.5, Overlap.INTERRUPTION),
        ("bye bye", 900, 0.3, Overlap.BACKCHANNEL),
        ("stop", 260, 0.1, Overlap.INTERRUPTION),
    ],
)
def test_sound_that_is_surely_words_needs_none_and_a_hum_is_never_one(text, voiced_ms, worded, expected):
    """Sure of words: stopped before they are understood, unless they are a backchannel or the avatar's own; a hum may last."""
    assert judge(text, voiced_ms, worded=worded) is expected


@pytest.mark.parametrize(
    ("text", "confidence", "worded", "expected"),
    [
        ("yes", 0.09, 0.42, Overlap.BACKCHANNEL),
        ("yes", 0.04, 0.02, Overlap.BACKCHANNEL),
        ("nah", 0.96, 0.01, Overlap.BACKCHANNEL),
        ("yes", 0.3, 0.75, Overlap.INTERRUPTION),
        ("yes", 0.09, -1.0, Overlap.INTERRUPTION),
    ],
)
def test_a_hum_taken_for_yes_answers_nothing(text, confidence, worded, expected):
    """While a question is open: "yes" ends the avatar's turn if the sound is a word, or nobody can tell."""
    facts = {"confidence": confidence, "worded": worded, "fallen_db": 24.0}
    verdict = judge_overlap(RULES, text, 490, spoken=SPOKEN, question_open=True, ended=True, **facts)
    assert verdict is expected


def test_a_softer_voice_that_surely_says_words_is_the_visitors():
    """A drop of 10 dB is another person, unless the sound is words without doubt; 13 dB always are."""
    assert judge("", 400, worded=0.95, softer_db=10.0) is Overlap.DISTANT
    assert judge("", 400, worded=0.99, softer_db=10.0) is Overlap.INTERRUPTION
    assert judge("", 400, worded=0.99, softer_db=13.0) is Overlap.DISTANT


@given(st.text(max_size=20), st.floats(0, 5000), st.floats(0, 0.49), st.booleans())
def test_a_hum_without_a_stop_word_never_interrupts_while_it_lasts(text, voiced_ms, worded, question):
    """Whatever it is taken for."""
    verdict = judge_overlap(RULES, text, voiced_ms, spoken=SPOKEN, question_open=question, ended=False, worded=worded)
    if not RULES.stop_words.intersection(tokens(text)):
        assert verdict is not Overlap.INTERRUPTION
