"""The face follows the voice: clauses and the loudspeaker's place in, what a frame has to show out. Pure: time is a parameter (ns)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from engines.animation import MOODS, Animator, Phone, Track
from runtime.messages import VOICE_RATE, Playhead, Speech

__all__ = ["NS", "STALE_NS", "Follower", "Moment"]

NS = 1_000_000_000
STALE_NS = NS
"""So long the mouth goes on without news of the loudspeaker; the stage tells 30 times a second."""
_KEEP_S = 2.0
_MOOD_NS = 3 * NS // 2
"""So long the mood of what was said stays after the last of it."""


class Moment(NamedTuple):
    """What of the voice a frame shows: the mouth's track, the place in it (s), the frame's pts (speech-ring sample, -1 none), the mood,
    and which other gestures begin.
    """

    track: Track
    position: float
    pts: int
    mood: str = "neutral"
    gestures: tuple[str, ...] = ()


class Follower:
    """Speech and playhead in, the moment to draw out."""

    def __init__(self, animator: Animator, lead_ns: int) -> None:
        self._animator = animator
        self.lead_ns = lead_ns
        self._turn = 0  # no older turn is shown
        self._speech_turn = -1
        self._phones: list[Phone] = []
        self._start = self._end = 0
        self._track = animator.silent
        self._head: Playhead | None = None
        self._shown: tuple[float, int] | None = None  # position and time of the last frame that followed the voice
        self._closing: tuple[Track, float, int] | None = None
        self._gestures: deque[tuple[float, str]] = deque()  # of this turn, not shown yet
        self._mood, self._mood_until = "neutral", 0

    @property
    def turn(self) -> int:
        """The turn of the speech that is followed; -1 none."""
        return self._speech_turn

    def raise_turn(self, turn: int, now: int) -> None:
        """Law 2: the speech of older turns is over; its mouth closes."""
        if turn > self._turn:
            self._turn = turn
            if self._speech_turn < turn:
                self._drop(now)

    def speech(self, message: Speech, now: int, levels: Sequence[float] = ()) -> None:
        """One clause of the newest turn, with the loudness of its phonemes (dBFS) where it is known; it may not be granted yet, so only
        the playhead starts it.
        """
        if message.turn < max(self._turn, self._speech_turn):
            return
        if message.turn > self._speech_turn:
            self._drop(now)
            self._speech_turn, self._start = message.turn, message.start
        if not message.samples:
            return
        horizon = self._shown[0] - _KEEP_S if self._shown else 0.0
        self._phones = [p for p in self._phones if p[2] > horizon]
        known = levels or [math.nan] * len(message.phonemes)
        self._phones += [
            Phone(p.symbol, p.start / VOICE_RATE, p.end / VOICE_RATE, level) for p, level in zip(message.phonemes, known, strict=True)
        ]
        self._gestures += [(gesture.start / VOICE_RATE, gesture.name) for gesture in message.gestures]
        self._end = message.start + message.samples
        self._track = self._animator.speak(self._phones)

    def playhead(self, message: Playhead) -> None:
        """Where the loudspeaker is, or will be in a moment."""
        self._head = message

    def _drop(self, now: int) -> None:
        self._close(now)
        self._speech_turn = -1
        self._phones, self._track = [], self._animator.silent
        self._gestures.clear()
        self._mood = "neutral"

    def _close(self, now: int) -> None:
        """The voice went away in the middle: the mouth closes from where it was seen last."""
        if self._shown:
            position, _ = self._shown
            self._closing = (self._track.cut(position), position, now)
            self._shown = None

    def moment(self, now: int) -> Moment:
        """What to draw at `now`."""
        head = self._head
        if now > self._mood_until:
            self._mood = "neutral"
        if head is not None and head.playing and head.turn == self._speech_turn >= self._turn and now - head.t_ns < STALE_NS:
            heard = head.index + (now - head.t_ns) * VOICE_RATE / NS
            ahead = heard + self.lead_ns * VOICE_RATE / NS
            if heard < self._end:
                self._closing = None
                # Until the end itself is heard the frames are for the end: later ones would be shown before it.
                ahead = min(ahead, float(self._end))
                self._shown = (ahead / VOICE_RATE, now)
                begun = self._begun(ahead / VOICE_RATE, now)
                return Moment(self._track, ahead / VOICE_RATE, int(ahead) if ahead >= self._start else -1, self._mood, begun)
            self._shown = None
            return Moment(self._track, heard / VOICE_RATE, -1, self._mood)
        self._close(now)
        if self._closing:
            track, position, since = self._closing
            position += (now - since) / NS
            if position < track.end:
                return Moment(track, position, -1, self._mood)
            self._closing = None
        return Moment(self._animator.silent, 0.0, -1, self._mood)

    def _begun(self, position: float, now: int) -> tuple[str, ...]:
        """The gestures whose place has come; a mood among them stays until the next one or the end."""
        begun = []
        self._mood_until = now + _MOOD_NS
        while self._gestures and self._gestures[0][0] <= position:
            _, name = self._gestures.popleft()
            if name in MOODS:
                self._mood = name
            else:
                begun.append(name)
        return tuple(begun)
