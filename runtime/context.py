"""What a node is given: its links, rings, heartbeat, checkpoint, clock, configuration. The only way a node touches the house.

A node is a module with `main(ctx)`. It is ready when it says `ctx.ready()`, alive as long as it says `ctx.beat()` after real progress,
and ends when `ctx.stopping` is set. `Context.receive` waits for messages of all its links; `Context.attach` hands them to a callback
of an asyncio loop instead.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import zmq

from runtime import topology
from runtime.bus import (
    AudioReader,
    AudioRingSpec,
    AudioWriter,
    CommandReceiver,
    CommandSender,
    FrameDescriptor,
    FrameReader,
    FrameRingSpec,
    FrameWriter,
    LinkError,
    LinkStats,
    Publisher,
    Receiver,
    RingFds,
    RingStats,
    Subscriber,
)
from runtime.clock import Clock, SystemClock
from runtime.config import Config
from runtime.config import load as load_config
from runtime.messages import Mark, Message, NodeStats, Notice
from runtime.packs import Pack
from runtime.packs import load as load_pack
from runtime.sharedstate import Board, Checkpoint

__all__ = ["Bootstrap", "Context", "link_path"]

_STATS_EVERY_NS = 1_000_000_000
_TIDY_EVERY_NS = 10_000_000_000
"""By itself Python looks through everything once tens of thousands of objects have gathered: in a quiet node after an hour."""


class Bootstrap(msgspec.Struct, frozen=True):
    """What the supervisor hands to a node at exec: names and inherited descriptors."""

    name: str
    run_dir: str
    config: str  # path of kiosk.toml, "" for the defaults
    rings: dict[str, RingFds]
    board: int
    line: int
    checkpoint: int
    lifeline: int
    module: str = ""  # where main(ctx) is
    token: str = ""  # the page's per-boot secret
    timeline: str = ""  # turn records are written here, "" nowhere
    options: dict[str, str] = {}
    pack: str = ""  # folder of the experience pack that serves, "" that of kiosk.toml


def link_path(run_dir: str | Path, name: str) -> str:
    """The ZeroMQ endpoint of link `name`."""
    return f"ipc://{run_dir}/{name}"


def _settle() -> None:
    """Take what is loaded by now out of garbage collection: what is left to look through takes less than a millisecond."""
    gc.collect()
    gc.freeze()


class Context:
    """A node's view of the kiosk; built once per process from its Bootstrap. Not thread-safe: one thread per context."""

    def __init__(self, boot: Bootstrap, clock: Clock | None = None) -> None:
        self.boot = boot
        self.name = boot.name
        self.clock: Clock = clock or SystemClock()
        self.log = logging.getLogger(boot.name)
        self.stopping = False
        self.tidy = False  # whether this process is the node's own, and its garbage collection ours
        self.checkpoint = Checkpoint(boot.checkpoint)
        self._board = Board(boot.board)
        self._zmq = zmq.Context(1)
        self._out: dict[str, Publisher[Any] | CommandSender[Any]] = {}
        self._in: dict[str, Subscriber[Any] | CommandReceiver[Any] | FrameReader] = {}
        self._rings: dict[str, FrameWriter | AudioWriter | AudioReader] = {}
        self._stats_due = self._tidy_due = 0
        self._dropped: dict[str, int] = {}
        self._notices: dict[str, Notice] = {}  # those that hold
        self._values: dict[str, float | str] = {}
        self._stage_lives = 0
        self._pack: Pack | None = None
        for row in topology.LINKS:
            self._open(row)
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wake_r, select.POLLIN)
        for source in self._in.values():
            self._poll.register(source.fd, select.POLLIN)

    def _open(self, row: topology.Link) -> None:
        path, prefix = link_path(self.boot.run_dir, row.name), topology.prefix(row.name)
        payload = row.payload or FrameDescriptor
        if row.src in (self.name, topology.ANY):
            if row.kind is topology.Kind.COMMAND:
                if self.name not in row.dst:
                    self._out[row.name] = CommandSender(self._zmq, path, prefix, payload, row.deadline_ms, row.capacity)
            else:
                self._out[row.name] = Publisher(self._zmq, path, prefix, payload)
        if self.name in row.dst:
            if isinstance(row.ring, FrameRingSpec):  # the ring itself tells; its zmq link is for observers
                self._in[row.name] = FrameReader(*self._ring(row.name, FrameRingSpec), self.name)
            elif row.kind is topology.Kind.COMMAND:
                self._in[row.name] = CommandReceiver(self._zmq, path, prefix, payload, row.capacity)
            else:
                self._in[row.name] = Subscriber(self._zmq, path, prefix, payload, row.kind.value)

    # --- configuration

    @cached_property
    def config(self) -> Config:
        """kiosk.toml, validated (the supervisor has already refused a broken one)."""
        return load_config(Path(self.boot.config) if self.boot.config else None)

    @property
    def pack_path(self) -> Path:
        """The folder of the pack that served when this node was started; for nodes that say in NODES how they come to another one."""
        assert topology.node(self.name).pack is not topology.PackUse.NONE, f"{self.name} says in NODES that it reads no pack"
        return Path(self.boot.pack) if self.boot.pack else self.config.pack_path

    @property
    def pack(self) -> Pack:
        """The store's experience pack."""
        if self._pack is None:
            self._pack = load_pack(self.pack_path)
        return self._pack

    @pack.setter
    def pack(self, pack: Pack) -> None:
        self._pack = pack

    # --- life

    def ready(self) -> None:
        """The node can do its work from now on."""
        self._board.ready(self.boot.line)
        self.beat()
        if self.tidy:
            _settle()

    def beat(self) -> None:
        """Note progress: call it after a unit of real work or a completed wait, never from a timer of its own."""
        now = self.clock.monotonic_ns()
        self._board.beat(self.boot.line, now)
        if now >= self._stats_due:
            self._stats_due = now + _STATS_EVERY_NS
            self._publish_stats(now)
            self._repeat_notices()
        if self.tidy and now >= self._tidy_due:
            self._tidy_due = now + _TIDY_EVERY_NS
            if gc.isenabled():  # a node that chooses its own moments has turned it off
                gc.collect()

    def stop(self) -> None:
        """Ask the node to end; safe in a signal handler."""
        self.stopping = True
        with suppress(BlockingIOError):
            os.write(self._wake_w, b"x")

    def handle_signals(self) -> None:
        """End cleanly on SIGTERM; SIGINT is the supervisor's business (Ctrl-C reaches the whole process group)."""
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def close(self) -> None:
        """Close links and rings."""
        for end in (*self._in.values(), *self._out.values()):
            end.close()
        self._zmq.destroy(linger=0)
        for ring in self._rings.values():
            ring.close()
        self._board.close()
        self.checkpoint.close()
        for fd in (self._wake_r, self._wake_w):
            os.close(fd)

    # --- messages

    def publish(self, link: str, message: Message | FrameDescriptor) -> None:
        """Send on a latest or stream link of this node; never blocks."""
        out = self._out[link]
        assert isinstance(out, Publisher), f"{link} is a command link"
        out.send(message)

    def send(self, link: str, message: Message) -> None:
        """Send a command. Raises Overflow when the reader does not keep up."""
        out = self._out[link]
        assert isinstance(out, CommandSender), f"{link} is not a command link"
        out.send(message)

    def mark(self, stage: str, turn: int, t_ns: int | None = None, value: float = 0.0) -> None:
        """Note a stage of a turn for its record; lost (and counted) rather than ever in the way."""
        self._try("marks", Mark(turn, self.clock.monotonic_ns() if t_ns is None else t_ns, stage, value))

    def measure(self, name: str, value: float | str) -> None:
        """A figure for health, named as in the telemetry catalogue; the newest goes with the next statistics. Never a word of a visit."""
        self._values[name] = value

    def notice(self, code: str, text: str, audience: str = "technician") -> None:
        """Show one line on the page until it is taken back by an empty text; a stage that is restarted is told again."""
        notice = Notice(0, self.clock.monotonic_ns(), code, text, audience)
        if text:
            self.log.warning("%s", text)
            self._notices[code] = notice
        else:
            self._notices.pop(code, None)
        self._try("notice", notice)

    def _repeat_notices(self) -> None:
        """Tell the stage what holds if it is another one than before."""
        end = self._out.get("notice")
        if end is None or (lives := end.stats().restarts) == self._stage_lives:
            return
        self._stage_lives = lives
        for notice in self._notices.values():
            self._try("notice", notice)

    def _try(self, link: str, message: Message) -> None:
        if link not in self._out:  # the reader itself: nothing to send across
            return
        try:
            self.send(link, message)
        except LinkError:
            self._dropped[link] = self._dropped.get(link, 0) + 1

    def receive(self, timeout_s: float) -> list[tuple[str, Any]]:
        """All waiting messages as (link, message), or after a wait of at most `timeout_s` those that came; [] if none."""
        found = list(self._drain())
        if found or self.stopping or timeout_s <= 0:
            return found
        self._poll.poll(max(0, round(timeout_s * 1000)))
        with suppress(BlockingIOError):
            os.read(self._wake_r, 64)
        return list(self._drain())

    def _drain(self) -> Iterator[tuple[str, Any]]:
        for name, source in self._in.items():
            for message in source.receive():
                yield name, message

    def attach(
        self, loop: asyncio.AbstractEventLoop, handle: Callable[[str, Any], None], stopped: Callable[[], None] | None = None
    ) -> None:
        """Deliver messages to `handle(link, message)` on `loop`; also drains what is already there.

        `stopped` is called on the loop when the node is told to end: a handled signal alone does not end a wait (PEP 475).
        """

        def told() -> None:
            with suppress(BlockingIOError):
                os.read(self._wake_r, 64)
            if stopped is not None:
                stopped()

        def drain(name: str, source: Receiver[Any]) -> None:
            for message in source.receive():
                handle(name, message)

        for name, source in self._in.items():
            loop.add_reader(source.fd, drain, name, source)
            loop.call_soon(drain, name, source)
        loop.add_reader(self._wake_r, told)

    def pump(self, handle: Callable[[str, Any], None]) -> None:
        """Deliver what is waiting now. ZeroMQ descriptors are edge-triggered: call it after sending from an attached loop."""
        for name, message in self._drain():
            handle(name, message)

    # --- shared memory

    def frame_writer(self, link: str) -> FrameWriter:
        """The producer's end of a frame ring: a new life of it."""
        spec, fds = self._ring(link, FrameRingSpec)
        ring = FrameWriter(spec, fds)
        self._rings[link] = ring
        return ring

    def frame_reader(self, link: str) -> FrameReader:
        """This node's end of a frame ring; its descriptors come with the messages of the other links."""
        ring = self._in[link]
        if not isinstance(ring, FrameReader):
            raise KeyError(f"link {link!r} carries no FrameRingSpec")
        return ring

    def audio_writer(self, link: str) -> AudioWriter:
        """The producer's end of an audio ring."""
        spec, fds = self._ring(link, AudioRingSpec)
        ring = AudioWriter(spec, fds)
        self._rings[link] = ring
        return ring

    def audio_reader(self, link: str) -> AudioReader:
        """A reading end of an audio ring."""
        spec, fds = self._ring(link, AudioRingSpec)
        ring = AudioReader(spec, fds)
        self._rings[link] = ring
        return ring

    def _ring(self, link: str, kind: type[Any]) -> tuple[Any, RingFds]:
        spec = topology.link(link).ring
        if not isinstance(spec, kind):
            raise KeyError(f"link {link!r} carries no {kind.__name__}")
        return spec, self.boot.rings[spec.name]

    # --- statistics

    def _publish_stats(self, now: int) -> None:
        links: dict[str, LinkStats] = {}
        rings: dict[str, RingStats] = {}
        for name, end in (*self._in.items(), *self._out.items(), *self._rings.items()):
            stats = end.stats()
            if isinstance(stats, LinkStats):
                links[name] = stats
            else:
                rings[name] = stats
        body = msgspec.json.encode(
            {
                "links": links,
                "rings": rings,
                "unsent": self._dropped,
                "values": self._values,
            }
        )
        self._try("stats", NodeStats(0, now, self.name, body))
