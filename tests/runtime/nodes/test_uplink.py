"""The uplink node on a real bus, with a real mosquitto: what the fleet hears, and what it may ask."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
import socket
import threading
import time
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

import runtime.telemetry as t
import runtime.telemetry.uplink as rules
from runtime import messages as m
from runtime import topology
from runtime.clock import SystemClock
from runtime.nodes.health import Health, Processes
from runtime.nodes.uplink import main
from runtime.sharedstate import Board
from runtime.telemetry import box as code
from runtime.telemetry import outbox
from runtime.telemetry.box import Uplink
from runtime.telemetry.times import SystemTimes
from tests.runtime.telemetry.support import Broker, Cable, Controller, Party
from tests.support.harness import LIMIT_S, Bench

# paho leaves the socket of a failed handshake to the garbage collector.
pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

WORD = "zanzibar"


class SetTimes(SystemTimes):
    """The machine's clocks, set by a time server whatever the kernel of the test machine thinks of its own."""

    def synced(self):
        return True


class Box:
    """An uplink in a thread, on a bench of its own."""

    def __init__(self, tmp_path, broker, party, port=0, fleet=""):
        certificate, key = party.sign("box-1")
        config = tmp_path / "kiosk.toml"
        lines = [
            "[fleet]",
            f'broker = "localhost:{port or broker.port}"',
            'tenant = "acme"',
            'device = "box-1"',
            f'ca = "{party.ca}"',
            f'certificate = "{certificate}"',
            f'key = "{key}"',
            "health_s = 5",
            'outbox_path = "outbox"',
            'attributes = { site = "Store 12" }',
            fleet,
        ]
        config.write_text("\n".join(lines))
        self.folder = tmp_path / "outbox"
        self.bench = Bench(config=config)
        self.times = SetTimes()
        self.start()

    def start(self):
        """Begin an uplink's life."""
        self.ctx = self.bench.context("uplink")
        made = threading.Event()

        def life():
            self.node = Uplink(self.ctx, self.times)
            made.set()
            asyncio.run(self.node.run())

        self.thread = threading.Thread(target=life)
        self.thread.start()
        assert made.wait(LIMIT_S)

    def stop(self):
        """End it in order."""
        self.ctx.stop()
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive()

    def close(self):
        self.stop()
        self.bench.__exit__(None, None, None)


@pytest.fixture(scope="module")
def party(tmp_path_factory):
    return Party(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Connections come at once: the waits themselves are tested as rules."""
    monkeypatch.setattr(rules, "FIRST_MS", 50)
    monkeypatch.setattr(rules, "BASE_MS", 100)
    monkeypatch.setattr(outbox, "GROUP_MS", 100)
    monkeypatch.setattr(code, "_TICK_S", 0.05)


@pytest.fixture
def broker(tmp_path, party):
    broker = Broker(tmp_path / "broker", party)
    yield broker
    broker.kill()


@pytest.fixture
def controller(broker):
    controller = Controller(broker)
    yield controller
    controller.close()


@pytest.fixture
def box(tmp_path, broker, party, controller):  # noqa: ARG001 - the controller listens first
    box = Box(tmp_path, broker, party)
    yield box
    box.close()


def bodies(controller, kind):
    """The bodies of one kind that arrived, oldest first."""
    return [body for envelope, body in controller.rows.values() if envelope.kind is kind]


def codes(controller):
    return [body.code for body in bodies(controller, t.UpKind.EVENT)]


def command(name, key="", *, args=None, issued=0, lasts=60_000):
    """A command as a controller makes it."""
    now = SystemTimes().wall_ms()
    return t.Command(
        id=key or secrets.token_hex(8), name=name, issued=now + issued, expires=now + issued + lasts, by="anna", args=args or {}
    )


def ask(controller, box_command, **more):
    """Send a command, once the box is there, and wait for its answer."""
    controller.wait(lambda c: c.status and c.status[-1][0] == "online")
    controller.send("acme", "box-1", t.DownKind.COMMAND, box_command, **({"expiry": 60} | more))
    controller.wait(lambda c: box_command.id in c.answers)
    return controller.answers[box_command.id]


def test_a_box_appears(box, controller):
    """Online, born with its attributes and versions, started, with a first full report; what is acknowledged leaves the outbox."""
    controller.wait(lambda c: bodies(c, t.UpKind.HEALTH) and bodies(c, t.UpKind.BIRTH) and "kiosk_started" in codes(c))
    assert controller.status == [("online", False)]
    birth = bodies(controller, t.UpKind.BIRTH)[0]
    assert birth.attributes["site"] == "Store 12"
    assert birth.pack == "coffee-bar"
    assert "ping" in birth.commands
    assert "python" in birth.versions
    health = bodies(controller, t.UpKind.HEALTH)[0]
    assert health.full
    assert 0 < health.m["memory_free"] <= 1
    assert 0 < health.m["disk_free"] <= 1
    assert health.m["connects"] == 0
    controller.wait(lambda c: any(body.m.get("connects") == 1 for body in bodies(c, t.UpKind.HEALTH)))
    deadline = time.monotonic() + LIMIT_S
    while box.node._outbox.counts().rows and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert box.node._outbox.counts().rows == 0


def told(controller):
    """The values of all reports, the newest of each: a report holds what moved."""
    return {name: value for body in bodies(controller, t.UpKind.HEALTH) for name, value in body.m.items()}


def test_nodes_and_visits(box, controller):
    """A node that ends is an event with a cause of ours, not the supervisor's text; visits and the voice's level are in the reports."""
    supervisor, conductor, listener = (box.bench.context(name) for name in (topology.SUPERVISOR, "conductor", "listener"))
    stop = threading.Event()

    def talk():
        number = 0
        while not stop.wait(0.1):
            number += 1
            supervisor.publish("nodes", m.NodeEvent(0, 1, "voice", m.NodeState.DOWN, number, f"stuck: {WORD}"))
            conductor.publish("floor", m.Floor(1, 1, m.Posture.IDLE, m.Session.ENGAGED, number, 0, reason=WORD))
            listener.publish("activity", m.Activity(1, 1, m.ActivityKind.LEVEL, 0, 1, level_db=-23.5))

    # The contexts belong to the thread that talks from here on.
    thread = threading.Thread(target=talk)
    thread.start()
    try:
        controller.wait(lambda c: "mic_level_db" in told(c) and told(c).get("visits", 0) > 0)
    finally:
        stop.set()
        thread.join()
    event = next(body for body in bodies(controller, t.UpKind.EVENT) if body.code == "node_down")
    assert event.names == {"node": "voice", "cause": "stuck"}
    assert (told(controller)["session"], told(controller)["mic_level_db"]) == ("engaged", -23.5)


def test_ping(box, controller):  # noqa: ARG001
    """Answered once, with the correlation data of the request."""
    answer = ask(controller, command("ping"), correlation=b"\x00\xffcorr")
    assert answer.outcome is t.Outcome.DONE
    assert answer.result["uptime_s"] > 0
    assert b"\x00\xffcorr" in controller.correlations


def test_a_command_is_done_once(box, controller):
    """The same id again, even after a restart of the uplink, is not carried out again; its answer is sent again."""
    first = command("log_level", args={"level": "debug", "minutes": 1})
    assert ask(controller, first).outcome is t.Outcome.DONE
    path = Path(box.ctx.boot.run_dir) / "log-level"
    assert path.read_text() == "DEBUG"
    box.stop()
    box.start()
    controller.answers.clear()
    assert ask(controller, first).outcome is t.Outcome.DONE
    assert not path.exists()  # it was put back by the new life, and the repeated command did not raise it again
    assert [body.names for body in bodies(controller, t.UpKind.EVENT) if body.code == "command_run"] == [
        {"name": "log_level", "outcome": "done"}
    ]


@pytest.mark.parametrize(
    ("name", "args", "outcome", "reason"),
    [
        ("language", {"tag": "tlh"}, t.Outcome.REFUSED, "the pack does not have it; it has en-GB"),
        ("dance", {}, t.Outcome.UNSUPPORTED, "unknown"),
        ("ping", {"x": 1}, t.Outcome.REFUSED, "arguments"),
        ("restart_node", {"node": "../etc"}, t.Outcome.REFUSED, "arguments"),
        ("restart_node", {"node": "voice"}, t.Outcome.FAILED, "no such node runs"),
        ("switch_pack", {"pack": "other"}, t.Outcome.REFUSED, "not_allowed"),
        ("snapshot", {}, t.Outcome.FAILED, "no frame was drawn"),
    ],
)
def test_honest_answers(tmp_path, broker, party, controller, name, args, outcome, reason):
    """What cannot or may not be done is said so, with the reason."""
    box = Box(tmp_path, broker, party, fleet='allow = ["observe", "operate"]\n')
    answer = ask(controller, command(name, args=args))
    assert (answer.outcome, answer.reason[: len(reason)]) == (outcome, reason)
    box.close()


def test_what_is_wrong_is_counted_and_harmless(box, controller):
    """Malformed, huge, retained, expired, early, too long-lived and foreign messages: no effect, one event each, and the box goes on."""
    topic = t.topic("acme", "box-1", t.DownKind.COMMAND)
    ask(controller, command("ping"))
    for payload in (b"", b"{", b"\xff" * 100, b"[" * 50_000, b"x" * 60_000):
        controller.raw(topic, payload)
    controller.raw(t.topic("acme", "box-1", t.DownKind.ACK), b'{"v":1,"ts":1,"kind":"ack","body":{"acked":[{"boot":"x","ranges":[]}]}}')
    bad = [
        command("ping", issued=-120_000),
        command("ping", issued=3600_000),
        command("ping", lasts=10**12),
    ]
    for one in bad:
        controller.send("acme", "box-1", t.DownKind.COMMAND, one)
    controller.send("acme", "box-1", t.DownKind.COMMAND, command("ping"), response="visavis/1/acme/box-2/up/job")
    controller.send("acme", "box-1", t.DownKind.COMMAND, command("ping"), retain=True)
    wanted = {"malformed", "expired", "future", "too_long", "response_topic"}
    controller.wait(
        lambda c: wanted <= {body.names["cause"] for body in bodies(c, t.UpKind.EVENT) if body.code == "message_refused"},
    )
    assert ask(controller, command("ping")).outcome is t.Outcome.DONE
    assert not any(one.id in controller.answers for one in bad)
    assert box.node._inbox.refused["malformed"] == 6
    told = [body.names["cause"] for body in bodies(controller, t.UpKind.EVENT) if body.code == "message_refused"]
    assert len(told) == len(set(told))


def test_a_retained_command_is_not_obeyed(tmp_path, broker, party, controller):
    """A command that somebody left on the broker would come with every connection: it is refused."""
    controller.send("acme", "box-1", t.DownKind.COMMAND, command("ping", "left-behind"), retain=True)
    box = Box(tmp_path, broker, party)
    controller.wait(lambda c: any(body.names.get("cause") == "retained" for body in bodies(c, t.UpKind.EVENT)))
    assert "left-behind" not in controller.answers
    box.close()


def test_a_picture_of_the_avatar(box, controller):
    """The newest frame comes as a small JPEG with the avatar's colours."""
    renderer = box.bench.context("renderer").frame_writer("video")
    frame = renderer.begin(640, 480)
    frame[:480] = 54  # Y, Cb, Cr of full red in BT.709: 54, 99, 255
    frame[480:, 0::2], frame[480:, 1::2] = 99, 255
    renderer.commit(turn=0, t_capture_ns=SystemClock().monotonic_ns())
    answer = ask(controller, command("snapshot", args={"width": 320}))
    assert (answer.result["width"], answer.result["height"]) == (320, 240)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(answer.result["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 320, 3)
    assert np.abs(picture.reshape(-1, 3).mean(axis=0) - (0, 0, 255)).max() < 6


def shadows(controller, version):
    return [body for body in bodies(controller, t.UpKind.SHADOW) if body.version == version]


@pytest.mark.usefixtures("box")
def test_settings_from_the_fleet(controller):
    """A newer desired state is applied and reported, what is wrong in it is refused by name; the silence it is judged by is told anew."""
    controller.wait(lambda c: shadows(c, 0))
    usual = {
        "health_s": 5.0,
        "backlog_hz": 10.0,
        "log_level": "info",
        "volume": 1.0,
        "brightness": 1.0,
        "language": "en-GB",
        "rung": 0,
        "pack": "coffee-bar",
    }
    assert {**shadows(controller, 0)[0].reported, "health_s": 5.0} == usual
    desired = {"health_s": 7, "backlog_hz": 0, "colour": "red", "rung": -1}
    controller.send("acme", "box-1", t.DownKind.SHADOW, t.Shadow(version=3, desired=desired))
    controller.wait(lambda c: shadows(c, 3))
    (told,) = shadows(controller, 3)
    assert told.reported == {**usual, "health_s": 7}
    assert sorted(told.refused) == ["backlog_hz", "colour", "rung"]
    assert told.refused["colour"] == "unknown setting"
    controller.wait(lambda c: any(body.health_s == 7 for body in bodies(c, t.UpKind.BIRTH)))


def test_what_a_visit_begins_with_reaches_each_life_of_the_stage(box, controller):
    """A setting and a command are told to the stage, and reported; a stage that is started again is told all of it again."""
    supervisor, stage = box.bench.context(topology.SUPERVISOR), box.bench.context("stage")
    controller.wait(lambda c: shadows(c, 0))
    controller.send("acme", "box-1", t.DownKind.SHADOW, t.Shadow(version=3, desired={"volume": 0.5}))
    box.bench.wait_for(stage, "house", lambda setting: (setting.name, setting.value) == ("volume", 0.5))
    assert ask(controller, command("brightness", args={"level": 0.4})).outcome is t.Outcome.DONE
    box.bench.wait_for(stage, "house", lambda setting: (setting.name, setting.value) == ("brightness", 0.4))
    controller.wait(lambda c: any(body.reported["brightness"] == 0.4 for body in shadows(c, 3)))
    held = ask(controller, command("volume", args={"level": 0.9}))
    assert (held.outcome, "0.5" in held.reason) == (t.Outcome.REFUSED, True)
    box.bench._contexts.remove(stage)
    stage.close()
    stage, told = box.bench.context("stage"), {}
    deadline = time.monotonic() + LIMIT_S
    while len(told) < 3 and time.monotonic() < deadline:
        supervisor.publish("nodes", m.NodeEvent(0, 1, "stage", m.NodeState.READY, 1))
        told |= {message.name: message.value for link, message in stage.receive(0.1) if link == "house"}
    assert told == {"volume": 0.5, "brightness": 0.4, "language": "en-GB"}


def test_settings_survive_a_restart_without_a_network(tmp_path, broker, party, controller):
    """The newest desired state is applied at the start, before any connection; an older one never comes back."""
    cable = Cable(broker.port)
    box = Box(tmp_path, broker, party, cable.port)
    controller.wait(lambda c: c.status)
    controller.send("acme", "box-1", t.DownKind.SHADOW, t.Shadow(version=3, desired={"log_level": "debug", "health_s": 7}))
    controller.wait(lambda c: shadows(c, 3))
    path = Path(box.ctx.boot.run_dir) / "log-level"
    assert path.read_text() == "DEBUG"
    box.stop()
    cable.cut.set()
    box.start()
    deadline = time.monotonic() + LIMIT_S
    while not (path.exists() and box.node._health_s == 7) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert path.read_text() == "DEBUG"
    assert box.node._link.phase != "up"
    cable.cut.clear()
    assert ask(controller, command("ping")).outcome is t.Outcome.DONE
    controller.send("acme", "box-1", t.DownKind.SHADOW, t.Shadow(version=2, desired={"health_s": 900}))
    controller.wait(lambda c: any(body.names.get("cause") == "old_version" for body in bodies(c, t.UpKind.EVENT)))
    assert box.node._health_s == 7
    assert len(shadows(controller, 3)) == 1  # nothing changed since it was told
    controller.send("acme", "box-1", t.DownKind.SHADOW, t.Shadow(version=4, desired={}))
    controller.wait(lambda c: shadows(c, 4))
    assert not path.exists()
    box.close()
    cable.close()


def test_nothing_is_lost_while_the_broker_lies(tmp_path, party):
    """A broker that takes everything, says so, and forgets it all when it is killed: every event reaches the controller after all."""
    broker = Broker(tmp_path / "broker", party, keep=False)
    deaf = Controller(broker, ack=False)
    box = Box(tmp_path, broker, party)
    deaf.wait(lambda c: "kiosk_started" in codes(c))
    deaf.close()
    broker.kill()
    broker.start()
    controller = Controller(broker)
    controller.wait(lambda c: "kiosk_started" in codes(c) and bodies(c, t.UpKind.BIRTH))
    box.close()
    controller.close()
    broker.kill()


def test_denied_by_the_broker(tmp_path, party):
    """A broker whose rights forbid this box to speak: nothing is deleted, and when it is put right all of it arrives."""
    broker = Broker(tmp_path / "broker", party, rights="pattern read visavis/1/+/%u/down/#\n")
    controller = Controller(broker)
    box = Box(tmp_path, broker, party)
    deadline = time.monotonic() + LIMIT_S
    while box.node._sender.refused < 2 and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert box.node._sender.refused >= 2
    assert box.node._outbox.counts().rows >= 2
    assert controller.rows == {}
    broker.grant("pattern write visavis/1/+/%u/up/#\npattern read visavis/1/+/%u/down/#\n")
    broker.process.send_signal(signal.SIGHUP)
    box.stop()
    box.start()
    controller.wait(lambda c: "kiosk_started" in codes(c))
    box.close()
    controller.close()
    broker.kill()


def wait_for_beats(bench, ctx, count=6):
    """Until the heart beat so many times more, as the supervisor reads it."""
    board, deadline = Board(bench._board), time.monotonic() + LIMIT_S
    try:
        first = board.read(ctx.boot.line)[1]
        while board.read(ctx.boot.line)[1] < first + count:
            assert time.monotonic() < deadline, "no heartbeat"
            threading.Event().wait(0.05)
    finally:
        board.close()


def test_no_network_trips_a_watchdog(tmp_path, broker, party, controller, monkeypatch):
    """A line that swallows everything, and a host that takes connections and never answers: the heart beats on."""
    monkeypatch.setattr(code, "_TICK_S", 0.5)  # six beats shall last as long as a thread could be held up
    cable = Cable(broker.port)
    box = Box(tmp_path, broker, party, port=cable.port)
    controller.wait(lambda c: c.status)
    cable.cut.set()
    wait_for_beats(box.bench, box.ctx)
    box.close()
    cable.close()
    silent = socket.create_server(("127.0.0.1", 0))
    other = Box(tmp_path, broker, party, port=silent.getsockname()[1])
    wait_for_beats(other.bench, other.ctx)
    other.close()
    silent.close()


def test_an_intended_end_is_told(box, controller):
    """Offline is retained at once, and no will follows."""
    controller.wait(lambda c: c.status)
    box.stop()
    controller.wait(lambda c: c.status[-1] == ("offline", False))
    box.start()
    controller.wait(lambda c: c.status[-1] == ("online", False))


def wait_until_ready(bench, ctx):
    """Until the node says that it can do its work, as the supervisor reads it."""
    board, deadline = Board(bench._board), time.monotonic() + LIMIT_S
    try:
        while not board.read(ctx.boot.line)[2]:
            assert time.monotonic() < deadline, "not ready"
            threading.Event().wait(0.01)
    finally:
        board.close()


def wait_for_rest(bench, ctx):
    """Until the heart beats no more for half a second: a node whose turns are far apart waits for the next one."""
    board, deadline, seen = Board(bench._board), time.monotonic() + LIMIT_S, -1
    try:
        while seen != (seen := board.read(ctx.boot.line)[1]):
            assert time.monotonic() < deadline, "it has no rest"
            threading.Event().wait(0.5)
    finally:
        board.close()


def test_told_to_stop_it_does_not_wait_for_its_next_turn(tmp_path, broker, party, monkeypatch):
    """The wait between two turns ends at once: what is left of the supervisor's patience is for the last message and the disk."""
    monkeypatch.setattr(code, "_TICK_S", 3600.0)
    box = Box(tmp_path, broker, party)
    wait_until_ready(box.bench, box.ctx)
    wait_for_rest(box.bench, box.ctx)
    box.close()


def test_without_a_broker_it_does_nothing(tmp_path):
    """No broker configured: the node is ready, beats, writes nothing and ends when told."""
    config = tmp_path / "kiosk.toml"
    config.write_text('[fleet]\noutbox_path = "outbox"\n')
    with Bench(config=config) as bench:
        ctx = bench.context("uplink")
        thread = threading.Thread(target=main, args=(ctx,))
        thread.start()
        try:
            wait_until_ready(bench, ctx)
            wait_for_beats(bench, ctx, 2)
        finally:
            ctx.stop()
            thread.join(LIMIT_S)
        assert not thread.is_alive()
    assert not (tmp_path / "outbox").exists()


def said():
    """Every message that could hold a visitor's word, with the marked word in every text field."""
    activity = m.Activity(3, 1, m.ActivityKind.LEVEL, 0, 1, level_db=-20.0)
    return [
        ("listener", "activity", activity),
        ("recogniser", "words", m.Transcript(3, 1, 0, 5, WORD, words=(m.Word(WORD),), alternatives=(WORD,))),
        ("conductor", "floor", m.Floor(3, 1, m.Posture.IDLE, m.Session.ENGAGED, 2, 3, reason=WORD)),
        ("dialogue", "reply", m.Reply(3, 1, 0, WORD, last=True, card=json.dumps({"text": WORD}))),
        ("voice", "speech", m.Speech(3, 1, 0, 0, 5, WORD, last=True, words=(m.SpokenWord(WORD, 0),))),
        ("stage", "heard", m.Heard(3, 1, m.HeardKind.FINISHED, 5, WORD)),
        ("stage", "visitor", m.VisitorInput(3, 1, m.InputKind.TYPED, WORD)),
        (topology.SUPERVISOR, "nodes", m.NodeEvent(0, 1, "voice", m.NodeState.DOWN, 1, f"exited: {WORD}")),
        (topology.SUPERVISOR, "nodes", m.NodeEvent(0, 1, WORD, m.NodeState.DOWN, 1, WORD)),
        ("conductor", "ask", m.Ask(3, 1, WORD, 2)),
        ("conductor", "say", m.Say(3, 1, 0, WORD, last=True)),
        ("voice", "notice", m.Notice(0, 1, WORD, WORD)),
        ("dialogue", "marks", m.Mark(3, 1, f"objective:{WORD}")),
        ("dialogue", "marks", m.Mark(3, 1, WORD)),
        ("dialogue", "marks", m.Mark(3, 2, "granted")),
        ("dialogue", "marks", m.Mark(3, 3, "sound_heard")),
        ("voice", "stats", m.NodeStats(0, 1, "voice", stats_with_words())),
        ("voice", "stats", m.NodeStats(0, 1, WORD, stats_with_words())),
    ]


def say_it_all(contexts, health):
    """Each node says all it can say, and health takes what it gets."""
    for name, link, message in said():
        if topology.link(link).kind is topology.Kind.COMMAND:
            contexts[name].send(link, message)
        else:
            contexts[name].publish(link, message)
    for context in contexts.values():
        context.beat()
        for _, message in context.receive(0):
            if context.name == "health":
                health.handle(message)
    health._due_ns = 0
    health.tick()


def stats_with_words():
    """Statistics of a node gone mad, which puts words everywhere."""
    link = {"name": WORD, "kind": WORD, "role": WORD, "sent": 1, "dropped": {WORD: 1}}
    return msgspec.json.encode(
        {
            "links": {WORD: link, "speech": link},
            "unsent": {WORD: 1},
            "values": {WORD: 1, "session": WORD, "fps": WORD, f"node_cpu.{WORD}": 1.0},
        }
    )


def test_not_a_word_of_a_visitor_leaves_the_box(box, controller):
    """A marked word in every field of every message, through the real health node: neither outbox nor network ever held it.

    Diagnostics are asked for too.
    """
    contexts = {name: box.bench.context(name) for name in ("listener", "recogniser", "conductor", "dialogue", "voice", "stage", "health")}
    contexts[topology.SUPERVISOR] = box.bench.context(topology.SUPERVISOR)
    health = Health(contexts["health"], Processes(0))
    for context in contexts.values():
        context.measure(WORD, WORD)
        context.measure("session", WORD)
    for _ in range(40):
        say_it_all(contexts, health)
        threading.Event().wait(0.05)
    assert WORD.encode() in health._file.read_bytes()  # and really stood where the uplink reads
    report = ask(controller, command("diagnostics")).result["report"]
    assert report["nodes"]["voice"]["state"] == "down"
    count = len(bodies(controller, t.UpKind.HEALTH))
    controller.wait(lambda c: len(bodies(c, t.UpKind.HEALTH)) > count and bodies(c, t.UpKind.HEALTH)[-1].m.get("turns", 1) > 0)
    event = [body for body in bodies(controller, t.UpKind.EVENT) if body.code == "node_down"]
    assert event
    kept = [path for path in box.folder.iterdir() if path.is_file()]
    assert any(path.stat().st_size for path in kept)
    for path in kept:
        assert WORD.encode() not in path.read_bytes(), path
    for topic, payload, _ in controller.messages:
        assert WORD.encode() not in payload, topic
        assert WORD not in topic
