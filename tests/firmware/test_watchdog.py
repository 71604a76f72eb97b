"""Pings say that every node made progress. A real AF_UNIX socket stands where systemd listens."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.notify import Notifier
from firmware.watchdog import LIMIT_NS, SECOND, SETTLED_NS, STALL_NS, Progress, Seen, Watchdog, judge


class Manager:
    """systemd's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """All lines that have arrived."""
        lines: list[str] = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return lines


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A listening manager."""
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


def watchdog(manager: Manager, watchdog_s: int = 20) -> Watchdog:
    """A watchdog as systemd's environment makes it."""
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(watchdog_s * 1_000_000), "WATCHDOG_PID": str(os.getpid())}
    return Watchdog(Notifier.from_environment(environ, os.getpid()))


def test_the_socket_may_be_abstract() -> None:
    """An address with @ is one without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(b"\0visavis-test-notify-%d" % os.getpid())
        assert Notifier(f"@visavis-test-notify-{os.getpid()}").send(READY=1, STATUS="two\nlines")
        assert end.recv(100) == b"READY=1\nSTATUS=two"


@pytest.mark.parametrize(
    ("environ", "active", "period"),
    [
        ({}, False, 0),
        ({"NOTIFY_SOCKET": ""}, False, 0),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, False, 0),
        ({"WATCHDOG_USEC": "5"}, False, 0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000"}, True, 3 * SECOND),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, True, 0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"}, True, 0),
    ],
)
def test_what_the_environment_says(environ: dict[str, str], active: bool, period: int) -> None:
    """Only a socket makes it active; a watchdog for another process is none."""
    notifier = Notifier.from_environment(environ, 4711)
    assert (notifier.active, notifier.watchdog_ns) == (active, period)


def test_without_a_manager_nothing_happens() -> None:
    """No NOTIFY_SOCKET: no ping, no error, and the nodes are not even looked at."""
    dog = Watchdog(Notifier.from_environment({}, os.getpid()))
    dog.progress((Progress("never", 1 // 0, True) for _ in range(1)), True, 0)
    dog.stopping()
    assert not dog.active


def test_a_manager_that_went_away_is_no_error(tmp_path: Path) -> None:
    """The socket is gone: nothing is sent and nothing is raised."""
    assert not Notifier(str(tmp_path / "gone")).send(WATCHDOG=1)


def test_start_extends_then_ready_once(manager: Manager) -> None:
    """While nodes load the start limit is extended; the first usable moment is READY=1, once."""
    dog = watchdog(manager)
    dog.progress([Progress("renderer", 0, False, essential=True)], False, 0)
    assert manager.heard() == ["STATUS=not there: renderer", "EXTEND_TIMEOUT_USEC=30000000", "WATCHDOG=1"]
    dog.progress([Progress("renderer", 1, True, essential=True)], True, 2 * SECOND)
    assert manager.heard() == ["STATUS=all nodes work", "READY=1"]
    dog.progress([Progress("renderer", 9, True, essential=True)], True, 6 * SECOND)
    assert manager.heard() == ["WATCHDOG=1"]
    dog.stopping()
    assert manager.heard() == ["STOPPING=1"]


def test_loading_for_ever_is_not_extended_for_ever(manager: Manager) -> None:
    """An essential node that does not come: after the limit systemd may act."""
    dog = watchdog(manager)
    for second in range(0, 200, 5):
        dog.progress([Progress("renderer", 0, False, essential=True)], False, second * SECOND)
    assert sum(line.startswith("EXTEND") for line in manager.heard()) == LIMIT_NS // (5 * SECOND) + 1


def test_pings_come_at_half_the_interval(manager: Manager) -> None:
    """Called 20 times a second, it pings twice per WatchdogSec or every 5 s, whichever is more often."""
    dog = watchdog(manager, watchdog_s=4)
    for step in range(200):
        dog.progress([Progress("stage", step, True)], True, step * SECOND // 20)
    assert manager.heard().count("WATCHDOG=1") == 5


def test_a_still_node_stops_the_pings(manager: Manager) -> None:
    """A node that works but makes no progress, and that nobody restarts, holds the ping back; the status names it."""
    dog = watchdog(manager)
    beats = 0
    for second in range(100):
        beats += second < 50
        dog.progress([Progress("stage", second, True), Progress("dialogue", beats, True)], True, second * SECOND)
    heard = manager.heard()
    assert heard.count("WATCHDOG=1") == (50 + STALL_NS // SECOND) // 5
    assert heard[-1] == "STATUS=stuck: dialogue"


def test_a_restart_of_one_node_is_no_matter(manager: Manager) -> None:
    """The supervisor restarts a node, essential or not: the pings go on."""
    dog = watchdog(manager)
    for second in range(100):
        away = 40 <= second < 45
        dog.progress([Progress("renderer", 0 if away else second, not away, essential=True)], True, second * SECOND)
    assert manager.heard().count("WATCHDOG=1") == 20


def test_a_feature_that_is_gone_is_not_the_kiosk(manager: Manager) -> None:
    """A node that is not essential may stay away for good."""
    dog = watchdog(manager)
    for second in range(0, 1000, 5):
        dog.progress([Progress("renderer", second, True, essential=True), Progress("recogniser", 0, False)], True, second * SECOND)
    assert manager.heard().count("WATCHDOG=1") == 200


def test_working_for_a_second_between_crashes_is_not_working(manager: Manager) -> None:
    """An essential node that keeps crashing is away, though it is back for moments: the pings stop."""
    dog = watchdog(manager)
    for second in range(400):
        dog.progress([Progress("stage", second, second % 10 == 0, essential=True)], True, second * SECOND)
    heard = manager.heard()
    assert heard.count("WATCHDOG=1") <= (LIMIT_NS // SECOND + 10) // 5
    assert heard[-1] == "STATUS=stuck: stage"


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.booleans()), min_size=1, max_size=60),
    st.booleans(),
)
def test_a_node_that_is_stuck_was_so_for_its_whole_limit(steps: list[tuple[int, int, bool]], essential: bool) -> None:
    """Whatever a node does: it is called stuck exactly when it stood still, or was away and not settled, for longer than allowed."""
    seen: dict[str, Seen] = {}
    now, beats = 0, 0
    history: list[tuple[int, int, bool]] = []
    for seconds, progress, ready in steps:
        now += seconds * SECOND
        beats += progress
        history.append((now, beats, ready))
        seen, stuck = judge(seen, [Progress("node", beats, ready, essential)], now)
        still = ready and now - _since_moved(history) > STALL_NS
        away = essential and (since := _since_away(history)) is not None and now - since > LIMIT_NS
        assert stuck == (("node",) if still or away else ())


def _since_moved(history: list[tuple[int, int, bool]]) -> int:
    """When the working node last moved or began to work, told from its whole history."""
    since = history[0][0]
    for (_, beats, ready), (at, beats_now, _) in pairwise(history):
        if not ready or beats != beats_now:
            since = at
    return since


def _since_away(history: list[tuple[int, int, bool]]) -> int | None:
    """Since when the node is not settled, told from its whole history."""
    away: int | None = None
    works_since: int | None = None
    for at, _, ready in history:
        if not ready:
            works_since, away = None, at if away is None else away
        elif works_since is None:
            works_since = at
        elif at - works_since >= SETTLED_NS:
            away = None
    return away
