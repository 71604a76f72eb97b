"""Simulated boxes against a real controller and mosquitto: what the ledger says arrives, and what does not is noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from fleet import journal
from visavis.simulate import crowd, ledger
from visavis.simulate.certificates import make
from visavis.simulate.crowd import Load
from visavis.simulate.proof import compare

pytestmark = pytest.mark.system
BOXES = 20


class Crowd:
    """Twenty boxes in a thread of their own, until `finish`."""

    def __init__(self, fleet, folder, **more):
        self.load = Load(
            devices=BOXES, host="127.0.0.1", server_name="localhost", port=fleet.settings.broker_port, folder=folder, health_s=1.0,
            event_s=2.0, ledger=folder / "ledger", every_s=0.1, **more,
        )  # fmt: skip
        self.made = make(crowd.names(self.load), folder, fleet.db, fleet.controller.authority, fleet.times.wall_ms())
        self.changed, self.seen = threading.Condition(), None
        began = threading.Event()

        async def life():
            self.loop, self.stopping = asyncio.get_running_loop(), asyncio.Event()
            began.set()
            self.say(await crowd.run(self.load, fleet.times, self.stopping, self.say))

        self.thread = threading.Thread(target=lambda: asyncio.run(life()))
        self.thread.start()
        assert began.wait(10)

    def say(self, seen):
        with self.changed:
            self.seen = seen
            self.changed.notify_all()

    def until(self, condition):
        with self.changed:
            assert self.changed.wait_for(lambda: self.seen is not None and condition(self.seen), 90), self.seen

    def finish(self):
        """Nothing new is made; returns when all has arrived."""
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(150)
        assert not self.thread.is_alive()
        return ledger.read(self.load.ledger)


@pytest.fixture
def at_once(monkeypatch):
    """Boxes do not wait for their turn to come to life."""
    monkeypatch.setattr(crowd, "_START_S", 0.2)


@pytest.mark.usefixtures("at_once")
def test_what_the_ledger_says_is_in_the_store(fleet, tmp_path):
    """With flapping, wrong clocks and a broker that is killed: nothing lost, nothing twice; a message that the store forgets is found."""
    boxes = Crowd(fleet, tmp_path / "boxes", faults=frozenset({"flapping", "skew"}))
    boxes.until(lambda seen: seen.connected == BOXES and seen.counts.get("acknowledged", 0) > 4 * BOXES)
    order = fleet.do(fleet.controller.order("sim-00007", "ping", {}, "anna", 300))
    os.kill(fleet.controller.broker.pid, signal.SIGKILL)
    boxes.until(lambda seen: seen.counts.get("lost", 0) >= BOXES)
    boxes.until(lambda seen: seen.connected == BOXES)
    fleet.until(lambda: journal.orders(fleet.db, id=order.id)[0].state == "answered")
    record = boxes.finish()
    assert boxes.seen.waiting == 0
    verdict = compare(record, fleet.db)
    assert (verdict.boxes, verdict.lost, verdict.unacknowledged, verdict.duplicates_in_effect) == (BOXES, 0, 0, 0), verdict.examples
    assert verdict.kept == boxes.seen.counts["acknowledged"] > 4 * BOXES
    assert record.done == {("sim-00007", order.id): 1}
    fleet.until(lambda: fleet.state("sim-00000") == "offline")  # it said goodbye
    with fleet.db.write() as tx:
        tx.run("DELETE FROM event WHERE id = (SELECT max(id) FROM event WHERE seq > 0)")
    assert compare(record, fleet.db).acknowledged_lost == 1


@pytest.mark.usefixtures("at_once")
def test_what_waited_comes_behind_what_is_new(fleet, tmp_path):
    """Hours of reports from before arrive as history, at their own time, while an outage and a storm pass."""
    boxes = Crowd(fleet, tmp_path / "boxes", faults=frozenset({"offline", "storm"}), seed=3, minutes=0.05)
    record = boxes.finish()
    assert boxes.seen.counts["lost"] >= BOXES
    verdict = compare(record, fleet.db)
    assert (verdict.lost, verdict.unacknowledged, verdict.duplicates_in_effect) == (0, 0, 0), verdict.examples
    # With seed 3 one box has reports of the hour before, one a minute.
    limit = fleet.times.wall_ms() - 600_000
    assert len(fleet.db.read("SELECT DISTINCT ts FROM five_minutes WHERE ts < ?", limit)) >= 8


@pytest.mark.usefixtures("at_once")
def test_certificates_are_made_once(fleet, tmp_path):
    """A second crowd uses those of the first; another authority's are not used."""
    folder = tmp_path / "boxes"
    names = ["sim-00000", "sim-00001"]
    now = fleet.times.wall_ms()
    assert make(names, folder, fleet.db, fleet.controller.authority, now) == 2
    assert make(names, folder, fleet.db, fleet.controller.authority, now) == 0
    assert make(names, folder, fleet.db, fleet.controller.authority, now + 40 * 86_400_000) == 2
    assert all((folder / f"{name}.pem").stat().st_mode & 0o077 == 0 for name in names)
    (folder / "ca.pem").write_bytes(b"another's")
    assert make(names, folder, fleet.db, fleet.controller.authority, now) == 2
