"""The listener: hears when a visitor begins, pauses, goes on and is done. All rules are in engines.voice_activity.hearing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.voice_activity import TROUBLES, Chosen, Hearing, Kind, Microphone, Noticed, Rising, block_levels, select
from runtime.bus import Gap
from runtime.config import environment
from runtime.context import Context
from runtime.messages import MIC_RATE, Activity, ActivityKind, Floor, MicTick, Playhead, Posture

__all__ = ["Listener", "main"]

FRAME = 512
_JUDGED_S = 8
_BEFORE_ONSET = MIC_RATE // 2  # sound before the onset that the judge hears too
_GRACE = 3 * MIC_RATE // 10  # the avatar's voice still rings in the room after its last sample
_LOST_S = 5.0
_LATE_SHOWN = 10 * MIC_RATE
_PUBLISHED = {
    Kind.HINT: ActivityKind.HINT,
    Kind.ONSET: ActivityKind.ONSET,
    Kind.LEVEL: ActivityKind.LEVEL,
    Kind.SILENCE: ActivityKind.SILENCE,
    Kind.RESUMED: ActivityKind.RESUMED,
}


class Sound(Protocol):
    """The part of AudioReader that the listener uses."""

    @property
    def position(self) -> int: ...
    def read(self, start: int, count: int) -> NDArray[np.int16]: ...
    def time_of(self, index: int) -> int: ...


class House(Protocol):
    """The part of Context that the listener uses."""

    def publish(self, link: str, message: Activity) -> None: ...
    def mark(self, stage: str, turn: int, t_ns: int | None = None, value: float = 0.0) -> None: ...
    def notice(self, code: str, text: str, audience: str = "technician") -> None: ...


class Listener:
    """Messages in, Activity out; synchronous: a look at the turn model takes about as long as two frames last."""

    def __init__(self, house: House, sound: Sound, engines: Chosen) -> None:
        self._house, self._sound, self._engines = house, sound, engines
        self._hearing = Hearing()
        self._microphone = Microphone()
        self._rising = Rising()
        self._rise = 0.0
        self._next = -1  # first sample not heard yet; -1: begin with the newest
        self._guard_until = 0
        self._turn = 0
        self._last: Floor | None = None
        self._live = True
        self._lost_at = 0
        self._late_until = 0  # the notice about lost sound stands until this sample

    def handle(self, message: Any) -> None:
        """Take one message of any link."""
        if isinstance(message, MicTick):
            self._tick(message)
        elif isinstance(message, Playhead):
            if message.playing:
                self._guard_until = self._sound.position + _GRACE
        elif isinstance(message, Floor):
            self._floor(message)

    # --- the floor

    def _floor(self, floor: Floor) -> None:
        before, self._last = self._last, floor
        self._turn = floor.turn
        if before is None:  # the first that this life hears of
            return
        if floor.visit != before.visit:
            self._engines.activity.reset()
            if not self._hearing.voiced:  # who is speaking right now is the next visitor
                self._hearing.forget()
            return
        dropped = before.posture is Posture.LISTENING and floor.posture is not Posture.LISTENING and self._hearing.pausing
        if floor.granted > before.granted or dropped:
            # The turn was taken or given up: what comes now is a new utterance, even if it began a moment ago.
            for noticed in self._hearing.end_utterance(max(self._next, 0)):
                self._publish(noticed)

    # --- sound

    def _tick(self, tick: MicTick) -> None:
        if not tick.live:
            self._without_sound(tick.t_ns)
            return
        if not self._live:
            self._live, self._lost_at = True, 0
            self._next = -1
            self._house.notice("mic-lost", "")
        if self._next < 0:
            self._next = max(0, tick.index - FRAME)
            self._engines.activity.reset()
        try:
            self._catch_up(tick.index)
        except Gap as gap:  # this process stood still for longer than the ring holds
            self._house.notice("listener-late", f"the listener lost {gap.n / MIC_RATE:.1f} s of sound: the machine is overloaded")
            self._next = max(gap.oldest, tick.index - FRAME)
            self._late_until = self._next + _LATE_SHOWN
            self._engines.activity.reset()
            self._lose_sound()
        if 0 < self._late_until <= self._next:
            self._late_until = 0
            self._house.notice("listener-late", "")

    def _catch_up(self, index: int) -> None:
        judge: Noticed | None = None
        while index - self._next >= FRAME:
            for noticed in self._hear(self._sound.read(self._next, FRAME)):
                if noticed.kind is Kind.JUDGE:
                    judge = noticed
                else:
                    self._publish(noticed)
        # Only the newest silence is worth a look, and only if nobody went on meanwhile.
        if judge is not None and self._hearing.pausing:
            self._judge(replace(judge, pause_ms=(self._next - judge.index) * 1000 / MIC_RATE))

    def _hear(self, frame: NDArray[np.int16]) -> list[Noticed]:
        self._next += FRAME
        levels = block_levels(frame)
        probability = self._engines.activity.probability(frame)
        if self._microphone.hear(frame, probability, max(levels)):
            for code, text in TROUBLES.items():
                self._house.notice(code, text if code in self._microphone.troubles else "")
        noticed = self._hearing.step(probability, levels, self._next, guarded=self._next <= self._guard_until)
        if self._hearing.voiced:
            self._rise = self._rising.hear(frame)
        else:
            self._rising.forget()
            self._rise = 0.0
        return noticed

    def _without_sound(self, now_ns: int) -> None:
        if self._live:
            self._live, self._lost_at = False, now_ns
            self._lose_sound()
        elif self._lost_at and now_ns - self._lost_at > _LOST_S * 1e9:
            self._lost_at = 0
            self._house.notice("mic-lost", "no sound comes from the microphone: is it plugged in, and allowed in the browser?")

    def _lose_sound(self) -> None:
        for noticed in self._hearing.lose_sound(max(self._next, 0)):
            self._publish(noticed)

    # --- out

    def _judge(self, silence: Noticed) -> None:
        begin = max(0, silence.onset - _BEFORE_ONSET, self._next - _JUDGED_S * MIC_RATE)
        try:
            audio = self._sound.read(begin, self._next - begin)
        except Gap:
            return
        complete = self._engines.judge.complete(audio, silence.index - begin, silence.longest_pause_ms)
        self._house.publish("activity", self._activity(ActivityKind.JUDGED, silence, complete))
        self._house.mark("judged", self._turn, value=complete)

    def _publish(self, noticed: Noticed) -> None:
        kind = _PUBLISHED.get(noticed.kind)
        if kind is None:
            return
        activity = self._activity(kind, noticed)
        self._house.publish("activity", activity)
        if kind is ActivityKind.SILENCE:
            self._house.mark("speech_end", self._turn, self._sound.time_of(noticed.index))
            self._house.mark("silence", self._turn)

    def _activity(self, kind: ActivityKind, noticed: Noticed, complete: float = -1.0) -> Activity:
        return Activity(
            self._turn,
            self._sound.time_of(max(self._next, 0)),  # so that t_ns - pause_ms is the end of speech
            kind,
            onset=noticed.onset,
            index=noticed.index,
            speech_ms=noticed.speech_ms,
            pause_ms=noticed.pause_ms,
            complete=complete,
            probability=noticed.probability,
            level_db=noticed.level_db,
            rise=self._rise,
        )


def main(ctx: Context) -> None:
    """Run the listener until it is told to stop."""
    engines = select(environment().cache / "models")
    if engines.why:
        ctx.notice("voice-activity", "; ".join(engines.why))  # a second line under the same code would replace the first
    listener = Listener(ctx, ctx.audio_reader("mic"), engines)
    # The first pass of a model allocates and is slow: not in a visitor's first pause.
    engines.judge.complete(np.zeros(MIC_RATE, np.int16), MIC_RATE // 2, 0.0)
    ctx.ready()
    while not ctx.stopping:
        for _, message in ctx.receive(0.3):
            listener.handle(message)
        ctx.beat()
