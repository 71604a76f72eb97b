"""The listener between the real microphone ring and the real bus, fed with sound of our own."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import soundfile

from engines.errors import ModelError
from engines.models import locate
from engines.voice_activity import Chosen, Energy, MelodyJudge, Silero
from runtime.clock import ManualClock
from runtime.messages import Activity, ActivityKind, Floor, MicTick, Playhead, Posture, Session
from runtime.nodes.listener import Listener, main
from tests.support.harness import Bench

MS = 1_000_000
CHUNK = 320


class Loud:
    """Everything above the noise of this room is speech, however soft."""

    name = "test"

    def probability(self, frame):
        """0.95 or 0.05."""
        return 0.95 if frame.std() > 30 else 0.05

    def reset(self):
        """Nothing to forget."""


class Judge:
    """A judge that remembers what it was asked and says 0.75."""

    name = "test"

    def __init__(self):
        self.asked = []

    def complete(self, audio, silent_from, longest_pause_ms):
        """0.75."""
        self.asked.append((len(audio), silent_from, longest_pause_ms))
        return 0.75


class Room:
    """The stage's end of the microphone, a listener, and what its house was told; time is that of the samples."""

    def __init__(self, bench, activity=None, judge=None):
        self.stage = bench.context("stage", ManualClock())
        self.writer = self.stage.audio_writer("mic")
        self.node = bench.context("listener", ManualClock())
        self.published, self.marks, self.notices = [], [], []
        self.engines = Chosen(activity or Energy(), judge or Judge())
        self.listener = Listener(self, self.node.audio_reader("mic"), self.engines)
        self.rng = np.random.default_rng(0)

    def publish(self, link, message):
        """As Context.publish."""
        assert link == "activity"
        self.published.append(message)

    def mark(self, stage, turn, t_ns=None, value=0.0):
        """As Context.mark."""
        self.marks.append((stage, turn, t_ns, value))

    def notice(self, code, text, audience="technician"):  # noqa: ARG002
        """As Context.notice."""
        self.notices.append((code, text))

    def ns(self, index):
        return 10**12 + index * 1_000_000_000 // 16_000

    def play(self, sound):
        """Write `sound` as the page sends it, a tick for each 20 ms."""
        for at in range(0, len(sound), CHUNK):
            part = sound[at : at + CHUNK].astype(np.int16)
            start = self.writer.write(part, self.ns(self.writer.position))
            self.listener.handle(MicTick(0, self.ns(start + len(part)), start + len(part)))
        return self

    def quiet(self, seconds):
        return self.play(self.rng.normal(0, 10, round(seconds * 16_000)))

    def speech(self, seconds):
        return self.play(self.rng.normal(0, 3000, round(seconds * 16_000)))

    def floor(self, turn, posture, granted=0, visit=1):
        self.listener.handle(Floor(turn, 0, posture, Session.ENGAGED, visit, granted))

    def of(self, kind):
        return [message for message in self.published if message.kind is kind]


@pytest.fixture
def room():
    """A room with the energy voice activity and a remembering judge."""
    with Bench() as bench:
        yield Room(bench)


def test_one_utterance(room):
    """Onset, level with every frame, silence, verdicts while it lasts; times and indices are those of the sound."""
    room.floor(5, Posture.ATTENTIVE)
    room.quiet(2).speech(1).quiet(1)
    (onset,) = room.of(ActivityKind.ONSET)
    assert (onset.turn, onset.onset) == (5, onset.index)
    assert abs(onset.index - 32_000) <= 640
    assert 24 <= len(room.of(ActivityKind.LEVEL)) <= 32
    (silence,) = room.of(ActivityKind.SILENCE)
    assert abs(silence.index - 48_000) <= 640
    assert abs(silence.speech_ms - 1000) < 60
    ended_ns = silence.t_ns - round(silence.pause_ms * MS)
    assert abs(ended_ns - room.ns(silence.index)) < MS
    judged = room.of(ActivityKind.JUDGED)
    assert [message.complete for message in judged] == [0.75] * 5
    assert [round(message.pause_ms / 100) for message in judged] == sorted(round(message.pause_ms / 100) for message in judged)
    assert all(abs(message.t_ns - round(message.pause_ms * MS) - ended_ns) < MS for message in judged)
    length, silent_from, _ = room.engines.judge.asked[0]
    assert silent_from < length <= 8 * 16_000


def test_a_rising_voice_is_told_while_it_rises(room):
    """LEVEL says by how much the pitch has risen; a level voice, a pause and the voice after it start from none."""
    hertz = np.concatenate([np.full(8000, 150.0), 150.0 * 2 ** np.linspace(0, 0.6, 4800)])
    phase = 2 * np.pi * np.cumsum(hertz) / 16_000
    sound = sum(3000 / k * np.sin(k * phase) for k in range(1, 9))
    room.quiet(1).play(sound).quiet(1).play(sound[:6400])
    first = [message.rise for message in room.of(ActivityKind.LEVEL) if message.index < 16_000 + len(sound) + 1000]
    assert max(first[:14]) < 1
    assert max(first[14:22]) > 2.5
    (silence,) = room.of(ActivityKind.SILENCE)
    assert silence.rise == 0.0
    assert max(message.rise for message in room.of(ActivityKind.LEVEL) if message.index > silence.index + 8000) < 1


def test_marks_are_at_the_sound(room):
    """The end of speech is marked with the time of its last sample, not with the time when it was noticed."""
    room.quiet(2).speech(1).quiet(1)
    (silence,) = room.of(ActivityKind.SILENCE)
    assert ("speech_end", 0, room.ns(silence.index), 0.0) in room.marks
    assert [stage for stage, *_ in room.marks] == ["speech_end", "silence"] + ["judged"] * 5


def test_a_taken_turn_ends_the_utterance(room):
    """After the floor granted an answer, the next words are an onset; before that they are a resumption."""
    room.floor(5, Posture.ATTENTIVE)
    room.quiet(2).speech(1).quiet(0.4).speech(0.5).quiet(0.4)
    assert len(room.of(ActivityKind.RESUMED)) == 1
    assert len(room.of(ActivityKind.ONSET)) == 1
    room.floor(7, Posture.THINKING, granted=7)
    room.speech(0.5)
    assert len(room.of(ActivityKind.ONSET)) == 2


def test_a_dropped_utterance_ends_too(room):
    """When the floor stops listening without an answer, the next words are an onset."""
    room.floor(3, Posture.LISTENING)
    room.quiet(2).speech(1).quiet(0.4)
    room.floor(3, Posture.ATTENTIVE)
    room.speech(0.5)
    assert len(room.of(ActivityKind.ONSET)) == 2


def test_a_turn_granted_under_a_voice_announces_it_again(room):
    """Words that came back just before the grant are told as a new utterance, so that nobody waits for the old one."""
    room.floor(5, Posture.ATTENTIVE)
    room.quiet(2).speech(1).quiet(0.4).speech(0.5)
    room.floor(7, Posture.THINKING, granted=7)
    first, again = room.of(ActivityKind.ONSET)
    assert again.onset == room.of(ActivityKind.RESUMED)[0].index > first.onset
    room.quiet(0.3)
    assert room.of(ActivityKind.SILENCE)[-1].onset == again.onset


def test_a_new_visit_forgets(room):
    """With the next visit the utterance of the one before is gone."""
    room.floor(3, Posture.LISTENING, visit=1)
    room.quiet(2).speech(1).quiet(0.3)
    room.floor(4, Posture.IDLE, visit=2)
    room.speech(0.5)
    assert len(room.of(ActivityKind.ONSET)) == 2
    assert not room.of(ActivityKind.RESUMED)


@pytest.fixture
def keen():
    """A room whose voice activity hears the softest sound."""
    with Bench() as bench:
        yield Room(bench, Loud())


def test_the_avatar_raises_the_bar(keen):
    """Soft sound that would be an onset is not one while the avatar speaks, nor right after; later it is."""

    def soft(seconds):
        keen.play(keen.rng.normal(0, 60, round(seconds * 16_000)))

    keen.quiet(2)
    keen.listener.handle(Playhead(0, 0, 100, playing=True))
    soft(0.25)
    assert not keen.of(ActivityKind.ONSET)
    keen.quiet(0.5)
    soft(0.25)
    assert len(keen.of(ActivityKind.ONSET)) == 1


def test_dead_microphone(room):
    """Nothing but zeros for five seconds is told to the technician, and taken back when sound comes."""
    room.play(np.zeros(11 * 16_000))
    assert [code for code, text in room.notices if text] == ["mic-dead"]
    room.notices.clear()
    room.quiet(11)
    assert ("mic-dead", "") in room.notices
    assert not any(text for _, text in room.notices)


@pytest.mark.parametrize(
    ("code", "sound"),
    [
        ("mic-clipping", lambda rng, n: np.clip(rng.normal(0, 30_000, n), -32768, 32767)),
        ("mic-offset", lambda rng, n: rng.normal(4000, 10, n)),
    ],
)
def test_bad_signals(room, code, sound):
    """An overdriven input and a constant offset are each named."""
    room.play(sound(room.rng, 6 * 16_000))
    assert code in {told for told, text in room.notices if text}


def test_speech_that_is_hardly_there(keen):
    """Speech far below the usual level is named, and taken back once it is loud enough."""
    keen.play(keen.rng.normal(0, 5, 3 * 16_000))
    keen.play(keen.rng.normal(0, 80, 3 * 16_000))
    assert "mic-quiet" in {code for code, text in keen.notices if text}
    keen.speech(1).quiet(5)
    assert ("mic-quiet", "") in keen.notices


def test_no_microphone(room):
    """A microphone that goes away ends the speech at once, is named after five seconds, and taken back when it returns."""
    room.quiet(2).speech(1)
    for second in range(8):
        room.listener.handle(MicTick(0, room.ns(48_000) + second * 1000 * MS, 48_000, live=False))
    assert len(room.of(ActivityKind.SILENCE)) == 1
    assert [code for code, text in room.notices if text] == ["mic-lost"]
    room.quiet(1)
    assert room.notices[-1] == ("mic-lost", "")
    room.speech(0.5)
    assert len(room.of(ActivityKind.ONSET)) == 2


def test_a_machine_that_stood_still(room):
    """If more sound went by than the ring holds, the listener says how much is lost and goes on with the newest."""
    room.quiet(2).speech(1)
    for _ in range(35):
        room.writer.write(np.zeros(16_000, np.int16), room.ns(room.writer.position))
    room.listener.handle(MicTick(0, room.ns(room.writer.position), room.writer.position))
    assert room.notices[0][0] == "listener-late"
    assert len(room.of(ActivityKind.SILENCE)) == 1
    room.quiet(11)
    assert ("listener-late", "") in room.notices
    room.speech(0.5)
    assert len(room.of(ActivityKind.ONSET)) == 2


def test_a_stale_silence_is_not_judged(room):
    """If the visitor went on while the machine was busy, nobody is asked about the silence before."""
    room.quiet(2).speech(1)
    for sound in (room.rng.normal(0, 10, 4800), room.rng.normal(0, 3000, 8000)):
        room.writer.write(sound.astype(np.int16), room.ns(room.writer.position))
    room.listener.handle(MicTick(0, room.ns(room.writer.position), room.writer.position))
    assert len(room.of(ActivityKind.RESUMED)) == 1
    assert not room.engines.judge.asked


def test_two_minutes_in_one_breath(room):
    """A very long utterance is one utterance, and the judge still hears eight seconds at most."""
    room.quiet(2)
    for _ in range(240):
        room.speech(0.45).quiet(0.05)
    room.quiet(0.5)
    assert len(room.of(ActivityKind.ONSET)) == 1
    (silence,) = room.of(ActivityKind.SILENCE)
    assert abs(silence.speech_ms - 120_000) < 60
    assert all(length <= 8 * 16_000 for length, *_ in room.engines.judge.asked)


def test_a_person_with_silero(shared):
    """A recorded sentence through the real network: one onset and a verdict after its end."""
    try:
        activity = Silero(locate("silero-vad"))
    except ModelError as error:
        pytest.skip(str(error))
    sentence = soundfile.read(shared / "data/speech/azure-samples/whatstheweatherlike.flac", dtype="int16")[0]
    with Bench() as bench:
        room = Room(bench, activity, MelodyJudge())
        room.quiet(1).play(sentence).quiet(1)
        (onset,) = room.of(ActivityKind.ONSET)
        assert 16_000 <= onset.index < 16_000 + len(sentence) // 2
        assert 0 < room.of(ActivityKind.JUDGED)[-1].complete < 1


def test_activity_reaches_the_conductor():
    """What the listener publishes is what the conductor reads from the bus."""
    with Bench() as bench:
        listener, conductor = bench.context("listener"), bench.context("conductor")
        message = Activity(3, 5, ActivityKind.ONSET, 7, 7)
        assert bench.repeat_until(lambda: listener.publish("activity", message), conductor, "activity") == message


def test_the_node_starts_hears_and_ends(monkeypatch, tmp_path):
    """main() works with an empty model store, publishes what it hears, and ends when it is told to."""
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    with Bench() as bench:
        stage, conductor, node = bench.context("stage"), bench.context("conductor"), bench.context("listener")
        writer = stage.audio_writer("mic")
        thread = threading.Thread(target=main, args=(node,))
        thread.start()
        try:
            rng = np.random.default_rng(0)

            def talk():
                sound = np.where(np.arange(4800) % 1600 < 1200, rng.normal(0, 4000, 4800), 0).astype(np.int16)
                writer.write(sound, 0)
                stage.publish("mic", MicTick(0, 0, writer.position))

            def be_quiet():
                writer.write(rng.normal(0, 5, 320).astype(np.int16), 0)
                stage.publish("mic", MicTick(0, 0, writer.position))

            for _ in range(100):
                be_quiet()
            bench.repeat_until(talk, conductor, "activity")
        finally:
            node.stop()
            thread.join()
