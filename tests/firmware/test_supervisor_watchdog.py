"""The supervisor tells systemd how the kiosk is: real nodes, a real notification socket."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from firmware.notify import Notifier
from runtime.supervisor import Supervisor
from runtime.topology import Node

WATCHDOG_US = 400_000


def row(name: str, *, essential: bool = False) -> Node:
    """A test node under a real node's name, so that it has that node's links."""
    return Node(name, "tests.support.nodes.well", cpu_pct=1, pss_mb=50, beat_s=0.2, essential=essential)


def until(manager: socket.socket, wanted: str) -> list[str]:
    """All lines up to the wanted one; fails after half a minute without any."""
    lines: list[str] = []
    while wanted not in lines:
        lines += manager.recv(4096).decode().splitlines()
    return lines


@pytest.mark.system
def test_the_manager_hears_start_progress_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ready before the nodes are, then READY=1 and pings, also after a node was killed; STOPPING=1 at the end."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(WATCHDOG_US)}, os.getpid())
        supervisor = Supervisor(nodes=(row("voice"), row("renderer", essential=True)), notifier=notifier)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        try:
            before = until(manager, "READY=1")
            assert before[0].startswith("STATUS=not there: ")
            assert "EXTEND_TIMEOUT_USEC=30000000" in before
            until(manager, "WATCHDOG=1")
            pid = supervisor.pid("renderer")
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            until(manager, "STATUS=not there: renderer")
            until(manager, "STATUS=all nodes work")
            until(manager, "WATCHDOG=1")
        finally:
            supervisor.stop()
            thread.join()
        assert until(manager, "STOPPING=1").count("READY=1") == 0
