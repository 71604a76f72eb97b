"""The voice: clauses in, sound in the speech ring out, with the time of every phoneme and word. The newest turn wins."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import soxr

from engines.animation import Tag, take_tags
from engines.errors import EngineError
from engines.synthesis import Clip, Selection, SilentSynthesiser, Synthesiser, TimedPhoneme, TimedWord, select, sentences
from runtime.bus import AudioWriter
from runtime.context import Context
from runtime.messages import VOICE_RATE, Floor, Gesture, Phoneme, Playhead, Reply, Say, Speech, SpokenWord
from runtime.packs import Pack

__all__ = ["Voice", "common_phrases", "main"]

AHEAD_S = 60
"""So far ahead of the loudspeaker the voice may be: half of the ring, a sentence more would still fit."""
CACHE_SAMPLES = 120 * VOICE_RATE
"""Two minutes of ready sound, 5 MB: the sentences of a pack that are the same for everybody."""


class _Clause(NamedTuple):
    """One piece of a turn's text, and what the face does with it; `last` ends the turn."""

    turn: int
    seq: int
    text: str
    last: bool
    tags: tuple[Tag, ...] = ()


class _Part(NamedTuple):
    """One clip (None: no sound), the clause's number if it ends that (else -1), whether it ends the turn, and the clip's tags."""

    clip: Clip | None
    whole: int
    last: bool
    tags: tuple[Tag, ...] = ()


class Voice:
    """Speaks the newest turn, clause by clause and sentence by sentence, so that a newer one never waits for more than a sentence."""

    def __init__(self, ctx: Context, engine: Synthesiser, phrases: Iterable[str] = ()) -> None:
        self._ctx = ctx
        self._ring: AudioWriter = ctx.audio_writer("speech")
        self._engine = engine
        self._turn = 0
        self._queue: deque[_Clause] = deque()
        self._pending: Iterator[_Part] | None = None
        self._seen = {"reply": -1, "say": -1}
        self._seq = 0
        self._start = self._ring.position
        self._heard = 0
        self._ended = False
        self._unmade = deque(dict.fromkeys(s for phrase in phrases for s in sentences(take_tags(phrase)[0])))
        self._common = frozenset(self._unmade)
        self._cache: OrderedDict[str, tuple[Clip, ...]] = OrderedDict()

    # --- what comes

    def handle(self, link: str, message: Any) -> None:
        """Take one message of any link."""
        if isinstance(message, Floor):
            self._raise(message.turn)
        elif isinstance(message, Playhead):
            self._heard = message.index
        elif isinstance(message, (Reply, Say)) and message.turn >= self._turn:
            self._raise(message.turn)
            if message.seq > self._seen[link] and not self._ended:
                self._seen[link] = message.seq
                self._ended = message.last
                said, tags = take_tags(message.text)
                if isinstance(message, Reply) and message.card:  # it appears with these words
                    tags = (Tag("screen", 0), *tags)
                self._queue.append(_Clause(message.turn, message.seq, said, message.last, tags))

    def _raise(self, turn: int) -> None:
        """Law 2: nothing of an older turn is spoken any more."""
        if turn <= self._turn:
            return
        self._turn = turn
        self._queue.clear()
        self._pending = None
        self._seen = {"reply": -1, "say": -1}
        self._seq = 0
        self._start = self._ring.position
        self._ended = False

    # --- what goes

    @property
    def busy(self) -> bool:
        """Whether there is something to speak now, or a common phrase to prepare."""
        return bool(self._work and not self._full) or bool(self._unmade)

    @property
    def _work(self) -> bool:
        return self._pending is not None or bool(self._queue)

    @property
    def _full(self) -> bool:
        """Whether the loudspeaker has to catch up first."""
        return self._ring.position - max(self._heard, self._start) > AHEAD_S * VOICE_RATE

    def step(self) -> None:
        """Speak one sentence; without any, prepare one common phrase."""
        if not self._work:
            if self._unmade:
                self._prepare(self._unmade.popleft())
            return
        if self._full:
            return
        if self._pending is None:
            self._pending = self._clips(self._queue.popleft())
        for part in self._pending:
            self._publish(part)
            return
        self._pending = None

    def _clips(self, clause: _Clause) -> Iterator[_Part]:
        """The parts of a clause; one without a clip ends a turn without a sound."""
        parts = list(sentences(clause.text))
        if clause.last and not parts:
            yield _Part(None, clause.seq, last=True)
        word = 0
        for i, sentence in enumerate(parts):
            ends = i == len(parts) - 1
            clips = self._speak(sentence)
            if ends and clause.last and not clips:
                yield _Part(None, clause.seq, last=True)
            for k, clip in enumerate(clips):
                whole = ends and k == len(clips) - 1
                beyond = word + len(clip.words)
                tags = tuple(
                    Tag(tag.name, tag.word - word) for tag in clause.tags if word <= tag.word < beyond or (whole and tag.word >= beyond)
                )
                yield _Part(clip, clause.seq if whole else -1, whole and clause.last, tags)
                word = beyond

    def _speak(self, sentence: str) -> tuple[Clip, ...]:
        if sentence in self._cache:
            self._cache.move_to_end(sentence)
            return self._cache[sentence]
        try:
            clips = self._made(sentence)
        except EngineError as error:
            clips = self._rescue(sentence, error)
        if sentence in self._common:
            self._keep(sentence, clips)
        return clips

    def _made(self, sentence: str) -> tuple[Clip, ...]:
        return tuple(_fitting(clip, self._engine.rate) for clip in self._engine.speak(sentence))

    def _rescue(self, sentence: str, error: EngineError) -> tuple[Clip, ...]:
        """The engine failed in the middle of a visit: the embedded voice takes over for good, or silence with captions."""
        try:
            self._engine = select("espeak").engine
            clips = self._made(sentence)
        except EngineError as worse:
            _mute(self._ctx, worse)
            self._engine = SilentSynthesiser()
            return self._made(sentence)
        self._ctx.notice("voice-engine", f"the voice failed and espeak-ng took over: {error}")
        return clips

    def _prepare(self, sentence: str) -> None:
        """Common phrases hold nothing of a visitor, so they stay when a visit ends."""
        if sum(len(clip.pcm) for clips in self._cache.values() for clip in clips) < CACHE_SAMPLES:
            self._speak(sentence)
        else:
            self._unmade.clear()

    def _keep(self, sentence: str, clips: tuple[Clip, ...]) -> None:
        self._cache[sentence] = clips
        while sum(len(c.pcm) for kept in self._cache.values() for c in kept) > CACHE_SAMPLES and len(self._cache) > 1:
            self._cache.popitem(last=False)

    def _publish(self, part: _Part) -> None:
        now, clip = self._ctx.clock.monotonic_ns(), part.clip
        if clip is None:
            speech = Speech(self._turn, now, self._seq, self._ring.position, 0, "", part.last, clause=part.whole)
        else:
            start = self._ring.write(clip.pcm, now)
            speech = Speech(
                self._turn,
                now,
                self._seq,
                start,
                len(clip.pcm),
                clip.text,
                part.last,
                tuple(Phoneme(p.symbol, start + p.start, start + p.end) for p in clip.phonemes),
                tuple(SpokenWord(w.text, start + w.start) for w in clip.words),
                part.whole,
                tuple(Gesture(tag.name, start + _sample(clip, tag.word)) for tag in part.tags),
            )
        self._ctx.publish("speech", speech)
        if self._seq == 0 and clip is not None:
            self._ctx.mark("speech_first", self._turn, now)
        self._seq += 1


def _sample(clip: Clip, word: int) -> int:
    """Where word number `word` of the clip begins; behind the last one: where its sound ends."""
    if word < len(clip.words):
        return clip.words[word].start
    return max((phoneme.end for phoneme in clip.phonemes if phoneme.symbol), default=0)


def _fitting(clip: Clip, rate: int) -> Clip:
    """The clip at the ring's rate."""
    if rate == VOICE_RATE:
        return clip
    scale = VOICE_RATE / rate
    pcm = np.asarray(soxr.resample(clip.pcm, rate, VOICE_RATE), np.int16)

    def at(sample: int) -> int:
        return min(round(sample * scale), len(pcm))

    phonemes = tuple(TimedPhoneme(p.symbol, at(p.start), at(p.end)) for p in clip.phonemes)
    return Clip(clip.text, pcm, phonemes, tuple(TimedWord(w.text, at(w.start)) for w in clip.words))


def common_phrases(pack: Pack) -> tuple[str, ...]:
    """What the pack says to everybody, word for word."""
    say = pack.say
    lists = [say.greeting, say.still_there, say.farewell, say.unsure, say.not_understood, say.anything_else]
    lists += [talk.say for talk in pack.talk.values()]
    asks = tuple(slot.ask for tool in pack.tools for slot in tool.slot)
    return tuple(text for text in (*(t for texts in lists for t in texts), *asks) if text and "{" not in text)


def _mute(ctx: Context, error: EngineError) -> None:
    """Say, to both, that nobody will hear anything."""
    ctx.notice("voice-engine", f"no voice speaks, answers can only be read: {error}")
    ctx.notice("no-voice", "I cannot speak at the moment. Please read my answers.", "visitor")


def _choose(ctx: Context) -> Selection:
    voice = ctx.config.voice
    try:
        chosen = select(
            voice.engine,
            voice.piper_model,
            speaker=voice.speaker or ctx.pack.persona.voice,
            rate=voice.rate,
            pronunciations=ctx.pack.pronunciations,
        )
    except EngineError as error:
        _mute(ctx, error)
        return Selection(SilentSynthesiser(), "silent")
    for engine, why in chosen.why_not:
        ctx.log.info("not %s: %s", engine, why)
    if voice.engine == "piper" and not chosen.name.startswith("piper"):
        ctx.notice("voice-engine", f"{chosen.name} speaks instead of piper: {chosen.why_not[0][1]}")
    return chosen


def main(ctx: Context) -> None:
    """Speak until told to stop."""
    chosen = _choose(ctx)
    ctx.log.info("%s", chosen.name)
    voice = Voice(ctx, chosen.engine, common_phrases(ctx.pack))
    for _ in chosen.engine.speak("Warm."):
        pass
    ctx.ready()
    run(ctx, voice)


def run(ctx: Context, voice: Voice, more: Callable[[], bool] = lambda: True) -> None:
    """The node's loop, as long as `more` says so."""
    while not ctx.stopping and more():
        for link, message in ctx.receive(0 if voice.busy else 0.2):
            voice.handle(link, message)
        voice.step()
        ctx.beat()
