"""The real kiosk as its own processes, `visavis run`, watched from outside: its bus, its page, its processes. No browser.

with Kiosk(folder) as kiosk:
    kiosk.page.type("Where are the toilets?")
    kiosk.seen.wait("page heard", lambda heard: heard["kind"] == "finished")
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import zmq

from kiosk._protocol import ACK, END, FLUSH, FRAME_HEADER, PCM, VOICE_HEADER
from runtime import messages as m
from runtime import topology
from runtime.bus import FrameDescriptor, Subscriber
from runtime.context import link_path
from tests.support.harness import LIMIT_S
from visavis._processes import name_of, tree
from visavis.rehearse.kiosk import free_port

__all__ = ["LIMIT_S", "ROOT", "Kiosk", "Page", "Seen", "kiosk_env"]

ROOT = Path(__file__).resolve().parents[2]


class Seen:
    """Everything that came, in order: (kind, what). Kinds: "bus LINK" with a message, "page KIND" with its fields."""

    def __init__(self) -> None:
        self._log: list[tuple[str, Any]] = []
        self._changed = threading.Condition()

    def add(self, kind: str, what: Any) -> None:
        """Note that something came."""
        with self._changed:
            self._log.append((kind, what))
            self._changed.notify_all()

    def mark(self) -> int:
        """A place to look from later."""
        with self._changed:
            return len(self._log)

    def all(self, kind: str, since: int = 0) -> list[Any]:
        """What came of `kind` after the mark."""
        with self._changed:
            return [what for name, what in self._log[since:] if name == kind]

    def wait(
        self, kind: str, wanted: Callable[[Any], bool] = lambda _: True, *, since: int = 0, limit_s: float = LIMIT_S, why: str = ""
    ) -> Any:
        """The first of `kind` after the mark that is `wanted`, waiting for it; AssertionError with `why` after `limit_s`."""
        deadline = time.monotonic() + limit_s
        at = since
        with self._changed:
            while True:
                while at < len(self._log):
                    name, what = self._log[at]
                    at += 1
                    if name == kind and wanted(what):
                        return what
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() > deadline:
                    recent = [entry for entry in self._log[since:] if entry[0] not in ("page frame", "bus video", "bus playhead")]
                    raise AssertionError(f"not within {limit_s:.0f} s: {why or kind}; came meanwhile: {recent[-12:]}")


class Watch(threading.Thread):
    """Subscribes to all links that have readers anyway; takes part in nothing."""

    def __init__(self, run_dir: Path, seen: Seen) -> None:
        super().__init__(daemon=True, name="watch")
        self._run_dir, self._seen, self._over = run_dir, seen, threading.Event()

    def run(self) -> None:
        context: zmq.Context[Any] = zmq.Context(1)
        ends: dict[str, Subscriber[Any]] = {}
        poller = zmq.Poller()
        for prefix, row in enumerate(topology.LINKS, start=1):
            if row.kind is not topology.Kind.COMMAND and row.name != "mic":
                path = link_path(self._run_dir, row.name)
                ends[row.name] = Subscriber(context, path, prefix, row.payload or FrameDescriptor, row.kind.value)
                poller.register(ends[row.name].fd, zmq.POLLIN)
        while not self._over.is_set():
            poller.poll(20)  # the descriptors are edge-triggered: look into every link after each wait
            for name, end in ends.items():
                for message in end.receive():
                    self._seen.add(f"bus {name}", message)
        for end in ends.values():
            end.close()
        context.destroy(linger=0)

    def end(self) -> None:
        """Stop watching."""
        self._over.set()
        self.join(5)


class _Loudspeaker:
    """Plays at the nominal rate, as the page's worklet does, and reports as the page does."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._queue: deque[list[int]] = deque()  # [turn, first sample, behind the last]
        self._playing: list[int] | None = None
        self._since_s = 0.0
        self._ended: tuple[int, int] | None = None
        self.samples = 0

    def take(self, data: bytes) -> None:
        """One message of the voice's socket."""
        kind, _, _, turn, index = VOICE_HEADER.unpack_from(data)
        count, index = (len(data) - VOICE_HEADER.size) // 2, round(index)
        if kind == PCM:
            self.samples += count
            last = self._queue[-1] if self._queue else self._playing
            if last and last[0] == turn and last[2] == index:
                last[2] += count
            else:
                self._queue.append([turn, index, index + count])
        elif kind == END:
            self._ended = turn, index
        elif kind == FLUSH:
            self.flush(turn)

    def flush(self, turn: int) -> None:
        """Silence."""
        at = self._at() if self._playing and self._playing[0] <= turn else -1
        self._playing = None
        self._queue.clear()
        self._tell("silent", turn=turn, index=at, ms=_now_ms())

    def _at(self) -> int:
        assert self._playing
        return min(self._playing[1] + int((time.monotonic() - self._since_s) * m.VOICE_RATE), self._playing[2])

    def tick(self) -> None:
        """Let time pass."""
        if self._playing is None and self._queue:
            self._playing, self._since_s = self._queue.popleft(), time.monotonic()
            self._tell("started", turn=self._playing[0], index=self._playing[1], ms=_now_ms())
        if self._playing is None:
            return
        at, (turn, _, have) = self._at(), self._playing
        if at == have:  # dry, or done
            self._playing = None
        self._tell("playhead", turn=turn, index=at, ms=_now_ms(), playing=at < have)


class Page(threading.Thread):
    """The kiosk's page without a browser: its three sockets, its heartbeat, its loudspeaker; connects again by itself."""

    def __init__(self, url: str, seen: Seen) -> None:
        super().__init__(daemon=True, name="page")
        self._url, self._seen = url, seen
        self._loop = asyncio.new_event_loop()
        self._control: aiohttp.ClientWebSocketResponse | None = None
        self._says: set[asyncio.Task[None]] = set()
        self._key = ""
        self._over = asyncio.Event()
        self.speaker = _Loudspeaker(self._tell)

    def type(self, text: str) -> None:
        """The visitor types a sentence."""
        self.input("typed", text)

    def input(self, kind: str, text: str = "") -> None:
        """The visitor touches something; `kind` is one of runtime.messages.InputKind."""
        self._loop.call_soon_threadsafe(lambda: self._tell("input", kind=kind, text=text))

    def end(self) -> None:
        """Close the page."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._over.set)
        self.join(10)

    def run(self) -> None:
        self._loop.run_until_complete(self._live())
        self._loop.close()

    def _tell(self, kind: str, /, **what: Any) -> None:
        if self._control is None or self._control.closed:
            return
        task = self._loop.create_task(self._send(self._control, json.dumps({"t": kind, **what})))
        self._says.add(task)
        task.add_done_callback(self._says.discard)

    @staticmethod
    async def _send(socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
        with suppress(ConnectionError, RuntimeError):
            await socket.send_str(text)

    async def _live(self) -> None:
        async with aiohttp.ClientSession() as session:
            beating = self._loop.create_task(self._beat())
            while not self._over.is_set():
                visit = self._loop.create_task(self._visit(session))
                over = self._loop.create_task(self._over.wait())
                await asyncio.wait([visit, over], return_when=asyncio.FIRST_COMPLETED)
                for task in (visit, over):
                    task.cancel()
                    with suppress(asyncio.CancelledError, aiohttp.ClientError, ConnectionError):
                        await task
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._over.wait(), 0.25)  # the page's own pause before it tries again
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    async def _visit(self, session: aiohttp.ClientSession) -> None:
        if not self._key:
            async with session.get(self._url) as answer:
                found = re.search(r'visavis-key" content="([0-9a-f]{64})"', await answer.text())
            assert found, "the page has no key"
            self._key = found.group(1)
        media: list[asyncio.Task[None]] = []
        try:
            async with session.ws_connect(self._address("control"), headers=self._origin) as control:
                self._control = control
                self._seen.add("page open", {})
                async for message in control:
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        continue
                    what = json.loads(message.data)
                    kind = what.pop("t")
                    if kind == "setup":
                        media = [self._loop.create_task(play(session)) for play in (self._voice, self._frames)]
                        self._tell("hello", lang="en")
                        self._tell("sound", running=True, latency_ms=10.0)
                    elif kind == "ping":
                        self._tell("pong", id=what["id"], ms=_now_ms())
                    if kind not in ("ping", "play"):
                        self._seen.add(f"page {kind}", what)
        finally:
            self._control = None
            self._seen.add("page closed", {})
            for task in media:
                task.cancel()
                with suppress(asyncio.CancelledError, aiohttp.ClientError, ConnectionError):
                    await task

    @property
    def _origin(self) -> dict[str, str]:
        return {"Origin": self._url}

    def _address(self, socket: str) -> str:
        return f"{self._url}/{socket}?k={self._key}&page=test"

    async def _voice(self, session: aiohttp.ClientSession) -> None:
        async with session.ws_connect(self._address("audio"), headers=self._origin) as socket:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self.speaker.take(message.data)

    async def _frames(self, session: aiohttp.ClientSession) -> None:
        header = None
        async with session.ws_connect(self._address("video"), headers=self._origin, max_msg_size=1 << 23) as socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    continue
                if header is None:
                    header = FRAME_HEADER.unpack(message.data)
                    continue
                _, _, _, seq, turn, _, _, pts, _ = header
                header = None
                await socket.send_bytes(ACK.pack(seq))
                self._seen.add("page frame", {"seq": seq, "turn": turn, "pts": pts, "bytes": len(message.data)})

    async def _beat(self) -> None:
        """The page's timers: a heartbeat each second, the loudspeaker's reports 30 times a second."""
        count = 0
        while True:
            await asyncio.sleep(0.033)
            self.speaker.tick()
            count += 1
            if count % 30 == 0:
                self._tell("beat", fps=25.0, audio="running", state="test")


def _now_ms() -> float:
    return time.monotonic() * 1000


def kiosk_env(run_dir: Path, **changes: str) -> dict[str, str]:
    """The environment of a kiosk whose run directories are private."""
    return os.environ | {"XDG_RUNTIME_DIR": str(run_dir), "PYTHONUNBUFFERED": "1"} | changes


class Kiosk:
    """`visavis run` with a port and a run directory of its own; a context manager that waits until the kiosk says it is ready."""

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *,
        env: dict[str, str] | None = None,
        timeline: Path | None = None,
        prefix: Sequence[str] = (),
        base: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        # A socket's path has 107 bytes, and pytest's folders are long.
        self._own_base = None if base else tempfile.TemporaryDirectory(prefix="vvk-")
        self.base = base or Path(self._own_base.name if self._own_base else "")
        self.timeline = timeline or folder / "timeline.jsonl"
        self.errors = folder / f"kiosk-{self.port}.log"
        toml = folder / f"kiosk-{self.port}.toml"
        toml.write_text(f"{config}\n[stage]\nport = {self.port}\n")
        self.seen = Seen()
        self.page = Page(self.url, self.seen)
        self._log = self.errors.open("w")
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "visavis", "run", "--config", str(toml), "--timeline", str(self.timeline)],
            cwd=ROOT,
            env=kiosk_env(self.base, **(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,  # what is buffered here would not wake select
        )
        self._watch: Watch | None = None

    # --- start and end

    def __enter__(self) -> Kiosk:
        try:
            while (line := self._line()) != f"Visavis is ready: {self.url}":
                assert line, f"the kiosk ended with status {self._process.wait()}\n{self.said()}"
            self._watch = Watch(self.run_dir, self.seen)
            self._watch.start()
            self.page.start()
            self.seen.wait("page frame", why="a frame on the page")
            self.seen.wait("bus floor", why="the conductor's floor on the bus")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _line(self) -> str:
        """The next line it says on stdout, waiting for it."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], 2 * LIMIT_S)[0]:
            raise AssertionError(f"the kiosk was not ready within {2 * LIMIT_S:.0f} s\n{self.said()}")
        return self._process.stdout.readline().decode().strip()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end and wait until it has; its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            return self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the kiosk did not end\n{self.said()}") from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.page.ident:
            self.page.end()
        if self._watch:
            self._watch.end()
        if self._process.poll() is None:
            try:
                self.stop()
            except AssertionError:
                self._process.kill()
                self._process.wait()
                raise
        assert self._process.stdout
        self._process.stdout.close()
        self._log.close()
        if self._own_base:
            self._own_base.cleanup()
        if error is not None:
            sys.stderr.write(f"--- the kiosk said\n{self.said()}\n")

    # --- what it is

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        return self._process.pid

    @property
    def run_dir(self) -> Path:
        """The directory of its sockets."""
        return next(self.base.glob("visavis-*"))

    def nodes(self) -> dict[str, int]:
        """The pids of its nodes that run now, by their processes' names."""
        names = {name_of(pid): pid for pid in tree(self.pid)}
        return {name[3:]: pid for name, pid in names.items() if name.startswith("vv-")}

    def said(self) -> str:
        """What it wrote to stderr so far."""
        return self.errors.read_text(errors="replace")

    # --- bad luck

    def kill(self, name: str, pid: int = 0) -> None:
        """SIGKILL node `name` (its life with this `pid`, if one is given) and wait until it is gone."""
        pid = pid or self.nodes()[name]
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        os.kill(pid, signal.SIGKILL)
        assert select.select([pidfd], [], [], LIMIT_S)[0], f"{name} did not die"
        os.close(pidfd)

    def cut_power(self) -> None:
        """SIGKILL to all of its processes, the supervisor first, and wait until they are gone."""
        pids = tree(self.pid)
        pidfds = [os.pidfd_open(pid) for pid in pids[1:]]
        for pid in pids:
            with suppress(ProcessLookupError):  # the life-line was faster
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], LIMIT_S)[0], "a node did not die"
            os.close(pidfd)

    def freeze(self, name: str) -> int:
        """SIGSTOP node `name`: it takes no message any more; its pid. The supervisor kills it within seconds, as any that is stuck."""
        pid = self.nodes()[name]
        os.kill(pid, signal.SIGSTOP)
        return pid

    def back(self, name: str, since: int) -> m.NodeEvent:
        """Wait until node `name` is ready again."""
        event: m.NodeEvent = self.seen.wait(
            "bus nodes",
            lambda event: event.node == name and event.state is m.NodeState.READY and not event.again,
            since=since,
            why=f"{name} is ready again",
        )
        return event

    # --- the visitor

    def ask(self, text: str) -> int:
        """Type `text` and wait until its answer sounds; the answer's turn."""
        since = self.seen.mark()
        before = self.seen.all("bus floor")[-1].turn
        self.page.type(text)
        started = self.seen.wait(
            "page heard",
            lambda heard: heard["kind"] == "started" and heard["turn"] > before,
            since=since,
            why=f"an answer to {text!r} sounds",
        )
        return int(started["turn"])

    def finished(self, since: int) -> m.Heard:
        """Wait until an answer was heard to its end."""
        found: m.Heard = self.seen.wait(
            "bus heard", lambda heard: heard.kind is m.HeardKind.FINISHED, since=since, why="the answer is heard to its end"
        )
        return found
