"""The rules of the uplink: when it connects, what it sends, what it believes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.telemetry import Acked, EventBody, Health, UpKind, encode
from runtime.telemetry.outbox import Outbox
from runtime.telemetry.uplink import (
    FIRST_MS,
    LONGEST_MS,
    NO_SUBSCRIBERS,
    NOT_AUTHORISED,
    NOT_TRUSTED,
    PATIENT_MS,
    STABLE_MS,
    TAKEN_OVER,
    Connect,
    Link,
    Lost,
    Refused,
    Sender,
    Tell,
    Tick,
    Up,
    Welcomed,
    decide,
)
from tests.runtime.telemetry.support import RAM, HandTimes


@pytest.fixture
def tmp_path():
    """A folder in memory."""
    with tempfile.TemporaryDirectory(dir=RAM) as folder:
        yield Path(folder)


def run(link, *steps):
    """Feed (event, now_ms, chance); returns the link and the last actions."""
    actions = ()
    for event, now, chance in steps:
        link, actions = decide(link, event, now, chance)
    return link, actions


def test_the_first_connection_comes_within_seconds_by_chance():
    """Boxes that were switched on together do not connect together."""
    link, actions = run(Link(), (Tick(), 1000, 0.5))
    assert (link.due_ms, actions) == (1000 + FIRST_MS // 2, ())
    link, actions = run(link, (Tick(), link.due_ms - 1, 0.9), (Tick(), link.due_ms, 0.9))
    assert actions == (Connect(),)
    assert run(link, (Tick(), 10**9, 0))[1] == ()


def test_the_wait_grows_and_is_drawn_by_chance():
    """After each failure the longest wait doubles up to five minutes; where in it is chance. A lost network is not told."""
    link, now = Link(phase="connecting", due_ms=0), 0
    longest = []
    for _ in range(12):
        link, actions = run(link, (Lost(0, "network"), now, 0.999999))
        assert not actions
        longest.append(link.due_ms - now)
        now = link.due_ms
        link, actions = run(link, (Tick(), now, 0))
        assert actions == (Connect(),)
    assert longest == [min(LONGEST_MS, 2000 << n) for n in range(1, 13)]
    assert run(link, (Lost(0, "network"), now, 0.0))[0].due_ms == now


def test_a_connection_that_held_forgets_the_failures_before_it():
    """After a minute up the waits begin short again; a connection that drops at once goes on waiting longer."""
    link = Link(phase="up", due_ms=0, failures=6, since_ms=0)
    assert run(link, (Lost(0, ""), STABLE_MS, 1.0))[0].failures == 1
    assert run(link, (Lost(0, ""), STABLE_MS - 1, 1.0))[0].failures == 7
    assert run(link, (Tick(), STABLE_MS, 0))[0].failures == 0


@pytest.mark.parametrize("code", [0x85, 0x86, NOT_AUTHORISED, 0x8A, TAKEN_OVER])
def test_what_a_retry_does_not_cure_waits_and_is_told_once(code):
    """Denied, banned or replaced by another machine: at least a minute until the next try, one line for the technician."""
    link, actions = run(Link(phase="connecting"), (Refused(code, "denied"), 0, 0.0))
    assert link.due_ms >= PATIENT_MS
    assert actions == (Tell("denied", taken_over=code == TAKEN_OVER),)
    link, actions = run(link, (Tick(), link.due_ms, 0), (Refused(code, "denied"), link.due_ms, 0.99))
    assert bool(actions) == (code == TAKEN_OVER)
    assert link.due_ms - PATIENT_MS <= PATIENT_MS + LONGEST_MS


def test_when_it_works_again_the_line_is_taken_back():
    """After a told failure, a connection clears the notice; otherwise it only starts sending."""
    link, _ = run(Link(phase="connecting"), (Refused(NOT_TRUSTED, "certificate expired"), 0, 0.0), (Tick(), 10**6, 0))
    link, actions = run(link, (Welcomed(20), 10**6, 0))
    assert actions == (Up(20), Tell(""))
    assert run(link, (Lost(0, ""), 10**6, 0), (Tick(), 2 * 10**6, 0), (Welcomed(5), 2 * 10**6, 0))[1] == (Up(5),)


def test_a_twin_is_suspected():
    """A connection that is taken away again and again at once: the technician is told what it may be."""
    link, now, told = Link(phase="up", due_ms=0), 0, []
    for _ in range(8):
        link, actions = run(link, (Lost(0, "lost"), now, 0.5))
        told += [action.text for action in actions]
        link, _ = run(link, (Tick(), now + LONGEST_MS, 0))
        now += LONGEST_MS
        link = run(link, (Welcomed(20), now, 0))[0]
        now += 1
    assert len(told) == 1
    assert "another machine" in told[0]


events = st.sampled_from([Tick(), Welcomed(20), Refused(0, "x"), Refused(0x87, "y"), Lost(0, ""), Lost(TAKEN_OVER, "z"), Lost(0x89, "")])


@given(st.lists(st.tuples(events, st.integers(0, 400_000), st.floats(0, 0.999)), max_size=60))
def test_never_two_connections_and_never_stuck(steps):
    """Whatever happens, a connection is only opened when there is none, and one is always on its way within the longest wait."""
    link, now = Link(), 0
    for event, passed, chance in steps:
        now += passed
        if isinstance(event, (Welcomed, Refused)) and link.phase != "connecting":
            continue
        if isinstance(event, Lost) and link.phase == "down":
            continue
        before = link
        link, actions = decide(link, event, now, chance)
        assert (Connect() in actions) == (before.phase == "down" and link.phase == "connecting")
    if link.phase == "down":
        link = link if link.due_ms >= 0 else decide(link, Tick(), now, 0.5)[0]
        assert link.due_ms - now <= 2 * LONGEST_MS
        assert decide(link, Tick(), max(now, link.due_ms), 0.5)[1] == (Connect(),)


class Post:
    """A sender over a real outbox."""

    def __init__(self, tmp_path, **settings_):
        self.times = HandTimes()
        self.outbox = Outbox(tmp_path / "outbox.db", self.times, "boot")
        self.sender = Sender(**settings_)

    def event(self, count=1):
        for _ in range(count):
            self.outbox.put(UpKind.EVENT, encode(EventBody(code="kiosk_started")))

    def health(self, count=1):
        for number in range(count):
            self.outbox.put(UpKind.HEALTH, encode(Health(m={"turns": number})))
        self.outbox.flush(force=True)

    def up(self, window=20):
        self.sender.up(self.times.mono, self.outbox.newest, window)

    def plan(self, seconds=0.0):
        self.times.advance(seconds)
        return self.sender.plan(self.outbox, self.times.mono)

    def puback(self, rows, code=0):
        for row in rows:
            self.sender.puback(row.id, code, self.times.mono)

    def ack(self, rows):
        for row in rows:
            keys = self.sender.acked(Acked(boot=row.boot, ranges=((row.seq, row.seq),)), self.times.mono)
            self.outbox.remove(keys)


@pytest.fixture
def post(tmp_path):
    post = Post(tmp_path)
    yield post
    post.outbox.close()


def test_live_first_then_the_backlog_at_its_rate(post):
    """What is new goes at once; what waited comes behind it, events before health, ten a second."""
    post.health(30)
    post.event(3)
    post.up()
    post.event()
    first = post.plan()
    assert [row.kind for row in first] == ["event", "event"]
    assert first[0].id > first[1].id
    post.puback(first)
    second = post.plan(0.5)
    assert [row.kind for row in second] == ["event", "event", "health", "health", "health"]
    assert len({row.id for row in first + second}) == 7


def test_no_more_than_the_window_waits_for_the_broker(post):
    """As many as the broker allows; a PUBACK makes room."""
    post.up(window=4)
    post.event(10)
    first = post.plan()
    assert len(first) == 4
    assert post.plan() == []
    post.puback(first[:1])
    assert len(post.plan()) == 1


def test_a_puback_deletes_nothing(post):
    """The broker's word is a promise in RAM: without the controller's own acknowledgement a row is sent again."""
    post.up()
    post.event()
    post.puback(post.plan())
    assert post.outbox.counts().rows == 1
    assert post.plan(29) == []
    assert len(post.plan(1)) == 1


def test_acknowledged_rows_go(post):
    """The controller's acknowledgement removes rows for good, in ranges, in any order."""
    post.up()
    post.event(5)
    rows = post.plan()
    boot = rows[0].boot
    ranges = ((rows[3].seq, rows[4].seq), (rows[0].seq, rows[1].seq), (10**15, 2**60))
    done = post.sender.acked(Acked(boot=boot, ranges=ranges), post.times.mono)
    assert sorted(done) == [rows[0].key, rows[1].key, rows[3].key, rows[4].key]
    post.outbox.remove(done)
    assert [row.id for row in post.plan(31)] == [rows[2].id]


def test_what_was_never_sent_is_not_believed(post):
    """A lying acknowledgement of everything removes only what was on its way."""
    post.event(50)
    post.up()
    sent = post.plan()
    other = post.sender.acked(Acked(boot="f" * 16, ranges=((0, 2**62),)), post.times.mono)
    done = post.sender.acked(Acked(boot=sent[0].boot, ranges=((0, 2**62),)), post.times.mono)
    assert other == []
    assert sorted(done) == sorted(row.key for row in sent)
    post.outbox.remove(done)
    assert post.outbox.counts().rows == 50 - len(sent)


@given(
    ranges=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8).map(tuple),
    seqs=st.sets(st.integers(1, 50), max_size=20),
)
@settings(max_examples=200)
def test_ranges_mean_what_they_say(ranges, seqs):
    """A number is acknowledged exactly if a range covers it, however ranges overlap or are turned round."""
    from runtime.telemetry.uplink import _Sent

    sender = Sender()
    sender.sent = {seq: _Sent("b" * 16, seq, "event", 0, waiting=False) for seq in seqs}
    done = sender.acked(Acked(boot="b" * 16, ranges=ranges), 0)
    assert set(done) == {(seq, "b" * 16, seq) for seq in seqs if any(first <= seq <= last for first, last in ranges)}


def test_when_nobody_listens_one_row_asks(post):
    """PUBACK 0x10: the data stays, one row asks now and then, and at the first that is taken all go on."""
    post.up()
    post.event(10)
    post.puback(post.plan(), NO_SUBSCRIBERS)
    assert post.plan(5) == []
    asked = post.plan(400)
    assert len(asked) == 1
    post.event()
    assert post.plan() == []
    post.puback(asked)
    assert len(post.plan(31)) > 1
    assert post.outbox.counts().rows == 11
    assert post.sender.unlistened == 10


def test_a_burst_that_nobody_heard_is_one_failure(post):
    """Four rows were on their way when the controller went: one of them asks after 15 s; only if that fails the wait grows."""
    post.up()
    post.event(4)
    post.puback(post.plan(), NO_SUBSCRIBERS)
    assert post.plan(14.9) == []
    asked = post.plan(0.1)
    assert len(asked) == 1
    post.puback(asked, NO_SUBSCRIBERS)
    assert post.plan(29.9) == []
    assert len(post.plan(0.1)) == 1


def test_what_the_broker_denies_is_kept_and_tried_again(post):
    """PUBACK 0x87: that kind rests for minutes, nothing is deleted, other kinds go on, and later all of it is sent."""
    post.up()
    post.event(2)
    post.puback(post.plan(), NOT_AUTHORISED)
    post.event(2)
    post.health(1)
    assert [row.kind for row in post.plan(1)] == ["health"]
    assert post.outbox.counts().rows == 5
    post.ack(post.outbox.health(0, 9))
    denied = {row.id for row in post.outbox.events(0, 9)}
    assert post.plan(298) == []
    again = set()
    for _ in range(3):
        rows = post.plan(2)
        again |= {row.id for row in rows}
        post.puback(rows)
        post.ack(rows)
    assert again == denied


def test_a_silent_controller_is_asked_now_and_then(post):
    """Taken by the broker, acknowledged by nobody: one row asks, at most a minute apart; at the first answer all overdue ones go again."""
    post.up()
    post.event(15)
    rows = post.plan()
    post.puback(rows)
    asked = []
    for _ in range(300):
        found = post.plan(1)
        post.puback(found)
        asked += found
    assert 4 <= len(asked) <= 12
    post.ack(asked[-1:])
    again = post.plan(1)
    assert {row.id for row in again} == {row.id for row in rows} - {asked[-1].id}


def test_after_a_reconnection_everything_unacknowledged_goes_again(post):
    """What was on its way when the line broke is part of the backlog of the next connection."""
    post.up()
    post.event(3)
    post.plan()
    post.sender.down()
    assert post.plan(60) == []
    post.up()
    sent = []
    for _ in range(10):
        sent += post.plan(1)
    assert len({row.id for row in sent}) == 3


def test_rows_that_went_meanwhile_are_forgotten(post):
    """A row evicted while it waited is neither sent again nor does it block."""
    post.up(window=2)
    post.event(2)
    rows = post.plan()
    post.outbox.remove(row.key for row in rows)
    post.event(1)
    post.plan(31)
    post.puback(rows)
    assert len(post.plan(31)) + len(post.plan(31)) >= 1
    assert set(post.sender.sent) == {post.outbox.events(0, 9)[0].id}
