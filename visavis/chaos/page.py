"""The kiosk's page without a browser, for whoever wants to see and hear exactly when what came: three sockets, a beat, a loudspeaker.

It behaves as kiosk/page does towards the stage: it connects again by itself with the same pauses, confirms frames, plays the voice at
its nominal rate and reports the place, and sends 20 ms of microphone at a time.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt

from kiosk._protocol import ACK, FRAME_HEADER, MIC_HEADER, VOICE_HEADER
from runtime.messages import MIC_RATE
from visavis.chaos.hearing import Loudspeaker
from visavis.chaos.seen import Seen

__all__ = ["Page"]

_TICK_S = 0.02
_BEAT_EVERY = 50  # ticks
_REPORT_EVERY = 2
_CHUNK = MIC_RATE // 50
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
OFTEN, GROWS = 60, 1.5
"""As in kiosk/page/js/link.js: the page waits about so long before it asks again whether there is a stage, then longer each time."""


class Page(threading.Thread):
    """Runs from `start()` to `end()`. Into `seen`: "page frame" (seq, pts, captured ns), "page control" (kind, fields), "page open" and
    "page closed". `speaker` knows what was heard when.
    """

    def __init__(self, url: str, seen: Seen) -> None:
        super().__init__(daemon=True, name="page")
        self._url, self._seen = url, seen
        self._loop = asyncio.new_event_loop()
        self._control: Any = None  # aiohttp's socket, whose type differs between its versions
        self._audio: Any = None
        self._out: set[asyncio.Task[None]] = set()
        self._key = ""
        self._over, self._here = asyncio.Event(), asyncio.Event()
        self._pause_s, self._failures = FIRST_PAUSE_S, 0
        self._voice: deque[bytes] = deque()  # what the visitor says, in chunks for the microphone
        self._silence = np.random.default_rng(1).integers(-3, 4, _CHUNK).astype(np.int16).tobytes()
        self._live = True  # the microphone
        self._mic_seq = 0
        self.speaker = Loudspeaker()
        self.reloads = 0

    # --- the visitor's hands and voice; from any thread

    def input(self, kind: str, text: str = "") -> None:
        """The visitor touches something; `kind` is one of runtime.messages.InputKind."""
        self._call(lambda: self._tell("input", kind=kind, text=text))

    def say(self, samples: npt.NDArray[np.int16]) -> None:
        """The visitor says this (mono, MIC_RATE); it goes out in real time."""
        chunks = [samples[at : at + _CHUNK] for at in range(0, len(samples), _CHUNK)]
        self._voice.extend(np.pad(chunk, (0, _CHUNK - len(chunk))).tobytes() for chunk in chunks)

    @property
    def speaking(self) -> bool:
        """Whether the visitor has not yet said everything."""
        return bool(self._voice)

    def microphone(self, *, live: bool) -> None:
        """Unplug the microphone, or plug it in again."""

        def change() -> None:
            self._live = live
            self._tell_microphone()

        self._call(change)

    def raw(self, text: str) -> None:
        """Send this to the stage's control socket, whatever it is."""
        self._call(lambda: self._push(text))

    def reload(self) -> None:
        """Load the page anew: all sockets close, what is in the loudspeaker is gone."""

        def drop() -> None:
            self.reloads += 1
            self._pause_s = 0.0
            self.speaker.cut(time.monotonic_ns())
            if self._control is not None:
                self._spawn(self._control.close())

        self._call(drop)

    def away(self) -> None:
        """Close the page and stay away until `back()`."""
        self._call(self._here.clear)
        self.reload()

    def back(self) -> None:
        """Open the page (again)."""
        self._call(self._here.set)

    def end(self) -> None:
        """Close the page for good."""
        self._call(self._over.set)
        self.join(10)

    def _call(self, what: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(what)

    # --- the page's own life

    def run(self) -> None:
        """The thread."""
        self._here.set()
        self._loop.run_until_complete(self._live_on())
        self._loop.close()

    async def _live_on(self) -> None:
        async with aiohttp.ClientSession() as session:
            timers = self._loop.create_task(self._timers())
            over = self._loop.create_task(self._over.wait())
            while not self._over.is_set():
                await self._either(over, self._here.wait())
                await self._either(over, self._visit(session))
                await self._either(over, asyncio.sleep(self._pause_s * random.uniform(0.75, 1.25)))
                self._failures += 1
                grown = GROWS * self._pause_s if self._failures > OFTEN else FIRST_PAUSE_S
                self._pause_s = min(LONGEST_PAUSE_S, grown)
            timers.cancel()
            with suppress(asyncio.CancelledError):
                await timers

    async def _either(self, over: asyncio.Task[Any], work: Any) -> None:
        task = asyncio.ensure_future(work)
        await asyncio.wait([task, over], return_when=asyncio.FIRST_COMPLETED)
        await _ended(task)

    async def _visit(self, session: aiohttp.ClientSession) -> None:
        if not self._key:
            async with session.get(self._url) as answer:
                found = re.search(r'visavis-key" content="([0-9a-f]{64})"', await answer.text())
            self._key = found.group(1) if found else ""
        media: list[asyncio.Task[None]] = []
        try:
            async with session.ws_connect(self._address("control"), headers={"Origin": self._url}) as control:
                self._control = control
                self._seen.add("page open")
                async for message in control:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        self._take(json.loads(message.data), session, media)
        finally:
            self._control = self._audio = None
            self._seen.add("page closed")
            for task in media:
                await _ended(task)

    def _take(self, what: dict[str, Any], session: aiohttp.ClientSession, media: list[asyncio.Task[None]]) -> None:
        kind = what.pop("t")
        if kind == "ping":
            self._tell("pong", id=what["id"], ms=_now_ms())
        elif kind == "setup":
            self._pause_s, self._failures = FIRST_PAUSE_S, 0
            media += [self._loop.create_task(play(session)) for play in (self._sound, self._pictures)]
            self._tell("hello", lang="en")
            self._tell("sound", running=True, latency_ms=10.0)
            self._tell_microphone()
        elif kind == "reload":
            self.reload()
        if kind != "ping":
            self._seen.add("page control", (kind, what))

    def _tell_microphone(self) -> None:
        self._tell("mic", state="on" if self._live else "unplugged", rate=MIC_RATE if self._live else 0)

    def _address(self, socket: str) -> str:
        return f"{self._url}/{socket}?k={self._key}&page=chaos"

    async def _sound(self, session: aiohttp.ClientSession) -> None:
        async with session.ws_connect(self._address("audio"), headers={"Origin": self._url}) as socket:
            self._audio = socket
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    now = time.monotonic_ns()
                    header = VOICE_HEADER.unpack_from(message.data)
                    for kind, what in self.speaker.take(header, (len(message.data) - VOICE_HEADER.size) // 2, now):
                        self._tell(kind, **what)

    async def _pictures(self, session: aiohttp.ClientSession) -> None:
        header = None
        async with session.ws_connect(self._address("video"), headers={"Origin": self._url}, max_msg_size=1 << 23) as socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    continue
                if header is None:
                    header = FRAME_HEADER.unpack(message.data)
                    continue
                _, _, _, seq, _, _, _, pts, captured_ms = header
                header = None
                self._seen.add("page frame", (seq, pts, round(captured_ms * 1e6)))
                await socket.send_bytes(ACK.pack(seq))

    async def _timers(self) -> None:
        """On a grid: 20 ms of microphone each tick, the loudspeaker's place each second one, a beat once a second."""
        due, count = self._loop.time(), 0
        while True:
            due = max(due + _TICK_S, self._loop.time() - 1.0)  # after a pause of the machine no more than a second is made up for
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            count += 1
            self._listen()
            if count % _REPORT_EVERY == 0:
                for kind, what in self.speaker.report(time.monotonic_ns()):
                    self._tell(kind, **what)
            if count % _BEAT_EVERY == 0:
                self._tell("beat", fps=25.0, audio="running", state="chaos")

    def _listen(self) -> None:
        said = self._voice.popleft() if self._voice else self._silence
        if self._live and self._audio is not None and not self._audio.closed:
            self._mic_seq += 1
            self._spawn(self._audio.send_bytes(MIC_HEADER.pack(1, 0, 0, self._mic_seq & 0xFFFFFFFF) + said))

    def _tell(self, kind: str, /, **what: Any) -> None:
        self._push(json.dumps({"t": kind, **what}))

    def _push(self, text: str) -> None:
        if self._control is not None and not self._control.closed:
            self._spawn(self._control.send_str(text))

    def _spawn(self, work: Any) -> None:
        async def quietly() -> None:
            with suppress(ConnectionError, RuntimeError, aiohttp.ClientError):
                await work

        task = self._loop.create_task(quietly())
        self._out.add(task)
        task.add_done_callback(self._out.discard)


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancel what still runs; a stage that died ends it with an error, which is what chaos is for."""
    task.cancel()
    with suppress(asyncio.CancelledError, aiohttp.ClientError, ConnectionError):
        await task


def _now_ms() -> float:
    return time.monotonic() * 1000
