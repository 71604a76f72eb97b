"""The microphone: what the page sends goes into the ring, with the time at which it was spoken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kiosk._protocol import MIC_HEADER
from runtime.messages import MIC_RATE, MicTick

__all__ = ["Microphone", "Ring"]

_NS = 1_000_000_000
_IDLE_TICK_NS = _NS
_MAX_SAMPLES = MIC_RATE  # a second at once is not a microphone any more
_REANCHOR_NS = _NS // 5
"""A step as large as this is no jitter: the line starts anew."""
_WINDOW = 50
"""Chunks (a second) after which the line moves back to the earliest of them: samples that a glitch lost, and crystals that drift."""


class Ring(Protocol):
    """The writing end of the mic ring."""

    @property
    def position(self) -> int:
        """The index that the next sample gets."""

    def write(self, pcm: npt.NDArray[np.int16], t_ns: int) -> int:
        """Append; returns the absolute index of the first sample."""


class Microphone:
    """Takes the page's chunks, keeps their time steady, says once a second that there is none.

    Chunks arrive with the jitter of a browser; sound does not jitter. The time of sample i is the earliest arrival line through the
    chunks (arrival minus duration never lies before the truth), minus the latency of the sound card as the page knows it.
    """

    def __init__(self, ring: Ring, publish: Callable[[MicTick], None]) -> None:
        self._ring = ring
        self._publish = publish
        self._line_ns: float | None = None  # time of ring index 0 on the earliest arrival line
        self._late: list[float] = []  # of the chunks since the line was looked at
        self._said_ns = 0
        self.live = False
        self.turn = 0
        self.chunks = 0
        self.malformed = 0

    def feed(self, data: bytes, now_ns: int) -> None:
        """One binary message of the page; anything that is no chunk of sound is counted and dropped."""
        size = len(data) - MIC_HEADER.size
        if size <= 0 or size % 2 or size // 2 > _MAX_SAMPLES or data[0] != 1:
            self.malformed += 1
            return
        _, _, latency, _ = MIC_HEADER.unpack_from(data)
        pcm = np.frombuffer(data, dtype="<i2", offset=MIC_HEADER.size)
        end = self._ring.position + len(pcm)
        ended_ns = self._spoken_ns(end, now_ns) - latency * 100_000
        self._ring.write(pcm, ended_ns - len(pcm) * _NS // MIC_RATE)
        self.live = True
        self.chunks += 1
        self._publish(MicTick(self.turn, ended_ns, end, live=True))

    def _spoken_ns(self, index: int, now_ns: int) -> int:
        span = index * _NS / MIC_RATE
        line = now_ns - span
        if self._line_ns is None or abs(line - self._line_ns) > _REANCHOR_NS:
            self._line_ns = line
            self._late.clear()
        self._late.append(line - self._line_ns)
        if line < self._line_ns or len(self._late) >= _WINDOW:
            self._line_ns += min(self._late)
            self._late.clear()
        return round(self._line_ns + span)

    def lost(self, now_ns: int) -> None:
        """No microphone any more: denied, unplugged, or the page is gone."""
        self.live = False
        self._line_ns = None
        self._tick_dead(now_ns)

    def idle(self, now_ns: int) -> None:
        """Called now and then: repeats once a second that there is no microphone, for readers that came later."""
        if not self.live and now_ns - self._said_ns >= _IDLE_TICK_NS:
            self._tick_dead(now_ns)

    def _tick_dead(self, now_ns: int) -> None:
        self._said_ns = now_ns
        self._publish(MicTick(self.turn, now_ns, self._ring.position, live=False))
