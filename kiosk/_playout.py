"""The voice on its way to the loudspeaker: held until its turn is granted, paced, ducked, stopped, and what of it was heard.

No I/O and no clock of its own: every method is told the time. What leaves goes through two seams, the `Loudspeaker` (the page's, if one
can be heard) and the `House` (the bus and the captions). Without a page a virtual loudspeaker plays at the nominal rate.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from kiosk._utterance import Utterance
from runtime.bus import Gap
from runtime.messages import VOICE_RATE, Floor, Heard, HeardKind, Playhead, Speech

__all__ = ["DUCK_GAIN", "HINT_LIMIT_NS", "House", "Loudspeaker", "Playout", "SpeechRing"]

_MS = 1_000_000
_NS = 1_000_000_000
LEAD = VOICE_RATE // 5
"""Samples at most between what is sent and what is heard: 200 ms survives a busy moment, and is all that a stop has to throw away."""
_CHUNK = VOICE_RATE // 50
DUCK_GAIN = 10 ** (-15 / 20)
SILENT_LIMIT_NS = 200 * _MS
"""A page that has not confirmed a stop by then is taken at its estimate."""
PAUSE_LIMIT_NS = 3 * _NS
"""So long a voice waits for a page that went away in the middle of it (a reload takes about one second)."""
HINT_LIMIT_NS = 35 * _NS // 100
"""A first sign of a voice ducks for so long; only an onset makes it last."""
DUCK_LIMIT_NS = 4 * _NS
"""A duck that nobody decides about (the conductor does, within 1.5 s) ends by itself: it was restarted."""
STUCK_NS = 2 * _NS
"""A page that reports nothing for so long while it should play cannot be heard."""
EXTRAPOLATE_NS = 600 * _MS
"""So long the page's main thread may be busy before its voice is held back."""
_VIRTUAL_EVERY_NS = 33 * _MS


class SpeechRing(Protocol):
    """The reading end of the speech ring."""

    def read(self, start: int, count: int) -> npt.NDArray[np.int16]:
        """Samples from absolute index `start`; Gap if they are overwritten."""


class Loudspeaker(Protocol):
    """The page's."""

    def pcm(self, turn: int, index: int, samples: npt.NDArray[np.int16]) -> None:
        """Queue samples; `index` is the place of the first in the speech ring."""

    def end(self, turn: int, index: int) -> None:
        """Nothing follows for this turn: play what is there even if it is short."""

    def flush(self, turn: int) -> None:
        """Silent at once, drop all of this turn and older ones."""

    def gain(self, gain: float) -> None:
        """Change the level within 10 ms."""


class House(Protocol):
    """Everybody who wants to know."""

    def playhead(self, message: Playhead) -> None:
        """The loudspeaker's place."""

    def heard(self, message: Heard) -> None:
        """What became of a turn's speech."""

    def mark(self, stage: str, turn: int, t_ns: int) -> None:
        """A time for the turn's record."""

    def spoken(self, clause: Speech) -> None:
        """This clause will be heard from now on: its caption may be shown, word by word."""


class Playout:
    """One at a time is played, `active`; the others are held by turn until granted or dropped."""

    def __init__(self, ring: SpeechRing, speaker: Loudspeaker, house: House) -> None:
        self._ring, self._speaker, self._house = ring, speaker, house
        self._held: dict[int, Utterance] = {}
        self._active: Utterance | None = None
        self._leaving: Utterance | None = None  # flushed, waiting for the page to say where
        self._ducked_ns = 0
        self._duck_ends_ns = 0
        self._virtual_ns = 0
        self.turn = 0
        self.granted = 0
        self.can_play = False  # a page is there and its sound runs
        self.start_latency_ns = 60 * _MS  # first sample sent → heard; learned from each start
        self.dropped = 0  # clauses of turns that were never heard to their end
        self.gaps = 0

    @property
    def active_turn(self) -> int:
        """The turn that is being played, 0 if none."""
        return self._active.turn if self._active else 0

    @property
    def gain(self) -> float:
        """The level the voice has now."""
        return DUCK_GAIN if self._ducked_ns else 1.0

    # --- what the house wants

    def speech(self, message: Speech, now_ns: int) -> None:
        """A clause is in the ring."""
        if message.turn < self.turn:
            self.dropped += 1
            return
        active = self._active
        if active and active.turn == message.turn and not active.complete:
            found = active
        else:
            found = self._held.setdefault(message.turn, Utterance(message.turn))
        found.clauses.append(message)
        found.complete = message.last
        if found.next < 0:
            found.next = found.base = message.start
        self.pump(now_ns)

    def floor(self, message: Floor, now_ns: int) -> None:
        """Who may be heard: a risen turn silences everything older."""
        if message.turn > self.turn:
            self.turn = message.turn
            self.stop(message.turn, now_ns)
        self.granted = message.granted
        self.pump(now_ns)

    def stop(self, turn: int, now_ns: int) -> None:
        """Silence, and drop everything of turns below `turn`."""
        for old in [key for key in self._held if key < turn]:
            self.dropped += len(self._held.pop(old).clauses)
        active = self._active
        if active is None or active.turn >= turn:
            return
        self._active = None
        self._ducked_ns = 0
        active.flushed_ns = now_ns
        if not active.real or active.paused_ns:
            self._stopped(active, self._position(active, now_ns), now_ns)
            return
        self._speaker.flush(active.turn)
        if self._leaving:
            self._give_up_on(self._leaving)
        self._leaving = active

    def silence(self, now_ns: int) -> None:
        """The visitor wants silence: the turn that sounds or waits is over, whatever the floor says later."""
        self.turn += 1
        self.stop(self.turn, now_ns)

    def duck(self, now_ns: int, limit_ns: int = DUCK_LIMIT_NS) -> None:
        """Somebody speaks (or seems to) over the voice: make room at once, for at most `limit_ns` unless it is told again."""
        active = self._active
        if active is None or not active.started:
            return
        self._duck_ends_ns = max(self._duck_ends_ns, now_ns + limit_ns)
        if self._ducked_ns:
            return
        self._ducked_ns = now_ns
        if active.real:
            self._speaker.gain(DUCK_GAIN)
        else:
            self._house.mark("duck", active.turn, now_ns)

    def resume(self, now_ns: int) -> None:
        """Back to full level."""
        if self._ducked_ns:
            self._ducked_ns = self._duck_ends_ns = 0
            self._speaker.gain(1.0)
            self.pump(now_ns)

    # --- what the page reports

    def started(self, turn: int, index: int, t_ns: int) -> None:
        """The first sample (after a pause too) is heard at `t_ns`."""
        active = self._active
        if active is None or active.turn != turn or not active.real:
            return
        active.anchor = (index, t_ns)
        active.reported_ns = t_ns
        self._house.playhead(Playhead(turn, t_ns, index, playing=True, gain=self.gain, page=True))
        self._begin(active, t_ns)

    def playhead(self, turn: int, index: int, t_ns: int, *, playing: bool, now_ns: int) -> None:
        """The page's place in the ring."""
        active = self._active
        if active is None or active.turn != turn or not active.real:
            return
        if not active.started:
            self._begin(active, t_ns)
        active.anchor = (index, t_ns)
        active.reported_ns = now_ns
        if playing or not active.complete:
            self._house.playhead(Playhead(turn, t_ns, index, playing, self.gain, page=True))
        self.pump(now_ns)
        self._finish_if_done(active, now_ns)

    def silent(self, turn: int, index: int, t_ns: int) -> None:
        """The page threw the turn away; `index` was the last sample heard."""
        leaving = self._leaving
        if leaving is not None and leaving.turn == turn:
            self._leaving = None
            self._stopped(leaving, max(index, leaving.start), t_ns)

    def ducked(self, gain: float, t_ns: int) -> None:
        """The loudspeaker's level has changed."""
        if gain < 1 and self._active:
            self._house.mark("duck", self._active.turn, t_ns)

    def page(self, *, can_play: bool, now_ns: int) -> None:
        """A page can be heard now, or not any more. A voice in the middle waits a moment for it."""
        self.can_play = can_play
        active = self._active
        if active is None or not active.real:
            return
        if not can_play and not active.paused_ns:
            at = active.word_start(self._position(active, now_ns)) if active.started else active.start
            active.paused_ns, active.anchor, active.next, active.base, active.ended = now_ns, None, at, at, False
            self._house.playhead(Playhead(active.turn, now_ns, at, playing=False, gain=self.gain))
        elif can_play and active.paused_ns:
            active.paused_ns = 0
            self.pump(now_ns)

    # --- the work

    def tick(self, now_ns: int) -> bool:
        """To be called every 20 ms or so; returns whether there is anything to play."""
        leaving, active = self._leaving, self._active
        if leaving and now_ns - leaving.flushed_ns > SILENT_LIMIT_NS:
            self._give_up_on(leaving)
        if active and active.real and not active.paused_ns and active.anchor and now_ns - active.reported_ns > STUCK_NS:
            self.page(can_play=False, now_ns=now_ns)
        if active and active.paused_ns and now_ns - active.paused_ns > PAUSE_LIMIT_NS:
            self._active = None
            self._stopped(active, self._position(active, now_ns), active.paused_ns)
        if self._ducked_ns and now_ns > self._duck_ends_ns:
            self.resume(now_ns)
        self.pump(now_ns)
        if self._active and not self._active.real:
            self._tell_virtual(self._active, now_ns)
        return self._active is not None or self._leaving is not None

    def _give_up_on(self, leaving: Utterance) -> None:
        self._leaving = None
        self._stopped(leaving, self._position(leaving, leaving.flushed_ns), leaving.flushed_ns)

    def pump(self, now_ns: int) -> None:
        """Send what may be sent."""
        active = self._active
        if active is None:
            if self.granted != self.turn or self.granted not in self._held:
                return
            active = self._active = self._held.pop(self.granted)
            active.real = self.can_play
        if active.paused_ns:
            return
        self._announce(active)
        if active.real:
            self._send(active, now_ns)
        else:
            self._send_nowhere(active, now_ns)
        self._finish_if_done(active, now_ns)

    def _announce(self, active: Utterance) -> None:
        for clause in active.clauses[active.announced :]:
            self._house.spoken(clause)
        active.announced = len(active.clauses)

    def _send(self, active: Utterance, now_ns: int) -> None:
        fresh = active.anchor is None
        first = active.next
        played = active.offset(self._position(active, now_ns))
        for clause in active.clauses:
            stop = clause.start + clause.samples
            while clause.start <= active.next < stop:
                room = LEAD - (active.offset(active.next) - played)
                count = min(_CHUNK, stop - active.next)
                if room < count or not self._send_chunk(active, count):
                    break
            else:
                following = next((other for other in active.clauses if other.start >= stop), None)
                if active.next == stop and following:
                    active.next = following.start  # a ring without gaps makes this a no-op
        if fresh and active.next > first:
            active.anchor = (first, now_ns + self.start_latency_ns)
            active.reported_ns = now_ns
            if not active.started:
                self._house.mark("sound_sent", active.turn, now_ns)
            self._house.playhead(Playhead(active.turn, now_ns + self.start_latency_ns, first, playing=True, gain=self.gain, page=True))
        if active.complete and not active.ended and active.next >= active.end:
            active.ended = True
            self._speaker.end(active.turn, active.end)

    def _send_chunk(self, active: Utterance, count: int) -> bool:
        try:
            samples = self._ring.read(active.next, count)
        except Gap as gap:
            self.gaps += 1
            active.next = gap.oldest
            return False
        if len(samples):
            self._speaker.pcm(active.turn, active.next, samples)
            active.next += len(samples)
        return len(samples) == count

    def _send_nowhere(self, active: Utterance, now_ns: int) -> None:
        if active.anchor is None:
            active.anchor = (active.start, now_ns)
            self._house.mark("sound_sent", active.turn, now_ns)
            self._begin(active, now_ns)
        elif self._position(active, now_ns) >= active.next and active.end > active.next:
            active.anchor = (active.next, now_ns)  # it had run dry
        active.next = active.end

    def _tell_virtual(self, active: Utterance, now_ns: int) -> None:
        if now_ns - self._virtual_ns >= _VIRTUAL_EVERY_NS:
            self._virtual_ns = now_ns
            index = self._position(active, now_ns)
            self._house.playhead(Playhead(active.turn, now_ns, index, index < active.end, self.gain))

    def _position(self, active: Utterance, now_ns: int) -> int:
        """The ring index that is heard now, from the last report at the nominal rate."""
        if active.anchor is None:
            return active.base
        index, at_ns = active.anchor
        since_ns = max(0, now_ns - at_ns)
        if active.real:  # a page that falls silent is not believed to play on
            since_ns = min(since_ns, EXTRAPOLATE_NS)
        return min(index + since_ns * VOICE_RATE // _NS, active.next if active.real else active.end)

    def _begin(self, active: Utterance, t_ns: int) -> None:
        if active.started:
            return
        active.started = True
        self._house.mark("sound_heard", active.turn, t_ns)
        self._house.heard(Heard(active.turn, t_ns, HeardKind.STARTED, active.start))

    def _finish_if_done(self, active: Utterance, now_ns: int) -> None:
        if self._active is not active or not active.complete or active.paused_ns:
            return
        if active.end > active.start and (not active.started or self._position(active, now_ns) < active.end):
            return
        self._active = None
        self._ducked_ns = 0
        self._house.playhead(Playhead(active.turn, now_ns, active.end, playing=False, page=active.real))
        self._house.heard(Heard(active.turn, now_ns, HeardKind.FINISHED, active.end, active.text(active.end + 1)))

    def _stopped(self, active: Utterance, index: int, t_ns: int) -> None:
        self.dropped += sum(clause.start + clause.samples > index for clause in active.clauses)
        self._house.playhead(Playhead(active.turn, t_ns, index, playing=False, page=active.real))
        self._house.mark("silent", active.turn, t_ns)
        self._house.heard(Heard(active.turn, t_ns, HeardKind.STOPPED, index, active.text(index) if active.started else ""))
