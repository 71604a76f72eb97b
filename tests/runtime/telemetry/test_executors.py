"""What a box does for a command, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import msgspec
import pytest

import runtime.telemetry as t
from firmware.errors import FirmwareError
from firmware.ladder import Step
from runtime import topology
from runtime.bus import LinkStats, RingStats
from runtime.telemetry.collect import House, NodeView, StatsView
from runtime.telemetry.commands import COMMANDS, Brightness, Governor, Language, LogLevel, NoArgs, RestartNode, Snapshot, Volume
from runtime.telemetry.executors import MOST_REPORT, Done, Executors, diagnostics, node_pids
from runtime.telemetry.selfcheck import self_check
from tests.runtime.telemetry.support import HandTimes
from tests.support.harness import LIMIT_S, Bench

NODE = (
    "import ctypes, signal, sys\n"
    "signal.signal(signal.SIGUSR2, lambda *_: print('level', flush=True))\n"
    "ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)\n"
    "print('up', flush=True)\n"
    "sys.stdin.read()\n"
)


class Scene:
    """Executors with this very process as the supervisor, and nodes that only live."""

    def __init__(self, tmp_path, step=None):
        self.times, self.run_dir, self.stopped = HandTimes(), tmp_path, asyncio.Event()
        self.bench = Bench()
        ring = topology.link("video").ring
        self.executors = Executors(
            times=self.times,
            run_dir=tmp_path,
            supervisor=os.getpid(),
            ring=(ring, self.bench.rings["video"]),
            step=step,
            report=lambda: {"nodes": {}},
            check=lambda: {"one": True, "two": False},
            stop=self.stopped.set,
            set=self.set,
            hold=self.hold,
            switch=self.switch,
        )
        self.nodes, self.settings = [], []

    def set(self, name, value):
        """The lever of a setting: all but French can be had."""
        if value == "fr":
            return "the pack does not have it; it has en-GB"
        self.settings.append((name, value))
        return ""

    async def hold(self, rung, minutes):
        """The governor's hand, which this one has notes of."""
        self.settings.append((rung, minutes))
        return Done(t.Outcome.DONE, "", {"until_ms": 1})

    async def switch(self, pack):
        """All but the tea bar can serve."""
        return Done(t.Outcome.REFUSED, "it is not installed") if pack == "tea-bar" else Done(t.Outcome.DONE, result={"pack": pack})

    def node(self, name):
        """Start a process of this name."""
        self.nodes.append(subprocess.Popen([sys.executable, "-c", NODE, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert self.nodes[-1].stdout.readline() == "up\n"
        return self.nodes[-1]

    def run(self, name, args):
        return asyncio.run(self.executors.run(name, args))

    def close(self):
        for node in self.nodes:
            node.communicate()
        self.bench.__exit__(None, None, None)


@pytest.fixture
def house(tmp_path):
    house = Scene(tmp_path)
    yield house
    house.close()


def test_only_nodes_are_found(house):
    """Children that are called vv-NODE, by name; other children are nobody's business."""
    voice = house.node("vv-voice")
    house.node("bystander")
    assert node_pids(os.getpid()) == {"voice": voice.pid}


def test_restart_of_one_node(house):
    """That node is told to end, the others live on; one that does not run is said so."""
    voice, dialogue = house.node("vv-voice"), house.node("vv-dialogue")
    assert house.run("restart_node", RestartNode(node="voice")).outcome is t.Outcome.DONE
    assert voice.wait(LIMIT_S) == -15
    assert dialogue.poll() is None
    assert house.run("restart_node", RestartNode(node="listener")).outcome is t.Outcome.FAILED


def test_the_uplink_restarts_itself_after_its_answer(house):
    """The answer comes first."""

    async def whole():
        done = await house.executors.run("restart_node", RestartNode(node="uplink"))
        assert done.outcome is t.Outcome.DONE
        assert not house.stopped.is_set()
        await house.stopped.wait()

    asyncio.run(whole())


def test_a_log_level_for_a_while(house):
    """Nodes are told at once, and again when the time is over or a new uplink finds what the one before left."""
    voice, file = house.node("vv-voice"), house.run_dir / "log-level"
    done = house.run("log_level", LogLevel(level="debug", minutes=2))
    assert done.result["until_ms"] == house.times.wall + 120_000
    assert voice.stdout.readline() == "level\n"
    house.times.advance(119)
    house.executors.tick()
    assert file.read_text() == "DEBUG"
    house.times.advance(1)
    house.executors.tick()
    assert not file.exists()
    assert voice.stdout.readline() == "level\n"
    file.write_text("DEBUG")
    house.executors.resume()
    assert not file.exists()
    assert voice.stdout.readline() == "level\n"


def test_restarts_of_more_are_asked_of_the_box(tmp_path):
    """The kiosk and the machine are restarted by whoever may; a refusal is an answer without the system's words."""
    asked = []

    def step(what):
        asked.append(what)
        if what is Step.REBOOT:
            raise FirmwareError("systemctl reboot: Interactive authentication required for /secret/path")

    house = Scene(tmp_path, step)
    assert house.run("restart_service", NoArgs()).outcome is t.Outcome.DONE
    done = house.run("restart_box", NoArgs())
    assert (done.outcome, done.reason) == (t.Outcome.FAILED, "the system refused (FirmwareError)")
    assert asked == [Step.SERVICE, Step.REBOOT]
    house.close()


def test_what_cannot_be_done_is_said_honestly(house):
    """Every command of the contract is carried out here or answered with what is missing."""
    for row in COMMANDS:
        if row.name not in house.executors.names:
            done = house.run(row.name, None)
            assert done.outcome is t.Outcome.UNSUPPORTED
            assert len(done.reason) > 10
    assert house.run("snapshot", Snapshot()).reason == "no frame was drawn"


def test_what_the_page_begins_with_is_set_by_the_lever(house):
    """Volume, brightness and language move the lever of the setting of that name; what it says against it is the answer's reason."""
    assert house.run("volume", Volume(level=0.5)).outcome is t.Outcome.DONE
    assert house.run("brightness", Brightness(level=0.4)).outcome is t.Outcome.DONE
    assert house.run("language", Language(tag="en-GB")).outcome is t.Outcome.DONE
    assert house.settings == [("volume", 0.5), ("brightness", 0.4), ("language", "en-GB")]
    done = house.run("language", Language(tag="fr"))
    assert (done.outcome, done.reason) == (t.Outcome.REFUSED, "the pack does not have it; it has en-GB")


def test_a_rung_is_held_by_the_governor(house):
    """Rung and minutes get there, and its answer is the command's."""
    assert house.run("governor", Governor(rung=1, minutes=30)).result == {"until_ms": 1}
    assert house.settings == [(1, 30)]


def test_a_self_test_passes_only_whole(house):
    """One check that fails is a box that failed."""
    assert house.run("self_test", NoArgs()).result == {"passed": False, "checks": {"one": True, "two": False}}


def well(**changes):
    """A kiosk that is all right, at second 100."""
    ring = RingStats("video", "writer", 1, 0, 0, 3000, {}, heartbeat_ns=99 * 10**9)
    nodes = {
        "renderer": NodeView("ready", 0, None, StatsView(rings={"video": ring})),
        "stage": NodeView("ready", 0, None, StatsView(values={"page_fps": 30.0})),
        "supervisor": NodeView(),
    }
    return House(t_ns=99 * 10**9, nodes=nodes | changes)


GOOD = {"memory_free": 0.5, "disk_free": 0.5, "temperature": 60.0, "load": 0.3, "clock_synced": True, "throttled": False}


@pytest.mark.parametrize(
    ("house", "figures", "disk", "failed"),
    [
        (well(), GOOD, True, set()),
        (None, GOOD, True, {"health_told"}),
        (well(), GOOD, False, {"outbox_on_disk"}),
        (well(voice=NodeView("given_up")), GOOD, True, {"nodes_ready"}),
        (well(renderer=NodeView("ready")), GOOD, True, {"face_drawn"}),
        (well(stage=NodeView("ready", 0, None, StatsView(values={"page_fps": 0.0}))), GOOD, True, {"page_draws"}),
        (well(), GOOD | {"disk_free": 0.01, "temperature": 96.0}, True, {"disk_free", "temperature"}),
        (well(), GOOD | {"clock_synced": False, "throttled": True}, True, {"clock_synced", "not_throttled"}),
        (well(), {}, True, set()),
    ],
)
def test_what_a_self_test_looks_at(house, figures, disk, failed):
    """Nodes, face, page, disk, memory, heat, clock; what cannot be known is not judged."""
    checks = self_check(house, figures, disk_takes=disk, now_ns=100 * 10**9)
    assert {name for name, passed in checks.items() if not passed} == failed


def test_diagnostics_are_bounded():
    """A kiosk with absurdly many counters: the details go until the report fits."""
    links = {row.name: LinkStats(name="x", kind="stream", role="sender", sent=10**15) for row in topology.LINKS}
    nodes = {row.name: NodeView("ready", 1, None, StatsView(links=links, unsent=dict.fromkeys(links, 10**15))) for row in topology.NODES}
    report = diagnostics(House(nodes=nodes), {})
    assert report["nodes"]["voice"]["links"]["speech"]["sent"] == 10**15
    assert "name" not in report["nodes"]["voice"]["links"]["speech"]
    long = diagnostics(House(nodes=nodes), {"filler": "x" * (MOST_REPORT - 20_000)})
    assert len(msgspec.json.encode(long)) <= MOST_REPORT
    assert "links" not in long["nodes"]["voice"]
