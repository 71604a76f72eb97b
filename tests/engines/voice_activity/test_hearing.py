"""The listener's rules, fed with made-up probabilities and loudness."""

from __future__ import annotations

import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.voice_activity import Hearing, HearingRules, Kind, block_levels

FRAME = 512
QUIET, LOUD = -70.0, -25.0


class Play:
    """Feeds frames and keeps what was noticed, with the sample at which it was."""

    def __init__(self, rules=None):
        self.hearing = Hearing(rules)
        self.end = 0
        self.seen = []

    def frames(self, ms, probability, level, *, guarded=False):
        for _ in range(round(ms / 32)):
            self.end += FRAME
            for noticed in self.hearing.step(probability, [level] * 4, self.end, guarded=guarded):
                self.seen.append((self.end, noticed))
        return self

    def quiet(self, ms):
        return self.frames(ms, 0.02, QUIET)

    def speech(self, ms, **more):
        return self.frames(ms, 0.95, LOUD, **more)

    def kinds(self):
        return [noticed.kind for _, noticed in self.seen]

    def of(self, kind):
        return [entry for entry in self.seen if entry[1].kind is kind]


def test_an_utterance_from_onset_to_close():
    """Speech after quiet: onset at its beginning, silence at its end, looks at the turn while it lasts, then closed."""
    play = Play().quiet(960).speech(960).quiet(3200)
    (onset_at, onset), *_ = play.of(Kind.ONSET)
    assert onset.index == 960 * 16
    assert onset_at - onset.index <= 0.12 * 16_000
    (silence_at, silence), *_ = play.of(Kind.SILENCE)
    assert silence.index == 1920 * 16
    assert silence_at - silence.index <= 0.13 * 16_000
    assert abs(silence.speech_ms - 960) < 33
    assert len(play.of(Kind.JUDGE)) == len(HearingRules().judge_ms)
    assert play.kinds()[-1] is Kind.CLOSED
    assert len(play.of(Kind.ONSET)) == 1


def test_one_loud_frame_is_nobody():
    """A click of one frame is no onset."""
    assert Play().quiet(500).speech(32).quiet(500).kinds() == []


def test_going_on_is_the_same_utterance():
    """Speech after a pause resumes the utterance, tells the pause's length, and does not count it as speech."""
    play = Play().quiet(480).speech(640).quiet(480).speech(640).quiet(320)
    ((_, resumed),) = play.of(Kind.RESUMED)
    assert abs(resumed.pause_ms - 480) < 33
    assert resumed.onset == play.of(Kind.ONSET)[0][1].index
    last = play.of(Kind.SILENCE)[-1][1]
    assert abs(last.speech_ms - 1280) < 65
    assert abs(last.longest_pause_ms - 480) < 33


def test_the_network_may_let_go_late():
    """A silence is noticed by loudness within 190 ms although the network still says speech for a quarter of a second."""
    play = Play().quiet(480).speech(640).frames(256, 0.9, QUIET).quiet(480)
    ((at, silence),) = play.of(Kind.SILENCE)
    assert at - silence.index <= 0.19 * 16_000
    assert not play.of(Kind.RESUMED)


def test_the_avatar_raises_the_bar():
    """While the avatar speaks, what would be an onset otherwise is not one: an unsure sound, a soft sound; a clear voice still is."""
    for probability, level in ((0.6, LOUD), (0.95, -50.0)):
        assert Kind.ONSET in Play().quiet(500).frames(320, probability, level).kinds()
        assert set(Play().quiet(500).frames(320, probability, level, guarded=True).kinds()) <= {Kind.HINT}
    assert Play().quiet(500).speech(200, guarded=True).kinds()[:2] == [Kind.HINT, Kind.ONSET]


def test_votes_under_one_rule_do_not_count_under_the_other():
    """A frame that spoke for an onset while the avatar was heard does not help one after it."""
    assert Play().quiet(500).speech(32, guarded=True).speech(32).quiet(320).kinds() == [Kind.HINT]


def test_a_turn_that_was_taken_makes_the_next_voice_new():
    """After the turn was taken in a pause, speech is an onset; taken under a voice, the voice is announced anew."""
    play = Play().quiet(480).speech(640).quiet(320)
    assert play.hearing.end_utterance(play.end) == []
    assert play.speech(320).kinds().count(Kind.ONSET) == 2
    play = Play().quiet(480).speech(640).quiet(320).speech(320)
    (again,) = play.hearing.end_utterance(play.end)
    assert again.kind is Kind.ONSET
    assert again.index == play.of(Kind.RESUMED)[0][1].index


def test_a_lost_microphone_ends_the_speech():
    """Whoever was speaking when the sound broke off is silent; nothing is said where nobody spoke."""
    play = Play().quiet(480).speech(640)
    assert [noticed.kind for noticed in play.hearing.lose_sound(play.end)] == [Kind.SILENCE]
    assert play.hearing.lose_sound(play.end) == []


def test_ten_minutes_take_no_more_memory_than_ten_seconds():
    """Nothing grows with the length of an utterance."""
    play = Play().quiet(480).speech(10_000)
    play.seen.clear()
    held = sum(sys.getsizeof(value) for value in vars(play.hearing).values())
    for _ in range(60):
        play.speech(10_000)
        play.seen.clear()
    assert sum(sys.getsizeof(value) for value in vars(play.hearing).values()) <= held + 64


def test_levels_are_dbfs():
    """Full-scale square is 0 dBFS, an offset does not count, silence is the bottom."""
    square = np.tile(np.array([32767, -32767], np.int16), 256)
    assert all(abs(level) < 0.1 for level in block_levels(square))
    assert block_levels(np.full(FRAME, 1000, np.int16)) == block_levels(np.zeros(FRAME, np.int16))


steps = st.lists(
    st.tuples(st.floats(0, 1), st.floats(-100, 0), st.booleans(), st.sampled_from(["", "", "", "", "taken", "lost"])), max_size=200
)


MAY_FOLLOW = {
    Kind.ONSET: ({"quiet", "voiced"}, "voiced"),
    Kind.LEVEL: ({"voiced"}, "voiced"),
    Kind.SILENCE: ({"voiced"}, "pausing"),
    Kind.JUDGE: ({"pausing"}, "pausing"),
    Kind.RESUMED: ({"pausing"}, "voiced"),
    Kind.CLOSED: ({"pausing"}, "quiet"),
}


@settings(max_examples=200, deadline=None)
@given(steps)
def test_whatever_is_heard_makes_sense(steps):
    """Any sound gives a lawful story: onset first, then pauses and resumptions in turn, indices that never lie in the future."""
    hearing, end, state = Hearing(), 0, "quiet"
    for probability, level, guarded, event in steps:
        end += FRAME
        found = hearing.step(probability, [level] * 4, end, guarded=guarded)
        if event == "taken":
            found += hearing.end_utterance(end)
        elif event == "lost":
            found += hearing.lose_sound(end)
        for noticed in found:
            if noticed.kind is Kind.HINT:
                assert state != "voiced"
                assert 0 <= noticed.onset <= noticed.index <= end
                continue
            before, after = MAY_FOLLOW[noticed.kind]
            assert state in before
            state = after
            assert 0 <= noticed.onset <= noticed.index <= end
            assert 0 <= noticed.speech_ms <= end / 16
            assert noticed.pause_ms >= 0
        if event == "lost" or (event == "taken" and not hearing.voiced):
            state = "quiet"
        assert (hearing.voiced, hearing.pausing) == (state == "voiced", state == "pausing")


def test_the_first_speech_like_frame_over_the_avatar_is_a_hint_before_the_onset():
    """One frame is enough to duck, two make an onset; without the avatar's voice there are no hints."""
    for guarded in (True, False):
        hearing, kinds = Hearing(), []
        for number, probability in enumerate((0.05, 0.6, 0.9, 0.9), start=1):
            kinds += [noticed.kind for noticed in hearing.step(probability, [-20.0] * 4, number * 512, guarded=guarded)]
        assert kinds[0] is (Kind.HINT if guarded else Kind.ONSET)
        assert Kind.ONSET in kinds


def test_a_doubtful_sound_is_a_hint_only_where_it_jumps_out():
    """A soft first sound, of which the network is not sure: a hint 20 dB over what is usually heard, none where the echo is as loud."""
    doubtful = (0.25, -38.0)
    after_quiet = Play().quiet(2000).frames(32, *doubtful, guarded=True)
    assert after_quiet.kinds() == [Kind.HINT]
    assert Play().frames(4000, 0.02, -45.0, guarded=True).frames(32, *doubtful, guarded=True).kinds() == []
