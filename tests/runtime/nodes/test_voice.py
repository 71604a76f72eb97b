"""The voice on a real bus, with a real engine: order, contiguity, and the newest turn alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engines.errors import EngineError
from engines.synthesis import Clip, EspeakSynthesiser, PiperSynthesiser, Selection
from runtime.messages import VOICE_RATE, Floor, Message, Playhead, Posture, Reply, Say, Session, Speech
from runtime.nodes import voice as voice_node
from runtime.nodes.voice import AHEAD_S, Voice, _fitting, common_phrases
from tests.support.harness import LIMIT_S, Bench


class Room:
    """A voice between the contexts of its neighbours, pumped by hand."""

    def __init__(self, bench: Bench, engine=None, phrases=()) -> None:
        self.ctx = bench.context("voice")
        self.dialogue, self.conductor, self.stage = (bench.context(n) for n in ("dialogue", "conductor", "stage"))
        self.voice = Voice(self.ctx, engine or EspeakSynthesiser(), phrases)
        self.reader = self.stage.audio_reader("speech")
        self.heard: list[Speech] = []
        self.notices: list[str] = []

    def step(self) -> None:
        """One turn of the node's loop, then listen."""
        for link, message in self.ctx.receive(0.002):
            self.voice.handle(link, message)
        self.voice.step()
        for link, message in self.stage.receive(0.002):
            if link == "speech":
                self.heard.append(message)
            elif link == "notice":
                self.notices.append(message.text)

    def until(self, done: Callable[[], object], limit_s: float = LIMIT_S) -> None:
        """Run the loop until `done()`."""
        deadline = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < deadline, "it did not happen"
            self.step()

    def joined(self) -> Room:
        """Wait until all links are connected: turn 1 arrives from each neighbour, and the stage hears it."""

        def tried() -> bool:
            self.conductor.publish("floor", floor(1))
            self.dialogue.publish("reply", Reply(1, 0, 0, "", True))
            self.stage.publish("playhead", Playhead(1, 0, 7, False))
            return bool(self.heard) and self.voice._heard == 7

        self.until(tried)
        self.heard.clear()
        return self

    def of(self, turn: int) -> list[Speech]:
        """The speech of one turn so far."""
        return [s for s in self.heard if s.turn == turn]

    def ended(self, turn: int) -> bool:
        """Whether the turn's last clip has come."""
        return any(s.last for s in self.of(turn))


def floor(turn: int, visit: int = 1) -> Floor:
    return Floor(turn, 0, Posture.THINKING, Session.ENGAGED, visit, 0)


@pytest.fixture
def room() -> Iterator[Room]:
    """A voice whose neighbours are connected."""
    with Bench() as bench:
        yield Room(bench).joined()


def test_clauses_follow_each_other_without_a_gap(room: Room):
    """Two replies become three clips of one turn, contiguous in the ring, numbered, the last one marked."""
    room.dialogue.publish("reply", Reply(2, 0, 0, "Sure, one latte.", False))
    room.dialogue.publish("reply", Reply(2, 0, 1, "That is £3.10. Anything else?", True))
    room.until(lambda: room.ended(2))
    clips = room.of(2)
    assert [s.text for s in clips] == ["Sure, one latte.", "That is £3.10.", "Anything else?"]
    assert [s.seq for s in clips] == [0, 1, 2]
    assert [s.last for s in clips] == [False, False, True]
    assert [s.clause for s in clips] == [0, -1, 1]
    assert all(a.start + a.samples == b.start for a, b in pairwise(clips))


def test_sound_and_timing_are_where_the_message_says(room: Room):
    """The ring holds the clip's sound; phonemes and words lie inside, by absolute index."""
    room.dialogue.publish("reply", Reply(2, 0, 0, "A flat white, please.", True))
    room.until(lambda: room.ended(2))
    (speech,) = room.of(2)
    pcm = room.reader.read(speech.start, speech.samples)
    assert len(pcm) == speech.samples
    assert np.abs(pcm.astype(np.int32)).max() > 3000
    assert speech.phonemes[0].start < speech.start + 0.03 * VOICE_RATE
    assert speech.phonemes[-1].end == speech.start + speech.samples
    assert [w.text for w in speech.words] == ["A", "flat", "white,", "please."]
    assert all(speech.start <= w.start < speech.start + speech.samples for w in speech.words)


class Broken:
    """A voice that fails."""

    rate = VOICE_RATE

    def speak(self, text: str) -> Iterator[Clip]:
        raise EngineError(f"cannot say {len(text)} characters")
        yield


def nothing_works(*_: object, **__: object) -> Selection:
    raise EngineError("no voice works on this machine: libespeak-ng.so is damaged")


def test_without_any_voice_the_answer_can_be_read(monkeypatch: pytest.MonkeyPatch):
    """The last engine fails too: silence in which the words come one by one, so that the captions show them, and one notice."""
    monkeypatch.setattr(voice_node, "select", nothing_works)
    with Bench() as bench:
        room = Room(bench, Broken()).joined()
        room.dialogue.publish("reply", Reply(2, 0, 0, "We open at nine.", True))
        room.until(lambda: room.ended(2))
        (speech,) = room.of(2)
        assert [word.text for word in speech.words] == ["We", "open", "at", "nine."]
        assert speech.samples > VOICE_RATE
        assert not room.reader.read(speech.start, speech.samples).any()
        room.until(lambda: room.notices)
        assert "read" in room.notices[-1]


def test_a_machine_without_a_voice_starts(monkeypatch: pytest.MonkeyPatch):
    """The node serves with silence instead of dying again and again."""
    monkeypatch.setattr(voice_node, "select", nothing_works)
    with Bench() as bench:
        chosen = voice_node._choose(bench.context("voice"))
    assert [clip.text for clip in chosen.engine.speak("Hello. Welcome.")] == ["Hello.", "Welcome."]


def test_a_newer_turn_drops_the_older_one_mid_clause(room: Room):
    """When the floor's turn rises, not even the next sentence of the clause is spoken."""
    room.dialogue.publish("reply", Reply(2, 0, 0, " ".join(["One more sentence."] * 30), True))
    room.until(lambda: len(room.of(2)) >= 2)

    def raised() -> bool:  # said again and again, as the conductor does: on a busy machine one word of it may be too old when it is read
        room.conductor.publish("floor", floor(3))
        return room.voice._turn == 3

    room.until(raised)
    said = len(room.of(2))
    room.dialogue.publish("reply", Reply(2, 0, 1, "Too late.", True))
    room.dialogue.publish("reply", Reply(3, 0, 0, "New.", True))
    room.until(lambda: room.ended(3))
    assert said <= len(room.of(2)) <= said + 1
    assert not room.ended(2)
    assert [s.text for s in room.of(3)] == ["New."]


def test_a_newer_reply_alone_raises_the_turn(room: Room):
    """A reply of a newer turn counts as news of it, even before the floor's word arrives."""
    room.dialogue.publish("reply", Reply(2, 0, 0, " ".join(["One more sentence."] * 30), True))
    room.until(lambda: room.of(2))
    room.dialogue.publish("reply", Reply(4, 0, 0, "Newer.", True))
    room.until(lambda: room.ended(4))
    assert not room.ended(2)


def test_the_conductor_s_words_are_spoken(room: Room):
    """Say is spoken like a reply."""
    room.conductor.send("say", Say(2, 0, 0, "Hello there.", True))
    room.until(lambda: room.ended(2))
    assert [s.text for s in room.of(2)] == ["Hello there."]


def test_an_empty_end_is_an_end(room: Room):
    """A last clause without text, or with nothing to pronounce, ends the turn with no samples."""
    room.dialogue.publish("reply", Reply(2, 0, 0, "Yes.", False))
    room.dialogue.publish("reply", Reply(2, 0, 1, "…", True))
    room.until(lambda: room.ended(2))
    assert [(s.text, s.last) for s in room.of(2)] == [("Yes.", False), ("", True)]
    assert room.of(2)[-1].samples == 0
    assert room.of(2)[-1].start == room.of(2)[0].start + room.of(2)[0].samples


def test_repeated_clauses_are_spoken_once(room: Room):
    """A restarted dialogue that sends a clause again does not make the voice repeat itself."""
    for seq in (0, 0, 1, 1):
        room.dialogue.publish("reply", Reply(2, 0, seq, f"Clause {seq}.", seq == 1))
    room.until(lambda: room.ended(2))
    assert [s.text for s in room.of(2)] == ["Clause 0.", "Clause 1."]


def test_waits_for_the_loudspeaker(room: Room):
    """Not more than a minute is made ahead; the rest follows when the playhead has moved."""
    text = " ".join(f"Sentence number {i} is quite a long one, as sentences go in a shop." for i in range(30))
    room.dialogue.publish("reply", Reply(2, 0, 0, text, True))
    room.until(lambda: room.voice._full)
    made = room.reader.position  # the messages about it may still be on their way
    assert made < (AHEAD_S + 15) * VOICE_RATE
    assert not room.voice.busy
    for _ in range(5):
        room.step()
    assert made == room.reader.position

    def played_on() -> bool:
        room.stage.publish("playhead", Playhead(2, 0, room.of(2)[-1].start, True))
        return room.ended(2)

    room.until(played_on)


class Counting:
    """The real voice, and what it was asked."""

    rate = VOICE_RATE

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._real = EspeakSynthesiser()

    def speak(self, text: str) -> Iterator[Clip]:
        """Note and speak."""
        self.asked.append(text)
        return self._real.speak(text)


def test_common_phrases_are_ready():
    """The pack's own sentences are made once, in idle time; what a visitor makes it say is not kept."""
    with Bench() as bench:
        engine = Counting()
        room = Room(bench, engine, ("Hello. What would you like?",)).joined()
        room.until(lambda: not room.voice.busy)
        assert engine.asked == ["Hello.", "What would you like?"]
        for turn in (2, 3):
            room.dialogue.publish("reply", Reply(turn, 0, 0, "Hello. Sam.", True))
            room.until(lambda turn=turn: room.ended(turn))
        assert engine.asked[2:] == ["Sam.", "Sam."]
        assert {"Hello.", "What would you like?"} == set(room.voice._cache)


class Failing(Counting):
    """A voice that breaks at a word."""

    def speak(self, text: str) -> Iterator[Clip]:
        """Speak, or fail."""
        if "break" in text:
            raise EngineError("out of memory")
        return super().speak(text)


def test_a_broken_engine_is_replaced():
    """When the engine fails, the embedded voice speaks the same sentence and the technician is told."""
    with Bench() as bench:
        room = Room(bench, Failing()).joined()
        room.dialogue.publish("reply", Reply(2, 0, 0, "Fine. This will break. Fine again.", True))
        room.until(lambda: room.ended(2) and room.notices)
        assert [s.text for s in room.of(2)] == ["Fine.", "This will break.", "Fine again."]
        assert "out of memory" in room.notices[0]


def test_other_rates_fit_the_ring():
    """A 16 kHz clip comes out at the ring's rate, its timing scaled with it."""
    (clip,) = EspeakSynthesiser().speak("Good morning to you.")
    slow = _fitting(clip, 16_000)
    assert abs(len(slow.pcm) - len(clip.pcm) * VOICE_RATE / 16_000) < 3
    assert slow.phonemes[-1].end == len(slow.pcm)
    assert abs(slow.words[2].start - clip.words[2].start * VOICE_RATE / 16_000) < 2
    assert _fitting(clip, VOICE_RATE) is clip


def test_piper_speaks_here_too():
    """The node runs with the neural engine as with the embedded one."""
    pytest.importorskip("piper")
    tiny = Path(__file__).parents[2] / "models" / "piper-tiny" / "voice.onnx"
    with Bench() as bench:
        room = Room(bench, PiperSynthesiser(tiny)).joined()
        room.dialogue.publish("reply", Reply(2, 0, 0, "Milk or sugar?", True))
        room.until(lambda: room.ended(2))
        assert room.of(2)[0].samples > VOICE_RATE // 4


def test_the_demo_pack_s_phrases_are_known():
    """Greeting and questions of the shipped pack are prepared; templates are not."""
    with Bench() as bench:
        phrases = common_phrases(bench.context("voice").pack)
    assert any("Hello" in p for p in phrases)
    assert not any("{" in p for p in phrases)


def test_messages_are_whole(room: Room):
    """Every message of the voice belongs to a turn and has a time."""
    room.dialogue.publish("reply", Reply(2, 0, 0, "Yes.", True))
    room.until(lambda: room.ended(2))
    assert all(isinstance(s, Message) and s.t_ns > 0 for s in room.heard)


def test_tags_are_shown_and_not_said(room: Room):
    """A reply's tags come with the sample of the word that they precede, across its sentences; text and words have none."""
    plain, tagged = "Oat milk is out. But there is soy!", "[sorry] Oat milk is [nod] out. [happy] But there is soy! [brow]"
    room.dialogue.publish("reply", Reply(2, 0, 0, plain, True))
    room.until(lambda: room.ended(2))
    room.dialogue.publish("reply", Reply(3, 0, 0, tagged, True))
    room.until(lambda: room.ended(3))
    said, shown = room.of(2), room.of(3)
    assert [s.text for s in shown] == [s.text for s in said]
    assert [[w.text for w in s.words] for s in shown] == [[w.text for w in s.words] for s in said]
    assert not any(s.gestures for s in said)
    first, second = shown
    assert [(g.name, g.start) for g in first.gestures] == [("sorry", first.words[0].start), ("nod", first.words[3].start)]
    assert [g.name for g in second.gestures] == ["happy", "brow"]
    assert second.gestures[0].start == second.words[0].start
    assert second.words[-1].start < second.gestures[1].start <= second.start + second.samples


def test_a_card_is_looked_at(room: Room):
    """Where something appears on the page with the words, the face is told to look there."""
    room.dialogue.publish("reply", Reply(2, 0, 0, "Here is your order.", True, card="{}"))
    room.until(lambda: room.ended(2))
    (clause,) = room.of(2)
    assert [(g.name, g.start) for g in clause.gestures] == [("screen", clause.words[0].start)]
