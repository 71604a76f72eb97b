"""The interruption benchmark: its virtual nodes, its arithmetic, and two events on recordings."""

from __future__ import annotations

import random

import numpy as np
import pytest

from engines.errors import EngineError
from engines.recognition import select
from engines.recognition.ears import recogniser as ears
from engines.recognition.ears.encoder import FRAME
from engines.voice_activity import select as select_activity
from runtime.conversation.domain import speech_domain
from runtime.conversation.floor import FloorRules
from runtime.messages import Activity, ActivityKind, Transcript
from runtime.nodes import recogniser as node
from runtime.packs import load as load_pack
from visavis.bench import interruptions as bench
from visavis.bench.interruption_data import RATE, Event, _words, microphone, residue

RULES = FloorRules(endpoint_wait_ms=lambda *_: 1000.0)
MS = 1_000_000


def voice(at_ms, kind, speech_ms):
    """What the listener tells of an utterance that begins at sample 16,000."""
    return at_ms, Activity(1, round(at_ms * MS), kind, 16_000, 16_000, speech_ms)


def words(at_ms, text, *, final=False):
    """What the recogniser tells of it."""
    return at_ms, Transcript(1, round(at_ms * MS), 16_000, 16_000, text, final)


def event(sound, onset=0):
    """A made-up event."""
    return Event("tone", "t", real=True, recorded=False, sound=sound, onset=onset, level_db=-12.0, visitor_db=-12.0)


def outcome(kind, silent_ms, *, real, recorded=True, tuned=True):
    """What became of an event."""
    return bench.Outcome(kind, "n", real, recorded, tuned, silent_ms, 100.0, "")


def test_the_virtual_recogniser_works_in_the_nodes_steps():
    """Pre-roll, pieces and the pace of partials are those of the recogniser node."""
    assert (bench.PRE_ROLL, bench.PIECE, bench.PIECES, bench.AFTER) == (node.PRE_ROLL, node._PIECE, node._PIECES, node._AFTER)
    assert bench.EVERY_MS * MS == node._EVERY_NS
    assert bench.LOOK == ears._EVERY * FRAME


def test_the_floor_stops_for_a_word_and_resumes_after_a_hum():
    """The time of the stop is that of the message that decided; a hum that ends stops nothing."""
    begin = [voice(1000, ActivityKind.ONSET, 100), voice(1100, ActivityKind.LEVEL, 200), voice(1200, ActivityKind.LEVEL, 300)]
    stopped = bench.decided(RULES, [*begin, words(1250, "stop")], "we open at nine")
    assert stopped == (1250, "stop")
    hum = [*begin, words(1250, "mm hm"), voice(1400, ActivityKind.SILENCE, 350), words(1450, "mm hm", final=True)]
    assert bench.decided(RULES, hum, "we open at nine") == (None, "mm hm")
    assert bench.decided(RULES, [], "we open at nine") == (None, "")


def test_figures_count_recorded_words_and_all_false_stops():
    """Synthetic stop words stand apart; every false stop counts, by kind."""
    outcomes = [
        *(outcome("orders", 500.0 + at, real=True) for at in range(3)),
        outcome("orders", None, real=True, tuned=False),
        outcome("stop words", 200.0, real=True, recorded=False),
        outcome("hum", 600.0, real=False, recorded=False),
        outcome("hum", None, real=False, recorded=False),
        outcome("noise", None, real=False),
    ]
    result = bench.figures(outcomes)
    assert result["false_stops"] == pytest.approx(1 / 3)
    assert result["false_stops_recorded"] == 0
    assert result["caught"] == 0.75
    assert result["interruption_ms"] == {"n": 3, "p50": 501.0, "p95": 501.9, "p99": 501.98}
    assert result["false_stops_by"] == {"hum": [1, 2], "noise": [0, 1]}
    assert result["other_half"]["caught"] == 0
    assert result["events"] == {"words, recorded": 4, "words, synthetic": 1, "others, recorded": 1, "others, synthetic": 2}


def test_the_microphone_hears_the_event_over_the_residue():
    """The event stands where its onset is said to be, the rest is residue and room; the same seed gives the same sound."""
    tone = event(np.full(RATE, 0.25, np.float32), 160)
    left = np.full(100, 0.001, np.float32)
    sound, onset = microphone(tone, left, seed=3)
    assert np.abs(sound[: onset - 160]).max() < 300
    assert np.abs(sound[onset : onset + RATE // 2]).min() > 7000
    assert np.array_equal(sound, microphone(tone, left, seed=3)[0])


def test_a_recorded_order_stops_the_avatar_and_its_residue_does_not(shared):
    """One order of a person is caught within two seconds, after the duck; what the canceller leaves is never taken for a voice."""
    recogniser = select("pocketsphinx").engine
    try:
        recogniser.prepare(speech_domain(load_pack(bench.Config().pack_path), sentences=500))
    except EngineError as error:
        pytest.skip(str(error))
    activity = select_activity().activity
    left = residue(shared / "data")
    order = next(iter(_words(shared / "data", random.Random(1))))
    sound, onset = microphone(order, left)
    found = bench._outcome(order, bench.hear(sound, activity, recogniser), onset, RULES, bench.COSTS)
    assert found.duck_ms < found.silent_ms < 2000
    quiet, _ = microphone(event(np.zeros(RATE, np.float32)), left)
    assert bench.hear(quiet, activity, recogniser) == []
