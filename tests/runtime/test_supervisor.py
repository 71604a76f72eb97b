"""Real processes: start, crash, hang, stop, and what is left behind."""

from __future__ import annotations

import mmap
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from runtime import topology
from runtime.bus import Subscriber
from runtime.context import link_path
from runtime.messages import NodeEvent, NodeState
from runtime.supervision import START_LIMIT_NS, Life, Tick, decide
from runtime.supervisor import STOP_LIMIT_S, NoRunDir, PortInUse, Supervisor, check_port, make_run_dir
from runtime.topology import Node
from tests.support.harness import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]


def row(name: str, module: str = "well", beat_s: float = 0.2) -> Node:
    """A test node under a real node's name, so that it has that node's links."""
    return Node(name, f"tests.support.nodes.{module}", cpu_pct=1, pss_mb=50, beat_s=beat_s)


class Kiosk:
    """A supervisor in a thread, and what it announced."""

    def __init__(self, tmp_path: Path, *nodes: Node) -> None:
        os.environ["XDG_RUNTIME_DIR"] = str(tmp_path)
        self.supervisor = Supervisor(nodes=nodes)
        self.thread = threading.Thread(target=self.supervisor.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.supervisor.stop()
        self.thread.join()

    def state(self, name: str, wanted: NodeState, restarts: int = 0, limit_s: float = LIMIT_S) -> int:
        """Wait until node `name` has the state; returns its pid (0 when it has none)."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            life = self.supervisor.lives[name]
            if life.state is wanted and life.restarts >= restarts:
                return self.supervisor.pid(name) or 0
            select.select([], [], [], 0.02)
        raise AssertionError(f"{name} never became {wanted} (is {self.supervisor.lives[name]})")


@pytest.fixture(autouse=True)
def private_runtime_dir(monkeypatch, tmp_path):
    """Each test has its own place for run directories."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.system
def test_a_dead_node_comes_back_alone(tmp_path):
    """Kill -9 of one node restarts that node; the others keep their processes."""
    with Kiosk(tmp_path, row("voice"), row("dialogue")) as kiosk:
        first, other = kiosk.state("voice", NodeState.READY), kiosk.state("dialogue", NodeState.READY)
        os.kill(first, signal.SIGKILL)
        second = kiosk.state("voice", NodeState.READY, restarts=1)
        assert second != first
        assert kiosk.supervisor.pid("dialogue") == other


@pytest.mark.system
def test_a_ring_with_a_damaged_first_line_is_mended(tmp_path):
    """The running nodes do not notice it, and the next life of one can open its rings."""
    with Kiosk(tmp_path, row("stage")) as kiosk:
        first = kiosk.state("stage", NodeState.READY)
        fds = kiosk.supervisor._rings["video"]
        with mmap.mmap(fds.control, mmap.PAGESIZE) as page, memoryview(page).cast("Q") as words:
            words[0] ^= 1
        os.kill(first, signal.SIGKILL)
        assert kiosk.state("stage", NodeState.READY, restarts=1) != first
        assert kiosk.supervisor.lives["stage"].restarts == 1


@pytest.mark.system
def test_no_descriptor_left_when_a_node_dies(tmp_path, caplog):
    """Its rings cannot be looked after, it cannot be started: both are said, the supervisor lives, and it comes when there is room."""
    with Kiosk(tmp_path, row("stage")) as kiosk:
        first = kiosk.state("stage", NodeState.READY)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            os.kill(first, signal.SIGKILL)
            deadline = time.monotonic() + LIMIT_S
            while "stage cannot be started" not in caplog.text and time.monotonic() < deadline and kiosk.thread.is_alive():
                select.select([], [], [], 0.02)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert kiosk.state("stage", NodeState.READY, restarts=1) != first
    assert "ring 'video' is left as stage left it: " in caplog.text


@pytest.mark.system
def test_a_hanging_node_is_replaced(tmp_path):
    """A node that lives without progress is killed and started again; its checkpoint survives."""
    with Kiosk(tmp_path, row("voice", "stuck")) as kiosk:
        kiosk.state("voice", NodeState.READY, restarts=1)


@pytest.mark.system
def test_a_hopeless_node_takes_only_its_feature(tmp_path, capfd):
    """A missing model is one line, no traceback, and the rest of the kiosk runs."""
    with Kiosk(tmp_path, row("voice", "hopeless"), row("dialogue")) as kiosk:
        kiosk.state("voice", NodeState.GIVEN_UP)
        kiosk.state("dialogue", NodeState.READY)
    written = capfd.readouterr().err
    assert "run `visavis models fetch`" in written
    assert "Traceback" not in written


@pytest.mark.system
def test_a_kiosk_without_its_stage_is_not_ready(tmp_path):
    """Nobody is told that the kiosk is ready while something it cannot do without has been given up."""
    told: list[bool] = []
    needed = Node("stage", "tests.support.nodes.hopeless", cpu_pct=1, pss_mb=50, beat_s=0.2, essential=True)
    kiosk = Kiosk(tmp_path, needed, row("voice"))
    kiosk.supervisor._on_ready = lambda: told.append(True)
    with kiosk:
        kiosk.state("stage", NodeState.GIVEN_UP)
        kiosk.state("voice", NodeState.READY)
    assert told == []


@pytest.mark.system
def test_a_reader_that_comes_back_is_told_how_the_others_are(tmp_path):
    """Health in its second life hears each node's state once more, marked as no news: who waited for changes would never know them."""
    with Kiosk(tmp_path, row("health"), row("voice")) as kiosk:
        first = kiosk.state("health", NodeState.READY)
        kiosk.state("voice", NodeState.READY)
        context = zmq.Context(1)
        path = link_path(kiosk.supervisor.run_dir, "nodes")
        events = Subscriber(context, path, topology.prefix("nodes"), NodeEvent, topology.link("nodes").kind.value)
        try:
            os.kill(first, signal.SIGKILL)
            heard: dict[str, tuple[NodeState, int]] = {}
            deadline = time.monotonic() + LIMIT_S
            while heard != {"health": (NodeState.READY, 1), "voice": (NodeState.READY, 0)}:
                assert time.monotonic() < deadline, heard
                select.select([events.fd], [], [], 0.1)
                heard |= {event.node: (event.state, event.restarts) for event in events.receive() if event.again}
        finally:
            events.close()
            context.destroy(linger=0)


def test_a_node_whose_start_hangs_does_not_keep_the_screen_black(tmp_path):
    """The kiosk waits for a node that it can do without in its first start only, and only until that is given up as stuck."""
    needed = Node("stage", "tests.support.nodes.well", cpu_pct=1, pss_mb=50, beat_s=0.2, essential=True)
    kiosk = Kiosk(tmp_path, needed, row("voice")).supervisor
    starting = Life(row("voice"), state=NodeState.STARTING, alive=True)
    try:
        kiosk.lives = {"stage": Life(needed, state=NodeState.READY, alive=True), "voice": starting}
        assert not kiosk._usable
        kiosk.lives["voice"], _ = decide(starting, Tick(0, ready=False), START_LIMIT_NS + 1)
        assert kiosk._usable
        kiosk.lives["voice"] = replace(starting, restarts=1)
        assert kiosk._usable
        kiosk.lives["stage"] = Life(needed, state=NodeState.STARTING, alive=True, restarts=1)
        assert not kiosk._usable
    finally:
        kiosk.stop()
        kiosk.run()


@pytest.mark.system
def test_a_node_that_the_system_refuses_to_start_is_tried_again(tmp_path, monkeypatch):
    """No processes left for a moment: the others run on, and the node comes when there is room."""
    popen = subprocess.Popen
    refused: list[str] = []

    def full(*arguments, **named):
        if not refused:
            refused.append("voice")
            raise BlockingIOError("Resource temporarily unavailable")
        return popen(*arguments, **named)

    monkeypatch.setattr(subprocess, "Popen", full)
    with Kiosk(tmp_path, row("voice"), row("dialogue")) as kiosk:
        kiosk.state("voice", NodeState.READY, restarts=1)
        kiosk.state("dialogue", NodeState.READY)
    assert refused


@pytest.mark.system
def test_nothing_is_left_after_a_stop(tmp_path):
    """All processes gone, even the deaf one; no directory, no descriptor, no shared memory."""
    before, shm = len(os.listdir("/proc/self/fd")), sorted(os.listdir("/dev/shm"))
    with Kiosk(tmp_path, row("voice"), row("dialogue", "deaf")) as kiosk:
        pids = [kiosk.state("voice", NodeState.READY), kiosk.state("dialogue", NodeState.READY)]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(tmp_path.glob("visavis-*")) == []
    assert sorted(os.listdir("/dev/shm")) == shm
    # The lock of the run directory stays open in this process on purpose, one descriptor.
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert STOP_LIMIT_S < 2


@pytest.mark.system
def test_nodes_end_when_the_supervisor_is_killed(tmp_path):
    """SIGKILL of the supervisor: the life-line breaks, every node ends and the run directory goes."""
    script = (
        "from runtime.supervisor import Supervisor\n"
        "from tests.runtime.test_supervisor import row\n"
        "s = Supervisor(nodes=(row('voice'), row('dialogue')), on_ready=lambda: print(*map(s.pid, s.lives), flush=True))\n"
        "s.run()\n"
    )
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    watched = [os.pidfd_open(pid) for pid in pids]
    process.kill()
    process.wait()
    process.stdout.close()
    for fd in watched:
        assert select.select([fd], [], [], 20)[0], "a node outlived its supervisor"
        os.close(fd)
    assert list(tmp_path.glob("visavis-*")) == []


def test_run_directories_of_dead_kiosks_are_swept(tmp_path):
    """A directory whose lock nobody holds is removed by the next start; a held one stays."""
    (tmp_path / "visavis-dead").mkdir()
    (tmp_path / "visavis-dead" / "lock").touch()
    living = make_run_dir()
    assert not (tmp_path / "visavis-dead").exists()
    make_run_dir()
    assert living.exists()
    assert living.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("bad", ["missing", "x" * 100])
def test_a_bad_runtime_directory_is_not_the_end(monkeypatch, tmp_path, bad):
    """XDG_RUNTIME_DIR of another login does not exist, or is too long for a socket's path: the directory is made elsewhere."""
    if bad != "missing":
        (tmp_path / bad).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / bad))
    with tempfile.TemporaryDirectory(prefix="vvk-") as other:
        monkeypatch.setattr(tempfile, "tempdir", other)
        assert make_run_dir().parent == Path(other)


def test_nowhere_to_put_the_sockets_is_said_in_one_line(monkeypatch):
    """The technician is told where, why and what to do."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc")
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    with pytest.raises(NoRunDir, match=r"/proc .*set XDG_RUNTIME_DIR"):
        make_run_dir()


def test_a_port_in_use_is_said_in_one_line():
    """The technician is told which port and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(PortInUse, match=r"port \d+ is in use: stop"):
        check_port(server.getsockname()[1])


def test_every_own_node_is_supervised():
    """The default set is the table without what others start."""
    assert {node.name for node in topology.NODES if node.external} == {"chromium"}
