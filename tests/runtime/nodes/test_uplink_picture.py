"""The picture's rung from the fleet: broker, uplink, bus and governor are real; its box is a fake sysfs and a clock turned by hand."""
# ruff: noqa: F401, F811 - the fixtures are the neighbour's

from __future__ import annotations

import itertools
import time

import msgspec
import pytest

import runtime.telemetry as t
from firmware.sensors import Sensors
from runtime import messages as m
from runtime import topology
from runtime.clock import ManualClock
from runtime.nodes.governor import Governor
from tests.firmware import trees
from tests.runtime.nodes.test_uplink import ask, bodies, box, broker, command, controller, party, shadows
from tests.support.harness import LIMIT_S

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

NS = 1_000_000_000
RUNGS = (m.RungSize("512", 512, 512), m.RungSize("384", 384, 384), m.RungSize("256", 256, 256))


class Governed:
    """A governor on the box's bus, over the sysfs of an Orin; each look is a second later."""

    def __init__(self, box, root):
        self.box, self.clock, self.rungs = box, ManualClock(1000 * NS), RUNGS
        self.root, self.frames = trees.orin(root), 0
        self.renderer, self.supervisor = box.bench.context("renderer"), box.bench.context(topology.SUPERVISOR)
        self.start()

    def start(self):
        """Begin a life of the node."""
        self.ctx = self.box.bench.context("governor", self.clock)
        self.governor = Governor(self.ctx, Sensors(self.root, nvml=False), None, self.root)

    def until(self, wanted, every_s=1.0):
        """Look until what the test waits for is there."""
        deadline = time.monotonic() + LIMIT_S
        while not wanted():
            assert time.monotonic() < deadline
            self.clock.advance(every_s)
            self.frames += 30
            for _, message in self.ctx.receive(0.02):
                self.governor.handle(message)
            self.governor.handle(m.Drawn(0, 0, self.frames, 0, 0, self.rungs))
            self.governor.tick()

    def ask(self, controller, **args):
        """Send the command, and look until it is answered."""
        sent = command("governor", args=args)
        controller.send("acme", "box-1", t.DownKind.COMMAND, sent, expiry=60)
        self.until(lambda: sent.id in controller.answers)
        return controller.answers[sent.id]

    @property
    def rung(self):
        """The rung in force."""
        return self.governor.setting.rung if self.governor.setting else ""


def held(controller):
    """The rungs that were reported as held, one after another; None where none was."""
    told = [None if body.held_rung is msgspec.UNSET else body.held_rung for body in bodies(controller, t.UpKind.SHADOW)]
    return [rung for rung, _ in itertools.groupby(told)]


def knows(box, rungs):
    """Whether the uplink knows that the governor has so many rungs."""
    return len(getattr(box.node._picture._told, "rungs", ())) == rungs


def test_a_rung_is_held_reported_and_given_back(box, controller, tmp_path):
    """The answer says until when, and so do the settings that are reported; the end comes by itself, and is reported too."""
    controller.wait(lambda c: shadows(c, 0))
    house = Governed(box, tmp_path / "orin")
    house.until(lambda: knows(box, 3))
    before = box.times.wall_ms()
    done = house.ask(controller, rung=2, minutes=30)
    assert done.outcome is t.Outcome.DONE
    assert before < done.result["until_ms"] <= box.times.wall_ms() + 30 * 60_000
    assert house.rung == "256"
    controller.wait(lambda c: held(c)[-1] == 2)
    assert house.ask(controller, rung=1, minutes=30).outcome is t.Outcome.DONE  # in place of the other
    assert house.rung == "384"
    house.until(lambda: house.rung == "512", 30.0)
    controller.wait(lambda c: held(c) == [None, 2, 1, None])


def test_what_cannot_be_held_is_refused_with_the_reason(box, controller, tmp_path):
    """No governor yet, a rung that the face does not have, one better than the settings allow, and a face with a single one."""
    early = ask(controller, command("governor", args={"rung": 1, "minutes": 5}))
    assert (early.outcome, early.reason) == (t.Outcome.REFUSED, "the governor does not know the rungs yet: no renderer draws")
    house = Governed(box, tmp_path / "orin")
    house.until(lambda: knows(box, 3))
    far = house.ask(controller, rung=3, minutes=5)
    assert (far.outcome, far.reason) == (t.Outcome.REFUSED, "this box has rungs 0 to 2 (512, 384, 256)")
    controller.send("acme", "box-1", t.DownKind.SHADOW, t.Shadow(version=3, desired={"rung": 1}))
    controller.wait(lambda c: shadows(c, 3))
    assert shadows(controller, 3)[0].reported["rung"] == 1
    house.until(lambda: house.rung == "384")
    better = house.ask(controller, rung=0, minutes=5)
    assert (better.outcome, better.reason) == (
        t.Outcome.REFUSED,
        "the settings wanted of this box name 1 as its best rung: change it there",
    )
    house.rungs = RUNGS[1:2]
    house.until(lambda: knows(box, 1))
    single = house.ask(controller, rung=0, minutes=5)
    assert (single.outcome, single.reason[:33]) == (t.Outcome.REFUSED, "only one rung can be drawn here: ")
    controller.send("acme", "box-1", t.DownKind.SHADOW, t.Shadow(version=4, desired={"rung": 1}))
    controller.wait(lambda c: shadows(c, 4))
    assert shadows(controller, 4)[0].refused["rung"] == single.reason


def test_a_governor_that_does_not_answer_is_a_failure(box, controller, tmp_path, monkeypatch):
    """It was there and does not look any more: the sender is told, not left waiting."""
    monkeypatch.setattr("runtime.telemetry.picture._ANSWER_S", 0.2)
    controller.wait(lambda c: shadows(c, 0))
    house = Governed(box, tmp_path / "orin")
    house.until(lambda: knows(box, 3))
    done = ask(controller, command("governor", args={"rung": 1, "minutes": 5}))
    assert (done.outcome, done.reason) == (t.Outcome.FAILED, "the governor does not answer")


def test_the_setting_reaches_each_life_of_the_governor(box, controller, tmp_path):
    """Started with nothing of the life before, it is told the setting again; a new uplink takes back what nobody wants any more."""
    controller.wait(lambda c: shadows(c, 0))
    house = Governed(box, tmp_path / "orin")
    controller.send("acme", "box-1", t.DownKind.SHADOW, t.Shadow(version=3, desired={"rung": 2}))
    house.until(lambda: house.rung == "256")
    house.ctx.checkpoint.save(b"")
    box.bench._contexts.remove(house.ctx)
    house.ctx.close()
    house.start()

    def again():
        house.supervisor.publish("nodes", m.NodeEvent(0, 1, "governor", m.NodeState.READY, 1))
        return house.rung == "256"

    house.until(again)
    box.stop()
    house.governor.handle(m.Hold(0, 1, 1, 0))  # of an uplink that has died before it could take it back
    controller.send("acme", "box-1", t.DownKind.SHADOW, t.Shadow(version=4, desired={}))
    box.start()
    house.until(lambda: house.rung == "512")
