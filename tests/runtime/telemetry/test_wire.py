"""The wire against a real mosquitto with mutual TLS, and against brokers that lie."""

from __future__ import annotations

import datetime
import queue
import socket
import threading
from contextlib import suppress

import msgspec
import pytest

import runtime.telemetry as t
from runtime.telemetry.uplink import NO_SUBSCRIBERS, NOT_AUTHORISED, NOT_TRUSTED, TAKEN_OVER, Lost, Refused, Welcomed
from runtime.telemetry.wire import Came, Published, Server, Wire
from tests.runtime.telemetry.support import Broker, Cable, Controller, Party, free_port

# paho leaves the socket of a failed handshake to the garbage collector.
pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

HEALTH = t.topic("acme", "box-1", t.UpKind.HEALTH)
STATUS = t.topic("acme", "box-1", t.UpKind.STATUS)


def status(state):
    body = msgspec.Raw(t.encode(t.Status(state=state)))
    return t.encode(t.Envelope(dev="box-1", boot="0" * 16, seq=0, ts=1, mono=1, clk=t.ClockState.SYNCED, kind=t.UpKind.STATUS, body=body))


def health(number):
    body = msgspec.Raw(t.encode(t.Health(m={"turns": number})))
    return t.encode(
        t.Envelope(dev="box-1", boot="0" * 16, seq=number, ts=1, mono=1, clk=t.ClockState.SYNCED, kind=t.UpKind.HEALTH, body=body)
    )


class Ends:
    """A wire and the queue of its reports."""

    def __init__(self, server):
        self.reports: queue.Queue = queue.Queue()
        self.wire = Wire(server, self.reports.put)

    def next(self, kind=object):
        """The next report, which must be of `kind`."""
        report = self.reports.get(timeout=30)
        assert isinstance(report, kind), report
        return report


@pytest.fixture(scope="module")
def party(tmp_path_factory):
    return Party(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def broker(tmp_path, party):
    broker = Broker(tmp_path / "broker", party)
    yield broker
    broker.kill()


@pytest.fixture
def open_wire(party):
    """Makes wires, and closes them in the end."""
    made = []

    def make(port, name="box-1", signer=None, **more):
        certificate, key = (signer or party).sign(name)
        given = {"host": "localhost", "ca": party.ca, "certificate": certificate, "key": key, "will_delay_s": 1} | more
        subscribe = t.pattern("down", "acme", "box-1")
        made.append(Ends(Server(port=port, client_id=name, subscribe=subscribe, will_topic=STATUS, **given)))
        return made[-1]

    yield make
    for ends in made:
        ends.wire.close()


def test_messages_both_ways(broker, open_wire):
    """A box publishes and hears a command with its expiry, correlation and response topic; each is acknowledged."""
    controller = Controller(broker)
    ends = open_wire(broker.port)
    ends.wire.connect(status("lost"))
    assert ends.next(Welcomed).window == 20
    ends.wire.publish(7, HEALTH, health(1))
    assert ends.next() == Published(7, 0)
    controller.wait(lambda c: len(c.rows) == 1)
    came = ends.next(Came)
    assert t.decode_down(came.payload, t.DownKind.ACK)[1].acked[0].ranges == ((1, 1),)
    ends.wire.acknowledge(came.token)
    controller.raw(t.topic("acme", "box-1", t.DownKind.COMMAND), b"x", expiry=60, correlation=b"c", response="r")
    came = ends.next(Came)
    assert (came.payload, came.correlation, came.response_topic, came.retained) == (b"x", b"c", "r", False)
    assert 0 < came.expiry_s <= 60
    controller.close()


def test_what_was_not_acknowledged_comes_again(broker, open_wire):
    """A command that the box did not acknowledge before its process ended is delivered again; an acknowledged one is not."""
    controller = Controller(broker, ack=False)
    topic = t.topic("acme", "box-1", t.DownKind.COMMAND)
    first = open_wire(broker.port)
    first.wire.connect(status("lost"))
    first.next(Welcomed)
    controller.raw(topic, b"one")
    controller.raw(topic, b"two")
    one, two = first.next(Came), first.next(Came)
    assert (one.payload, two.payload) == (b"one", b"two")
    first.wire.acknowledge(one.token)
    first.wire.publish(1, HEALTH, health(1))
    first.next(Published)  # the acknowledgement went out before it
    second = open_wire(broker.port)
    second.wire.connect(status("lost"))
    reports = [second.next(), second.next()]
    assert [report.payload for report in reports if isinstance(report, Came)] == [b"two"]
    first.next(Lost)
    controller.close()


def test_taken_over(broker, open_wire):
    """Another machine with the same identity: the first connection ends (mosquitto 2.0 closes it without a reason)."""
    first, second = open_wire(broker.port), open_wire(broker.port)
    first.wire.connect(status("lost"))
    first.next(Welcomed)
    second.wire.connect(status("lost"))
    second.next(Welcomed)
    assert first.next(Lost).code in (0, TAKEN_OVER)


def test_nobody_listens(broker, open_wire):
    """Without any subscriber the broker says 0x10."""
    ends = open_wire(broker.port)
    ends.wire.connect(status("lost"))
    ends.next(Welcomed)
    ends.wire.publish(1, HEALTH, health(1))
    assert ends.next() == Published(1, NO_SUBSCRIBERS)


def test_other_boxes_topics_are_denied(broker, open_wire):
    """A box cannot speak as another one: 0x87; its own topics work on the same connection."""
    controller = Controller(broker, ack=False)
    ends = open_wire(broker.port)
    ends.wire.connect(status("lost"))
    ends.next(Welcomed)
    ends.wire.publish(1, t.topic("acme", "box-2", t.UpKind.HEALTH), health(1))
    ends.wire.publish(2, HEALTH, health(2))
    assert {ends.next(), ends.next()} == {Published(1, NOT_AUTHORISED), Published(2, 0)}
    controller.wait(lambda c: len(c.rows) == 1)
    assert [seq for _, seq in controller.rows] == [2]
    controller.close()


def test_the_will_comes_after_its_delay_and_not_before(broker, open_wire):
    """A short absence is not told; a long one is, retained; an intended end says so at once and leaves no will."""
    controller = Controller(broker)
    cable = Cable(broker.port)
    ends = open_wire(cable.port, keepalive_s=2)
    ends.wire.connect(status("lost"))
    ends.next(Welcomed)
    ends.wire.publish(0, STATUS, status("online"), retain=True)
    controller.wait(lambda c: c.status == [("online", False)])
    ends.next(Published)  # before the cut: its acknowledgement would be lost with the connection
    cable.cut.set()
    controller.wait(lambda c: c.status[-1][0] == "lost")
    cable.cut.clear()
    ends.next(Lost)
    ends.wire.connect(status("lost"))
    ends.next(Welcomed)
    ends.wire.publish(0, STATUS, status("online"), retain=True)
    controller.wait(lambda c: c.status[-1][0] == "online")
    ends.wire.close((STATUS, status("offline")))
    controller.wait(lambda c: c.status[-1][0] == "offline")
    late = Controller(broker, name="controller", ack=False)
    late.wait(lambda c: c.status == [("offline", True)])
    late.close()
    controller.close()
    cable.close()


def test_a_half_open_line_is_noticed(broker, open_wire):
    """Nothing comes and nothing is closed: the keepalive ends it."""
    cable = Cable(broker.port)
    ends = open_wire(cable.port, keepalive_s=1)
    ends.wire.connect(status("lost"))
    ends.next(Welcomed)
    cable.cut.set()
    ends.next(Lost)
    cable.close()


def test_a_killed_broker_is_noticed_and_found_again(broker, open_wire):
    """SIGKILL of the broker ends the connection; it can be opened again when the broker is back."""
    ends = open_wire(broker.port)
    ends.wire.connect(status("lost"))
    ends.next(Welcomed)
    broker.kill()
    ends.next(Lost)
    ends.wire.connect(status("lost"))
    assert ends.next(Refused).code == 0
    broker.start()
    ends.wire.connect(status("lost"))
    ends.next(Welcomed)


@pytest.mark.parametrize("what", ["expired", "other ca", "other broker", "nobody", "no name"])
def test_refusals_say_what_is_wrong_in_one_line(broker, open_wire, tmp_path, party, what):
    """Wrong certificates, a broker that is not ours, no broker: Refused, with a line a technician can act on."""
    other = Party(tmp_path / "other", "Other CA")
    if what == "other ca":
        ends = open_wire(broker.port, signer=other)
    elif what == "other broker":
        ends = open_wire(broker.port, ca=other.ca)
    elif what == "expired":
        certificate, key = party.sign("box-old", life=-datetime.timedelta(hours=1))
        ends = open_wire(broker.port, certificate=certificate, key=key)
    elif what == "no name":
        ends = open_wire(broker.port, host="no-such-name.invalid")
    else:
        ends = open_wire(free_port())
    ends.wire.connect(status("lost"))
    report = ends.next()
    assert isinstance(report, (Refused, Lost))
    assert "\n" not in report.why
    assert report.code in (0, NOT_TRUSTED)
    assert {"other broker": "cannot be trusted", "nobody": "refused"}.get(what, "") in report.why


def hostile(*answers):
    """A server that says `answers`, one for each time something comes, and then only listens."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        client, _ = server.accept()
        with client, suppress(OSError):
            for answer in answers:
                if not client.recv(65536):
                    return
                client.sendall(answer)
            while client.recv(65536):
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return server, thread


CONNACK = bytes.fromhex("2003000000")
SUBACK = bytes.fromhex("9004000100") + b"\x01"


@pytest.mark.parametrize(
    "answers",
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10,),
        (b"\x20\x03\x00\x00\x05\xff\xff\xff\xff",),
        (CONNACK, SUBACK, b"\x32\xff\xff\xff\x7f" + b"x" * 100_000),
        (CONNACK, SUBACK, b"\x30\x05\x00\x03\xff\xfe\xfd"),
        (CONNACK, b"\xe0\x02\x8e\x00"),
        (b"\x20\x03\x00\x87\x00",),
        (b"",),
    ],
    ids=["http", "broken connack", "endless", "no utf-8", "disconnect", "denied", "closed"],
)
def test_brokers_that_send_nonsense(open_wire, answers):
    """Whatever a broker sends, the connection ends with a report and the wire goes on: the next connection is tried."""
    server, thread = hostile(*answers)
    ends = open_wire(server.getsockname()[1], tls=False, keepalive_s=1)
    ends.wire.connect(status("lost"))
    report = ends.next()
    while isinstance(report, (Welcomed, Came)):
        ends.wire.publish(1, HEALTH, health(1))
        report = ends.next()
    assert isinstance(report, (Lost, Refused))
    assert report.code == {b"\xe0": TAKEN_OVER, b"\x20": NOT_AUTHORISED if answers[0][3:4] == b"\x87" else 0}.get(answers[-1][:1], 0)
    server.close()
    ends.wire.connect(status("lost"))
    ends.next(Refused)
    thread.join(30)
