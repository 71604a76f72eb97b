"""The parts of the simulator: its MQTT, its outbox, its faults, its ledger, and the proof that finds what is missing."""

from __future__ import annotations

import asyncio
import struct
from argparse import Namespace
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import runtime.telemetry as t
from fleet.database import open_database
from fleet.errors import BadRequest
from fleet.intake import Intake, judge
from runtime.telemetry.levers import Levers
from runtime.telemetry.times import SystemTimes
from tests.runtime.telemetry.support import HandTimes
from visavis.simulate import codec, faults, ledger
from visavis.simulate.box import Box
from visavis.simulate.command import target
from visavis.simulate.house import House
from visavis.simulate.memory import Memory
from visavis.simulate.obedience import Obedience
from visavis.simulate.plausible import Machine
from visavis.simulate.proof import compare

NOW = 1_790_000_000_000
BOOT = "0" * 16
_EVENT = "device, boot, seq, ts, arrived, code, severity, details"
pytestmark = pytest.mark.unit


# --- MQTT


def packet(first, body):
    length, out = len(body), bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        out.append(low | (0x80 if length else 0))
        if not length:
            return bytes((first, *out)) + body


def text(value):
    return struct.pack("!H", len(value.encode())) + value.encode()


def from_broker(topic, payload, mid, *, retained=False, expiry=None, correlation=b"", response="", user=()):
    """A PUBLISH as a broker writes it; its properties are written by paho."""
    properties = Properties(PacketTypes.PUBLISH)
    if expiry is not None:
        properties.MessageExpiryInterval = expiry
    if correlation:
        properties.CorrelationData = correlation
    if response:
        properties.ResponseTopic = response
    if user:
        properties.UserProperty = list(user)
    head = 0x30 | (2 if mid else 0) | retained
    return packet(head, text(topic) + (struct.pack("!H", mid) if mid else b"") + properties.pack() + payload)


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=40)
messages = st.fixed_dictionaries(
    {
        "topic": words.filter(bool),
        "payload": st.binary(max_size=300),
        "mid": st.integers(0, 65_535),
        "retained": st.booleans(),
        "expiry": st.none() | st.integers(0, 2**32 - 1),
        "correlation": st.binary(max_size=200),
        "response": words.filter(lambda found: not set(found) & set("+#")),
    }
)


@given(st.lists(messages, max_size=6), st.data())
@settings(deadline=None)
def test_messages_come_out_as_they_went_in_however_the_stream_is_cut(sent, data):
    """What paho wrote is read whole, in order, whatever the sizes of the pieces."""
    stream = b"".join(from_broker(**one, user=[("a", "b")]) for one in sent)
    decoder, found = codec.Decoder(10_000), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    expected = [
        codec.Publish(one["topic"], one["payload"], one["mid"], one["retained"], one["expiry"], one["correlation"], one["response"])
        for one in sent
    ]
    assert found == expected


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_are_packets_or_malformed(data):
    """Nothing that a broker could send raises anything but Malformed, and nothing of it is believed beyond the agreed size."""
    decoder = codec.Decoder(200)
    try:
        for found in decoder.feed(data):
            assert isinstance(found, codec.Packet)
    except codec.Malformed:
        pass


@given(st.integers(0, 268_435_455))
@settings(deadline=None)
def test_lengths(value):
    """The variable byte integer is paho's, and back."""
    from paho.mqtt.properties import VariableByteIntegers

    assert codec._variable(value) == VariableByteIntegers.encode(value)
    assert codec._Reader(codec._variable(value)).variable() == value


def test_what_a_box_sends_is_read_by_the_same_rules():
    """A publish of ours is a publish of a broker's; PUBACK, SUBACK, CONNACK, DISCONNECT carry their codes."""
    decoder = codec.Decoder(1000)
    sent = codec.publish("a/b", b"{}", 7, retain=True, correlation=b"x")
    assert decoder.feed(sent) == [codec.Publish("a/b", b"{}", 7, True, correlation=b"x")]
    assert decoder.feed(codec.puback(9)) == [codec.Puback(9, 0)]
    connack = packet(0x20, b"\x01\x00" + b"\x06\x21\x00\x14\x13\x00\x0a")  # session present; ReceiveMaximum 20, ServerKeepAlive 10
    answers = connack + packet(0x90, b"\x00\x01\x00\x87") + packet(0x40, b"\x00\x03\x10") + b"\xd0\x00" + packet(0xE0, b"\x8e")
    assert decoder.feed(answers) == [
        codec.Connack(True, 0, 20, 10),
        codec.Suback(1, (0x87,)),
        codec.Puback(3, 0x10),
        codec.Pingresp(),
        codec.Disconnected(0x8E),
    ]
    for wrong in (b"\x10\x00", b"\x34\x00", packet(0x20, b""), packet(0x30, b"\x00\x01a\x02\x7f\x00"), b"\xe0\xff\xff\xff\xff\x01"):
        with pytest.raises(codec.Malformed):
            codec.Decoder(1000).feed(wrong)


# --- the box


@given(st.lists(st.tuples(st.sampled_from(["put", "health", "remove"]), st.integers(1, 60)), max_size=150), st.integers(0, 60))
@settings(deadline=None)
def test_the_outbox_in_memory(steps, after):
    """Rows come out by kind, above an id and in order, until they are removed; a row is published for the first time once."""
    memory, model = Memory(BOOT), {}
    for what, number in steps:
        if what == "remove":
            expected = [number] if number in model else []
            model.pop(number, None)
            assert memory.remove([number]) == expected
        else:
            row = memory.put("health" if what == "health" else "event", b"{}", mono=1, ts=1, clk="synced")
            model[row.id] = row
            assert (row.seq, memory.first_time(row.id), memory.first_time(row.id)) == (row.id, True, False)
    for found, health in ((memory.events(after, 7), False), (memory.health(after, 7), True)):
        assert found == [row for id_, row in sorted(model.items()) if id_ > after and (row.kind == "health") == health][:7]
    assert len(memory) == len(model)


def test_values_are_of_the_catalogue():
    """All that the invented machine tells may travel, for a whole day, hot boxes too; the same seed tells the same."""
    for hot in (False, True):
        one, other = Machine(Random(3), hot=hot), Machine(Random(3), hot=hot)
        for at in range(0, 86_400, 600):
            values = one.values(at, at)
            assert values == other.values(at, at)
            for name, value in values.items():
                row = t.metric(name)
                assert row is not None, name
                assert t.valid(row, value), (name, value)


def test_faults():
    """Faults are by name and by seed; a run without any has none; each kind befalls some boxes."""
    assert faults.chosen("skew, storm") == {"skew", "storm"}
    with pytest.raises(BadRequest, match="flapping, offline, skew, storm"):
        faults.chosen("locusts")
    assert faults.plan(frozenset(), Random(1), 60) == faults.Plan()
    assert faults.storms(frozenset(), Random(1), 60) == []
    every = frozenset(faults.FAULTS)
    plans = [faults.plan(every, Random(f"{n}"), 60) for n in range(500)]
    assert plans == [faults.plan(every, Random(f"{n}"), 60) for n in range(500)]
    assert all(any(getattr(plan, name) for plan in plans) for name in ("flap_s", "backlog", "skew_ms"))
    assert [0 < storm.at_s < 900 for storm in faults.storms(every, Random(1), 900)] == [True] * 3


def test_where_the_broker_is():
    """HOST, HOST:PORT and an IPv6 address in brackets; a port that is none is told."""
    assert [target(given) for given in ("", "a", "a:1", "[::1]:2", "[::1]")] == [
        ("localhost", 8883),
        ("a", 8883),
        ("a", 1),
        ("::1", 2),
        ("::1", 8883),
    ]
    with pytest.raises(BadRequest, match="HOST:PORT"):
        target("a:b")


def test_a_command_is_done_once(monkeypatch):
    """The same id again is not carried out again but answered again, once a minute; what it cannot do and what is wrong is said."""
    times, put, done = HandTimes(), [], []
    obedience = Obedience(
        times=times,
        rng=Random(1),
        levers=Levers({}, frozenset(t.Duty)),
        put=lambda _kind, body, corr: put.append((body, corr)),
        event=lambda *_: None,
        did=lambda command: done.append(command.id),
    )

    class Loop:
        def call_later(self, _seconds, do, *given):
            do(*given)

    monkeypatch.setattr("asyncio.get_running_loop", Loop)

    def order(id_, name, args=None, expires=60_000):
        command = t.Command(id=id_, name=name, issued=times.wall, expires=times.wall + expires, args=args or {})
        obedience.command(command, codec.Publish("x", b"", 1, False, 60, b"corr"))
        return put[-1][0].outcome if put else None

    assert order("a", "ping") is t.Outcome.DONE
    assert put[-1][1] == b"corr"
    order("a", "ping")
    assert (done, len(put)) == (["a"], 2)
    order("a", "ping")
    assert len(put) == 2
    times.advance(61)
    order("a", "ping")
    assert (done, len(put)) == (["a"], 3)
    assert order("b", "snapshot") is t.Outcome.UNSUPPORTED
    assert order("c", "volume", {"level": 7}) is t.Outcome.REFUSED
    assert order("d", "ping", expires=-1) is t.Outcome.REFUSED  # the last answer: an expired command gets none
    assert (done, len(put)) == (["a"], 5)


@pytest.mark.parametrize("breaks_at", [3, 4, 5])
def test_a_connection_may_break_under_any_message(monkeypatch, tmp_path, breaks_at):
    """Status and what waited: whichever is the last that is written, the rest goes through another connection."""
    lines, wrong, whole = [], [], asyncio.Event()

    class Fragile:
        """A network that ends under one message of its first connection."""

        def __init__(self, *_, opened, came, ended, **__):
            self.opened, self.came, self.ended, self.sent = opened, came, ended, []
            lines.append(self)

        def open(self):
            asyncio.get_running_loop().call_soon(self.opened)

        def send(self, data):
            self.sent.append(data)
            if len(self.sent) == 1:
                asyncio.get_running_loop().call_soon(self.came, packet(0x20, b"\x00\x00" + b"\x03\x21\x00\x14"))
            if len(self.sent) == 2:
                asyncio.get_running_loop().call_soon(self.came, packet(0x90, b"\x00\x01\x00\x01"))
            if len(lines) == 1 and len(self.sent) == breaks_at:
                self.ended("reset")
            elif len(lines) == 2 and len(self.sent) == 5:  # hello, subscription, status, the first event and the birth
                whole.set()

        def close(self):
            pass

    monkeypatch.setattr("visavis.simulate.box.Line", Fragile)

    async def live():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        book = ledger.Ledger(tmp_path / "ledger")
        certificates = Namespace(context=lambda _name: None)
        house = House(("", 0), "", "default", 10.0, 1e6, 0.0, certificates, book, SystemTimes())
        box = Box(house, "sim-1", faults.Plan(), Random(1), "")
        box.start()
        try:
            await asyncio.wait_for(whole.wait(), 30)
        finally:
            box.stop()
            book.close()

    asyncio.run(live())
    assert not wrong


# --- the ledger


def heard(seq, kind, body):
    envelope = t.Envelope(
        dev="sim-1", boot=BOOT, seq=seq, ts=NOW, mono=1, clk=t.ClockState.SYNCED, kind=kind, body=msgspec.Raw(t.encode(body))
    )
    return judge(t.topic("default", "sim-1", kind), t.encode(envelope), False, "default", NOW)


@pytest.fixture
def kept(tmp_path):
    """A ledger of an event and a report, both acknowledged, and a command, with the store that has them."""
    book = ledger.Ledger(tmp_path / "ledger")
    book.kept("sim-1", BOOT, 1, "event", 0)
    book.kept("sim-1", BOOT, 2, "health", 2)
    book.sent("sim-1", BOOT, 1, NOW)
    book.acked("sim-1", BOOT, [1, 2])
    book.done("sim-1", "c1")
    book.close()
    db = open_database(tmp_path / "fleet.db")
    event = heard(1, t.UpKind.EVENT, t.EventBody(code="kiosk_started"))
    Intake(db).commit([event, heard(2, t.UpKind.HEALTH, t.Health(m={"rung": 1, "temperature": 60.0}))], NOW)
    yield tmp_path / "ledger", db
    db.close()


def test_the_ledger_is_read_as_it_was_written(kept):
    """Messages with times and acknowledgements, commands with their count; a line cut off by a kill does not count, nonsense is told."""
    path, _ = kept
    with path.open("a") as file:
        file.write("k sim-1 00")
    record = ledger.read(path)
    assert record.messages == {
        ("sim-1", BOOT, 1): ledger.Kept("event", 0, NOW, True),
        ("sim-1", BOOT, 2): ledger.Kept("health", 2, 0, True),
    }
    assert record.done == {("sim-1", "c1"): 1}
    path.write_text("q what\n")
    with pytest.raises(ValueError, match="ledger:1"):
        ledger.read(path)


def test_nothing_is_lost(kept):
    """Ledger and store agree."""
    path, db = kept
    verdict = compare(ledger.read(path), db)
    assert (verdict.kept, verdict.stored, verdict.lost, verdict.duplicates_in_effect, verdict.unacknowledged) == (2, 2, 0, 0, 0)


@pytest.mark.parametrize(
    ("sql", "lost"),
    [
        ("DELETE FROM event WHERE seq = 1", 1),
        ("DELETE FROM seen", 2),
        ("UPDATE seen SET last = 1", 1),
        ("UPDATE seen SET first = 2", 1),
    ],
)
def test_a_provoked_loss_is_found(kept, sql, lost):
    """A message that the store forgot is lost, whether only its effect is gone or its number too."""
    path, db = kept
    with db.write() as tx:
        tx.run(sql)
    verdict = compare(ledger.read(path), db)
    assert (verdict.lost, verdict.acknowledged_lost) == (lost, lost)
    assert verdict.examples


@pytest.mark.parametrize(
    "sql",
    [
        f"INSERT INTO event ({_EVENT}) SELECT {_EVENT} FROM event WHERE seq = 1",
        "UPDATE hour SET count = count + 1 WHERE series = (SELECT min(id) FROM series)",
    ],
)
def test_a_provoked_duplicate_is_found(kept, sql):
    """An event that stands there twice, or a value that was counted twice."""
    path, db = kept
    with db.write() as tx:
        tx.run(sql)
    assert compare(ledger.read(path), db).duplicates_in_effect == 1


def test_a_command_done_twice_is_found(kept):
    """It is told by the box's own ledger."""
    path, db = kept
    with path.open("a") as file:
        file.write("d sim-1 c1\n")
    assert compare(ledger.read(path), db).duplicates_in_effect == 1
