"""Several controllers with the same projections: one of them speaks, and the next one begins when it has fallen silent."""

from __future__ import annotations

import pytest

import runtime.telemetry as t
from fleet import controller, lease
from fleet.config import Config, with_options
from fleet.outside import outside
from tests.fleet.house import House
from tests.fleet.projections.test_projections import both, elsewhere, hosts, tell  # noqa: F401 - fixtures
from tests.fleet.support import Fleet, Stranger

pytestmark = [pytest.mark.system, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]


@pytest.fixture
def house(cluster, tmp_path, monkeypatch):
    """A PostgreSQL and a broker that controllers share, whose lease is over soon."""
    for module in (lease, controller):
        monkeypatch.setattr(module, "LEASE_MS", 6_000)
    monkeypatch.setattr(lease, "_SURE_MS", 3_000)
    made = House(tmp_path, cluster.database(), names=("a", "b", "c"))
    yield made
    made.close()


@pytest.fixture
def begin(house, elsewhere):  # noqa: F811 - the fixture
    """Begins controllers that all show the boxes at another broker, and ends those that still run."""
    made = []

    def make(name):
        place = outside(f"mqtts://localhost:{house.settings.broker_port}", controller=name)
        config = with_options(Config(), **both(elsewhere))
        made.append(Fleet(house.folder / name, database=house.url, outside=place, config=config, lease_s=0.3))
        return made[-1]

    yield make
    for one in made:
        if one.thread.is_alive():
            one.stop()


def told(host, decode):
    """What hosts that speak Sparkplug heard of the node: verb and bdSeq."""
    return [
        (message.topic.split("/")[2], next(m["value"] for m in decode(message.payload)["metrics"] if m["name"] == "bdSeq"))
        for message in host.came
        if message.topic in ("spBv1.0/Stores/NBIRTH/visavis", "spBv1.0/Stores/NDEATH/visavis")
    ]


def test_one_speaks_and_the_next_after_it(house, begin, hosts, elsewhere, decode):  # noqa: F811 - fixtures
    """The one that leads is born, the other says nothing. Stopped in order, or without a word to the store: the one dies to the hosts,
    then the next is born with another number, with the boxes, and Home Assistant ends with what is so.
    """
    host = hosts(elsewhere)
    first, second = begin("a"), begin("b")
    first.do(first.controller.projections.told())
    box = Stranger(house, house.enrol("box-1"), "box-1")
    try:
        tell(box, temperature=60.0)
        host.wait(lambda _: "DBIRTH" in host.verbs())
        for number in range(10):  # each comes to one of the two controllers
            assert box.say(t.UpKind.HEALTH, t.Health(m={"temperature": 61.0 + number})) == 0
        host.wait(lambda _: b'"temperature":70' in (host.last("visavis-fleet/default/box-1/state") or b"").replace(b" ", b""))
        assert [feed.connects for feed in second.controller.projections.feeds] == [0, 0]
        assert told(host, decode) == [("NBIRTH", 0)]
        first.stop()
        host.wait(lambda _: host.verbs().count("DBIRTH") == 2)
        heard = told(host, decode)
        assert (heard[0], heard[-1]) == (("NBIRTH", 0), ("NBIRTH", 1))
        assert set(heard[1:-1]) == {("NDEATH", 0)}
        third = begin("c")
        for task in second.controller._leading:  # the store does not hear from it any more
            second.call(task.cancel)
        host.wait(lambda _: host.verbs().count("DBIRTH") == 3)
        heard = told(host, decode)[len(heard) :]
        assert heard[-1] == ("NBIRTH", 2)
        assert set(heard[:-1]) == {("NDEATH", 1)}
        assert [feed.connects for feed in third.controller.projections.feeds] == [1, 1]
        host.wait(lambda _: host.last("visavis-fleet/default/availability") == b"online")
    finally:
        box.close()
