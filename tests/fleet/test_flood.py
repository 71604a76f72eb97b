"""A box that sends more than any box has reason to: held back, told of, put out; nobody else notices, and nothing honest is lost."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runtime.telemetry as t
from fleet import flood
from fleet.flood import BURST, RATE_HZ, Flood

EVENT = t.EventBody(code="kiosk_started")


def topic(device):
    return t.topic("default", device, t.UpKind.EVENT)


@pytest.mark.unit
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=400))
@settings(deadline=None)
def test_never_more_than_burst_and_rate(pauses):
    """Whatever the moments, what passes is never more than the burst and the rate since."""
    rules, now, passed = Flood(), 0, 0
    for pause in pauses:
        now += pause
        passed += rules.passes(topic("box-1"), now)
        assert passed <= BURST + now * RATE_HZ / 1000 + 1


@pytest.mark.unit
def test_who_keeps_to_the_rate_passes():
    """A message each 20 ms, for forty seconds."""
    rules = Flood()
    assert all(rules.passes(topic("box-1"), n * 20) for n in range(2000))


@pytest.mark.unit
def test_who_is_told_of_and_who_is_put_out():
    """A box is told of once an hour, whatever it does; only beyond all measure its connection ends; others are not counted with it."""
    rules = Flood()
    passed = [rules.passes(topic("box-1"), 0) for _ in range(1000)]
    assert passed == [True] * 500 + [False] * 500
    assert rules.passes(topic("box-2"), 0)
    assert rules.look(0) == ({"box-1": 500}, [])
    assert rules.look(0) == ({}, [])
    for _ in range(6000):
        rules.passes(topic("box-1"), 1)
    assert rules.look(1) == ({}, ["box-1"])
    rules.passes(topic("box-1"), 2)
    rules.passes(topic("box-1"), 2)
    assert rules.look(3_600_000) == ({"box-1": 2}, [])
    assert rules.passes("nothing", 0)  # no topic of ours: judged, and refused, elsewhere


def flooding(box, over):
    """Publishes as fast as it can, without waiting for answers, until `over`; the numbers are new ones."""
    sent = 0
    while not over.is_set() and not box.ended.is_set():
        for _ in range(50):
            box.client.publish(topic(box.name), t.encode(box.envelope(t.UpKind.EVENT, EVENT)), qos=1)
            sent += 1
        over.wait(0.005)
    return sent


@pytest.mark.system
def test_others_do_not_suffer(fleet, stranger, monkeypatch):
    """While one box floods, another's events are committed and acknowledged; the flood is among the flooder's events, its excess is not."""
    monkeypatch.setattr(flood, "_GROSS", 10**9)
    hostile, honest = stranger("box-1"), stranger("box-2")
    over = threading.Event()
    thread = threading.Thread(target=flooding, args=(hostile, over))
    thread.start()
    try:
        fleet.until(lambda: fleet.controller.counts["strange_flood"] > 500)
        for number in range(1, 21):
            honest.say(t.UpKind.EVENT, EVENT)
            honest.wait(lambda number=number: number in honest.acked())
        fleet.until(lambda: "box_floods" in fleet.codes("box-1"))
    finally:
        over.set()
        thread.join()
    assert fleet.codes("box-2").count("kiosk_started") == 20
    assert not hostile.ended.is_set()


@pytest.mark.system
def test_beyond_all_measure_the_connection_ends(fleet, stranger, monkeypatch):
    """The session of a box that goes on is taken from it; what it sent within the measure is kept."""
    monkeypatch.setattr(flood, "_GROSS", 300)
    hostile = stranger("box-1")
    over = threading.Event()
    thread = threading.Thread(target=flooding, args=(hostile, over))
    thread.start()
    try:
        assert hostile.ended.wait(60)
    finally:
        over.set()
        thread.join()
    fleet.until(lambda: fleet.codes("box-1").count("kiosk_started") >= BURST)
    assert fleet.codes("box-1").count("box_floods") == 1


@pytest.mark.system
def test_what_was_held_back_comes_later(fleet, stranger, monkeypatch):
    """What is too much is not acknowledged; sent again, as a box does, it is kept, once."""
    monkeypatch.setattr(flood, "BURST", 5.0)
    monkeypatch.setattr(flood, "RATE_HZ", 20.0)
    one, numbers = stranger(), set(range(1, 31))
    for number in numbers:
        assert one.say(t.UpKind.EVENT, EVENT, seq=number) == 0
    fleet.until(lambda: fleet.controller.counts["strange_flood"])
    assert one.acked() < numbers
    while missing := numbers - one.acked():
        one.say(t.UpKind.EVENT, EVENT, seq=min(missing))
    assert fleet.codes("box-1").count("kiosk_started") == 30
