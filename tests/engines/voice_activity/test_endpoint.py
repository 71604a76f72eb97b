"""The judgement and the wait at the end of a turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.voice_activity import COEFFICIENTS, MELODY_COEFFICIENTS, Melody, calibrated, conclude, endpoint_wait_ms, observations

FLAT = Melody(0.0, 0.0, 5.0, 150.0)
times = st.floats(0, 20_000)


@given(st.floats(0, 1), st.floats(0, 1), times, times)
def test_surer_is_sooner(one, other, speech_ms, longest_ms):
    """The surer the end, the shorter the wait; it stays within 0.15 and 2 s."""
    low, high = sorted((one, other))
    assert 150 <= endpoint_wait_ms(high, speech_ms, longest_ms) <= endpoint_wait_ms(low, speech_ms, longest_ms) <= 2000


@given(st.floats(0, 1), times, st.floats(0, 3000), st.floats(0, 3000))
def test_who_pauses_long_is_given_time(complete, speech_ms, one, other):
    """A visitor who made a long pause before is not answered sooner than one who did not."""
    low, high = sorted((one, other))
    assert endpoint_wait_ms(complete, speech_ms, low) <= endpoint_wait_ms(complete, speech_ms, high)


def test_not_judged_is_the_longest_wait():
    """Without a verdict the wait is that of a sure "not done"."""
    assert endpoint_wait_ms(-1.0, 800.0, 0.0) == endpoint_wait_ms(0.0, 800.0, 0.0)


@given(st.floats(0, 1), st.floats(-30, 30), st.floats(-200, 200), st.floats(-40, 60), st.floats(0, 2000), times, times)
def test_probabilities_are_probabilities(raw, fall, slope, energy, tail, pause_ms, longest_ms):
    """Whatever was heard, the calibrated value lies within 0 and 1."""
    for model, coefficients in ((raw, COEFFICIENTS), (-1.0, MELODY_COEFFICIENTS)):
        seen = observations(model, Melody(fall, slope, energy, tail), pause_ms, longest_ms)
        assert 0.0 <= calibrated(seen, coefficients) <= 1.0


def test_the_model_and_the_silence_raise_it():
    """A surer turn model and a longer silence both make the end likelier."""
    base = calibrated(observations(0.5, FLAT, 100, 0), COEFFICIENTS)
    assert calibrated(observations(0.95, FLAT, 100, 0), COEFFICIENTS) > base
    assert calibrated(observations(0.5, FLAT, 800, 0), COEFFICIENTS) > base


@given(st.floats(0.002, 0.998), st.floats(0, 1))
def test_unknown_words_say_nothing(turn, confidence):
    """Words that the pack does not know, and words that nobody trusts, leave the judgement of the sound as it is."""
    assert conclude(turn, -1.0, confidence).complete == pytest.approx(turn)
    assert conclude(turn, 0.9, 0.0).complete == pytest.approx(turn)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_words_that_cannot_end_hold_back(turn, one, other, confidence):
    """The likelier a sentence ends with these words, the likelier the turn is over; more confidence pulls further the same way."""
    low, high = sorted((one, other))
    assert 0.0 <= conclude(turn, low, confidence).complete <= conclude(turn, high, confidence).complete <= 1.0
    assert conclude(turn, 0.01, 1.0).complete <= conclude(turn, 0.01, confidence).complete


def test_the_labels():
    """Sure is finished, unsure is not; who asked for time is given it however finished it sounded."""
    assert conclude(0.9).label == "finished"
    assert conclude(0.1).label == "unfinished"
    assert conclude(0.6, 0.01).label == "unfinished"
    assert conclude(0.99, 0.99, asked_for_time=True) == (0.0, "wait")
