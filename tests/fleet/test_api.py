"""The REST API as a program and an admin use it: sign-in, roles, tokens, commands with answers, history, Prometheus, OpenAPI."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections import Counter
from contextlib import closing, contextmanager

import httpx
import msgspec
import pytest

import runtime.telemetry as t
from fleet import accounts, journal
from fleet.api import ROUTES
from fleet.database import open_database
from tests.fleet.support import Fleet
from tests.runtime.telemetry.support import HandTimes
from tests.support.harness import LIMIT_S

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

PASSWORD = "correct horse battery"
HEADER = {"X-Visavis": "1"}


def client(fleet, **more):
    return httpx.Client(base_url=f"{fleet.controller.server.url}/api/v1", headers=HEADER, timeout=60, **more)


@pytest.fixture
def admin(fleet):
    """A client that is signed in as the first admin."""
    code = accounts.setup_code(fleet.data)
    with client(fleet) as made:
        assert made.post("/setup", json={"code": code, "name": "anna", "password": PASSWORD}).status_code == 200
        yield made


def signed_in(fleet, admin, role):
    """A client of another user with this role."""
    assert admin.post("/users", json={"name": role, "role": role, "password": PASSWORD}).status_code == 200
    made = client(fleet)
    assert made.post("/session", json={"name": role, "password": PASSWORD}).status_code == 200
    return made


def test_the_first_sign_in_makes_the_admin(fleet):
    """Nobody can do anything before; the code from the controller's own folder is needed; a second first one is refused."""
    with client(fleet) as someone:
        assert someone.get("/session").json() == {"name": "", "role": "", "setup": True, "scope": [], "sso": ""}
        assert someone.get("/devices").status_code == 401
        wanted = {"name": "anna", "password": PASSWORD}
        assert someone.post("/session", json={"name": "admin", "password": "admin"}).status_code == 400
        assert someone.post("/setup", json={**wanted, "code": "guess"}).status_code == 400
        code = accounts.setup_code(fleet.data)
        assert code in fleet.call(lambda: fleet.controller.welcome)
        assert "12" in someone.post("/setup", json={"name": "anna", "password": "short", "code": code}).json()["error"]
        made = {"name": "anna", "role": "admin", "setup": False, "scope": [], "sso": ""}
        assert someone.post("/setup", json={**wanted, "code": code}).json() == made
        assert someone.get("/devices").status_code == 200
        assert not (fleet.data / "setup-code").exists()
        assert someone.post("/setup", json={**wanted, "code": code}).status_code == 400
    assert fleet.controller.welcome == fleet.controller.server.url


def test_roles(fleet, admin):
    """A viewer sees, an operator sends harmless commands, an admin does all; every route refuses who is not signed in."""
    fleet.enrol("box-1")
    ping, update = {"name": "ping"}, {"name": "update", "args": {"release": "1.2"}}
    with closing(signed_in(fleet, admin, "viewer")) as viewer, closing(signed_in(fleet, admin, "operator")) as operator:
        for path in ("/devices", "/devices/box-1", "/events", "/commands", "/catalogue"):
            assert viewer.get(path).status_code == 200
        assert viewer.post("/devices/box-1/commands", json=ping).status_code == 403
        assert operator.post("/devices/box-1/commands", json=ping).status_code == 200
        assert operator.post("/devices/box-1/commands", json=update).status_code == 400
        assert admin.post("/devices/box-1/commands", json=update).status_code == 200
        for path in ("/audit", "/users", "/tokens"):
            assert operator.get(path).status_code == 403
        assert operator.post("/devices", json={"name": "box-2"}).status_code == 403
        assert operator.post("/devices/box-1/revoke").status_code == 403
        assert admin.post("/users/operator", json={"disabled": True}).status_code == 200
        assert operator.get("/devices").status_code == 401
        assert admin.post("/users/anna", json={"role": "viewer"}).json()["error"] == "one admin without limits has to stay"
    with httpx.Client(base_url=fleet.controller.server.url, headers=HEADER) as nobody:
        for route in ROUTES:
            if route.role is not None:
                assert nobody.request(route.method, route.path.format(name="box-1", id="1")).status_code == 401, route


def test_another_sites_page_can_do_nothing(fleet, admin):
    """A request with the cookie but without our header, which another site cannot set, changes nothing; pages carry a strict CSP."""
    answer = admin.post("/devices", json={"name": "box-1"}, headers={"X-Visavis": ""})
    assert answer.status_code == 403
    assert fleet.device("box-1") is None
    page = httpx.get(fleet.controller.server.url)
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Frame-Options"] == "DENY"
    signed = admin.post("/session", json={"name": "anna", "password": PASSWORD})
    assert "HttpOnly" in signed.headers["Set-Cookie"]
    assert "SameSite=Strict" in signed.headers["Set-Cookie"]


def test_guessing_is_slowed_down(tmp_path):
    """After five wrong passwords the next try has to wait, with the right password too; others may go on, and so may this one later."""
    fleet = Fleet(tmp_path / "data", times=HandTimes())
    for name in ("anna", "bert"):
        accounts.create(fleet.db, name, accounts.Role.ADMIN, PASSWORD, 1)
    with client(fleet) as guesser:
        codes = [guesser.post("/session", json={"name": "bert", "password": "x" * n}).status_code for n in range(1, 7)]
        assert codes == [400] * 5 + [429]
        answer = guesser.post("/session", json={"name": "bert", "password": PASSWORD})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert guesser.post("/session", json={"name": "anna", "password": PASSWORD}).status_code == 200
        fleet.times.advance(1)
        assert guesser.post("/session", json={"name": "bert", "password": PASSWORD}).status_code == 200
        assert [row["action"] for row in guesser.get("/audit").json()].count("sign-in refused") == 5
    fleet.stop()


def test_guesses_that_wait_are_slowed_down_too(tmp_path):
    """Fifty guesses at once: those that waited for their turn are judged by what the others did meanwhile."""
    fleet = Fleet(tmp_path / "data", times=HandTimes())
    accounts.create(fleet.db, "bert", accounts.Role.ADMIN, PASSWORD, 1)

    async def guess():
        url = f"{fleet.controller.server.url}/api/v1/session"
        async with httpx.AsyncClient(headers=HEADER, timeout=60, limits=httpx.Limits(max_connections=50)) as guesser:
            tries = [guesser.post(url, json={"name": "bert", "password": f"wrong {n}"}) for n in range(50)]
            return Counter(answer.status_code for answer in await asyncio.gather(*tries))

    codes = asyncio.run(guess())
    fleet.stop()
    assert codes[429] + codes[400] == 50
    assert codes[400] <= 6  # five, and the one that was tried together with the fifth


def test_throttle_doubles_and_forgets():
    """The wait doubles to a quarter of an hour, belongs to name and address, and is forgotten after an hour."""
    throttle = accounts.Throttle()
    waits = []
    for _ in range(20):
        throttle.failed("anna", "10.0.0.1", 0)
        waits.append(throttle.wait_ms("anna", "10.0.0.1", 0))
    assert waits[:8] == [0, 0, 0, 0, 1000, 2000, 4000, 8000]
    assert max(waits) == 900_000
    assert throttle.wait_ms("anna", "10.0.0.2", 0) == 0
    assert throttle.wait_ms("bert", "10.0.0.1", 0) == 1000  # this address has failed twenty times
    assert throttle.wait_ms("anna", "10.0.0.1", 3_600_000) == 0
    throttle.succeeded("anna", "10.0.0.1")
    assert throttle.wait_ms("anna", "10.0.0.1", 0) == 1000


def test_throttle_takes_a_subscriber_as_one():
    """Of IPv6 the /64 counts, of which anybody has as many addresses as they like; of IPv4 the address, however it is written."""
    throttle = accounts.Throttle()
    for number in range(30):
        throttle.failed(f"nobody-{number}", f"2001:db8:1:2::{number:x}", 0)
    assert throttle.wait_ms("anna", "2001:db8:1:2:ffff::1", 0) > 0
    assert throttle.wait_ms("anna", "2001:db8:1:3::1", 0) == 0
    for number in range(30):
        throttle.failed(f"nobody-{number}", f"::ffff:10.0.0.{number}", 0)
    assert throttle.wait_ms("anna", "::ffff:10.0.0.1", 0) == 0
    assert throttle.wait_ms("anna", "", 0) == 0


def test_tokens(fleet, admin):
    """A program's token has its role, needs no header of ours, is told once, ends with its time, and can be withdrawn."""
    key = admin.post("/tokens", json={"title": "Prometheus", "role": "viewer", "days": 1}).json()["token"]
    bearer = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=fleet.controller.server.url, headers=bearer, timeout=60) as program:
        assert program.get("/api/v1/devices").status_code == 200
        assert program.post("/api/v1/devices", json={"name": "box-1"}).status_code == 403
        text = program.get("/metrics").text
        assert "# TYPE visavis_fleet_devices gauge" in text
        assert 'visavis_fleet_messages_total{what="received"} 0.0' in text
        later = fleet.times.wall_ms() + 2 * 86_400_000
        assert accounts.identify(fleet.db, token=key, now_ms=later) is None
        listed = admin.get("/tokens").json()
        assert key not in str(listed)
        assert admin.delete(f"/tokens/{listed[0]['id']}").status_code == 200
        assert program.get("/api/v1/devices").status_code == 401
    assert key.encode() not in b"".join(file.read_bytes() for file in fleet.data.glob("fleet.db*"))


def test_a_real_box_through_the_api(fleet, admin, box):
    """Enrolled box, live health and history, a command with its answer, events, all in the audit log."""
    box()
    fleet.until(lambda: fleet.state("box-1") == "online" and fleet.device("box-1").health and fleet.device("box-1").site)
    found = admin.get("/devices", params={"q": "box", "state": "online", "site": "Store 12"}).json()
    assert [one["name"] for one in found["devices"]] == ["box-1"]
    assert found["facets"]["site"] == {"Store 12": 1}
    assert admin.get("/devices", params={"model": "none such"}).json()["devices"] == []
    sent = admin.post("/devices/box-1/commands", json={"name": "diagnostics", "expires_s": 120}).json()
    done = fleet.until(lambda: next((o for o in [admin.get(f"/commands/{sent['id']}").json()] if o["state"] == "answered"), None))
    assert (done["outcome"], done["author"]) == ("done", "anna")
    assert "uplink" in done["result"]["report"]
    curve = admin.get("/devices/box-1/health", params={"metric": "memory_free"}).json()
    assert len(curve["ts"]) == len(curve["mean"]) >= 1
    assert 0 < curve["mean"][-1] <= 1
    events = admin.get("/events", params={"device": "box-1"}).json()
    assert {"box_online", "kiosk_started"} <= {event["code"] for event in events}
    last = admin.get("/audit").json()[0]
    assert (last["author"], last["action"], last["target"], last["details"]["name"]) == ("anna", "command", "box-1", "diagnostics")


def test_a_command_waits_for_a_box_that_is_away(fleet, admin, stranger):
    """Queued while nobody is there, it is sent once when the box comes online, with expiry and correlation; then nothing more."""
    box = stranger("box-1")
    box.close()
    sent = admin.post("/devices/box-1/commands", json={"name": "volume", "args": {"level": 0.5}, "expires_s": 600}).json()
    assert sent["state"] == "queued"
    back = stranger("box-1")
    back.say(t.UpKind.STATUS, t.Status(state="online"), retain=True)
    back.wait(lambda: any(message.topic.endswith("/command") for message in back.came))
    message = next(message for message in back.came if message.topic.endswith("/command"))
    _, command = t.decode_down(message.payload, t.DownKind.COMMAND)
    assert (command.id, command.by, command.args) == (sent["id"], "anna", {"level": 0.5})
    assert 0 < message.properties.MessageExpiryInterval <= 600
    assert message.properties.CorrelationData == sent["id"].encode()
    assert message.properties.ResponseTopic == t.topic("default", "box-1", t.UpKind.JOB)
    fleet.until(lambda: admin.get(f"/commands/{sent['id']}").json()["state"] == "sent")
    answer = t.Answer(id=sent["id"], name="volume", outcome=t.Outcome.DONE)
    assert stranger("box-2").say(t.UpKind.JOB, answer) == 0  # of another box: not believed
    assert back.say(t.UpKind.JOB, answer) == 0
    fleet.until(lambda: admin.get(f"/commands/{sent['id']}").json()["state"] == "answered")
    fleet.until(lambda: fleet.controller.counts["strange_unknown_command"] == 1)


def test_a_command_that_was_lost_with_the_session(fleet, admin, stranger):
    """The broker took it for a box, and forgot the box with all that it held for it: it goes out again when the box is back, and once more
    only if the box still has not answered then.
    """
    folder = fleet.enrol("box-1")
    box = stranger("box-1", folder)
    sent = admin.post("/devices/box-1/commands", json={"name": "ping", "expires_s": 86_400}).json()
    fleet.until(lambda: admin.get(f"/commands/{sent['id']}").json()["state"] == "sent")
    box.close()
    back = stranger("box-1", folder)  # a client without a session
    assert back.say(t.UpKind.STATUS, t.Status(state="online"), retain=True) == 0
    back.wait(lambda: any(message.topic.endswith("/command") for message in back.came))
    fleet.until(lambda: admin.get(f"/commands/{sent['id']}").json()["state"] == "sent")
    assert back.say(t.UpKind.JOB, t.Answer(id=sent["id"], name="ping", outcome=t.Outcome.DONE)) == 0
    fleet.until(lambda: admin.get(f"/commands/{sent['id']}").json()["state"] == "answered")
    back.close()
    again = stranger("box-1", folder)
    assert again.say(t.UpKind.STATUS, t.Status(state="online"), retain=True) == 0
    assert again.say(t.UpKind.EVENT, t.EventBody(code="kiosk_started")) == 0
    again.wait(again.acked)
    assert not [message for message in again.came if message.topic.endswith("/command")]


@contextmanager
def half_way(fleet, module, name, path, body, token=""):
    """The socket of a client that has sent a request, while the call of `module.name` for it waits; at the end of the block it goes on."""
    began, go = threading.Event(), threading.Event()
    real = getattr(module, name)

    def waits(*given, **more):
        began.set()
        assert go.wait(LIMIT_S)
        return real(*given, **more)

    data = msgspec.json.encode(body)
    lines = ["Host: localhost", "X-Visavis: 1", f"Content-Length: {len(data)}", *([f"Authorization: Bearer {token}"] if token else [])]
    there = (fleet.settings.host, fleet.settings.port)
    with pytest.MonkeyPatch.context() as patch, socket.create_connection(there, LIMIT_S) as client:
        patch.setattr(module, name, waits)
        client.sendall("\r\n".join([f"POST /api/v1{path} HTTP/1.1", *lines, "", ""]).encode() + data)
        assert began.wait(LIMIT_S)
        yield client
    go.set()


def hang_up(fleet, client):
    """Close a client's connection, and wait until the server knows."""
    port = client.getsockname()[1]
    client.close()
    connections = fleet.controller.server._runner.server
    fleet.until(lambda: port not in {one.transport.get_extra_info("peername")[1] for one in connections.connections if one.transport})


def test_a_client_that_hangs_up(fleet, admin, monkeypatch):
    """What it began is ended all the same: its command goes out and is in the audit log; its wrong password counts."""
    token = admin.post("/tokens", json={"title": "program", "role": "admin"}).json()["token"]
    fleet.enrol("box-1")
    told = []
    monkeypatch.setattr(fleet.controller.post, "due", told.append)
    with half_way(fleet, journal, "order", "/devices/box-1/commands", {"name": "ping"}, token) as client:
        hang_up(fleet, client)
    fleet.until(lambda: journal.audited(fleet.db, target="box-1"))
    assert told == ["box-1"]
    now = fleet.times.wall_ms()
    for number in range(5):
        with half_way(fleet, accounts, "sign_in", "/session", {"name": "bert", "password": f"guess {number}"}) as client:
            hang_up(fleet, client)
        fleet.until(lambda: len(journal.audited(fleet.db, target="bert")) > number)  # noqa: B023 - at once
    assert fleet.controller.throttle.wait_ms("bert", "127.0.0.1", now) > 0


def test_a_request_while_the_controller_ends(fleet, admin):
    """Its connection is closed, but what it began is ended first."""
    token = admin.post("/tokens", json={"title": "program", "role": "admin"}).json()["token"]
    fleet.enrol("box-1")
    with half_way(fleet, journal, "order", "/devices/box-1/commands", {"name": "ping"}, token) as client:
        fleet.loop.call_soon_threadsafe(fleet.stopping.set)
        assert client.recv(1) == b""
    fleet.thread.join(LIMIT_S)
    with closing(open_database(fleet.settings.store)) as db:
        assert [row.action for row in journal.audited(db, target="box-1")] == ["command"]


def test_mistakes_are_one_line(fleet, admin):
    """Wrong names, arguments, types and paths are 400 with one line that says what is wrong."""
    fleet.enrol("box-1")
    for path, body in (
        ("/devices", {"name": "a/b"}),
        ("/devices", {"name": "box-2", "days": 0}),
        ("/devices", {"nam": "x"}),
        ("/devices/none/commands", {"name": "ping"}),
        ("/devices/box-1/commands", {"name": "dance"}),
        ("/devices/box-1/commands", {"name": "volume", "args": {"level": 7}}),
        ("/devices/box-1/commands", {"name": "ping", "expires_s": 1}),
        ("/devices/none/revoke", {}),
        ("/users", {"name": "x", "role": "god", "password": PASSWORD}),
        ("/users", {"name": "x y", "role": "admin", "password": PASSWORD}),
    ):
        answer = admin.post(path, json=body)
        assert answer.status_code == 400, (path, body)
        assert "\n" not in answer.json()["error"]
    assert admin.post("/session", content=b"\xff{").status_code == 400
    for path in ("/devices/none", "/commands/none", "/devices/box-1/health?metric=none", "/events?limit=0", "/audit?before=-1"):
        assert admin.get(path).status_code == 400, path


def test_openapi(fleet):
    """The document names every route with its role and parameters, and every reference in it leads somewhere."""
    found = httpx.get(f"{fleet.controller.server.url}/api/v1/openapi.json").json()
    assert found["openapi"] == "3.1.0"
    operations = {(method.upper(), path): row for path, rows in found["paths"].items() for method, row in rows.items()}
    assert operations.keys() == {(route.method, route.path) for route in ROUTES}
    assert len({row["operationId"] for row in operations.values()}) == len(ROUTES)
    assert operations["GET", "/api/v1/audit"]["x-role"] == "admin"
    names = {parameter["name"] for parameter in operations["GET", "/api/v1/devices/{name}/health"]["parameters"]}
    assert names == {"name", "metric", "begin", "end"}
    for reference in re.findall(r'"#/components/schemas/([^"]+)"', msgspec.json.encode(found).decode()):
        assert reference in found["components"]["schemas"], reference


def test_live(fleet, admin, stranger):
    """The stream says how often it says something, names a box that changed, and ends when the session does."""
    with admin.stream("GET", "/live", timeout=60) as stream:
        lines = stream.iter_lines()
        assert [next(lines) for _ in range(4)] == ["retry: 2000", "event: here", "data: 16", ""]
        stranger("box-1").say(t.UpKind.STATUS, t.Status(state="online"))
        data = next(line for line in lines if line.startswith("data: ["))
        assert msgspec.json.decode(data.removeprefix("data:")) == ["box-1"]
        accounts.change(fleet.db, "anna", password=PASSWORD + "!")
        fleet.call(fleet.controller.hub.tell, {"box-1"})
        assert not [line for line in lines if line.startswith("data: [")]
