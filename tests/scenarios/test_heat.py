"""A box gets hot: the picture gets less sharp, then a prepared loop moves, and nothing else happens. Real processes over a fake sysfs."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from runtime import topology
from runtime.bus import CommandSender, FrameDescriptor, Subscriber
from runtime.context import link_path
from runtime.governor_ladder import LOOP
from runtime.messages import Effort, Held, Hold, NodeEvent, NodeState
from runtime.supervisor import Supervisor
from tests.firmware import trees
from tests.support.running import LIMIT_S, Kiosk
from visavis.rehearse.kiosk import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

NEXT = "How can I pay?"


def throttle(root: Path, *, on: bool) -> None:
    """The hardware holds the clocks down, or lets them go."""
    trees.write(root / "sys/class/thermal/cooling_device1/cur_state", int(on))


class Bus:
    """Everything on some links, in order; of `video` every frame, none passed over."""

    def __init__(self, run_dir: Path, *links: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context(1)
        self._ends = {}
        for prefix, row in enumerate(topology.LINKS, start=1):
            if row.name in links:
                payload = row.payload or FrameDescriptor
                self._ends[row.name] = Subscriber(self._context, link_path(run_dir, row.name), prefix, payload, topology.Kind.STREAM.value)
        self.seen: dict[str, list[Any]] = {name: [] for name in links}

    def until(self, link: str, wanted: Callable[[Any], bool], why: str) -> None:
        """Listen until something on `link` is `wanted`; twice the usual limit, for nodes start here too."""
        deadline = time.monotonic() + 2 * LIMIT_S
        while time.monotonic() < deadline:
            came: dict[str, list[Any]] = {name: end.receive(20) for name, end in self._ends.items()}
            for name, messages in came.items():
                self.seen[name] += messages
            if any(wanted(message) for message in came[link]):
                return
        raise AssertionError(f"not within {2 * LIMIT_S:.0f} s: {why}")

    def sender(self, run_dir: Path, link: str) -> CommandSender[Any]:
        """The other node's end of a command link."""
        number, row = next((number, row) for number, row in enumerate(topology.LINKS, start=1) if row.name == link)
        assert row.payload is not None
        return CommandSender(self._context, link_path(run_dir, link), number, row.payload, row.deadline_ms, row.capacity)

    def close(self) -> None:
        """Let go of the bus."""
        for end in self._ends.values():
            end.close()
        self._context.destroy(linger=0)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Where the sockets are; their paths must be short."""
    with tempfile.TemporaryDirectory(prefix="vvh-") as folder:
        yield Path(folder)


def test_down_to_the_loop_and_back_without_losing_a_frame(tmp_path: Path, run_dir: Path) -> None:
    """The renderer follows a governor whose minutes are seconds: other shapes, one sequence without a gap, and nothing is restarted."""
    root = trees.orin(tmp_path / "box")
    config = tmp_path / "kiosk.toml"
    # With a rung that was chosen, nothing but the governor changes it, however busy the test's machine is.
    config.write_text(f'[firmware]\nroot = "{root}"\n[video]\nrung = "512"\n[stage]\nport = {free_port()}\n')
    quick = msgspec.structs.replace(topology.node("governor"), module="tests.support.nodes.quick_governor")
    (run_dir / "bus").mkdir()
    supervisor = Supervisor(config, nodes=(topology.node("renderer"), quick), run_dir=run_dir / "bus")
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    bus = Bus(run_dir / "bus", "video", "effort", "nodes")
    try:
        bus.until("effort", lambda effort: effort.rung == "512", "the governor governs")
        bus.until("video", lambda frame: frame.width == 512, "the face is drawn")
        bus.seen["nodes"].clear()  # on a starved machine the renderer may need a second start
        throttle(root, on=True)
        bus.until("effort", lambda effort: effort.rung == LOOP, "the last rung")
        bus.until("video", lambda frame: frame.width == 256, "the loop moves")
        throttle(root, on=False)
        trees.write(root / "sys/class/thermal/thermal_zone0/temp", 45_000)
        bus.until("video", lambda frame: frame.width == 512, "the face is back after a long calm")
    finally:
        bus.close()
        supervisor.stop()
        thread.join()
    frames: list[FrameDescriptor] = bus.seen["video"]
    assert [size for size, _ in groupby((frame.width, frame.height) for frame in frames)] == [(512, 512), (256, 256), (512, 512)]
    assert all(after.seq == before.seq + 1 for before, after in pairwise(frames))
    assert len({frame.epoch for frame in frames}) == 1
    asked = [effort.rung for effort in bus.seen["effort"]]
    assert [rung for rung, _ in groupby(asked)] == ["512", LOOP, "512"]
    assert not [event for event in bus.seen["nodes"] if event.state in (NodeState.DOWN, NodeState.GIVEN_UP)]


def test_a_rung_that_the_fleet_holds_is_drawn_and_given_back(tmp_path: Path, run_dir: Path) -> None:
    """Another shape from one frame to the next, and back when the time is over: one sequence without a gap, and nobody is told to end it.

    Heat goes before it: the loop moves while the best rung is held.
    """
    root = trees.orin(tmp_path / "box")
    config = tmp_path / "kiosk.toml"
    config.write_text(f'[firmware]\nroot = "{root}"\n[stage]\nport = {free_port()}\n')
    rungs = msgspec.structs.replace(topology.node("renderer"), module="tests.support.nodes.calm_renderer")
    quick = msgspec.structs.replace(topology.node("governor"), module="tests.support.nodes.quick_governor")
    (run_dir / "bus").mkdir()
    supervisor = Supervisor(config, nodes=(rungs, quick), run_dir=run_dir / "bus")
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    bus = Bus(run_dir / "bus", "video", "effort", "held")
    uplink = bus.sender(run_dir / "bus", "hold")
    try:
        bus.until("video", lambda frame: frame.width == 512, "the face is drawn")
        bus.until("held", lambda held: len(held.rungs) == 3, "the governor knows the rungs")
        uplink.send(Hold(0, 7, 2, 3))
        bus.until("video", lambda frame: frame.width == 256, "the rung that is held")
        bus.until("video", lambda frame: frame.width == 512, "the time is over")
        uplink.send(Hold(0, 8, 0, 600))
        bus.until("held", lambda held: (held.rung, held.taken_ns) == (0, 8), "the best rung is held")
        throttle(root, on=True)
        bus.until("effort", lambda effort: effort.rung == LOOP, "heat goes before")
    finally:
        uplink.close()
        bus.close()
        supervisor.stop()
        thread.join()
    frames: list[FrameDescriptor] = bus.seen["video"]
    assert [size for size, _ in groupby(frame.width for frame in frames)][:3] == [512, 256, 512]
    assert all(after.seq == before.seq + 1 for before, after in pairwise(frames))
    told: list[Held] = bus.seen["held"]
    assert [rung for rung, _ in groupby(held.rung for held in told)] == [-1, 2, -1, 0]


def figures(kiosk: Kiosk) -> dict[str, Any]:
    """What the governor says of itself in health.json."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        file = kiosk.run_dir / "health.json"
        nodes = json.loads(file.read_text())["nodes"] if file.exists() else {}
        values: dict[str, Any] = nodes.get("governor", {}).get("stats", {}).get("values", {})
        if values.get("setting", "").startswith(LOOP):
            return values
        kiosk.seen.wait("bus floor", since=kiosk.seen.mark())  # a second
    raise AssertionError("health.json never names the loop")


def test_talk_goes_on_at_the_last_rung_and_whoever_dies_comes_back_to_it(tmp_path: Path) -> None:
    """A throttled box answers over the prepared loop; governor and renderer are killed, and the picture gets no better for it."""
    root = trees.orin(tmp_path / "box")
    with Kiosk(tmp_path, f'[voice]\nrate = 1.6\n[firmware]\nroot = "{root}"\n') as kiosk:
        kiosk.seen.wait("bus effort", why="the governor governs")
        hot = kiosk.seen.mark()
        throttle(root, on=True)
        kiosk.seen.wait("bus effort", lambda effort: effort.rung == LOOP, since=hot, why="the last rung")
        kiosk.seen.wait("bus drawn", lambda drawn: drawn.rung == 3, since=hot, why="the loop is drawn")
        notice = kiosk.seen.wait("page notice", lambda notice: notice["code"] == "heat", since=hot)
        assert notice["text"].startswith("the hardware throttles: ")
        told = figures(kiosk)
        assert (told["heat_alarm"], told["rung_reason"]) == (True, "throttle")
        assert told["why"]

        # Not throttled any more, but too hot for a calm, however long the rest takes: nothing is given back.
        trees.write(root / "sys/class/thermal/thermal_zone0/temp", 96_000)
        throttle(root, on=False)
        since = kiosk.seen.mark()
        kiosk.ask(NEXT)
        assert "cash" in kiosk.finished(since).text
        kiosk.seen.wait("page frame", lambda frame: frame["pts"] >= 0, since=since, why="the loop moves while it speaks")

        for name in ("governor", "renderer"):
            dead = kiosk.seen.mark()
            kiosk.kill(name)
            kiosk.back(name, dead)
            back = kiosk.seen.mark()
            kiosk.seen.wait("bus effort", since=back, why="the governor governs")
            kiosk.seen.wait("bus drawn", lambda drawn: drawn.rung == 3, since=back, why="the loop is drawn again")
        efforts: list[Effort] = kiosk.seen.all("bus effort", since)
        assert {effort.rung for effort in efforts} == {LOOP}
        assert {frame.width for frame in kiosk.seen.all("bus video", since)} == {256}
        events: list[NodeEvent] = kiosk.seen.all("bus nodes", hot)
        assert {event.node for event in events if event.state is NodeState.DOWN} == {"governor", "renderer"}
