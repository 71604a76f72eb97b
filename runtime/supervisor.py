"""Makes the shared memory, starts the nodes of the table, watches and restarts them, and takes everything down with it.

The rules are in `runtime.supervision`; this is the shell that executes them: memfds, exec with inherited descriptors, pidfds, signals.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import zmq

from firmware.notify import Notifier
from firmware.watchdog import Progress, Watchdog
from runtime import supervision, topology
from runtime.bus import (
    AudioRingSpec,
    BusError,
    FrameRingSpec,
    Publisher,
    RingFds,
    clear_pins,
    create_audio_ring,
    create_frame_ring,
    mend_ring,
)
from runtime.config import load as load_config
from runtime.context import Bootstrap, link_path
from runtime.messages import NodeEvent, NodeState
from runtime.packchoice import serving
from runtime.packdesk import PackDesk
from runtime.sharedstate import Board, create_board, create_checkpoint
from runtime.supervision import RENEWED, Announce, Command, Exited, Life, Renew, Tick, decide

__all__ = ["NoRunDir", "PortInUse", "Supervisor", "run"]

log = logging.getLogger("supervisor")

CANNOT_START = 71
"""Exit status (EX_OSERR) of a node that the system did not let us start."""
STOP_LIMIT_S = 1.5
"""Nodes get this long after SIGTERM; the whole stop stays under 2 s."""
OWN_NODES = tuple(row for row in topology.NODES if not row.external)
_PERIOD_MS = 50
_AGAIN_NS = 1_000_000_000
"""A reader that is ready may still be making its connections: what the others are is told again after so long."""
_READERS = topology.link("nodes").dst
_LONGEST_PLACE = 107 - len("/visavis-12345678/") - max(len(row.name) for row in topology.LINKS)
_CHILD_ENV = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    # Glibc keeps an arena per thread; on small boxes that costs tens of MB per node for nothing.
    "MALLOC_ARENA_MAX": "2",
}


class PortInUse(Exception):
    """Something else listens on the page's port."""


class NoRunDir(Exception):
    """There is no place for the sockets."""


class Supervisor:
    """The parent of all nodes; `run()` returns when it was told to stop and everything is down."""

    def __init__(
        self,
        config: Path | None = None,
        *,
        nodes: Sequence[topology.Node] = OWN_NODES,
        run_dir: Path | None = None,
        pack: Path | None = None,
        timeline: str = "",
        options: dict[str, str] | None = None,
        on_ready: Callable[[], None] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.run_dir = run_dir or make_run_dir()
        self.token = secrets.token_urlsafe(24)
        self.lives = {row.name: Life(row) for row in nodes}
        self._lines = {row.name: line for line, row in enumerate(nodes)}
        self._config, self._timeline, self._options = config, timeline, options or {}
        self._on_ready = on_ready
        self._watchdog = Watchdog(notifier or Notifier())
        self._rings = make_rings()
        self._board_fd = create_board(len(nodes))
        self._board = Board(self._board_fd)
        self._checkpoints = {row.name: create_checkpoint(row.name) for row in nodes}
        # Close-on-exec both: a node gets the reading end by name, nobody but this process holds the writing end.
        self._lifeline_r, self._lifeline_w = os.pipe2(os.O_CLOEXEC)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._pidfds: dict[int, str] = {}
        self._poll = select.poll()
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wake_r, select.POLLIN)
        self._stopping = False
        self._zmq = zmq.Context(1)
        self._events = Publisher(self._zmq, link_path(self.run_dir, "nodes"), topology.prefix("nodes"), NodeEvent)
        self._told: dict[str, NodeEvent] = {}  # the newest of each node
        self._again_ns = 0  # when they are told again; 0: nobody needs it
        self._desk = PackDesk(self._zmq, self.run_dir, str(pack or ""), nodes)

    def stop(self) -> None:
        """End `run()`; safe in a signal handler and from another thread."""
        self._stopping = True
        with suppress(BlockingIOError):
            os.write(self._wake_w, b"x")

    def run(self) -> None:
        """Start the nodes and keep them running until `stop()`."""
        try:
            while not self._stopping:
                self._step()
                for fd, _ in self._poll.poll(_PERIOD_MS):
                    if fd in self._pidfds:
                        self._reap(self._pidfds[fd], fd)
        finally:
            self._take_down()

    def pid(self, name: str) -> int | None:
        """The process id of node `name` while it lives."""
        process = self._processes.get(name)
        return process.pid if process else None

    def _step(self) -> None:
        now = time.monotonic_ns()
        for name in self._desk.step(self.lives, now):
            self._apply(name, *decide(self.lives[name], Renew(), now))
        nodes = []
        for name, life in self.lives.items():
            beat_ns, beats, ready = self._board.read(self._lines[name])
            self._apply(name, *decide(life, Tick(beat_ns, ready), now))
            nodes.append(Progress(name, beats, self.lives[name].state is NodeState.READY, life.node.essential))
        if self._again_ns and now >= self._again_ns:
            self._again_ns = 0
            for event in self._told.values():
                self._events.send(msgspec.structs.replace(event, again=True))
        self._watchdog.progress(nodes, self._usable, now)
        if self._on_ready and self._usable:
            self._on_ready()
            self._on_ready = None

    @property
    def _usable(self) -> bool:
        """Whether a visitor finds a kiosk: what it cannot do without runs, and no other node is in its first start, or that hangs."""
        return all(
            life.state is NodeState.READY
            or not (life.node.essential or (life.state is NodeState.STARTING and not life.restarts and not life.dumped_ns))
            for life in self.lives.values()
        )

    def _apply(self, name: str, life: Life, actions: tuple[supervision.Action, ...]) -> None:
        self.lives[name] = life
        for action in actions:
            if isinstance(action, Announce):
                self._announce(life, action)
            elif action is Command.START:
                try:
                    self._start(life.node)
                except OSError as error:  # no memory, no processes left: that may pass
                    log.error("%s cannot be started: %s", name, error)  # noqa: TRY400 - nothing of ours is broken
                    self._apply(name, *decide(life, Exited(CANNOT_START), time.monotonic_ns()))
                    return
            elif action is Command.DUMP:
                self._signal(name, signal.SIGUSR1)
            elif action is Command.END:
                self._signal(name, signal.SIGTERM)
            elif action is Command.KILL:
                self._signal(name, signal.SIGKILL)
            else:
                self._clean(name)

    def _announce(self, life: Life, what: Announce) -> None:
        now = time.monotonic_ns()
        if what.reason and what.reason != RENEWED:
            level = logging.ERROR if what.state is NodeState.GIVEN_UP else logging.WARNING
            log.log(level, "%s %s (restart %d)", life.node.name, what.reason, life.restarts)
        event = NodeEvent(0, now, life.node.name, what.state, life.restarts, what.reason)
        self._told[life.node.name] = event
        self._events.send(event)
        if what.state is NodeState.READY and life.node.name in _READERS:
            self._again_ns = now + _AGAIN_NS
        self._desk.announced(life.node.name, what, now)

    def _start(self, node: topology.Node) -> None:
        boot = Bootstrap(
            name=node.name,
            run_dir=str(self.run_dir),
            config=str(self._config or ""),
            rings=self._rings,
            board=self._board_fd,
            line=self._lines[node.name],
            checkpoint=self._checkpoints[node.name],
            lifeline=self._lifeline_r,
            module=node.module,
            token=self.token,
            timeline=self._timeline,
            options=self._options,
            pack=self._desk.pack_of(node.name),
        )
        fd = os.memfd_create(f"visavis-boot-{node.name}")
        os.write(fd, msgspec.json.encode(boot))
        inherited = {fd, boot.board, boot.checkpoint, boot.lifeline}
        for ring in self._rings.values():
            inherited.update(ring.numbers())
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "runtime.launch", str(fd)],
                pass_fds=tuple(inherited),
                stdin=subprocess.DEVNULL,
                env=os.environ | _CHILD_ENV,
                cwd=Path(__file__).resolve().parent.parent,
            )
        finally:
            os.close(fd)
        if node.nice:
            with suppress(PermissionError):  # only root may raise a priority; without it the node runs as it is
                os.setpriority(os.PRIO_PROCESS, process.pid, node.nice)
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:  # a node that we cannot watch must not run
            process.kill()
            process.wait()
            raise
        self._processes[node.name] = process
        self._pidfds[pidfd] = node.name
        self._poll.register(pidfd, select.POLLIN)

    def _reap(self, name: str, pidfd: int) -> None:
        status = self._processes.pop(name).wait()
        self._poll.unregister(pidfd)
        del self._pidfds[pidfd]
        os.close(pidfd)
        self._apply(name, *decide(self.lives[name], Exited(status), time.monotonic_ns()))

    def _signal(self, name: str, what: signal.Signals) -> None:
        process = self._processes.get(name)
        if process:
            process.send_signal(what)

    def _clean(self, name: str) -> None:
        """What a dead node left: its heartbeat and the slots it had pinned (the one case of taking over somebody's word)."""
        self._board.clear(self._lines[name])
        for row in topology.LINKS:
            if row.ring is None:
                continue
            try:
                mend_ring(row.ring, self._rings[row.ring.name])
                if isinstance(row.ring, FrameRingSpec) and name in row.dst:
                    clear_pins(row.ring, self._rings[row.ring.name], name)
            except (OSError, BusError) as error:  # no memory, no descriptor: that may pass, and the next death comes by here again
                log.error("ring %r is left as %s left it: %s", row.ring.name, name, error)  # noqa: TRY400 - nothing of ours is broken

    def _take_down(self) -> None:
        self._watchdog.stopping()
        for name in self._processes:
            self._signal(name, signal.SIGTERM)
        deadline = time.monotonic() + STOP_LIMIT_S
        for name, process in self._processes.items():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("%s did not end in time, killed", name)
                process.kill()
                process.wait()
        self._board.close()
        self._events.close()
        self._desk.close()
        self._zmq.destroy(linger=0)
        for ring in self._rings.values():
            ring.close()
        for fd in (
            self._board_fd,
            *self._checkpoints.values(),
            self._lifeline_r,
            self._lifeline_w,
            self._wake_r,
            self._wake_w,
            *self._pidfds,
        ):
            os.close(fd)
        shutil.rmtree(self.run_dir, ignore_errors=True)


def make_rings() -> dict[str, RingFds]:
    """All shared memory of the kiosk, by the rings in LINKS."""
    rings: dict[str, RingFds] = {}
    for row in topology.LINKS:
        if isinstance(row.ring, FrameRingSpec):
            rings[row.ring.name] = create_frame_ring(row.ring)
        elif isinstance(row.ring, AudioRingSpec):
            rings[row.ring.name] = create_audio_ring(row.ring)
    return rings


def make_run_dir() -> Path:
    """A private 0700 directory for the sockets; also sweeps those of kiosks that were killed together with all their nodes."""
    run_dir = _make_dir()
    for stale in run_dir.parent.glob("visavis-*"):
        if stale != run_dir:
            _sweep(stale)
    lock = os.open(run_dir / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # held until this process ends: a free lock means a dead kiosk
    return run_dir


def _make_dir() -> Path:
    """In XDG_RUNTIME_DIR, or where temporary files go. Raises NoRunDir."""
    places = [place for place in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()) if place]
    why: list[str] = []
    for place in dict.fromkeys(places):
        if len(os.fsencode(place)) > _LONGEST_PLACE:
            why.append(f"{place} (too long for the path of a socket)")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="visavis-", dir=place))
        except OSError as error:
            why.append(f"{place} ({error.strerror})")
    raise NoRunDir(f"no directory for the sockets can be made in {' or '.join(why)}: set XDG_RUNTIME_DIR to one that is ours")


def _sweep(run_dir: Path) -> None:
    try:
        lock = os.open(run_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(run_dir, ignore_errors=True)
    except OSError:
        log.debug("%s belongs to a running kiosk", run_dir)
    finally:
        os.close(lock)


def check_port(port: int) -> None:
    """Raise PortInUse, with what to do, if the page's port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortInUse(f"port {port} is in use: stop the other program or set stage.port in kiosk.toml") from error


def run(
    config: Path | None = None,
    *,
    timeline: str = "",
    options: dict[str, str] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """Run the kiosk until SIGTERM or Ctrl-C; returns 0. `on_ready(url)` is called once, when the face is there.

    Raises ConfigError, PackError or PortInUse, each with one line per mistake, before anything is started.
    """
    settings = load_config(config)
    pack, why_not = serving(settings)
    check_port(settings.stage.port)
    logging.basicConfig(level=settings.log.level.upper(), format="%(name)s: %(message)s", stream=sys.stderr)
    if why_not:
        log.warning("%s", why_not)
    url = f"http://localhost:{settings.stage.port}"
    supervisor = Supervisor(
        config,
        pack=pack,
        timeline=timeline,
        options={"log_level": settings.log.level.upper()} | (options or {}),
        on_ready=(lambda: on_ready(url)) if on_ready else None,
        notifier=Notifier.from_environment(os.environ, os.getpid()),
    )
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    signal.signal(signal.SIGINT, lambda *_: supervisor.stop())
    supervisor.run()
    return 0
