"""From the recording to the figures: where each clip and each reply really was in room.wav, and what that says about turn taking.

The voice as it was synthesised (copied from the speech ring) serves as a ruler only: it tells which samples of the loudspeaker are which
of the reply, how much softer they are, and where the reply would have ended. Times are those of room.wav.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from runtime.messages import VOICE_RATE, HeardKind, Reply, Speech
from visavis.rehearse import measure
from visavis.rehearse.observer import Seen
from visavis.rehearse.room import RATE
from visavis.rehearse.visitor import Spoken

__all__ = ["Answer", "Heard", "Turn", "Utterance", "judge", "place_replies", "place_utterances"]

Samples = npt.NDArray[np.float32]
FRAME = RATE * measure.FRAME_MS // 1000
_MS = 1000 / RATE
_SEARCH_S = 2.0
_SLACK_MS = 300.0
"""A reply that ends so much before its synthesised end ended by itself: pages trim no more than this."""
_PIECE_S = 0.4
_ALIKE = 0.6
"""A piece of the voice with a drop-out in it is less alike: its neighbours tell the place."""


class Utterance(msgspec.Struct):
    """A sound of the visitor, in samples of room.wav; `begin` and `end` are those of its speech."""

    verb: str
    source: str
    text: str
    begin: int
    end: int
    likeness: float
    timed_out: str = ""
    expect: str = ""


class Answer(msgspec.Struct):
    """A reply as the loudspeaker played it, in samples of room.wav. `place(i)` maps the speech ring.

    Where the browser ran out of sound the rest comes later, so the voice is found piece by piece: `pieces` holds for each that was found
    its place in the voice and the room sample at which voice[0] would have sounded.
    """

    turn: int
    begin: int  # first sound
    end: int  # where it would end if nobody interrupted
    ring_start: int
    filler: int  # room samples of fillers at its beginning
    voice: Samples  # as synthesised, at RATE
    pieces: list[tuple[int, int]]
    text: str = ""

    def origin(self, at: float) -> int:
        """The room sample of voice[0], as the piece at voice sample `at` has it."""
        return next((there for start, there in reversed(self.pieces) if start <= at), self.pieces[0][1])

    def place(self, index: float) -> float:
        """The room sample of ring sample `index`."""
        at = (index - self.ring_start) * RATE / VOICE_RATE
        return self.origin(at) + at

    def found(self, index: float) -> bool:
        """Whether the piece of the voice around ring sample `index` was found: only there is `place` a measurement."""
        at = (index - self.ring_start) * RATE / VOICE_RATE
        return any(start <= at < start + _PIECE_S * RATE for start, _ in self.pieces)

    @property
    def lag_ms(self) -> float:
        """By how much drop-outs held the reply up."""
        return round((self.pieces[-1][1] - self.pieces[0][1]) * _MS, 1)


class Heard(msgspec.Struct):
    """Everything placed: both sides of the conversation."""

    utterances: list[Utterance]
    answers: list[Answer]
    lost: list[str]  # one line for each sound that could not be found
    acts: list[int] = []  # where something was typed or touched: what follows answers that


class Turn(msgspec.Struct):
    """What one sound of the visitor led to; ms, None where it does not apply or was not found."""

    verb: str
    source: str
    text: str
    speech_end_s: float
    answer: int = -1  # the kiosk's turn
    first_sound_ms: float | None = None
    duck_ms: float | None = None
    interruption_ms: float | None = None
    dropouts_ms: float | None = None  # by how much the reply was held up by drop-outs of the sound
    stopped_s: float | None = None
    false_cutoff: bool = False
    false_stop: bool = False
    reply: str = ""
    as_expected: bool | None = None
    missed: bool = False  # a real interruption that did not stop the reply
    note: str = ""


def place_utterances(spoken: Sequence[Spoken], left: Samples, start_ns: int, lost: list[str]) -> list[Utterance]:
    """Find each clip in the visitor's channel. One that is not found stands where it was handed to the room, with likeness 0."""
    found = []
    for clip in spoken:
        about = round((clip.started_ns - start_ns) * RATE / 1e9)
        begin, end = measure.speech_bounds(clip.clip, RATE)
        try:
            place, likeness = measure.locate(clip.clip, left, about - RATE // 5, about + round(_SEARCH_S * RATE))
        except ValueError:
            place, likeness = about, 0.0
        if likeness < _ALIKE:
            lost.append(f"{clip.verb} {clip.text!r}: not found in room.wav (likeness {likeness:.2f})")
            place, likeness = about, 0.0
        found.append(Utterance(clip.verb, clip.source, clip.text, place + begin, place + end, likeness, clip.timed_out, clip.expect))
    return found


def place_replies(
    log: Sequence[Seen], voice: Sequence[tuple[Speech, npt.NDArray[np.int16]]], right: Samples, start_ns: int, lost: list[str]
) -> list[Answer]:
    """Find each reply that was heard in the loudspeaker's channel."""
    fillers = {(seen.message.turn, seen.message.seq) for seen in log if isinstance(seen.message, Reply) and seen.message.kind == "filler"}
    answers: list[Answer] = []
    for seen in log:
        if seen.link != "heard" or seen.message.kind is not HeardKind.STARTED:
            continue
        turn = seen.message.turn
        clauses = [(speech, pcm) for speech, pcm in voice if speech.turn == turn and len(pcm)]
        if not clauses:
            lost.append(f"the reply of turn {turn}: its voice was not seen")
            continue
        answer = _place(turn, clauses, fillers, right, round((seen.message.t_ns - start_ns) * RATE / 1e9))
        if answer is None:
            lost.append(f"the reply of turn {turn}: not found in room.wav")
        elif not answers or answer.turn != answers[-1].turn:
            answers.append(answer)
    return answers


def _place(
    turn: int, clauses: list[tuple[Speech, npt.NDArray[np.int16]]], fillers: set[tuple[int, int]], right: Samples, about: int
) -> Answer | None:
    import soxr

    ring_start = clauses[0][0].start
    whole = np.zeros(clauses[-1][0].start + len(clauses[-1][1]) - ring_start, np.float32)
    for speech, pcm in clauses:
        whole[speech.start - ring_start :][: len(pcm)] = pcm / np.float32(32768)
    known = np.asarray(soxr.resample(whole, VOICE_RATE, RATE), dtype=np.float32)
    try:
        first, last = measure.speech_bounds(known, RATE)
    except ValueError:
        return None
    pieces = _pieces(known, first, last, right, about)
    if not pieces:
        return None
    filler = sum(len(pcm) for speech, pcm in clauses if (turn, speech.seq) in fillers)
    begin = _begin(right, pieces[0][1] + first)
    return Answer(
        turn,
        begin,
        pieces[-1][1] + last,
        ring_start,
        round(filler * RATE / VOICE_RATE),
        known,
        pieces,
        " ".join(speech.text for speech, _ in clauses),
    )


def _pieces(known: Samples, first: int, last: int, right: Samples, about: int) -> list[tuple[int, int]]:
    """Find the voice piece by piece: the first one anywhere near, the others near where the one before says."""
    size = round(_PIECE_S * RATE)
    found: list[tuple[int, int]] = []
    origin, before, after = about, RATE, round(1.5 * RATE)
    for start in range(first, max(first + 1, last - size // 2), size):
        try:
            place, likeness = measure.locate(known[start : start + size], right, origin + start - before, origin + start + after)
        except ValueError:
            break
        if likeness >= _ALIKE:
            origin, before, after = place - start, RATE // 50, RATE // 2
            found.append((start, origin))
    return found


def _begin(right: Samples, expected: int) -> int:
    """The first sound of the reply: what follows a silence near the place where it is expected, else that place."""
    early = max(0, (expected - RATE // 2) // FRAME * FRAME)
    level = measure.levels_db(right[early : expected + RATE // 5], RATE)
    run, need = 0, measure.SILENT_MS // measure.FRAME_MS
    for index, db in enumerate(level):
        if db >= measure.SILENT_DB and run >= need:
            return early + index * FRAME
        run = run + 1 if db < measure.SILENT_DB else 0
    return expected


def judge(heard: Heard, left: Samples, right: Samples) -> list[Turn]:
    """What each utterance led to. `left` is not looked at again; it stands here for the length of the recording."""
    level = measure.levels_db(right, RATE)
    speaking = [u for u in heard.utterances if u.verb in ("say", "play", "interrupt")]
    turns = []
    for utterance in heard.utterances:
        if not utterance.likeness:
            continue
        following = [place for place in (*(u.begin for u in speaking), *heard.acts) if place > utterance.end]
        until = min(following, default=len(left)) // FRAME
        turn = Turn(utterance.verb, utterance.source, utterance.text, round(utterance.end / RATE, 3), note=utterance.timed_out)
        over = _under(heard.answers, utterance.begin)
        if over is not None:
            _judge_overlay(turn, utterance, over, heard.answers, right, level)
        if utterance.verb in ("say", "play", "interrupt"):
            _judge_answer(turn, utterance, over, heard.answers, level, until)
        turns.append(turn)
    return turns


def _under(answers: list[Answer], place: int) -> Answer | None:
    """The reply that sounds at `place`."""
    return next((a for a in reversed(answers) if a.begin <= place < a.end), None)


def _judge_overlay(turn: Turn, utterance: Utterance, over: Answer, answers: list[Answer], right: Samples, level: measure.Levels) -> None:
    """Duck and stop of the reply that the visitor talked into."""
    there = over.origin(utterance.begin - over.pieces[0][1])
    origin = max(0, there)
    gain = measure.gain_track(over.voice[origin - there :], right[origin : there + len(over.voice)], RATE)
    duck = measure.duck_at(gain, (utterance.begin - origin) // FRAME)
    if duck is not None:
        turn.duck_ms = round(origin * _MS + duck * measure.FRAME_MS - utterance.begin * _MS, 1)
    following = [a.begin for a in answers if a.begin > over.begin and a.turn != over.turn]
    stop = _stop(level, utterance.begin // FRAME, min(over.end, *following) // FRAME if following else over.end // FRAME)
    early = stop is not None and stop * measure.FRAME_MS < over.end * _MS - _SLACK_MS
    if early and stop is not None:
        turn.stopped_s = stop * measure.FRAME_MS / 1000
    if utterance.verb == "interrupt":
        if early and stop is not None:
            turn.interruption_ms = round(stop * measure.FRAME_MS - utterance.begin * _MS, 1)
        elif over.end < utterance.begin + RATE:
            turn.note = turn.note or "the reply was nearly over: not counted as an interruption"
        else:
            turn.missed = True
    elif utterance.verb in ("backchannel", "noise"):
        turn.false_stop = early


def _stop(level: measure.Levels, after: int, until: int) -> int | None:
    """Where the reply falls silent for good between frames `after` and `until`; pauses between its words do not count."""
    stretch = level[after:until]
    loud = np.flatnonzero(stretch >= measure.SILENT_DB)
    if not len(stretch):
        return None
    silent = after + (int(loud[-1]) + 1 if len(loud) else 0)
    return measure.silent_at(level, silent) if silent <= until else None


def _judge_answer(turn: Turn, utterance: Utterance, over: Answer | None, answers: list[Answer], level: measure.Levels, until: int) -> None:
    """The reply to the utterance: too early, or how long after its end."""
    later = [a for a in answers if a is not over and utterance.begin < a.begin < until * FRAME]
    if not later:
        turn.note = turn.note or "no reply found in room.wav"
        return
    reply = later[0]
    turn.answer, turn.dropouts_ms, turn.reply = reply.turn, reply.lag_ms, reply.text
    if utterance.expect:
        turn.as_expected = any(words.strip().lower() in reply.text.lower() for words in utterance.expect.split("|"))
    if reply.begin < utterance.end:
        turn.false_cutoff = True
        return
    first = measure.sound_start(level, (reply.begin + reply.filler) // FRAME, max(until, reply.begin // FRAME + 1))
    if first is not None:
        turn.first_sound_ms = round(first * measure.FRAME_MS - utterance.end * _MS, 1)
