"""The change of the pack on its links: a wish and the floor come in, the supervisor is told which nodes to start anew."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import zmq

from runtime import topology
from runtime.changeover import CALM_NS
from runtime.messages import Floor, NodeState, PackPhase, PackWanted, Posture, Session
from runtime.packdesk import PackDesk
from runtime.supervision import Announce, Life
from runtime.supervisor import OWN_NODES
from tests.support.harness import LIMIT_S, Bench

OTHERS = ("conductor", "dialogue", "voice")


class House:
    """A desk between the uplink, which wishes for a pack, and a conductor who says that nobody is there."""

    def __init__(self, bench: Bench, context: zmq.Context) -> None:
        self.uplink, self.conductor = bench.context("uplink"), bench.context("conductor")
        self.desk = PackDesk(context, bench.run_dir, "/packs/coffee", OWN_NODES)
        self.lives = {row.name: Life(row, state=NodeState.READY) for row in OWN_NODES}
        self.now = 10**12

    def step(self) -> tuple[str, ...]:
        """A moment passes."""
        self.now += CALM_NS // 20
        self.conductor.publish("floor", Floor(0, 0, Posture.IDLE, Session.ATTRACT, 1, 0))
        return self.desk.step(self.lives, self.now)

    def told(self) -> tuple[str, PackPhase]:
        """What the uplink heard last of the pack that serves, and of the change."""
        heard = [message for link, message in self.uplink.receive(0.02) if link == "pack"]
        return (heard[-1].pack, heard[-1].phase) if heard else ("", PackPhase.SERVES)

    def until_renewed(self) -> tuple[str, ...]:
        """The next nodes that have to be started anew."""
        deadline = time.monotonic() + LIMIT_S
        while not (renewed := self.step()):
            assert time.monotonic() < deadline
            self.uplink.receive(0.005)
        return renewed

    def state(self, name: str, state: NodeState, reason: str = "") -> None:
        """A node's life goes on."""
        self.lives[name] = Life(topology.node(name), state=state)
        self.desk.announced(name, Announce(state, reason), self.now)


@pytest.fixture
def house() -> Iterator[House]:
    """The desk, and a wish for tea on its way."""
    context = zmq.Context(1)
    with Bench() as bench:
        house = House(bench, context)
        deadline = time.monotonic() + LIMIT_S
        while house.told()[0] != "/packs/coffee":
            house.step()
            assert time.monotonic() < deadline
        house.uplink.send("wish", PackWanted(0, 0, "/packs/tea", 1, house.now + 10**13))
        yield house
        house.desk.close()
    context.destroy(linger=0)


def test_a_box_without_ears_gets_its_pack(house: House) -> None:
    """A recogniser that is given up, and falls whenever it is tried, does not keep the others from the new pack, and has it at the end."""
    house.state("recogniser", NodeState.GIVEN_UP, "cannot work here")
    for name in OTHERS:
        assert house.until_renewed() == (name,)
        assert house.desk.pack_of(name) == "/packs/tea"
        assert house.desk.pack_of("recogniser") == "/packs/coffee"
        house.state("recogniser", NodeState.STARTING)
        house.state("recogniser", NodeState.GIVEN_UP, "cannot work here")
        house.state(name, NodeState.READY)
    assert house.until_renewed() == ("recogniser",)
    assert {house.desk.pack_of(row.name) for row in OWN_NODES} == {"/packs/tea"}


def test_a_node_that_is_about_to_come_back_is_waited_for(house: House) -> None:
    """One that fell a moment ago would look as if it could not run: the change begins when it is ready, and with it."""
    house.state("recogniser", NodeState.DOWN, "exited with status 1")
    deadline = time.monotonic() + LIMIT_S
    while house.told()[1] is not PackPhase.WAITS:
        assert house.step() == ()
        assert time.monotonic() < deadline
    for _ in range(50):
        assert house.step() == ()
    house.state("recogniser", NodeState.READY)
    assert house.until_renewed() == ("recogniser",)
