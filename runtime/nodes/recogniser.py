"""The recogniser: words of the utterance that runs now, from its onset on; alone in its process because an engine may hold the GIL."""

from __future__ import annotations

from typing import Any

from engines.recognition import Hypothesis, Recogniser, Selection, select
from runtime.bus import AudioReader, Gap
from runtime.context import Context
from runtime.conversation.domain import speech_domain
from runtime.messages import MIC_RATE, Activity, ActivityKind, Floor, MicTick, Reply, Transcript, Word

__all__ = ["PRE_ROLL", "Ear", "main"]

PRE_ROLL = 3 * MIC_RATE // 10
"""Samples before the onset that are decoded too: soft first sounds, and some silence for the decoder to begin in."""
_PIECE = 4 * MIC_RATE // 100  # so much is decoded at a time …
_PIECES = 8  # … and so many pieces before messages are looked at again
_AFTER = 8 * MIC_RATE // 100  # of the silence, so that the last sound is whole
_EVERY_NS = 50_000_000  # between two partial transcripts
_CHANGED = 0.05  # of the chance that words are said: so much is news
_LONGEST = 20 * MIC_RATE  # nobody orders for so long: it is a radio
_SPARE = MIC_RATE  # distance to the ring's oldest sample, which goes while it is read


class Ear:
    """Follows the listener's Activity through the microphone ring, and publishes Transcripts."""

    def __init__(self, ctx: Context, engine: Recogniser) -> None:
        self._ctx = ctx
        self._ring: AudioReader = ctx.audio_reader("mic")
        self._engine = engine
        self._turn = self._visit = self._granted = 0
        self._expects: dict[int, str] = {}
        self._onset = -1  # of the utterance that runs, or ran last
        self._start = 0  # where its sound begins: some before the onset, or what is left of it
        self._at = 0  # the next sample to decode
        self._end = -1  # where a silence ends the utterance; -1 while it runs
        self._running = False
        self._said = ""
        self._worded = -1.0
        self._published_ns = 0
        self.gaps = 0

    # --- what comes

    def handle(self, message: Any) -> None:
        """Take one message of any link."""
        if isinstance(message, Activity):
            self._activity(message)
        elif isinstance(message, Floor):
            self._floor(message)
        elif isinstance(message, Reply) and message.turn >= self._turn and message.expects:
            self._expects[message.turn] = message.expects
        elif isinstance(message, MicTick) and not message.live:
            self._drop()

    def _activity(self, event: Activity) -> None:
        if event.kind is ActivityKind.ONSET:
            # Replies are prepared on speculation: only one that was heard can be answered.
            self._engine.expect(self._expects.get(self._granted, ""))
            self._begin(event.onset)
        elif event.kind is ActivityKind.RESUMED and not (self._running and self._end < 0 and event.onset == self._onset):
            self._begin(event.onset)
        elif event.kind is ActivityKind.SILENCE and self._running and event.onset == self._onset:
            self._end = max(self._at, event.index + _AFTER)

    def _floor(self, floor: Floor) -> None:
        if floor.visit != self._visit:
            self._visit = floor.visit
            self._expects.clear()
            self._drop()
        self._turn, self._granted = floor.turn, floor.granted
        for turn in [turn for turn in self._expects if turn < self._granted]:
            del self._expects[turn]

    def _begin(self, onset: int) -> None:
        self._onset = onset
        oldest = self._ring.oldest
        self._start = self._at = max(0, onset - PRE_ROLL, oldest + _SPARE if oldest else 0)
        self._end = -1
        self._said = ""
        self._worded = -1.0
        self._running = True
        self._engine.begin()

    def _drop(self) -> None:
        self._running = False
        self._engine.cancel()

    # --- what goes

    @property
    def busy(self) -> bool:
        """Whether there is sound to decode, or an utterance to finish, now."""
        return self._running and (self._ring.position - self._at >= _PIECE or 0 <= self._end <= self._ring.position)

    def step(self) -> None:
        """Decode what is there, at most a third of a second of it."""
        for _ in range(_PIECES):
            if not self._running:
                return
            until = self._ring.position if self._end < 0 else min(self._end, self._ring.position)
            whole = until - self._at >= _PIECE
            if (whole or self._end >= 0) and not self._decode(min(_PIECE, until - self._at)):
                return
            if self._at == self._end:
                self._finish()
            elif not whole:
                break
        if self._running:
            self._partial()

    def _decode(self, count: int) -> bool:
        """Decode the next `count` samples; False when they are lost and the utterance begins again with what is there."""
        try:
            pcm = self._ring.read(self._at, count)
        except Gap as gap:
            self.gaps += 1
            self._ctx.log.error("%s; the utterance begins again", gap)  # noqa: TRY400  no traceback: nothing is broken
            end = self._end
            self._begin(self._onset)
            self._end = end if end < 0 else max(end, self._at)
            return False
        if len(pcm):
            self._engine.feed(pcm)
        self._at += len(pcm)
        if self._at - self._onset > _LONGEST:
            self._drop()
        return self._running

    def _partial(self) -> None:
        now = self._ctx.clock.monotonic_ns()
        if now - self._published_ns < _EVERY_NS:
            return
        found = self._engine.partial()
        if found.text != self._said or abs(found.worded - self._worded) > _CHANGED:
            self._publish(found, now, final=False)

    def _finish(self) -> None:
        found = self._engine.finish()
        self._running = False
        now = self._ctx.clock.monotonic_ns()
        self._publish(found, now, final=True)
        self._ctx.mark("transcript", self._turn, now)

    def _publish(self, found: Hypothesis, now_ns: int, *, final: bool) -> None:
        self._said, self._worded, self._published_ns = found.text, found.worded, now_ns
        words = tuple(
            Word(word.text, self._start + word.start, self._start + word.end, word.confidence) if word.start >= 0 else Word(word.text)
            for word in found.words
        )
        self._ctx.publish(
            "words",
            Transcript(
                self._turn,
                now_ns,
                self._onset,
                self._at,
                found.text,
                final,
                found.stable,
                found.confidence,
                words,
                found.ends,
                found.alternatives,
                found.worded,
            ),
        )


def _choose(ctx: Context) -> Selection:
    wanted = ctx.config.recognition
    chosen = select(wanted.engine, wanted.model)
    for engine, why in chosen.why_not:
        ctx.log.info("not %s: %s", engine, why)
    if wanted.engine not in ("auto", chosen.name):
        ctx.notice("recogniser-engine", f"{chosen.name} listens instead of {wanted.engine}: {dict(chosen.why_not).get(wanted.engine, '')}")
    return chosen


def main(ctx: Context) -> None:
    """Listen until told to stop."""
    chosen = _choose(ctx)
    ctx.log.info("%s", chosen.name)
    chosen.engine.prepare(speech_domain(ctx.pack))
    ear = Ear(ctx, chosen.engine)
    ctx.ready()
    while not ctx.stopping:
        for _, message in ctx.receive(0 if ear.busy else 0.2):
            ear.handle(message)
        ear.step()
        ctx.beat()
