"""Several controllers on one PostgreSQL and one broker: every message counts once, and one of them leads, whoever is killed."""

from __future__ import annotations

import itertools
import shutil
import signal
import threading
from contextlib import suppress

import pytest

import runtime.telemetry as t
from fleet import controller, inventory, journal, lease
from fleet.controller import Controller, Settings
from fleet.errors import BadRequest, DataInUse
from fleet.outside import outside
from tests.fleet.house import House
from tests.fleet.support import Box, Fleet, SetTimes, Stranger
from tests.runtime.telemetry.support import Cable, free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

STATUS = t.Status(state="online", since=1)


@pytest.fixture
def house(cluster, tmp_path):
    made = House(tmp_path, cluster.database())
    yield made
    made.close()


@pytest.fixture
def stranger(house):
    made = []

    def make(name, folder=None, **more):
        made.append(Stranger(house, folder or house.enrol(name), name, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Teller(threading.Thread):
    """A box that tells events until it is stopped, again what was not acknowledged, and much of it twice; `ledger` is what it told."""

    def __init__(self, stranger):
        super().__init__(daemon=True)
        self.stranger, self.ledger, self._stop_it = stranger, {}, threading.Event()

    def run(self):
        for number in itertools.count(1):
            if self._stop_it.wait(0.05):
                break
            message = self.stranger.envelope(t.UpKind.EVENT, t.EventBody(code="kiosk_started"))
            self.ledger[message.seq] = message
            self._tell(message)
            if number % 3 == 0:
                self._tell(message)
        while missing := self.ledger.keys() - self.stranger.acked():
            for seq in sorted(missing)[:50]:
                self._tell(self.ledger[seq])
            self.acked_more(missing)

    def acked_more(self, missing):
        with suppress(AssertionError), self.stranger.changed:
            self.stranger.changed.wait_for(lambda: not missing & (self.ledger.keys() - self.stranger.acked()), 2)

    def _tell(self, message):
        self.stranger.raw(t.topic("default", self.stranger.name, t.UpKind.EVENT), t.encode(message))

    def stop(self):
        self._stop_it.set()
        self.join(120)
        assert not self.is_alive(), len(self.ledger.keys() - self.stranger.acked())


def test_one_is_killed_in_the_middle_of_a_stream(house, stranger, tmp_path):
    """Ledger = store, each message once, whichever controller got it; the one that is left leads; a command goes out once; presence is
    right, also of a box that left while nobody led.
    """
    for name in ("a", "b"):
        house.start(name)
    first = house.leader()
    tellers = [Teller(stranger(f"box-{n}")) for n in range(4)]
    for teller in tellers:
        teller.stranger.say(t.UpKind.STATUS, STATUS, retain=True)
        teller.start()
    real = Box(tmp_path / "home", house.enrol("real"), "real")
    try:
        house.until(lambda: all(len(teller.stranger.acked()) > 20 for teller in tellers) and house.state("real") == "online")
        house.kill("a")
        nobody_heard = 0x10  # unless the broker has not noticed yet that the leader's connection is gone
        assert tellers[0].stranger.say(t.UpKind.STATUS, t.Status(state="offline", since=2), retain=True) in (0, nobody_heard)
        made = house.api("b", "/devices/box-1/commands", {"name": "ping", "args": {}})
        before = [len(teller.stranger.acked()) for teller in tellers]
        house.until(lambda: all(len(teller.stranger.acked()) > told + 20 for teller, told in zip(tellers, before, strict=True)))
        for teller in tellers:
            teller.stop()
        house.until(lambda: house.leader() not in ("", first))
        house.until(lambda: house.state("box-0") == "offline")
        house.until(lambda: journal.orders(house.db, id=made["id"])[0].state == "sent")
        house.until(lambda: real.node._outbox.counts().rows == 0)
    finally:
        real.close()
    for teller in tellers:
        rows = house.db.read("SELECT seq FROM event WHERE device = ? AND boot <> '' ORDER BY seq", teller.stranger.name)
        assert [row[0] for row in rows] == sorted(teller.ledger)
        assert house.codes(teller.stranger.name).count("box_online") == 1
    commands = [message for message in tellers[1].stranger.came if message.topic.endswith("/down/command")]
    assert len(commands) == 1
    assert house.codes("real").count("kiosk_started") == 1


def test_both_work_and_one_leads(house, stranger):
    """Messages of one box are committed by both; what one commits is seen live at the other; stopped in order, the lead passes at once."""
    house.start("a")
    first = house.leader()
    house.start("b")
    box = stranger("box-1")
    assert box.say(t.UpKind.STATUS, STATUS, retain=True) == 0
    live = {name: house.live(name) for name in ("a", "b")}
    seen = {name: threading.Event() for name in live}

    def read(name):
        with suppress(OSError, ValueError):
            for line in live[name]:
                if b"box-1" in line:
                    seen[name].set()

    for name in live:
        threading.Thread(target=read, args=(name,), daemon=True).start()
    for _ in range(40):
        assert box.say(t.UpKind.EVENT, t.EventBody(code="kiosk_started")) == 0
    house.until(lambda: len(box.acked()) == 40)
    assert all(event.wait(60) for event in seen.values())

    def committed(name):
        lines = house.metrics(name)
        return sum(float(line.split()[-1]) for line in lines if line.startswith('visavis_fleet_messages_total{what="committed"}'))

    assert committed("a") >= 10
    assert committed("b") >= 10
    made = house.api("b", "/devices/box-1/commands", {"name": "ping", "args": {}})  # b does not lead: a publishes it
    house.until(lambda: journal.orders(house.db, id=made["id"])[0].state == "sent")
    house.kill("a", signal.SIGTERM)
    house.until(lambda: house.leader() not in ("", first))
    assert box.say(t.UpKind.STATUS, t.Status(state="offline", since=2), retain=True) == 0
    house.until(lambda: house.state("box-1") == "offline")
    assert [m.topic.rpartition("/")[2] for m in box.came].count("command") == 1


def test_one_that_has_lost_the_broker(house, stranger):
    """Though it reaches the store it leads no more when another hears the boxes: who leaves is missed, and a command goes out, also one
    that was given to it. When the other is gone it leads again, heard or not.
    """
    cable = Cable(house.settings.broker_port)
    house.start("a", cable.port)
    first = house.leader()
    house.start("b")
    box = stranger("box-1")
    assert box.say(t.UpKind.STATUS, STATUS, retain=True) == 0
    house.until(lambda: house.state("box-1") == "online")
    cable.close()
    house.until(lambda: house.leader() not in ("", first))
    made = house.api("a", "/devices/box-1/commands", {"name": "ping", "args": {}})
    house.until(lambda: journal.orders(house.db, id=made["id"])[0].state == "sent")
    assert box.say(t.UpKind.STATUS, t.Status(state="offline", since=2), retain=True) == 0
    house.until(lambda: house.state("box-1") == "offline")
    house.kill("b", signal.SIGTERM)
    house.until(lambda: house.leader() == first)


def test_a_revoked_box_at_a_broker_that_is_not_ours(house, stranger):
    """The list is written where the broker reads it; until it has, the box is put out each time it comes; afterwards it is refused."""
    house.start("a")
    folder = house.enrol("box-1")
    thief = stranger("box-1", folder)
    assert thief.say(t.UpKind.STATUS, STATUS, retain=True) == 0
    house.until(lambda: house.state("box-1") == "online")
    list_ = house.folder / "mosquitto" / "revoked.pem"
    before = list_.read_bytes()
    assert inventory.revoke(house.db, "box-1", house.times.wall_ms()) == 1
    assert thief.ended.wait(60)
    assert list_.read_bytes() != before
    again = stranger("box-1", folder)  # the broker has not read the list yet
    again.raw(t.topic("default", "box-1", t.UpKind.STATUS), t.encode(again.envelope(t.UpKind.STATUS, STATUS)))
    assert again.ended.wait(60)
    house.reread()
    house.until(lambda: refused(house, folder))


def refused(house, folder):
    """Whether the broker does not want this box any more."""
    late = Stranger(house, folder, "box-1", connect=False)
    try:
        return not late.connect()
    except OSError:  # TLS 1.3 tells a client that it is not wanted after the handshake, or just closes
        return True
    finally:
        late.close()


def test_two_that_have_brokers_of_their_own(cluster, tmp_path, monkeypatch):
    """They cannot share a store: the second is told so in one line, and works when the first has gone."""
    for module in (lease, controller):
        monkeypatch.setattr(module, "LEASE_MS", 3_000)  # the second waits for two of them
    monkeypatch.setattr(lease, "_SURE_MS", 2_500)
    url = cluster.database()
    first = Fleet(tmp_path / "first", database=url, lease_s=0.3)
    (tmp_path / "second").mkdir()
    try:
        shutil.copytree(tmp_path / "first" / "authority", tmp_path / "second" / "authority")
        with pytest.raises(DataInUse, match="--broker"):
            Fleet(tmp_path / "second", database=url)
    finally:
        first.stop()
    second = Fleet(tmp_path / "second", database=url)
    second.stop()


def test_a_broker_that_is_not_there_yet(tmp_path, monkeypatch):
    """The console answers all the same, and says that it hears nobody."""
    monkeypatch.setattr(controller, "_OUTSIDE_S", 0.5)
    elsewhere = outside(f"mqtts://localhost:{free_port()}", controller="a")
    fleet = Fleet(tmp_path / "data", outside=elsewhere)
    try:
        assert not fleet.controller.link.connected.is_set()
        assert fleet.controller.settings.broker == f"localhost:{elsewhere.port}"
    finally:
        fleet.stop()


def test_a_store_of_another_fleet(cluster, tmp_path):
    """A controller with an authority of its own is told what to copy."""
    url = cluster.database()
    Fleet(tmp_path / "first", database=url).stop()
    with pytest.raises(BadRequest, match="copy authority"):
        Controller(Settings(data=tmp_path / "second", database=url), SetTimes())
