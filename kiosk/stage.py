"""The stage: the node that serves the page. Its microphone, its loudspeaker, its picture and the visitor's hands meet the bus here.

page ──microphone──► ring `mic`, MicTick          page ──touch, keyboard──► VisitorInput
Speech, Floor, Sound ──► the page's loudspeaker ──► Playhead, Heard
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kiosk import _protocol as p
from kiosk._guard import Guard
from kiosk._house import House
from kiosk._mic import Microphone
from kiosk._pack import PackFollower
from kiosk._page import PageLink
from kiosk._playout import HINT_LIMIT_NS, Playout
from kiosk._screen import Screen
from kiosk._server import Server
from kiosk._setup import logo_of, setup
from kiosk._video import FrameRecorder, VideoSender
from runtime import messages as m
from runtime.bus import LinkError
from runtime.context import Context
from runtime.packs import Pack

__all__ = ["PORT_FILE", "Stage", "main"]

PORT_FILE = "page-port"
"""In the run directory: the port the page is served on, for whoever set port 0."""
_NS = 1_000_000_000
_TICK_S = 0.02
_WATCH_S = 0.2
_PING_NS = _NS
SILENT_PAGE_NS = 3 * _NS
"""A page that says nothing for so long hangs: it is told to reload, and after as long again it is given up."""
_INPUT_CHARS = 400
_MOST_UNHEARD = 16
_INPUTS = {kind.value for kind in m.InputKind} - {"page", "mic"}
_MICROPHONE = ("on", "off", "denied", "unplugged")


def main(ctx: Context) -> None:
    """The node."""
    asyncio.run(Stage(ctx).run())


class Stage:
    """Joins the page and the bus. Everything happens in one event loop; `run` returns when the context is stopping."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        frames, probe = ctx.boot.options.get("record_frames", ""), ctx.boot.options.get("probe", "")
        self._recorder = FrameRecorder(Path(frames or probe), pixels=bool(frames)) if frames or probe else None
        self.video = VideoSender(ctx.frame_reader("video"), self._recorder)
        self._mic = Microphone(ctx.audio_writer("mic"), lambda tick: ctx.publish("mic", tick))
        self._playout = Playout(ctx.audio_reader("speech"), self, self)
        self._page: PageLink | None = None
        self._screen = Screen(ctx.pack, self._tell)
        self._house = House(ctx, self._tell)
        self._inputs: deque[m.VisitorInput] = deque(maxlen=_MOST_UNHEARD)  # what the conductor could not take, while it is away
        self._boot_id = Guard(ctx.boot.token, 0).boot
        self._pinged_ns = 0
        self._counts = {"pages": 0, "reloads": 0, "lost": 0}
        self._awake = asyncio.Event()
        self._farewell: asyncio.Task[None] | None = None
        self._server = Server(self, ctx.boot.token)
        self._pack = PackFollower(ctx, self._put_on)
        self._links: dict[str, Callable[[Any, int], None]] = {
            "video": lambda frame, _: self.video.offer(frame),
            "activity": self._on_activity,
            "words": self._on_words,
            "floor": self._on_floor,
            "reply": lambda reply, _: self._screen.on_reply(reply),
            "speech": self._playout.speech,
            "sound": self._on_sound,
            "house": lambda setting, _: self._house.take(setting),
            "notice": lambda notice, _: self._screen.note(notice.code, notice.text, notice.audience),
            "nodes": lambda event, _: self._screen.on_node(event),
            "pack": lambda told, _: self._pack.take(told),
        }
        self._messages: dict[type[p.FromPage], Callable[[PageLink, Any, int], None]] = {
            p.Hello: self._on_hello,
            p.Pong: self._on_pong,
            p.Beat: self._on_beat,
            p.Input: self._on_input,
            p.MicState: self._on_mic,
            p.SoundState: self._on_sound_state,
            p.PagePlayhead: self._on_playhead,
            p.Started: self._on_started,
            p.Silent: self._on_silent,
            p.Ducked: self._on_ducked,
            p.FirstFrame: self._on_first_frame,
            p.Probe: self._on_probe,
        }

    async def run(self) -> None:
        """Serve until the context is stopping."""
        ctx = self._ctx
        self._server.logo = logo_of(ctx.pack)
        port = await self._server.start(ctx.config.stage.port)
        with suppress(OSError):  # the disk is full: only who set port 0 misses the file
            (Path(ctx.boot.run_dir) / PORT_FILE).write_text(str(port))
        loop = asyncio.get_running_loop()
        ctx.attach(loop, self._from_bus)
        ctx.ready()
        tasks = [asyncio.create_task(self._play()), asyncio.create_task(self._watch())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await self._server.close()
            self.video.close()

    async def _play(self) -> None:
        """Keeps the voice flowing; sleeps while there is none."""
        while not self._ctx.stopping:
            if self._playout.tick(self.now_ns()):
                await asyncio.sleep(_TICK_S)
                continue
            self._awake.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._awake.wait(), 1.0)

    async def _watch(self) -> None:
        """Heartbeats: ours to the supervisor, the page's to us."""
        while not self._ctx.stopping:
            now = self.now_ns()
            self._ctx.pump(self._from_bus)
            self._mic.idle(now)
            self._hand_on()
            if self._page:
                self._watch_page(self._page, now)
            self._ctx.beat()
            await asyncio.sleep(_WATCH_S)
        self._awake.set()

    def _watch_page(self, page: PageLink, now: int) -> None:
        if now - self._pinged_ns >= _PING_NS or page.clock.rounds < 8:
            self._pinged_ns = now
            page.tell("ping", id=page.clock.ping(now), offset_ms=page.clock.offset_ns / 1e6)
        if now - max(page.beat_ns, page.reloaded_ns) < SILENT_PAGE_NS:
            return
        if page.reloaded_ns:
            self._counts["lost"] += 1
            self._screen.note("page-stuck", "the page does not respond; the browser has to be restarted", "technician")
            self._farewell = asyncio.create_task(page.close())  # if it lives after all, it connects anew
            self.closed(page)
            return
        page.reloaded_ns = now
        self._counts["reloads"] += 1
        self._ctx.log.warning("no beat of the page for 3 s: reloading it")
        page.tell("reload")

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return self._ctx.clock.monotonic_ns()

    # --- from the bus

    def _from_bus(self, link: str, message: Any) -> None:
        self._links[link](message, self.now_ns())
        self._awake.set()

    def _on_activity(self, activity: m.Activity, now: int) -> None:
        if activity.kind is m.ActivityKind.ONSET:
            self._playout.duck(now)
        elif activity.kind is m.ActivityKind.HINT:
            self._playout.duck(now, HINT_LIMIT_NS)

    def _on_words(self, words: m.Transcript, _: int) -> None:
        self._tell("words", onset=words.onset, text=words.text, stable=words.stable, final=words.final)

    def _on_floor(self, floor: m.Floor, now: int) -> None:
        if floor.turn > self.video.turn:
            self.video.cut(floor.turn)
        self._mic.turn = floor.turn
        self._screen.on_floor(floor)
        self._playout.floor(floor, now)

    def _on_sound(self, sound: m.Sound, now: int) -> None:
        if sound.action is m.SoundAction.STOP:
            self.video.cut(max(sound.turn, self.video.turn))
            self._playout.stop(sound.turn, now)
        elif sound.action is m.SoundAction.RESUME:
            self._playout.resume(now)
        else:
            self._playout.duck(now)

    def _put_on(self, pack: Pack) -> None:
        """Another pack serves."""
        self._screen.pack, self._server.logo = pack, logo_of(pack)
        self._house.speak(pack.languages)
        self._tell("pack", **self._setup())
        self._screen.repeat()

    def _setup(self) -> dict[str, Any]:
        """What a page has to know before anything else."""
        return {**setup(self._ctx.config, self._ctx.pack, self._boot_id), "house": self._house.values}

    def _tell(self, kind: str, /, **what: Any) -> None:
        if self._page:
            self._page.tell(kind, **what)

    # --- the playout's loudspeaker: the page that is open now

    def pcm(self, turn: int, index: int, samples: npt.NDArray[np.int16]) -> None:
        """Samples for the loudspeaker."""
        if self._page:
            self._page.pcm(turn, index, samples)

    def end(self, turn: int, index: int) -> None:
        """The turn ends at `index`."""
        if self._page:
            self._page.end(turn, index)

    def flush(self, turn: int) -> None:
        """Silence."""
        self._tell("flush", turn=turn)
        if self._page:
            self._page.flush(turn)

    def gain(self, gain: float) -> None:
        """The voice's level."""
        if self._page:
            self._page.gain(gain)

    # --- the playout's house: the bus, and the captions

    def playhead(self, message: m.Playhead) -> None:
        """Where the loudspeaker is."""
        self._ctx.publish("playhead", message)
        page = self._page
        if page and not message.page and page.clock.known:
            ms = (message.t_ns - page.clock.offset_ns) / 1e6
            page.tell("play", turn=message.turn, index=message.index, ms=ms, playing=message.playing)

    def heard(self, message: m.Heard) -> None:
        """What became of a turn's speech."""
        self._ctx.publish("heard", message)
        self._tell("heard", kind=message.kind.value, turn=message.turn, index=message.index)

    def mark(self, stage: str, turn: int, t_ns: int) -> None:
        """A time for the turn's record."""
        self._ctx.mark(stage, turn, t_ns)

    def spoken(self, clause: m.Speech) -> None:
        """A caption, with the sample at which each word begins."""
        words = [[word.text, word.start] for word in clause.words] or [[clause.text, clause.start]]
        self._tell("say", turn=clause.turn, seq=clause.seq, start=clause.start, end=clause.start + clause.samples, words=words)

    # --- from the page

    @property
    def page(self) -> PageLink | None:
        """The page that is open now."""
        return self._page

    def opened(self, page: PageLink) -> None:
        """A page has the screen."""
        self._page = page
        self._counts["pages"] += 1
        self._pinged_ns = 0
        page.tell("setup", **self._setup())
        self._screen.repeat()
        self._screen.note("page-stuck", "", "technician")
        self._publish_input(m.InputKind.PAGE, "open")
        page.tell("ping", id=page.clock.ping(self.now_ns()), offset_ms=0.0)

    def closed(self, page: PageLink) -> None:
        """A page is gone."""
        if self._page is not page:
            return
        now = self.now_ns()
        self._page = None
        self._playout.page(can_play=False, now_ns=now)
        self._mic.lost(now)
        self._publish_input(m.InputKind.PAGE, "closed")

    def voice_ready(self, page: PageLink) -> None:
        """The way to the page's loudspeaker opened or closed."""
        if page is self._page and page.can_play != self._playout.can_play:
            self._playout.page(can_play=page.can_play, now_ns=self.now_ns())
            self._awake.set()

    def microphone(self, data: bytes) -> None:
        """20 ms of sound."""
        self._mic.feed(data, self.now_ns())

    def heard_from(self, page: PageLink, message: p.FromPage) -> None:
        """A control message of the page."""
        now = self.now_ns()
        page.beat_ns, page.reloaded_ns = now, 0  # whatever it says, it lives
        self._messages[type(message)](page, message, now)
        self._awake.set()

    def _on_hello(self, page: PageLink, hello: p.Hello, _: int) -> None:
        page.probe = hello.probe

    def _on_pong(self, page: PageLink, pong: p.Pong, now: int) -> None:
        page.clock.pong(pong.id, pong.ms, now)

    def _on_playhead(self, page: PageLink, at: p.PagePlayhead, now: int) -> None:
        self._playout.playhead(at.turn, round(at.index), page.clock.to_ns(at.ms, now), playing=at.playing, now_ns=now)

    def _on_started(self, page: PageLink, started: p.Started, now: int) -> None:
        self._playout.started(started.turn, round(started.index), page.clock.to_ns(started.ms, now))

    def _on_silent(self, page: PageLink, silent: p.Silent, now: int) -> None:
        self._playout.silent(silent.turn, round(silent.index), page.clock.to_ns(silent.ms, now))

    def _on_ducked(self, page: PageLink, ducked: p.Ducked, now: int) -> None:
        self._playout.ducked(ducked.gain, page.clock.to_ns(ducked.ms, now))

    def _on_first_frame(self, page: PageLink, frame: p.FirstFrame, now: int) -> None:
        self._ctx.mark("frame_first", frame.turn, page.clock.to_ns(frame.ms, now))

    def _on_beat(self, page: PageLink, beat: p.Beat, _: int) -> None:
        page.beat, page.beats = beat, page.beats + 1
        for name, value in (("page_fps", beat.fps), ("page_beats", page.beats), ("page_underruns", beat.underruns)):
            self._ctx.measure(name, value)

    def _on_sound_state(self, page: PageLink, state: p.SoundState, _: int) -> None:
        page.sound = state.running
        self.voice_ready(page)

    def _on_input(self, _: PageLink, message: p.Input, now: int) -> None:
        if message.kind not in _INPUTS:
            return
        kind = m.InputKind(message.kind)
        if kind is m.InputKind.STOP:  # a reflex: it works whatever the conductor does
            self._playout.silence(now)
        self._publish_input(kind, message.text.strip()[:_INPUT_CHARS])

    def _on_mic(self, _: PageLink, message: p.MicState, now: int) -> None:
        if message.state not in _MICROPHONE:
            return
        state = message.state
        if state == "on" and message.rate != m.MIC_RATE:
            self._screen.note(
                "mic-rate", f"the page's microphone runs at {message.rate} Hz, not at {m.MIC_RATE}; another browser is needed", "technician"
            )
            state = "denied"
        else:
            self._screen.note("mic-rate", "", "technician")
        self._screen.on_microphone(state)
        if state != "on":
            self._mic.lost(now)
        self._publish_input(m.InputKind.MIC, state)

    def _publish_input(self, kind: m.InputKind, text: str) -> None:
        self._inputs.append(m.VisitorInput(self._screen.floor.turn, self.now_ns(), kind, text))
        self._hand_on()

    def _hand_on(self) -> None:
        """Give the conductor what waits for it, in order; while it is away, later."""
        with suppress(LinkError):
            while self._inputs:
                self._ctx.send("visitor", self._inputs[0])
                self._inputs.popleft()

    def _on_probe(self, page: PageLink, message: p.Probe, now: int) -> None:
        if self._recorder and page.clock.known:
            self._recorder.drawn(
                [
                    {"seq": seq, "pts": round(pts), "turn": turn, "drawn_ns": page.clock.to_ns(ms, now), "heard": round(heard)}
                    for seq, pts, turn, ms, heard in message.frames
                ]
            )

    def alive(self) -> dict[str, Any]:
        """Counters, no content: for the browser's watcher and for tests."""
        page = self._page
        return {
            "boot": self._boot_id,
            "page": page is not None,
            "beats": page.beats if page else 0,
            "beat": page.beat if page else None,
            "clock_error_us": page.clock.error_ns // 1000 if page else -1,
            "video": {"sent": self.video.sent, "dropped": self.video.dropped},
            "voice": {"dropped": self._playout.dropped, "gaps": self._playout.gaps, "turn": self._playout.active_turn},
            "mic": {"live": self._mic.live, "chunks": self._mic.chunks, "malformed": self._mic.malformed},
            **self._counts,
        }
