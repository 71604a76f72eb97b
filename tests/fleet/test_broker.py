"""The broker as the controller runs it: identities, rights, revocation, restart, and nothing left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import runtime.telemetry as t
from fleet import inventory
from fleet.broker import CONTROLLER
from fleet.controller import Controller, Settings
from fleet.errors import BadRequest, DataInUse, PortTaken
from tests.fleet.support import Fleet, SetTimes, Stranger
from tests.runtime.telemetry.support import Party, free_port

# paho leaves the socket of a failed handshake to the garbage collector.
pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

NOT_AUTHORISED = 0x87
STATUS = t.Status(state="online", since=1)


def test_a_real_box_comes_and_goes(fleet, box):
    """Enrolled, it is new; then online with its attributes, versions and health; stopped in order, it is offline, not lost."""
    one = box()
    fleet.until(lambda: fleet.state("box-1") == "online" and fleet.device("box-1").health and fleet.device("box-1").site)
    device = fleet.device("box-1")
    assert (device.site, device.model, device.birth["pack"]) == ("Store 12", "Orin", "coffee-bar")
    assert 0 < device.health["memory_free"] <= 1
    fleet.until(lambda: one.node._outbox.counts().rows == 0)  # all of it acknowledged
    one.stop()
    fleet.until(lambda: fleet.state("box-1") == "offline")
    one.start()
    fleet.until(lambda: fleet.state("box-1") == "online")


def test_a_box_reaches_its_own_topics_only(fleet, stranger):
    """Others' topics, down topics, $SYS: refused by the broker with 0x87; nothing of them arrives, nothing of others is heard."""
    other = stranger("box-2")
    thief = stranger("box-1")
    message = t.encode(other.envelope(t.UpKind.STATUS, STATUS))
    assert thief.say(t.UpKind.STATUS, STATUS, retain=True) == 0
    for topic in (
        t.topic("default", "box-2", t.UpKind.STATUS),
        t.topic("other", "box-1", t.UpKind.STATUS),
        t.topic("default", "box-2", t.DownKind.COMMAND),
        t.topic("default", "box-1", t.DownKind.ACK),
        "visavis/1/default/box-1/up/health/more",
        "somewhere",
    ):
        assert thief.raw(topic, message) == NOT_AUTHORISED, topic
    for pattern in (
        "#",
        "visavis/#",
        t.pattern("up"),
        t.pattern("down"),
        t.pattern("down", "default", "box-2"),
        "$SYS/#",
        "$share/x/visavis/#",
    ):
        thief.client.subscribe(pattern, qos=1)
    assert other.say(t.UpKind.EVENT, t.EventBody(code="kiosk_started")) == 0
    fleet.until(lambda: other.acked() == {1})
    assert thief.say(t.UpKind.EVENT, t.EventBody(code="kiosk_started")) == 0  # after this anything else would have come too
    fleet.until(lambda: thief.acked() == {1})
    assert {message.topic for message in thief.came} == {t.topic("default", "box-1", t.DownKind.ACK)}
    assert fleet.state("box-2") == "online"  # by its own message, not by the thief's
    assert sorted(fleet.codes("box-2")) == ["box_online", "kiosk_started"]


def test_the_certificate_decides_who_one_is(fleet, stranger, tmp_path):
    """Another client id than the certificate's name is replaced by it; a stranger's authority and no certificate get no connection."""
    victim = stranger("box-2")
    liar = stranger("box-1", client_id="box-2")
    assert liar.say(t.UpKind.STATUS, STATUS) == 0
    assert not victim.ended.is_set()  # the session was not taken over
    assert liar.raw(t.topic("default", "box-2", t.UpKind.STATUS), b"x") == NOT_AUTHORISED
    party = Party(tmp_path / "party")
    party.sign("box-3")
    (tmp_path / "party" / "ca.pem").write_bytes(fleet.controller.authority.pem)
    with suppress(OSError):  # TLS 1.3 tells a client that it is not wanted after the handshake, or just closes
        assert not Stranger(fleet, tmp_path / "party", "box-3", connect=False).connect()
    assert fleet.state("box-3") == ""


def test_no_box_is_called_like_the_controller(fleet):
    """Names that could be the controller's, a pattern or a path cannot be enrolled."""
    for name in (CONTROLLER, "+", "#", "a/b", "", "-x", "x" * 64, "box\n", "%u"):
        with pytest.raises(BadRequest, match="cannot name a box"):
            fleet.enrol(name)


def answer(fleet, context, session):
    """What the broker answers to CONNECT on a TLS session that is resumed; b"" if it closes."""
    connect = bytes((0x10, 18, 0, 4)) + b"MQTT" + bytes((5, 2, 0, 30, 0, 0, 5)) + b"box-1"
    try:
        plain = socket.create_connection(("127.0.0.1", fleet.settings.broker_port), 10)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as secure:
            secure.sendall(connect)
            return secure.recv(100)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_a_revoked_certificate_ends_the_live_session(fleet, stranger):
    """The session ends, the same certificate gets no new one, not even by resuming TLS; a new certificate for the box does."""
    folder = fleet.enrol("box-1")
    thief = stranger(folder=folder)
    assert answer(fleet, thief.client._ssl_context, None)[:1] == b"\x20"  # so that silence below means something
    thief = stranger(folder=folder)
    bystander = stranger("box-2")
    assert thief.say(t.UpKind.STATUS, STATUS, retain=True) == 0
    fleet.until(lambda: fleet.state("box-1") == "online")
    context, session = thief.client._ssl_context, thief.client.socket().session
    assert inventory.revoke(fleet.db, "box-1", 1) == 1
    assert thief.ended.wait(60)
    fleet.until(lambda: not inventory.revocations_to_apply(fleet.db))
    again = Stranger(fleet, folder, "box-1", connect=False)
    with suppress(OSError):
        assert not again.connect()
    again.close()
    assert answer(fleet, context, session) == b""
    assert fleet.device("box-1").revoked
    assert not bystander.ended.is_set()
    assert stranger("box-1").say(t.UpKind.STATUS, STATUS) == 0
    assert not fleet.device("box-1").revoked


def test_revocations_survive_a_restart(fleet):
    """A controller that starts anew, with another broker process, still refuses the certificate."""
    folder = fleet.enrol("box-1")
    inventory.revoke(fleet.db, "box-1", 1)
    fleet.stop()
    fleet.start()
    again = Stranger(fleet, folder, "box-1", connect=False)
    with suppress(OSError):
        assert not again.connect()
    again.close()


def test_a_broker_that_dies_is_started_again(fleet, box):
    """SIGKILL: a new process, the box is back, nothing of it is lost, and a command that waited for it is done once."""
    one = box()
    fleet.until(lambda: "kiosk_started" in fleet.codes("box-1"))
    first = fleet.controller.broker.pid
    os.kill(first, signal.SIGKILL)
    fleet.until(lambda: fleet.controller.broker.pid not in (0, first) and fleet.controller.link.connected.is_set())
    order = fleet.do(fleet.controller.order("box-1", "ping", {}, "anna", 300))
    fleet.until(lambda: "command_run" in fleet.codes("box-1"))
    fleet.until(lambda: one.node._outbox.counts().rows == 0)
    assert fleet.codes("box-1").count("command_run") == 1
    assert fleet.controller.broker.restarts == 1
    assert order.state == "queued"


def test_nothing_is_left_behind(tmp_path):
    """Stopped in order or killed with SIGKILL, the controller leaves no broker; the next one starts in the same folder."""
    command = [sys.executable, "-m", "visavis", "fleet", "serve", "--data", str(tmp_path / "data"), "--broker-host", "127.0.0.1"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        port, console = free_port(), free_port()
        process = subprocess.Popen(
            [*command, "--broker-port", str(port), "--port", str(console)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        while "broker is ready" not in (line := process.stdout.readline()):
            assert line, "it ended"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 1
        broker = os.pidfd_open(int(children[0]))
        process.send_signal(number)
        assert process.wait(60) == (0 if number == signal.SIGTERM else -number)
        process.stdout.close()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(broker, 0)
            assert select.select([broker], [], [], 60)[0]  # it has ended
        os.close(broker)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_mistakes_are_one_line(tmp_path):
    """A taken port and a folder in use are told as what they are."""
    fleet = Fleet(tmp_path / "data")
    try:
        with pytest.raises(DataInUse, match="--data"):
            Controller(Settings(data=tmp_path / "data"), SetTimes())
        with pytest.raises(PortTaken, match=str(fleet.settings.broker_port)):
            Fleet(tmp_path / "second", broker_port=fleet.settings.broker_port)
    finally:
        fleet.stop()
