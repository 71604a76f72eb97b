"""Alerts as an admin and programs use them, over a real controller with its broker: roles, live, rules, maintenance, channels."""

from __future__ import annotations

import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest

import runtime.telemetry as t
from fleet import accounts, journal
from fleet.alert_rules import DEFAULTS
from fleet.alerts import LISTEN_MS
from tests.fleet.support import LIMIT_S, Fleet, SetTimes, Stranger
from tests.fleet.test_api import PASSWORD, client, signed_in

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]


class Leap(SetTimes):
    """The machine's clock, and as much later as a test says: certificates of ours stay valid."""

    ahead = 0

    def wall_ms(self):
        return super().wall_ms() + self.ahead


@pytest.fixture
def leaping(tmp_path):
    """A controller whose clock a test may put forward."""
    made = Fleet(tmp_path / "data", times=Leap(), alert_s=0.05)
    yield made
    made.stop()


@pytest.fixture
def boss(leaping):
    """The first admin's client."""
    accounts.create(leaping.db, "anna", accounts.Role.ADMIN, PASSWORD, 1)
    with client(leaping) as made:
        assert made.post("/session", json={"name": "anna", "password": PASSWORD}).status_code == 200
        yield made


def test_a_lost_box_from_begin_to_end(leaping, boss):
    """Lost, judged after five minutes, live in the console, counted for Prometheus, acknowledged, back, over; in the audit log."""
    box = Stranger(leaping, leaping.enrol("box-1"), "box-1")
    box.say(t.UpKind.STATUS, t.Status(state="online"), retain=True)
    box.say(t.UpKind.BIRTH, t.Birth(attributes={"site": "Store 12"}, health_s=3600))
    leaping.until(lambda: leaping.device("box-1") and leaping.device("box-1").site)
    box.say(t.UpKind.STATUS, t.Status(state="lost"), retain=True)
    leaping.until(lambda: leaping.state("box-1") == "lost")
    assert boss.get("/alerts").json()["counts"] == {"firing": 0, "error": 0, "warning": 0, "open": 0}
    with boss.stream("GET", "/live", timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        leaping.times.ahead += LISTEN_MS + 300_000
        assert next(line for line in lines if line.startswith("event: alerts"))
    (shown,) = leaping.until(lambda: boss.get("/alerts", params={"state": "firing", "site": "Store 12"}).json()["alerts"])
    assert (shown["alert"]["rule"], shown["alert"]["severity"], shown["alert"]["text"]) == ("missing", "error", "the connection was lost")
    key = shown["alert"]["id"]
    text = boss.get(f"{leaping.controller.server.url}/metrics").text
    assert 'visavis_fleet_alerts{acknowledged="no",rule="missing",severity="error"} 1.0' in text
    assert boss.post("/alerts/acknowledge", json={"ids": [key], "comment": "on my way"}).json() == {"boxes": 1}
    assert boss.get("/alerts").json()["counts"] == {"firing": 1, "error": 1, "warning": 0, "open": 0}
    assert boss.post("/alerts/silence", json={"ids": [key], "minutes": 60}).status_code == 200
    assert boss.post(f"/alerts/{key}/comments", json={"text": "a fuse"}).status_code == 200
    box.say(t.UpKind.STATUS, t.Status(state="online"), retain=True)
    leaping.until(lambda: leaping.state("box-1") == "online")

    def over():
        leaping.times.ahead += 30_000
        return boss.get("/alerts", params={"state": "resolved"}).json()["alerts"]

    assert leaping.until(over)[0]["acknowledged_by"] == "anna"
    found = boss.get(f"/alerts/{key}").json()
    assert [(note["action"], note["text"]) for note in found["notes"]] == [
        ("acknowledged", "on my way"),
        ("silenced", ""),
        ("comment", "a fuse"),
    ]
    assert {"alerts acknowledged", "alerts silenced"} <= {row.action for row in journal.audited(leaping.db)}
    box.close()


def test_roles(leaping, boss):
    """A viewer sees alerts, rules and maintenance; an operator acts on alerts; rules and channels are an admin's."""
    rule = msgspec.to_builtins(DEFAULTS[0])
    window = {"id": "night", "title": "Night", "until": 2_000_000_000_000}
    hook = {"id": "ops", "title": "Ops", "to": {"kind": "webhook", "url": "http://127.0.0.1:1/hidden"}}
    with closing(signed_in(leaping, boss, "viewer")) as viewer, closing(signed_in(leaping, boss, "operator")) as operator:
        for path in ("/alerts", "/alert-rules", "/alert-windows"):
            assert viewer.get(path).status_code == 200
        assert viewer.post("/alerts/acknowledge", json={"ids": ["x"]}).status_code == 403
        assert operator.post("/alerts/acknowledge", json={"ids": ["x"]}).json() == {"boxes": 0}
        for path, body in (("/alert-rules/missing", rule), ("/alert-windows/night", window), ("/alert-channels/ops", hook)):
            assert operator.put(path, json=body).status_code == 403
            assert operator.delete(path).status_code == 403
        assert operator.get("/alert-channels").status_code == 403
        for path, body in (("/alert-rules/missing", rule), ("/alert-windows/night", window), ("/alert-channels/ops", hook)):
            answer = boss.put(path, json=body)
            assert answer.status_code == 200, answer.text
        secret = answer.json()["secret"]
        assert secret.startswith("whsec_")
        for path in ("/alert-channels", "/audit", "/alert-rules"):
            assert not any(word in boss.get(path).text for word in (secret, "hidden"))
        assert boss.post("/alert-channels/ops/test").status_code == 200
        (posted,) = leaping.until(lambda: [one for one in boss.get("/alert-channels").json() if one["error"]])
        assert "Cannot connect" in posted["error"]
        assert boss.post("/alert-channels/ops/secret").json()["secret"] != secret
        for path in ("/alert-rules/missing", "/alert-windows/night", "/alert-channels/ops"):
            assert boss.delete(path).status_code == 200
            assert boss.delete(path).status_code == 400


class Slow(BaseHTTPRequestHandler):
    """A webhook that takes a message when it `may`."""

    may = threading.Event()

    def do_POST(self):
        assert self.may.wait(LIMIT_S)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def upto_quiet(lines):
    """What the stream says, until it has named alerts or had nothing to say four times: at least 45 seconds."""
    quiet = 0
    for line in lines:
        yield line
        quiet += line == "event: here"
        if line == "event: alerts" or quiet == 4:
            return


def test_what_became_of_a_test_is_told_live(leaping, boss):
    """Once that it was asked for, and again when the webhook, which takes its time, has taken it: pages that show the channel load anew."""
    server = HTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        hook = {"id": "slow", "title": "Slow", "to": {"kind": "webhook", "url": f"http://127.0.0.1:{server.server_port}/"}}
        assert boss.put("/alert-channels/slow", json=hook).status_code == 200
        with boss.stream("GET", "/live", timeout=60) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 2000"
            assert boss.post("/alert-channels/slow/test").status_code == 200
            assert "event: alerts" in upto_quiet(lines)
            assert [one["waiting"] for one in boss.get("/alert-channels").json()] == [1]
            Slow.may.set()
            assert "event: alerts" in upto_quiet(lines)
        leaping.until(lambda: [one["waiting"] for one in boss.get("/alert-channels").json()] == [0])
    finally:
        Slow.may.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_mistakes_are_one_line(boss):
    """What cannot be is 400 with one line."""
    rule = msgspec.to_builtins(DEFAULTS[0])
    for method, path, body in (
        ("PUT", "/alert-rules/other", rule),
        ("PUT", "/alert-rules/missing", rule | {"when": {"kind": "prophecy"}}),
        ("PUT", "/alert-rules/missing", rule | {"when": {"kind": "missing", "states": ["sad"]}}),
        ("PUT", "/alert-rules/missing", rule | {"sound": "loud"}),
        ("PUT", "/alert-windows/night", {"id": "night", "title": "Night"}),
        ("PUT", "/alert-windows/night", {"id": "night", "title": "Night", "zone": "Mars/Base", "until": 5}),
        ("PUT", "/alert-channels/ops", {"id": "ops", "title": "Ops", "to": {"kind": "pigeon"}}),
        ("POST", "/alerts/none/comments", {"text": "x"}),
        ("POST", "/alerts/silence", {"ids": ["none"], "minutes": 5}),
        ("POST", "/alerts/silence", {"ids": ["none"], "minutes": 10**9}),
        ("POST", "/alert-channels/none/test", {}),
    ):
        answer = boss.request(method, path, json=body)
        assert answer.status_code == 400, (path, body)
        assert "\n" not in answer.json()["error"]
    for path in ("/alerts/none", "/alerts?state=odd", "/alerts?limit=x"):
        assert boss.get(path).status_code == 400, path
