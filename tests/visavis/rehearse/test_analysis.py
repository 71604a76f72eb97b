"""A conversation made of known sounds at known places: the analysis finds what was put there."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from runtime.messages import VOICE_RATE, Heard, HeardKind, Reply, Speech
from visavis.rehearse import analysis, report
from visavis.rehearse.frames import Drawn
from visavis.rehearse.measure import levels_db
from visavis.rehearse.observer import Seen
from visavis.rehearse.room import RATE
from visavis.rehearse.visitor import Spoken

pytestmark = pytest.mark.unit
START_NS = 5_000_000_000


def voice(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """Something like speech: band-limited noise in syllables, with a pause of 200 ms after each second."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    sound = np.convolve(rng.standard_normal(n), np.ones(6) / 6, mode="same")
    t = np.arange(n) / rate
    return (sound * (0.25 + 0.2 * np.sin(2 * np.pi * 4 * t)) * ((t % 1.2) < 1.0) * 0.4).astype(np.float32)


class Stage:
    """Builds a recording and the log that belongs to it."""

    def __init__(self, seconds: float) -> None:
        self.left = np.zeros(round(seconds * RATE), np.float32)
        self.right = np.zeros_like(self.left)
        self.spoken: list[Spoken] = []
        self.log: list[Seen] = []
        self.voice: list[tuple[Speech, np.ndarray]] = []
        self._ring = 1000

    def visitor(self, at_s: float, seconds: float, verb: str = "say", seed: int = 1) -> None:
        clip = voice(seconds, seed)
        begin = round(at_s * RATE)
        self.left[begin : begin + len(clip)] += clip
        self.spoken.append(Spoken(verb, "made", f"clip {seed}", clip, START_NS + round((at_s - 0.02) * 1e9)))

    def reply(self, at_s: float, seconds: float, turn: int, *, until_s: float | None = None, duck_s: float | None = None,
              hole_s: float = 0.0, filler_s: float = 0.0, seed: int = 50) -> None:  # fmt: skip
        pcm = (voice(filler_s + seconds, seed + turn, VOICE_RATE) * 30000).astype(np.int16)
        cut = round(filler_s * VOICE_RATE)
        for seq, part in enumerate(p for p in (pcm[:cut], pcm[cut:]) if len(p)):
            self.voice.append((Speech(turn, 0, seq, self._ring, len(part), f"reply {turn}", True), part))
            self._ring += len(part)
        if filler_s:
            self.log.append(Seen(0, "reply", Reply(turn, 0, 0, "Let me see.", False, kind="filler")))
        self.log.append(Seen(0, "heard", Heard(turn, START_NS + round(at_s * 1e9) + 30_000_000, HeardKind.STARTED, 0)))
        played = soxr.resample(pcm / np.float32(32768), VOICE_RATE, RATE).astype(np.float32) * np.float32(0.7)
        if duck_s is not None:
            played[round((duck_s - at_s) * RATE) :] *= np.float32(0.15)
        if hole_s:  # the browser ran dry for 100 ms
            place = round((hole_s - at_s) * RATE)
            played = np.concatenate([played[:place], np.zeros(RATE // 10, np.float32), played[place:]])
        if until_s is not None:
            played = played[: round((until_s - at_s) * RATE)]
        begin = round(at_s * RATE)
        self.right[begin : begin + len(played)] += played

    def judge(self) -> tuple[analysis.Heard, list[analysis.Turn]]:
        lost: list[str] = []
        utterances = analysis.place_utterances(self.spoken, self.left, START_NS, lost)
        answers = analysis.place_replies(self.log, self.voice, self.right, START_NS, lost)
        heard = analysis.Heard(utterances, answers, lost)
        return heard, analysis.judge(heard, self.left, self.right)


def test_the_first_sound_counts_from_the_end_of_speech_in_the_recording() -> None:
    """A reply 640 ms after the last voiced frame is 640 ms, to the frame."""
    stage = Stage(8)
    stage.visitor(1.0, 0.9)
    stage.reply(1.9 + 0.64, 2.5, turn=1)
    heard, turns = stage.judge()
    assert heard.lost == []
    assert turns[0].first_sound_ms == pytest.approx(640, abs=15)
    assert turns[0].answer == 1


def test_a_filler_is_not_a_first_sound() -> None:
    """The answer after "Let me see" counts."""
    stage = Stage(9)
    stage.visitor(1.0, 0.9)
    stage.reply(2.3, 2.5, turn=1, filler_s=0.8)
    _, turns = stage.judge()
    assert turns[0].first_sound_ms == pytest.approx(1200, abs=25)


def test_a_reply_into_the_visitors_sentence_is_a_false_cutoff() -> None:
    """It gives no response time."""
    stage = Stage(9)
    stage.visitor(1.0, 2.0)
    stage.reply(2.3, 2.0, turn=1)
    _, turns = stage.judge()
    assert turns[0].false_cutoff
    assert turns[0].first_sound_ms is None


def test_an_interruption_is_timed_from_its_onset_to_silence_and_ducks_before() -> None:
    """Duck after 150 ms, silent after 600 ms; the pauses of the reply itself are no silence."""
    stage = Stage(14)
    stage.visitor(0.5, 0.9)
    stage.reply(2.0, 6.0, turn=1, duck_s=4.15, until_s=4.6)
    stage.visitor(4.0, 1.0, "interrupt", seed=2)
    stage.reply(5.8, 2.0, turn=2)
    _, turns = stage.judge()
    assert turns[1].duck_ms == pytest.approx(150, abs=25)
    assert turns[1].interruption_ms == pytest.approx(600, abs=20)
    assert turns[1].first_sound_ms == pytest.approx(800, abs=15)
    assert turns[1].answer == 2


def test_an_interruption_that_is_talked_down_is_missed() -> None:
    """The reply went on to its end."""
    stage = Stage(12)
    stage.visitor(0.5, 0.9)
    stage.reply(2.0, 6.0, turn=1)
    stage.visitor(4.0, 1.0, "interrupt", seed=2)
    _, turns = stage.judge()
    assert turns[1].missed
    assert turns[1].interruption_ms is None


@pytest.mark.parametrize("verb", ["backchannel", "noise"])
def test_a_backchannel_that_ends_the_reply_is_a_false_stop(verb: str) -> None:
    """One that does not, is none, though the reply ducks and has pauses."""
    for until_s, stopped in ((None, False), (4.5, True)):
        stage = Stage(12)
        stage.visitor(0.5, 0.9)
        stage.reply(2.0, 6.0, turn=1, until_s=until_s)
        stage.visitor(4.0, 0.3, verb, seed=2)
        _, turns = stage.judge()
        assert turns[1].false_stop is stopped


def test_drop_outs_move_the_rest_of_the_reply_and_the_skew_follows() -> None:
    """After 100 ms without sound the same picture is still in time, and the report says how long the reply was held up."""
    stage = Stage(10)
    stage.visitor(0.5, 0.9)
    stage.reply(2.0, 5.0, turn=1, hole_s=3.5)
    heard, turns = stage.judge()
    answer = heard.answers[0]
    assert turns[0].dropouts_ms == pytest.approx(100, abs=1)
    late = 1000 + round(3.0 * VOICE_RATE)
    assert answer.place(late) / RATE == pytest.approx(5.1, abs=0.002)
    drawn = [Drawn(1, late, 1, START_NS + 5_120_000_000)]
    made = report.build(heard, turns, drawn, [], levels_db(stage.right, RATE), START_NS, [])
    assert made["skew_ms"].p50 == pytest.approx(20, abs=2)


def test_a_sound_that_never_reached_the_room_is_told_and_not_measured() -> None:
    """It is counted as not found; the others are measured."""
    stage = Stage(8)
    stage.visitor(1.0, 0.9)
    stage.left[:] = 0
    heard, turns = stage.judge()
    assert turns == []
    assert "not found" in heard.lost[0]
