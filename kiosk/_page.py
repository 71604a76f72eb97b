"""The page that is open now: its sockets, its clock, its heartbeat. One at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from aiohttp import web

from kiosk._clock import PageClock
from kiosk._protocol import END, FLUSH, GAIN, PCM, VOICE_HEADER, Beat

__all__ = ["REPLACED", "Outbox", "PageLink"]

REPLACED = 4002
"""Close code: another page took this one's place. (4001: one is open already.)"""
_OUTBOX_LIMIT = 1024


class Outbox:
    """Messages on their way to one socket: `put` never waits, a task of its own sends in order."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._waiting: deque[str | bytes] = deque()
        self._wake = asyncio.Event()
        self.overflows = 0

    def put(self, message: str | bytes) -> None:
        """Queue a message; a page that takes nothing any more is cut off."""
        if len(self._waiting) >= _OUTBOX_LIMIT:
            self.overflows += 1
            self._waiting.clear()
            self._wake.set()
            return
        self._waiting.append(message)
        self._wake.set()

    def clear(self) -> None:
        """Take back what was not sent yet."""
        self._waiting.clear()

    async def run(self) -> None:
        """Send until the socket closes."""
        while not self._socket.closed:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and not self._socket.closed:
                message = self._waiting.popleft()
                try:
                    if isinstance(message, str):
                        await self._socket.send_str(message)
                    else:
                        await self._socket.send_bytes(message)
                except ConnectionError:
                    return


@dataclass
class PageLink:
    """One page as the stage knows it. It is the loudspeaker of the playout."""

    id: str
    control: web.WebSocketResponse
    out: Outbox
    since_ns: int
    clock: PageClock = field(default_factory=PageClock)
    voice: Outbox | None = None
    video: web.WebSocketResponse | None = None
    sound: bool = False  # its AudioContext runs
    probe: bool = False
    beat: Beat = field(default_factory=Beat)
    beat_ns: int = 0
    beats: int = 0
    malformed: int = 0
    reloaded_ns: int = 0
    sockets: set[web.WebSocketResponse] = field(default_factory=set)

    def tell(self, kind: str, /, **what: Any) -> None:
        """A control message."""
        self.out.put(msgspec.json.encode({"t": kind, **what}).decode())

    @property
    def can_play(self) -> bool:
        """Whether a voice sent now would be heard."""
        return self.sound and self.voice is not None

    # --- the loudspeaker

    def pcm(self, turn: int, index: int, samples: npt.NDArray[np.int16]) -> None:
        """Samples for the page's loudspeaker."""
        self._voice(PCM, turn, index, 0, samples.tobytes())

    def end(self, turn: int, index: int) -> None:
        """The turn ends at `index`."""
        self._voice(END, turn, index)

    def flush(self, turn: int) -> None:
        """Silence, and no frames of this turn any more."""
        if self.voice:
            self.voice.clear()
        self._voice(FLUSH, turn, 0)

    def gain(self, gain: float) -> None:
        """The level, within 10 ms."""
        self._voice(GAIN, 0, 0, round(gain * 1000))

    def _voice(self, kind: int, turn: int, index: int, value: int = 0, body: bytes = b"") -> None:
        if self.voice:
            self.voice.put(VOICE_HEADER.pack(kind, 0, value, turn, index) + body)

    async def close(self, code: int = 1000) -> None:
        """Close all its sockets."""
        for socket in (*self.sockets, self.control):
            with suppress(ConnectionError):
                await socket.close(code=code, drain=False)
