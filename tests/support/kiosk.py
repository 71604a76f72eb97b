"""A stage with a house around it: the other nodes are in the test's hands."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock

import numpy as np

from kiosk import _mic, stage
from runtime import messages as m
from runtime.context import Context
from tests.support.harness import LIMIT_S, Bench

TONE_HZ = 500

__all__ = ["LIMIT_S", "TONE_HZ", "House", "Renderer", "eventually", "grey"]


def eventually(found: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """The first true value of `found()`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {limit_s} s: {what}")


def grey(level: int, width: int = 64, height: int = 64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An NV12 picture of one grey."""
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height] = level
    return picture


class Renderer(threading.Thread):
    """Draws the same picture 20 times a second, as the renderer would: with the turn and the sample it is for. `moves`: a grey that wanders
    instead.
    """

    def __init__(self, ctx: Context) -> None:
        super().__init__(daemon=True)
        self._ctx = ctx
        self._ring = ctx.frame_writer("video")
        self._over = threading.Event()
        self.picture = grey(200)
        self.turn, self.pts = 0, -1
        self.paused = self.moves = False

    def run(self) -> None:
        levels = itertools.cycle([*range(60, 180, 4), *range(180, 60, -4)])
        while not self._over.wait(0.05):
            if self.paused:
                continue
            if self.moves:
                self.picture = grey(next(levels))
            height, width = self.picture.shape[0] * 2 // 3, self.picture.shape[1]
            place = self._ring.begin(width, height)
            if place is not None:
                place[:] = self.picture
                frame = self._ring.commit(turn=self.turn, t_capture_ns=time.monotonic_ns(), pts=self.pts)
                self._ctx.publish("video", frame)

    def end(self) -> None:
        self._over.set()
        self.join(5)


class House:
    """The nodes around the stage, in the test's hands."""

    def __init__(self, folder: Path, *, pack: Path | None = None, settings: str = "", **options: str) -> None:
        self._config = folder / "kiosk.toml"
        self._settings = settings  # further tables of kiosk.toml
        self._pack = f'pack_path = "{pack}"\n' if pack else ""
        self._write(0)
        self.bench = Bench(config=self._config, options=options)
        self.start_stage()
        self.conductor = self.bench.context("conductor")
        self.voice = self.bench.context("voice")
        self.dialogue = self.bench.context("dialogue")
        self.recogniser = self.bench.context("recogniser")
        self.listener = self.bench.context("listener")
        self.health = self.bench.context("health")
        self.supervisor = self.bench.context("supervisor")
        self.mic = self.listener.audio_reader("mic")
        self.speech_ring = self.voice.audio_writer("speech")
        self.renderer = Renderer(self.bench.context("renderer"))
        self.renderer.start()
        self.turn, self.granted, self.visit = 1, 0, 1
        self.posture, self.session = "idle", "attract"
        self.spoken = 0
        self._kept: dict[str, list[tuple[str, Any]]] = {}
        self._connect()

    def _write(self, port: int) -> None:
        self._config.write_text(f"{self._pack}[stage]\nport = {port}\n{self._settings}")

    def start_stage(self) -> None:
        """The stage's next life, on the port that it had before."""
        self.ctx = self.bench.context("stage")
        self.stage = stage.Stage(self.ctx)
        self._thread = threading.Thread(target=lambda: asyncio.run(self.stage.run()), daemon=True)
        self._thread.start()
        file = self.bench.run_dir / stage.PORT_FILE
        self.port = int(eventually(lambda: file.exists() and file.read_text(), "the stage listens"))
        self.url = f"http://localhost:{self.port}/"

    def stop_stage(self) -> None:
        """The stage ends, as after a crash: its links and rings are closed."""
        self._end_stage()
        self.bench._contexts.remove(self.ctx)
        self.ctx.close()
        self._write(self.port)

    def _end_stage(self) -> None:
        self.ctx.stop()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the stage did not end"

    def _connect(self) -> None:
        """Wait until the stage hears the conductor and the conductor the stage: what was sent before is lost."""
        with mock.patch.object(_mic, "_IDLE_TICK_NS", 0):  # otherwise the listener waits for it for a second, in every test
            for ctx, link, send in (
                (self.conductor, "heard", self.empty_turn),
                (self.listener, "mic", lambda: None),
            ):
                self.bench.repeat_until(send, ctx, link)

    def empty_turn(self) -> None:
        """A turn without a sound: the stage says at once that it was heard."""
        self.turn += 1
        self.granted = self.turn
        self.floor()
        self.voice.publish("speech", m.Speech(self.turn, time.monotonic_ns(), 0, self.speech_ring.position, 0, "", last=True))

    def floor(self, posture: str = "", session: str = "", *, wipe_in_ms: int = -1) -> None:
        """The conductor says how things are."""
        self.posture, self.session = posture or self.posture, session or self.session
        self.conductor.publish(
            "floor",
            m.Floor(
                self.turn,
                time.monotonic_ns(),
                m.Posture(self.posture),
                m.Session(self.session),
                self.visit,
                self.granted,
                wipe_in_ms,
                "test",
            ),
        )

    def speak(self, text: str, seconds: float, *, last: bool = True, seq: int = 0, grant: bool = True) -> int:
        """Speech for the current turn, its words evenly spread; returns its first sample."""
        count = int(m.VOICE_RATE * seconds)
        pcm = (np.sin(2 * np.pi * TONE_HZ * np.arange(count) / m.VOICE_RATE) * 9000).astype(np.int16)
        start = self.speech_ring.write(pcm, time.monotonic_ns())
        self.spoken = self.turn
        texts = text.split()
        words = tuple(m.SpokenWord(word, start + count * i // len(texts)) for i, word in enumerate(texts))
        if grant:
            self.granted = self.turn
            self.floor()
        self.voice.publish("speech", m.Speech(self.turn, time.monotonic_ns(), seq, start, count, text, last, (), words))
        return start

    def next_turn(self) -> None:
        """The turn rises: older work is void."""
        self.turn += 1
        self.floor()

    def expect(self, ctx: Context, link: str, wanted: Callable[[Any], bool], limit_s: float = LIMIT_S) -> Any:
        """The next message on `link` that `wanted` accepts; messages of other links are kept for later calls."""
        kept = self._kept.setdefault(ctx.name, [])
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            kept += ctx.receive(0.1)
            for at, (name, message) in enumerate(kept):
                if name == link and wanted(message):
                    del kept[at]
                    return message
        raise AssertionError(f"{ctx.name} saw no such message on {link} within {limit_s} s")

    def heard(self, kind: str) -> m.Heard:
        """What became of the turn that was spoken last."""
        found: m.Heard = self.expect(self.conductor, "heard", lambda message: message.kind.value == kind and message.turn == self.spoken)
        return found

    def playhead(self, wanted: Callable[[m.Playhead], bool] = lambda _: True) -> m.Playhead:
        """A playhead of the turn that was spoken last."""
        found: m.Playhead = self.expect(self.conductor, "playhead", lambda at: at.turn == self.spoken and wanted(at))
        return found

    def mark(self, stage_name: str) -> m.Mark:
        """A mark of the turn that was spoken last."""
        found: m.Mark = self.expect(self.health, "marks", lambda mark: mark.stage == stage_name and mark.turn == self.spoken)
        return found

    def visitor(self, kind: str) -> m.VisitorInput:
        """The next input of this kind."""
        found: m.VisitorInput = self.expect(self.conductor, "visitor", lambda message: message.kind.value == kind)
        return found

    def sounds(self) -> bool:
        """Whether a page is open whose sound runs: what is said now is heard."""
        page = self.stage.page
        return page is not None and page.can_play

    def answered(self) -> bool:
        """Whether the page has answered the stage: what it was told when it came, it has taken."""
        page = self.stage.page
        return page is not None and page.clock.known

    def settled(self) -> bool:
        """Whether its sound has run for a while: in the first moments a browser is wrong about when it is heard."""
        return (self.alive()["beat"] or {}).get("audio") == "running"

    def alive(self) -> dict[str, Any]:
        """The stage's own counters."""
        with urllib.request.urlopen(f"{self.url}alive") as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def __enter__(self) -> House:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.renderer.end()
        self._end_stage()
        self.bench.__exit__(kind, error, trace)
