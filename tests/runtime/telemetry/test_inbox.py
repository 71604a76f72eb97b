"""Commands: who may ask for what, and what hostile messages do to a box: nothing."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runtime.telemetry as t
from runtime.telemetry.commands import FUTURE_MS, LONGEST_MS, judge
from runtime.telemetry.executors import Done
from runtime.telemetry.inbox import MOST_AT_ONCE, Inbox
from runtime.telemetry.outbox import Limits, Outbox
from runtime.telemetry.uplink import Sender
from runtime.telemetry.wire import Came
from tests.runtime.telemetry.support import RAM, HandTimes


@pytest.fixture
def tmp_path():
    """A folder in memory."""
    with tempfile.TemporaryDirectory(dir=RAM) as folder:
        yield Path(folder)


NOW = 1_790_000_000_000
ALL = frozenset(t.Duty)


def command(name="ping", key="c1", *, issued=0, lasts=60_000, args=None):
    return t.Command(id=key, name=name, issued=NOW + issued, expires=NOW + issued + lasts, args=args or {})


@pytest.mark.parametrize(
    ("asked", "allow", "synced", "expiry", "verdict"),
    [
        (command(), ALL, True, None, None),
        (command(issued=-59_999), ALL, True, None, None),
        (command(issued=-60_000), ALL, True, 60, t.Refusal.EXPIRED),
        (command(issued=FUTURE_MS), ALL, True, None, None),
        (command(issued=FUTURE_MS + 1), ALL, True, None, t.Refusal.FUTURE),
        (command(lasts=LONGEST_MS + 1), ALL, True, None, t.Refusal.TOO_LONG),
        (command(lasts=-1), ALL, True, None, t.Refusal.TOO_LONG),
        (command("dance"), ALL, True, None, t.Refusal.UNKNOWN),
        (command("restart_box"), frozenset({t.Duty.OBSERVE}), True, None, t.Refusal.NOT_ALLOWED),
        (
            command("governor", args={"rung": 1, "minutes": 5}),
            frozenset({t.Duty.OBSERVE, t.Duty.OPERATE}),
            True,
            None,
            t.Refusal.NOT_ALLOWED,
        ),
        (command("volume", args={"level": 2}), ALL, True, None, t.Refusal.ARGUMENTS),
        (command("volume", args={}), ALL, True, None, t.Refusal.ARGUMENTS),
        (command("switch_pack", args={"pack": "../../etc"}), ALL, True, None, t.Refusal.ARGUMENTS),
        (command("switch_pack", args={"pack": "coffee\n"}), ALL, True, None, t.Refusal.ARGUMENTS),
        (command(issued=-(10**9)), ALL, False, None, t.Refusal.NO_EXPIRY),
        (command(issued=-(10**9)), ALL, False, 30, None),
    ],
)
def test_verdicts(asked, allow, synced, expiry, verdict):
    """Expiry by a clock that was set, else by the broker; duty by the box's own list; arguments by the table."""
    assert judge(asked, allow, NOW, synced=synced, expiry_s=expiry) == verdict


class Box:
    """An inbox over a real outbox; `done` is what was carried out."""

    def __init__(self, folder, allow=ALL, limits=None):
        self.times = HandTimes()
        self.path, self.allow, self.limits = Path(folder) / "outbox.db", allow, limits
        self.done, self.events, self.applied = [], [], []
        self.block = asyncio.Event()
        self.block.set()
        self.error: Exception | None = None
        self.began = asyncio.Event()
        self.sender = Sender()
        self.open("boot")

    def open(self, boot):
        self.outbox = Outbox(self.path, self.times, boot, self.limits)
        self.inbox = Inbox(
            tenant="acme",
            device="box-1",
            allow=self.allow,
            times=self.times,
            outbox=self.outbox,
            execute=self.execute,
            event=lambda code, names, numbers: self.events.append((code, names, numbers)),
            apply=self.apply,
            moving=lambda: self.moving,
        )
        self.inbox.begin()

    moving = False
    """Whether something that is set is on its way."""

    async def execute(self, name, args):
        self.done.append((name, args))
        self.began.set()
        await self.block.wait()
        if self.error is not None:
            raise self.error
        return Done(t.Outcome.DONE)

    def apply(self, desired):
        self.applied.append(dict(desired))
        return {"health_s": 30.0, **desired}, {}

    def came(self, payload, kind=t.DownKind.COMMAND, **more):
        given_ = {"topic": t.topic("acme", "box-1", kind), "token": (1, 1, 1), "retained": False, "expiry_s": 60} | more
        given_ = {"correlation": b"", "response_topic": ""} | given_
        self.inbox.take(Came(payload=payload, **given_), self.sender)

    def send(self, body, kind=t.DownKind.COMMAND, **more):
        self.came(t.encode(t.Down(ts=1, kind=kind, body=msgspec.Raw(t.encode(body)))), kind, **more)

    def answers(self):
        return [msgspec.json.decode(row.body, type=t.Answer) for row in self.outbox.events(0, 10_000) if row.kind == "job"]


def live(test):
    """Run an asynchronous test with a box."""

    def run(tmp_path):
        async def whole():
            box = Box(tmp_path)
            try:
                await test(box)
            finally:
                box.outbox.close()

        asyncio.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def settle(box):
    """Until nothing runs."""
    await asyncio.gather(*box.inbox._running.values())
    await asyncio.sleep(0)  # the tasks' own farewells


@live
async def test_done_once_however_often_it_comes(box):
    """The same id a hundred times: carried out once, answered again once a minute; that is no mistake of the fleet."""
    for _ in range(100):
        box.send(command())
        await settle(box)
    assert len(box.done) == 1
    assert len(box.answers()) == 2
    box.times.advance(61)
    box.send(command())
    assert len(box.answers()) == 3
    assert box.inbox.repeated == 100
    assert not box.inbox.refused
    assert not [event for event in box.events if event[0] == "message_refused"]


@live
async def test_cut_off_in_the_middle(box):
    """A command that was begun when the box lost power is not carried out again; the answer says that nobody knows."""
    box.block.clear()
    box.send(command("restart_box", "c7"))
    await box.began.wait()
    assert box.answers() == []
    box.outbox.close()
    for task in box.inbox._running.values():
        task.cancel()
    await asyncio.sleep(0)
    box.open("next boot")
    assert [(answer.id, answer.outcome) for answer in box.answers()] == [("c7", t.Outcome.INTERRUPTED)]
    box.send(command("restart_box", "c7"))
    await settle(box)
    assert len(box.done) == 1


def reports(box):
    return [msgspec.json.decode(row.body, type=t.Reported) for row in box.outbox.events(0, 10_000) if row.kind == "shadow"]


@live
async def test_the_newest_settings_win_in_any_order(box):
    """Whatever order they come in, the highest version is what is applied, reported, and there again after a start."""
    for version in (3, 1, 5, 2, 5, 4):
        box.send(t.Shadow(version=version, desired={"health_s": 10 + version}), t.DownKind.SHADOW)
    assert [one.version for one in reports(box)] == [0, 3, 5, 5]
    assert box.applied[-1] == {"health_s": 15}
    assert (box.inbox.refused["old_version"], box.inbox.repeated) == (3, 1)
    box.send(t.Shadow(version=5, desired={"health_s": 15}), t.DownKind.SHADOW)
    assert len(reports(box)) == 4  # told again at most once a minute
    box.outbox.close()
    box.applied.clear()
    box.open("next boot")
    assert box.applied == [{"health_s": 15}]
    assert len(reports(box)) == 4  # nothing changed since it was told


@live
async def test_not_more_at_once_than_it_can(box):
    """A ninth command while eight run is answered `busy`."""
    box.block.clear()
    for number in range(MOST_AT_ONCE + 1):
        box.send(command(key=f"c{number}"))
    assert [(answer.id, answer.reason) for answer in box.answers()] == [(f"c{MOST_AT_ONCE}", "busy")]
    box.block.set()
    await settle(box)
    assert len(box.done) == MOST_AT_ONCE


@live
async def test_what_nobody_foresaw_is_answered(box):
    """A command whose execution breaks is answered `failed` with the kind of error alone: its text may hold paths."""
    box.error = ValueError("/secret/path")
    box.send(command())
    await settle(box)
    assert [(answer.id, answer.outcome, answer.reason) for answer in box.answers()] == [
        ("c1", t.Outcome.FAILED, "not foreseen (ValueError), see the box's log")
    ]
    assert ("command_run", {"name": "ping", "outcome": "failed"}, {}) in box.events


@live
async def test_a_flood_of_refusals_costs_little(box):
    """A thousand unknown commands: twenty answers a minute, one event, one line in the log."""
    for number in range(1000):
        box.send(command("dance", f"c{number}"))
    assert len(box.answers()) == 20
    assert box.inbox.refused["unknown"] == 1000
    assert len(box.events) == 1
    assert box.done == []


@live
async def test_a_disk_that_keeps_no_record(box):
    """What changes something is refused while nothing can be remembered; looking is still allowed."""
    box.outbox.trouble = "database or disk is full"
    box.send(command("restart_box", "c1"))
    box.send(command("ping", "c2"))
    await settle(box)
    assert [name for name, _ in box.done] == ["ping"]
    assert [(answer.id, answer.outcome) for answer in box.answers()] == [("c1", t.Outcome.REFUSED), ("c2", t.Outcome.DONE)]


def test_no_room_for_answers(tmp_path):
    """With the outbox full of answers nobody took, no more commands are taken."""

    async def whole():
        box = Box(tmp_path, limits=Limits(max_bytes=20_000))
        for number in range(150):
            box.send(command(key=f"c{number}"))
            await settle(box)
        assert 0 < len(box.done) < 150
        assert box.inbox.refused["no_room"] == 150 - len(box.done)
        box.outbox.close()

    asyncio.run(whole())


def test_an_acknowledgement_that_comes_after_the_merging(tmp_path):
    """A report that stands for eight is not what the controller acknowledged under the number of the last: it stays and is sent."""
    box = Box(tmp_path, limits=Limits(max_bytes=24_000))

    def health(count):
        for number in range(count):
            box.outbox.put(t.UpKind.HEALTH, t.encode(t.Health(m={"turns": number})))
        box.outbox.flush(force=True)

    health(40)
    box.sender.up(box.times.mono, 0, 20)
    box.times.advance(5)
    sent = [row for row in box.sender.plan(box.outbox, box.times.mono) if row.kind == "health"]
    health(200)
    (merged,) = (row for row in box.outbox.health(0, 300) if row.id == sent[7].id)
    assert merged.n > 1
    box.send(t.Ack(acked=(t.Acked(boot=sent[7].boot, ranges=((sent[0].seq, sent[7].seq),)),)), t.DownKind.ACK)
    assert sum(row.n for row in box.outbox.health(0, 300)) == 240
    assert merged in box.sender.plan(box.outbox, box.times.mono)
    box.send(t.Ack(acked=(t.Acked(boot=merged.boot, ranges=((merged.seq, merged.seq),)),)), t.DownKind.ACK)
    assert sum(row.n for row in box.outbox.health(0, 300)) == 240 - merged.n
    box.outbox.close()


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*(row.name for row in t.COMMANDS), "dance", "", "../x"]) | st.text(max_size=10)
ids = st.sampled_from(["c1", "c2", "", "a/b", "x" * 64, "c1\n"]) | st.text(max_size=8)
times = st.sampled_from([0, NOW, NOW - 10, NOW + 60_000, NOW + 10**12, 2**62, -1, 1.5]) | st.integers(-(2**65), 2**65)
arguments = st.dictionaries(st.sampled_from(["node", "level", "minutes", "width", "pack", "rung", "tag", "release"]), anything, max_size=3)
commands = st.fixed_dictionaries(
    {"id": ids, "name": names, "issued": times, "expires": times},
    optional={"by": anything, "args": arguments | anything, "extra": anything},
)
acks = st.fixed_dictionaries(
    {"acked": st.lists(st.fixed_dictionaries({"boot": st.text(max_size=17), "ranges": st.lists(st.lists(times, max_size=3))}), max_size=3)}
)
shadows = st.fixed_dictionaries({"version": times, "desired": st.dictionaries(names, anything, max_size=3)})
kinds = st.sampled_from([kind.value for kind in t.DownKind])
downs = st.fixed_dictionaries(
    {"v": st.sampled_from([1, 2, "1", None]) | times, "ts": times, "kind": kinds, "body": commands | acks | shadows | anything}
)
fitting = st.one_of(
    *(
        st.fixed_dictionaries({"v": st.just(1), "ts": st.just(1), "kind": st.just(kind), "body": body})
        for kind, body in (("command", commands), ("job", commands), ("ack", acks), ("shadow", shadows))
    )
)
payloads = st.binary(max_size=200) | (downs | fitting | anything).map(lambda tree: json.dumps(tree).encode())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(payloads, st.sampled_from(list(t.DownKind)), st.booleans(), st.none() | st.integers(0, 100)), max_size=12))
def test_hostile_messages_are_harmless(messages):
    """Whatever comes: nothing raises, nothing is carried out twice or with arguments that its row does not allow, and what waits stays."""

    async def whole(folder):
        box = Box(folder)
        box.outbox.put(t.UpKind.EVENT, t.encode(t.EventBody(code="kiosk_started")))
        for payload, kind, retained, expiry in messages:
            box.came(payload, kind, retained=retained, expiry_s=expiry)
            await settle(box)
        for name, args in box.done:
            assert isinstance(args, t.command_kind(name).args)
        ids = [answer.id for answer in box.answers() if answer.outcome is t.Outcome.DONE]
        assert len(box.done) == len(set(ids))
        assert [row.kind for row in box.outbox.events(0, 1000)].count("event") == 1
        assert box.outbox.trouble == ""
        box.outbox.close()

    with tempfile.TemporaryDirectory(dir=RAM) as folder:
        asyncio.run(whole(folder))


@live
async def test_a_version_is_reported_when_nothing_is_on_its_way_any_more(box):
    """However often it is sent meanwhile: what the fleet hears of it first is what became of it."""
    box.moving = True
    for _ in range(2):
        box.send(t.Shadow(version=7, desired={"pack": "tea-bar"}), t.DownKind.SHADOW)
    box.inbox.changed()
    box.send(command("volume", args={"level": 0.5}))
    await settle(box)
    assert [one.version for one in reports(box)] == [0]
    box.moving = False
    box.inbox.changed()
    assert [one.version for one in reports(box)] == [0, 7]
    box.inbox.changed()
    assert len(reports(box)) == 2  # it is owed once
