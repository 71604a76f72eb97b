"""The recogniser on a real bus and ring, with the real engine and a made voice."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from engines.recognition import Hypothesis, PocketsphinxRecogniser
from runtime.messages import MIC_RATE, Activity, ActivityKind, Floor, Message, MicTick, Posture, Reply, Session, Transcript
from runtime.nodes.recogniser import PRE_ROLL, Ear
from tests.engines.recognition.speech import DOMAIN, say
from tests.support.harness import Bench

ORDER = "can i have a large latte please"


@pytest.fixture(scope="module")
def engine() -> PocketsphinxRecogniser:
    """An engine that has learnt the small shop."""
    found = PocketsphinxRecogniser()
    found.prepare(DOMAIN)
    return found


class Room:
    """An ear whose microphone and listener are the test."""

    def __init__(self, bench: Bench, engine: PocketsphinxRecogniser) -> None:
        self.ctx = bench.context("recogniser")
        self.stage, self.conductor = bench.context("stage"), bench.context("conductor")
        self.mic = self.stage.audio_writer("mic")
        self.ear = Ear(self.ctx, engine)
        self.heard: list[Transcript] = []
        self.marks: list[str] = []
        bench.repeat_until(lambda: self.ctx.publish("words", Transcript(0, 0, -1, 0, "")), self.conductor, "words")
        self.listen()
        self.heard.clear()

    def hear(self, *messages: Message) -> None:
        """Messages of the neighbours."""
        for message in messages:
            self.ear.handle(message)

    def play(self, pcm: np.ndarray) -> int:
        """Write sound as the stage does; returns the index behind it."""
        for at in range(0, len(pcm), 320):
            self.mic.write(pcm[at : at + 320], 0)
            self.ear.step()
        return self.mic.position

    def settle(self) -> None:
        """Step until there is nothing left to do."""
        while self.ear.busy:
            self.ear.step()

    def listen(self) -> list[Transcript]:
        """All transcripts that were published, in order."""
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            self.heard += [message for link, message in self.conductor.receive(0.05) if link == "words"]
        return self.heard


@pytest.fixture
def room(engine: PocketsphinxRecogniser) -> Iterator[Room]:
    """An ear with its neighbours."""
    with Bench() as bench:
        engine.expect("")
        yield Room(bench, engine)


def activity(kind: ActivityKind, onset: int, index: int) -> Activity:
    return Activity(0, 0, kind, onset, index)


def floor(turn: int, visit: int = 1, granted: int = 0) -> Floor:
    return Floor(turn, 0, Posture.LISTENING, Session.ENGAGED, visit, granted)


def test_words_arrive_while_somebody_speaks_and_once_more_at_the_end(room: Room) -> None:
    """Partial transcripts, then one final one, with the floor's turn, the utterance's onset and words that lie in the ring."""
    room.hear(floor(7))
    onset = room.play(np.zeros(MIC_RATE, np.int16))
    room.hear(activity(ActivityKind.ONSET, onset, onset))
    end = room.play(say(ORDER))
    room.hear(activity(ActivityKind.SILENCE, onset, end))
    room.play(np.zeros(MIC_RATE // 4, np.int16))
    room.settle()
    *partials, final = room.listen()
    assert partials
    assert not any(transcript.final for transcript in partials)
    assert final.final
    assert final.text == ORDER
    assert (final.turn, final.onset) == (7, onset)
    assert all(onset - PRE_ROLL <= word.start < word.end <= end + MIC_RATE for word in final.words)
    assert [word.text for word in final.words] == ORDER.split()


def test_silence_beyond_the_ring_waits_for_the_sound(room: Room) -> None:
    """The end of the utterance is decoded when it is there, not before."""
    room.hear(activity(ActivityKind.ONSET, 0, 0))
    pcm = say("yes please")
    room.play(pcm[:MIC_RATE])
    room.hear(activity(ActivityKind.SILENCE, 0, len(pcm)))
    room.settle()
    assert not any(transcript.final for transcript in room.listen())
    room.play(np.concatenate((pcm[MIC_RATE:], np.zeros(MIC_RATE // 4, np.int16))))
    room.settle()
    assert room.listen()[-1].final
    assert room.heard[-1].text == "yes please"


def test_who_goes_on_is_heard_whole(room: Room) -> None:
    """RESUMED after a final transcript decodes the same utterance again from its onset."""
    first, second = say("where are"), say("the toilets")
    room.hear(activity(ActivityKind.ONSET, 0, 0))
    end = room.play(first)
    room.hear(activity(ActivityKind.SILENCE, 0, end - MIC_RATE // 5))
    room.settle()
    room.hear(activity(ActivityKind.RESUMED, 0, end))
    end = room.play(second)
    room.hear(activity(ActivityKind.SILENCE, 0, end - MIC_RATE // 5))
    room.settle()
    finals = [transcript for transcript in room.listen() if transcript.final]
    assert [transcript.onset for transcript in finals] == [0, 0]
    assert finals[0].text == "where are"
    assert finals[1].text == "where are the toilets"


def test_a_new_visit_drops_what_was_being_said(room: Room) -> None:
    """Nothing of one visitor's sentence reaches the next visit."""
    room.hear(floor(1, visit=1), activity(ActivityKind.ONSET, 0, 0))
    end = room.play(say(ORDER)[:MIC_RATE])
    room.hear(floor(2, visit=2), activity(ActivityKind.SILENCE, 0, end))
    room.settle()
    assert not any(transcript.final for transcript in room.listen())


def test_a_dead_microphone_drops_the_utterance(room: Room) -> None:
    """Half a sentence is not answered when the microphone was pulled out."""
    room.hear(activity(ActivityKind.ONSET, 0, 0))
    end = room.play(say(ORDER)[:MIC_RATE])
    room.hear(MicTick(0, 0, end, live=False), activity(ActivityKind.SILENCE, 0, end))
    room.settle()
    assert not any(transcript.final for transcript in room.listen())


def test_sound_that_was_overwritten_is_counted_and_the_rest_heard(room: Room) -> None:
    """After a gap in the ring the utterance begins again with what is there."""
    room.hear(activity(ActivityKind.ONSET, 0, 0))
    for _ in range(31):
        room.mic.write(np.zeros(MIC_RATE, np.int16), 0)
    end = room.mic.position
    room.mic.write(say("yes please"), 0)
    room.ear.step()
    assert room.ear.gaps == 1
    assert room.ctx is not None
    room.hear(activity(ActivityKind.ONSET, end, end))
    room.hear(activity(ActivityKind.SILENCE, end, room.mic.position))
    room.play(np.zeros(MIC_RATE // 4, np.int16))
    room.settle()
    assert room.listen()[-1].text == "yes please"


def test_endless_noise_is_given_up(room: Room) -> None:
    """A radio does not keep the decoder busy for ever: after twenty seconds the utterance is dropped."""
    room.hear(activity(ActivityKind.ONSET, 0, 0))
    for _ in range(21):
        room.play(np.zeros(MIC_RATE, np.int16))
    room.settle()
    assert not room.ear.busy
    assert not any(transcript.final for transcript in room.listen())


def test_only_an_answer_that_was_heard_is_expected(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint of a reply counts once its turn is granted; a new visit forgets it."""
    hints: list[str] = []
    monkeypatch.setattr(room.ear._engine, "expect", hints.append)
    room.hear(floor(3), Reply(3, 0, 0, "What size?", True, "question", "size"))
    room.hear(activity(ActivityKind.ONSET, 0, 0))
    room.hear(floor(3, granted=3), activity(ActivityKind.ONSET, 0, 0))
    room.hear(floor(4, visit=2, granted=3), activity(ActivityKind.ONSET, 0, 0))
    assert hints == ["", "size", ""]


def test_a_changed_chance_of_words_is_told_though_the_text_is_the_same(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The avatar has to stop before a word is understood; a chance that hardly moved is no news."""
    chances = iter((0.2, 0.22, 0.9))
    monkeypatch.setattr(room.ear._engine, "partial", lambda: Hypothesis(worded=next(chances, 0.9)))
    monkeypatch.setattr("runtime.nodes.recogniser._EVERY_NS", 0)
    onset = room.play(np.zeros(MIC_RATE, np.int16))
    room.hear(activity(ActivityKind.ONSET, onset, onset))
    room.settle()
    for _ in range(3):
        room.play(np.zeros(640, np.int16))
    assert [transcript.worded for transcript in room.listen()] == [0.2, 0.9]
