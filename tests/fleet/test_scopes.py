"""People and programs that are limited to some boxes: they see and command those, and nothing tells them of others."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime.telemetry as t
from fleet import accounts, alert_store, inventory, journal
from fleet.accounts import Role
from fleet.alert_desk import put_maintenance
from fleet.alert_rules import Maintenance
from fleet.alerting import Alert
from fleet.api import ROUTES
from fleet.database import open_database
from fleet.echo import parts
from fleet.errors import BadRequest
from fleet.live import ALERTS, JOBS
from fleet.scopes import EVERYTHING, Scope, parse

TEXTS = st.text(alphabet="abAB_%*'\\ 1", min_size=1, max_size=6)


@pytest.mark.unit
@pytest.mark.parametrize("rule", ["", "site", "site:", "city:Berlin", "site:B*n", "name:**", "name:" + "x" * 101])
def test_what_is_no_scope_is_one_line(rule):
    """What it is and what it should be."""
    with pytest.raises(BadRequest, match="is no scope"):
        parse([rule])


@pytest.mark.unit
def test_no_rules_are_all_boxes():
    """Somebody without a scope sees everything."""
    assert not EVERYTHING
    assert EVERYTHING.covers("anything", "")
    assert parse(["site: Berlin*", "site:Berlin*"]) == Scope(("site:Berlin*",))


@pytest.mark.unit
@given(
    st.lists(st.tuples(st.sampled_from(["site", "name"]), TEXTS.map(lambda text: text.replace("*", "")), st.booleans()), max_size=3),
    st.lists(st.tuples(TEXTS, TEXTS), max_size=5, unique_by=lambda pair: pair[0]),
)
def test_the_store_and_the_rule_agree(rules, boxes):
    """Whatever letters are in names and sites: SQL finds exactly what `covers` says; capitals, %, _ and quotes mean nothing more."""
    made = [f"{kind}:{text}{'*' if prefix else ''}" for kind, text, prefix in rules if text.strip()]
    scope = parse(made)
    where, values = scope.where()
    import sqlite3

    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE device (name TEXT, site TEXT)")
        connection.executemany("INSERT INTO device VALUES (?, ?)", boxes)
        found = {row[0] for row in connection.execute(f"SELECT d.name FROM device d WHERE {where}", values)}
    connection.close()
    assert found == {name for name, site in boxes if scope.covers(name, site)}


@pytest.mark.unit
def test_one_admin_without_limits_stays(tmp_path):
    """The last one can neither be limited nor lose the role."""
    db = open_database(tmp_path / "fleet.db")
    accounts.create(db, "anna", Role.ADMIN, "correct horse battery", 1)
    accounts.create(db, "ben", Role.ADMIN, "correct horse battery", 1, parse(["site:Berlin"]))
    for change in ({"scope": parse(["site:Berlin"])}, {"role": Role.VIEWER}, {"disabled": True}):
        with pytest.raises(BadRequest, match="one admin without limits"):
            accounts.change(db, "anna", **change)
    accounts.change(db, "ben", scope=EVERYTHING)
    accounts.change(db, "anna", role=Role.VIEWER)
    db.close()


@pytest.fixture
def two(fleet, stranger):
    """A box in Berlin and one in Paris, each with health, an event and a command, and a token for Berlin."""
    for name, site in (("berlin-1", "Berlin Mitte"), ("paris-1", "Paris")):
        box = stranger(name)
        assert box.say(t.UpKind.STATUS, t.Status(state="online"), retain=True) == 0
        assert box.say(t.UpKind.BIRTH, t.Birth(attributes={"site": site, "position": "52.5, 13.4"}, commands=("ping",))) == 0
        assert box.say(t.UpKind.HEALTH, t.Health(m={"temperature": 60.0}, full=True)) == 0
        assert box.say(t.UpKind.EVENT, t.EventBody(code="kiosk_started")) == 0
        fleet.until(lambda name=name: fleet.device(name) and fleet.device(name).health and "kiosk_started" in fleet.codes(name))
        fleet.do(fleet.controller.order(name, "ping", {}, "anna", 300))
    return fleet


def client(fleet, role, *rules):
    token = accounts.make_token(fleet.db, "test", role, "anna", 1, fleet.times.wall_ms(), parse(rules))
    return httpx.Client(base_url=fleet.controller.server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
def test_only_the_boxes_of_the_scope(two):
    """Lists, counts, one box, curves, events, commands, Prometheus: nothing names the box in Paris."""
    with client(two, Role.OPERATOR, "site:Berlin*") as ask:
        found = ask.get("/api/v1/devices").json()
        assert [box["name"] for box in found["devices"]] == ["berlin-1"]
        assert found["facets"]["site"] == {"Berlin Mitte": 1}
        assert ask.get("/api/v1/devices/berlin-1").status_code == 200
        assert ask.get("/api/v1/devices/berlin-1/health?metric=temperature").status_code == 200
        other = ask.get("/api/v1/devices/paris-1")
        assert (other.status_code, other.json()) == (400, {"error": "there is no box 'paris-1'"})
        assert ask.get("/api/v1/devices/nothing").json() == {"error": "there is no box 'nothing'"}  # the same: it cannot be probed
        assert ask.get("/api/v1/devices/paris-1/health?metric=temperature").status_code == 400
        for path in ("/api/v1/events", "/api/v1/commands", "/api/v1/sites", "/metrics/boxes", "/api/v1/events?device=paris-1"):
            answer = ask.get(path)
            assert answer.status_code == 200, path
            assert "aris" not in answer.text, path
            assert "berlin-1" in answer.text or "Berlin" in answer.text or "device=" in path
        (hidden,) = journal.orders(two.db, device="paris-1")
        assert ask.get(f"/api/v1/commands/{hidden.id}").status_code == 400
        body = {"name": "ping", "args": {}}
        assert ask.post("/api/v1/devices/berlin-1/commands", json=body).status_code == 200
        assert ask.post("/api/v1/devices/paris-1/commands", json=body).status_code == 400
        assert len(journal.orders(two.db, device="paris-1")) == 1


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
def test_what_is_about_all_boxes_is_not_for_the_limited(two):
    """Every route that does not say that it keeps to the scope is refused, also for an admin: a new route is closed at first."""
    with client(two, Role.ADMIN, "name:berlin-*") as ask:
        refused = set()
        for route in ROUTES:
            if route.role is None or route.scoped:
                continue
            path = route.path.replace("{name}", "berlin-1").replace("{id}", "1")
            answer = ask.request(route.method, path, json={})
            assert answer.status_code == 403, path
            refused.add(route.path.removeprefix("/api/v1"))
    assert {"/users", "/tokens", "/audit", "/metrics", "/devices", "/devices/{name}/revoke", "/renewals"} <= refused
    assert {"/alert-rules", "/alert-rules/{id}", "/alert-windows/{id}", "/alert-channels", "/alert-channels/{id}"} <= refused


def begun(answer):
    """The lines of a stream after its first word."""
    lines = answer.iter_lines()
    assert [next(lines) for _ in range(4)] == ["retry: 2000", "event: here", "data: 16", ""]
    return lines


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
def test_the_stream_of_changes_too(two):
    """A change in Paris is not told; one in Berlin is."""
    with client(two, Role.VIEWER, "site:Berlin*") as ask, ask.stream("GET", "/api/v1/live") as answer:
        lines = begun(answer)
        two.call(two.controller.hub.tell, {"paris-1", "berlin-1"})
        data = next(line for line in lines if line.startswith("data: ["))
        assert json.loads(data.removeprefix("data:")) == ["berlin-1"]


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
def test_a_stream_ends_with_the_right_to_it(two):
    """What a token may see is asked anew: withdrawn, its stream ends with the next change and does not tell it."""
    with client(two, Role.VIEWER, "site:Berlin*") as ask, ask.stream("GET", "/api/v1/live") as answer:
        lines = begun(answer)
        (token,) = accounts.tokens(two.db)
        accounts.withdraw(two.db, token.id)
        two.call(two.controller.hub.tell, {"berlin-1"})
        assert [line for line in lines if line] == []


@pytest.fixture
def burning(two):
    """An alert of each box; returns their ids by box."""
    now = two.times.wall_ms()
    alerts = {
        name: Alert(
            id=f"of-{name}", rule="missing", title="Box is missing", severity=t.Severity.ERROR, device=name, subject="", site=site,
            model="", release="", text="the connection was lost", began=now, fired=now,
        )
        for name, site in (("berlin-1", "Berlin Mitte"), ("paris-1", "Paris"))
    }  # fmt: skip
    changes = alert_store.Changes(alerts={alert.id: alert for alert in alerts.values()})
    two.until(lambda: alert_store.commit(two.db, alert_store.load(two.db).turn, changes, now))
    return {name: alert.id for name, alert in alerts.items()}


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
def test_alerts_of_the_scope(two, burning):
    """List, counts and history are of the boxes in Berlin; what is done about an alert in Paris does nothing, and it cannot be probed."""
    put_maintenance(two.db, Maintenance(id="night", title="Night", until=two.times.wall_ms() + 3_600_000), "anna", 1)
    with client(two, Role.OPERATOR, "site:Berlin*") as ask:
        page = ask.get("/api/v1/alerts")
        assert [shown["alert"]["device"] for shown in page.json()["alerts"]] == ["berlin-1"]
        assert page.json()["alerts"][0]["maintenance"] == "Night"
        assert page.json()["counts"] == {"firing": 1, "error": 1, "warning": 0, "open": 1}
        for query in ("?device=paris-1", "?site=Paris", "?state=firing&before=zzz"):
            assert "aris" not in ask.get(f"/api/v1/alerts{query}").text
        assert ask.get(f"/api/v1/alerts/{burning['berlin-1']}").status_code == 200
        nothing = ask.get("/api/v1/alerts/nothing")
        for method, path, body in (("GET", "", None), ("POST", "/comments", {"text": "mine"})):
            other = ask.request(method, f"/api/v1/alerts/{burning['paris-1']}{path}", json=body)
            assert (other.status_code, other.json()) == (400, nothing.json())
        both = {"ids": list(burning.values())}
        assert ask.post("/api/v1/alerts/acknowledge", json=both).json() == {"boxes": 1}
        assert ask.post("/api/v1/alerts/silence", json=both | {"minutes": 60}).json() == {"boxes": 1}
    with client(two, Role.VIEWER) as ask:
        found = {shown["alert"]["device"]: shown for shown in ask.get("/api/v1/alerts").json()["alerts"]}
        assert ask.get("/api/v1/alerts").json()["counts"]["firing"] == 2
        assert ask.get(f"/api/v1/alerts/{burning['paris-1']}").json()["notes"] == []
    assert [bool(found[name]["acknowledged"]) for name in burning] == [True, False]
    assert [bool(found[name]["silenced_until"]) for name in burning] == [True, False]


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
def test_the_stream_tells_of_alerts_in_the_scope(two):
    """An alert in Paris and a rollout are not told; an alert in Berlin is."""
    with client(two, Role.VIEWER, "site:Berlin*") as ask, ask.stream("GET", "/api/v1/live") as answer:
        lines = (line for line in begun(answer) if line)
        two.call(two.controller.hub.tell, {"paris-1", ALERTS, JOBS})
        assert [next(lines), next(lines)] == ["event: here", "data: 16"]
        two.call(two.controller.hub.tell, {"berlin-1", ALERTS, JOBS})
        assert [next(lines) for _ in range(4)] == ["event: alerts", "data: {}", "event: devices", 'data: ["berlin-1"]']


@pytest.mark.unit
def test_another_controller_hears_of_alerts_with_their_boxes():
    """However many portions the names make, each says that it is about alerts."""
    names = sorted([ALERTS, *(f"box-{number:05}" for number in range(2000))])
    found = list(parts(names))
    assert len(found) > 1
    assert all(part[0] == ALERTS for part in found)
    assert sorted(name for part in found for name in part[1:]) == names[1:]
    assert list(parts([JOBS])) == [[JOBS]]
    assert list(parts([])) == []


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
def test_a_box_that_moves_moves_between_scopes(two):
    """The site is what the box tells."""
    with client(two, Role.VIEWER, "site:Paris") as ask:
        assert [box["name"] for box in ask.get("/api/v1/devices").json()["devices"]] == ["paris-1"]
        with two.db.write() as tx:
            tx.run("UPDATE device SET site = 'Rome' WHERE name = 'paris-1'")
        assert ask.get("/api/v1/devices").json()["devices"] == []
        assert inventory.device(two.db, "paris-1") is not None
