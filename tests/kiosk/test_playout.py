"""The voice on its way to the loudspeaker, with time in the test's hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiosk._playout import DUCK_GAIN, HINT_LIMIT_NS, LEAD, PAUSE_LIMIT_NS, Playout
from runtime.bus import Gap
from runtime.messages import VOICE_RATE, Floor, Heard, HeardKind, Playhead, Posture, Session, Speech, SpokenWord

pytestmark = pytest.mark.unit
MS = 1_000_000


class Ring:
    """Samples whose value is their index, from `oldest` on."""

    oldest = 0

    def read(self, start: int, count: int) -> npt.NDArray[np.int16]:
        if start < self.oldest:
            raise Gap(self.oldest - start, self.oldest)
        return (np.arange(start, start + count) % 30000).astype(np.int16)


class World:
    """Loudspeaker and house in one: remembers what happened."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, int]] = []  # turn, index, count
        self.ends: list[int] = []
        self.flushed: list[int] = []
        self.gains: list[float] = []
        self.heads: list[Playhead] = []
        self.heards: list[Heard] = []
        self.marks: list[str] = []
        self.captions: list[str] = []

    def pcm(self, turn: int, index: int, samples: npt.NDArray[np.int16]) -> None:
        assert samples[0] == index % 30000
        self.sent.append((turn, index, len(samples)))

    def end(self, turn: int, index: int) -> None:  # noqa: ARG002 - the seam's own signature
        self.ends.append(turn)

    def flush(self, turn: int) -> None:
        self.flushed.append(turn)

    def gain(self, gain: float) -> None:
        self.gains.append(gain)

    def playhead(self, message: Playhead) -> None:
        self.heads.append(message)

    def heard(self, message: Heard) -> None:
        self.heards.append(message)

    def mark(self, stage: str, turn: int, t_ns: int) -> None:  # noqa: ARG002 - the seam's own signature
        self.marks.append(stage)

    def spoken(self, clause: Speech) -> None:
        self.captions.append(clause.text)

    @property
    def count(self) -> int:
        return sum(count for _, _, count in self.sent)


def speech(turn: int, start: int, text: str, ms: int, seq: int = 0, *, last: bool = True) -> Speech:
    samples = VOICE_RATE * ms // 1000
    words = text.split()
    places = tuple(SpokenWord(word, start + samples * i // len(words)) for i, word in enumerate(words))
    return Speech(turn, 0, seq, start, samples, text, last, (), places)


def floor(turn: int, granted: int) -> Floor:
    return Floor(turn, 0, Posture.THINKING, Session.ENGAGED, 1, granted)


def play(playout: Playout, turn: int, from_ms: int, to_ms: int) -> None:
    """The page plays from its start at `from_ms`, reporting as it does; sample 0 is heard first."""
    playout.started(turn, 0, from_ms * MS)
    for ms in range(from_ms, to_ms + 1, 20):
        playout.playhead(turn, (ms - from_ms) * VOICE_RATE // 1000, ms * MS, playing=True, now_ns=ms * MS)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def playout(world: World) -> Playout:
    return Playout(Ring(), world, world)


def kinds(world: World) -> list[HeardKind]:
    return [message.kind for message in world.heards]


def test_speech_waits_for_its_grant(playout: Playout, world: World) -> None:
    """Nothing is sent, told or captioned before the floor grants the turn."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(5, 0), 0)
    playout.speech(speech(5, 1000, "one two", 500), 0)
    assert (world.sent, world.captions, world.heads) == ([], [], [])
    playout.floor(floor(5, 5), 10 * MS)
    assert world.sent[0][:2] == (5, 1000)
    assert world.captions == ["one two"]
    assert world.heads[0].t_ns > 10 * MS  # the start is announced for the near future


def test_the_lead_is_never_more_than_200_ms(playout: Playout, world: World) -> None:
    """Sent minus heard stays within the lead while the page reports."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    playout.speech(speech(1, 0, "a b c d e f g h", 3000), 0)
    assert 0 < world.count <= LEAD
    playout.started(1, 0, 50 * MS)
    for ms in range(50, 3000, 30):
        index = (ms - 50) * VOICE_RATE // 1000
        playout.playhead(1, index, ms * MS, playing=True, now_ns=ms * MS)
        assert world.count - index <= LEAD
    assert world.ends == [1]


def test_clauses_follow_each_other_and_the_last_one_ends_the_turn(playout: Playout, world: World) -> None:
    """Two clauses are one utterance: started once, finished once, with the words of both."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    first = speech(1, 0, "hello there", 100, last=False)
    playout.speech(first, 0)
    playout.started(1, 0, 40 * MS)
    playout.playhead(1, first.samples, 140 * MS, playing=False, now_ns=140 * MS)
    assert kinds(world) == [HeardKind.STARTED]
    playout.speech(speech(1, first.samples, "good day", 100, 1), 150 * MS)
    playout.playhead(1, 2 * first.samples, 300 * MS, playing=False, now_ns=300 * MS)
    assert kinds(world) == [HeardKind.STARTED, HeardKind.FINISHED]
    assert world.heards[-1].text == "hello there good day"


def test_a_stop_keeps_only_what_was_heard(playout: Playout, world: World) -> None:
    """The page says where it stopped; words that began before are history, the rest never happened."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    playout.speech(speech(1, 0, "one two three four", 4000), 0)
    playout.started(1, 0, 50 * MS)
    playout.floor(floor(2, 1), 1500 * MS)
    assert world.flushed == [1]
    playout.silent(1, VOICE_RATE * 3 // 2, 1510 * MS)
    assert world.heards[-1].kind is HeardKind.STOPPED
    assert world.heards[-1].text == "one two"
    assert not world.heads[-1].playing


def test_a_page_that_does_not_confirm_a_stop_is_estimated(playout: Playout, world: World) -> None:
    """Within 200 ms the house knows what was heard, page or no page."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    playout.speech(speech(1, 0, "one two three four", 4000), 0)
    play(playout, 1, 0, 2500)
    playout.stop(2, 2500 * MS)
    playout.tick(2600 * MS)
    assert kinds(world) == [HeardKind.STARTED]
    playout.tick(2800 * MS)
    assert world.heards[-1].text == "one two three"


def test_old_turns_are_dropped_unheard(playout: Playout, world: World) -> None:
    """Speech of a turn below the floor's never reaches the loudspeaker, held or new."""
    playout.floor(floor(3, 0), 0)
    playout.speech(speech(3, 0, "held", 100), 0)
    playout.floor(floor(4, 4), 0)
    playout.speech(speech(3, 5000, "late", 100), 0)
    assert (world.sent, world.heards) == ([], [])
    assert playout.dropped == 2


def test_duck_and_resume(playout: Playout, world: World) -> None:
    """Down on a voice, up on the conductor's word; without any word, up by itself after a while."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    playout.speech(speech(1, 0, "a b c", 20_000), 0)
    playout.duck(0)
    assert world.gains == []  # nothing is heard yet, nothing to duck
    playout.started(1, 0, 50 * MS)
    playout.duck(100 * MS)
    playout.duck(120 * MS)
    playout.resume(900 * MS)
    playout.duck(1000 * MS)
    for ms in range(1000, 6000, 100):
        playout.playhead(1, ms * VOICE_RATE // 1000, ms * MS, playing=True, now_ns=ms * MS)
        playout.tick(ms * MS)
    assert world.gains == [DUCK_GAIN, 1.0, DUCK_GAIN, 1.0]


def test_a_hint_ducks_for_a_moment_and_an_onset_makes_it_last(playout: Playout, world: World) -> None:
    """A cough-like frame costs a third of a second of level; a voice that follows keeps it down."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    playout.speech(speech(1, 0, "a b c", 20_000), 0)
    playout.started(1, 0, 50 * MS)
    playout.duck(100 * MS, HINT_LIMIT_NS)
    playout.tick(500 * MS)
    assert world.gains == [DUCK_GAIN, 1.0]
    playout.duck(600 * MS, HINT_LIMIT_NS)
    playout.duck(660 * MS)
    playout.tick(1200 * MS)
    assert world.gains == [DUCK_GAIN, 1.0, DUCK_GAIN]


def test_without_a_page_a_virtual_loudspeaker_keeps_time(playout: Playout, world: World) -> None:
    """Heard and playhead come at the nominal rate, and say that no page played."""
    playout.floor(floor(1, 1), 0)
    playout.speech(speech(1, 700, "one two", 1000), 0)
    for ms in range(0, 1100, 20):
        playout.tick(ms * MS)
    assert kinds(world) == [HeardKind.STARTED, HeardKind.FINISHED]
    assert world.sent == []
    half = next(head for head in world.heads if head.t_ns >= 500 * MS)
    assert half.index == pytest.approx(700 + VOICE_RATE * half.t_ns / 1e9, abs=2)
    assert not any(head.page for head in world.heads)


def test_a_page_lost_in_mid_word_says_that_word_again(playout: Playout, world: World) -> None:
    """After a reload the voice goes on at the beginning of the word that was cut."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    playout.speech(speech(1, 0, "one two three four", 4000), 0)
    play(playout, 1, 0, 1500)
    playout.page(can_play=False, now_ns=1500 * MS)
    assert not world.heads[-1].playing
    world.sent.clear()
    playout.page(can_play=True, now_ns=2500 * MS)
    assert world.sent[0][1] == VOICE_RATE
    playout.started(1, VOICE_RATE, 2600 * MS)
    for ms in range(2600, 5601, 20):
        playout.playhead(1, VOICE_RATE + (ms - 2600) * VOICE_RATE // 1000, ms * MS, playing=ms < 5600, now_ns=ms * MS)
    assert kinds(world) == [HeardKind.STARTED, HeardKind.FINISHED]


def test_a_page_that_does_not_come_back_ends_the_turn(playout: Playout, world: World) -> None:
    """Nobody hears the rest, so it was not said."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    playout.speech(speech(1, 0, "one two three four", 4000), 0)
    play(playout, 1, 0, 1500)
    playout.page(can_play=False, now_ns=1500 * MS)
    playout.tick(1500 * MS + PAUSE_LIMIT_NS + MS)
    assert world.heards[-1].kind is HeardKind.STOPPED
    assert world.heards[-1].text == "one"


def test_a_turn_without_sound_is_finished_at_once(playout: Playout, world: World) -> None:
    """A reply that is empty does not block the floor."""
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    playout.speech(Speech(1, 0, 0, 500, 0, "", last=True), 0)
    assert kinds(world) == [HeardKind.FINISHED]


def test_overwritten_samples_are_skipped_and_counted(playout: Playout, world: World) -> None:
    """A voice that was held too long goes on at the oldest sample that is still there."""
    ring = Ring()
    ring.oldest = 300
    playout = Playout(ring, world, world)
    playout.page(can_play=True, now_ns=0)
    playout.floor(floor(1, 1), 0)
    playout.speech(speech(1, 0, "one two", 1000), 0)
    playout.tick(20 * MS)
    assert playout.gaps == 1
    assert world.sent[0][1] == 300


events = st.lists(
    st.one_of(
        st.tuples(st.just("speech"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("grant"), st.integers(0, 3), st.just(False)),
        st.tuples(st.just("rise"), st.just(0), st.just(False)),
        st.tuples(st.just("page"), st.just(0), st.booleans()),
        st.tuples(st.just("report"), st.integers(0, 3000), st.booleans()),
        st.tuples(st.just("silent"), st.integers(0, 3000), st.just(False)),
        st.tuples(st.just("duck"), st.just(0), st.just(False)),
        st.tuples(st.just("tick"), st.integers(1, 5000), st.just(False)),
    ),
    max_size=40,
)


@given(events)
def test_whatever_comes_in_whatever_order_the_laws_hold(script: list[tuple[str, int, bool]]) -> None:
    """No sound of a turn that is not granted; at most one end per start; text only of words that began."""
    world = World()
    playout = Playout(Ring(), world, world)
    now, turn, granted, place = 0, 1, 0, 0
    for kind, number, flag in script:
        now += 5 * MS
        before = len(world.sent)
        if kind == "speech":
            message: Any = speech(max(1, turn - number), place, "one two three", 300, last=flag)
            place += message.samples
            playout.speech(message, now)
        elif kind == "grant":
            granted = max(granted, turn - number)
            playout.floor(floor(turn, granted), now)
        elif kind == "rise":
            turn += 1
            playout.floor(floor(turn, granted), now)
        elif kind == "page":
            playout.page(can_play=flag, now_ns=now)
        elif kind == "report":
            playout.playhead(playout.active_turn, number, now, playing=flag, now_ns=now)
        elif kind == "silent":
            playout.silent(turn - 1, number, now)
        elif kind == "duck":
            playout.duck(now)
        else:
            now += number * MS
            playout.tick(now)
        assert all(sent[0] == granted == turn for sent in world.sent[before:])
    for number in {message.turn for message in world.heards}:
        ends = [message.kind for message in world.heards if message.turn == number]
        assert ends.count(HeardKind.STARTED) <= 1 + ends.count(HeardKind.FINISHED) + ends.count(HeardKind.STOPPED)
    assert [message.t_ns for message in world.heards] == sorted(message.t_ns for message in world.heards)
