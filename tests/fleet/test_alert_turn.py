"""Turns of the evaluator over a real store that boxes fill: every kind of rule, late reports, people's part, crashes at the commit."""

from __future__ import annotations

import msgspec
import pytest

import runtime.telemetry as t
from fleet import alert_desk as desk
from fleet import alert_store as store
from fleet import inventory
from fleet.alert_channels import Channel, Message, Webhook
from fleet.alert_rules import Change, Events, Level, Maintenance, Missing, Rule, Scope, Stale, Threshold
from fleet.alert_turn import Evaluator
from fleet.errors import Unavailable
from fleet.intake import Accepted, Intake, judge
from fleet.windows import Window

NOW = 1_790_000_000_000
S, MIN, HOUR = 1000, 60_000, 3_600_000
pytestmark = pytest.mark.unit


class Shop:
    """Boxes that talk to a store, and an evaluator that takes turns, in simulated time."""

    def __init__(self, db, through=None):
        self.db, self.through, self.now, self.seqs = db, through or db, NOW, {}
        self.intake = Intake(db)
        store.fill(db, NOW)
        for filed in desk.rules(db):
            desk.delete(db, "alert_rule", filed.rule.id)
        desk.put_channel(db, Channel(id="all", title="All", to=Webhook(url="http://127.0.0.1:1/")), "anna", NOW)
        self.restart()

    def restart(self):
        """Another controller: it knows what is in the store and nothing else."""
        self.evaluator = Evaluator(self.through, "Visavis", "http://console")

    def rule(self, when, **more):
        given = {"id": "r", "title": "Rule", "when": when, "for_s": 300, "clear_s": 60, "flaps": 0}
        desk.put_rule(self.db, Rule(**(given | more)), "anna", self.now)

    def say(self, box, kind, body, *, ts=None, clk=t.ClockState.SYNCED, hist=False, site="Store 12"):
        """A message of a box, now."""
        del site
        seq = 0 if kind is t.UpKind.STATUS else self.seqs.get(box, 0) + 1
        self.seqs[box] = max(seq, self.seqs.get(box, 0))
        ts = self.now if ts is None else ts
        envelope = t.Envelope(
            dev=box, boot="0" * 16, seq=seq, ts=ts, mono=1, clk=clk, kind=kind, body=msgspec.Raw(t.encode(body)), hist=hist
        )
        found = judge(t.topic("default", box, kind), t.encode(envelope), False, "default", self.now)
        assert isinstance(found, Accepted)
        self.intake.commit([found], self.now)

    def born(self, box, site="Store 12", health_s=30):
        self.status(box, "online")
        birth = t.Birth(attributes={"site": site, "model": "Orin"}, versions={"visavis": "1.2"}, health_s=health_s)
        self.say(box, t.UpKind.BIRTH, birth)

    def status(self, box, state):
        self.say(box, t.UpKind.STATUS, t.Status(state=state))

    def health(self, box, full=False, ts=None, clk=t.ClockState.SYNCED, hist=False, **metrics):
        body = t.Health(m={name.replace("__", "."): value for name, value in metrics.items()}, full=full)
        self.say(box, t.UpKind.HEALTH, body, ts=ts, clk=clk, hist=hist)

    def event(self, box, code="node_down", **more):
        self.say(box, t.UpKind.EVENT, t.EventBody(code=code), **more)

    def turn(self, after_s=0, listening=True):
        """Time passes, then a turn; what is firing, as box and subject."""
        self.now += after_s * S
        self.evaluator.turn(self.now, listening)
        return {(shown.alert.device, shown.alert.subject) for shown in self.alerts("firing")}

    def pass_time(self, seconds, every=5, listening=True):
        """Turns as the controller takes them."""
        for _ in range(seconds // every):
            found = self.turn(every, listening)
        return found

    def alerts(self, state=""):
        return desk.alerts(self.db, desk.AlertQuery(state=state), self.now)

    def messages(self):
        """What was queued for the channel, the oldest first."""
        rows = self.db.read("SELECT body FROM alert_delivery ORDER BY id")
        return [msgspec.json.decode(row[0], type=Message) for row in rows]

    def summaries(self):
        return [told.summary for told in self.messages()]


@pytest.fixture
def shop(db):
    return Shop(db)


def test_a_box_is_missing_and_comes_back(shop):
    """Five minutes after it was lost there is an alert, told once, and one message that it is over."""
    shop.rule(Missing(), title="Box is missing")
    shop.born("box-1")
    shop.turn()
    shop.status("box-1", "lost")
    assert shop.pass_time(295) == set()
    assert shop.turn(5) == {("box-1", "")}
    assert shop.summaries() == []
    shop.pass_time(600)
    assert shop.summaries() == ["Box is missing: box-1 (Store 12): the connection was lost"]
    shop.status("box-1", "online")
    shop.pass_time(600)
    assert shop.summaries()[1:] == ["Over: Box is missing: box-1 (Store 12)"]
    (shown,) = shop.alerts()
    assert (shown.alert.began, shown.alert.fired) == (NOW, NOW + 300 * S)
    assert shown.alert.resolved > shown.alert.fired


def test_nobody_is_missing_before_boxes_could_come(shop):
    """While the controller does not hear its broker, and just after, nobody is judged; then by what the store knows."""
    shop.rule(Missing(states=("lost", "silent")))
    shop.born("box-1")
    shop.status("box-1", "lost")
    assert shop.pass_time(900, listening=False) == set()
    assert shop.turn(5) == {("box-1", "")}


def test_switched_off_is_not_missing_unless_a_rule_says(shop):
    """A box that said goodbye is another state, with a rule of its own."""
    shop.rule(Missing())
    shop.rule(Missing(states=("offline",)), id="off", for_s=600)
    shop.born("box-1")
    shop.status("box-1", "offline")
    assert shop.pass_time(595) == set()
    assert [shown.alert.rule for shown in (shop.turn(5), shop.alerts())[1]] == ["off"]


def test_a_revoked_box_is_not_missed(shop, tmp_path):
    """A stolen box whose certificates were taken back may stay away; an alert that it had is over."""
    from fleet.authority import Authority

    shop.rule(Missing())
    inventory.enrol(shop.db, Authority(tmp_path / "a", NOW), "box-1", 30, NOW)
    shop.born("box-1")
    shop.status("box-1", "lost")
    assert shop.pass_time(300) == {("box-1", "")}
    inventory.revoke(shop.db, "box-1", shop.now)
    assert shop.turn(5) == set()


def test_a_box_that_comes_and_goes_between_two_turns(shop):
    """Three losses, none seen by a turn, are one alert; a switching off and on is not counted."""
    shop.rule(Missing(), flaps=3, title="Box is missing")
    shop.born("box-1")
    shop.turn(5)
    for _ in range(3):
        shop.now += 1000
        shop.status("box-1", "offline")
        shop.now += 1000
        shop.status("box-1", "online")
    assert shop.turn(5) == set()
    for _ in range(3):
        shop.now += 1000
        shop.status("box-1", "lost")
        shop.now += 1000
        shop.status("box-1", "online")
    assert shop.turn(5) == {("box-1", "")}
    shop.pass_time(1700)
    assert shop.summaries() == ["Box is missing: box-1 (Store 12): it comes and goes (1 flapping)"]
    assert shop.pass_time(200) == set()


def test_a_site_that_is_lost_is_one_message(shop):
    """200 boxes of a site, lost within seconds and back within minutes: one message that they are, one that they are not."""
    shop.rule(Missing(), title="Box is missing")
    for n in range(200):
        shop.born(f"box-{n}")
    shop.turn()
    for n in range(200):
        shop.now += 50
        shop.status(f"box-{n}", "lost")
    shop.pass_time(400)
    for n in range(200):
        shop.status(f"box-{n}", "online")
    shop.pass_time(600)
    assert shop.summaries() == ["Box is missing: 200 boxes of Store 12", "Over: Box is missing: 200 boxes of Store 12"]
    told = shop.messages()[0]
    assert (told.firing, len(told.alerts), told.more, told.sites) == (200, 100, 100, {"Store 12": 200})


def test_all_limits_of_the_catalogue(shop):
    """One rule watches every metric that has a limit, each for itself; counts, which only grow, are not for it."""
    shop.rule(Threshold(metric="*", level=Level.BAD))
    shop.born("box-1")
    shop.health("box-1", full=True, temperature=97.0, fps=10.0, load=0.5, outbox_evicted=5, node_restarts__voice=9)
    for _ in range(10):
        assert shop.turn(30) == set()
        shop.health("box-1", temperature=97.0)
    assert shop.turn(25) == set()
    assert shop.turn(5) == {("box-1", "temperature"), ("box-1", "fps")}
    assert sorted(shown.alert.text for shown in shop.alerts()) == [
        "Frames drawn by the renderer: 10 Hz, limit 15 Hz",
        "Hottest sensor: 97 °C, limit 95 °C",
    ]
    shop.health("box-1", temperature=91.0, fps=30.0)
    assert shop.pass_time(120) == {("box-1", "temperature")}
    shop.health("box-1", temperature=89.0)
    assert shop.pass_time(65) == set()


def test_each_node_for_itself(shop):
    """A metric that exists several times is watched by each of its names; a node that is no more has no alert."""
    shop.rule(Threshold(metric="node_state", equals=("given_up",)), for_s=0)
    shop.born("box-1")
    shop.health("box-1", full=True, node_state__voice="given_up", node_state__stage="ready", node_state__ears="given_up")
    assert shop.turn() == {("box-1", "node_state.voice"), ("box-1", "node_state.ears")}
    shop.health("box-1", full=True, node_state__stage="ready", node_state__ears="given_up")
    assert shop.pass_time(65) == {("box-1", "node_state.ears")}


def test_what_a_box_away_told_last_is_not_the_present(shop):
    """A hot box that is lost gets no heat alert meanwhile, and one that it had is not over."""
    shop.rule(Threshold(metric="temperature", above=90))
    shop.born("box-1")
    shop.health("box-1", temperature=97.0)
    shop.turn(60)
    shop.status("box-1", "lost")
    assert shop.pass_time(900) == set()
    shop.status("box-1", "online")
    shop.health("box-1", temperature=97.0)
    for _ in range(6):
        shop.pass_time(60)
        shop.health("box-1")
    assert shop.turn(5) == {("box-1", "temperature")}
    shop.status("box-1", "lost")
    assert shop.pass_time(900) == {("box-1", "temperature")}


def test_late_reports_raise_nothing(shop):
    """A week of heat and crashes that a box tells when it is back is history, also where it had no clock to say when."""
    shop.rule(Threshold(metric="temperature", above=90), for_s=0)
    shop.rule(Events(codes=("node_down",), more_than=0), id="events", for_s=0)
    shop.rule(Change(metric="outbox_evicted", more_than=0), id="change", for_s=0)
    shop.born("box-1")
    shop.health("box-1", full=True, temperature=50.0)
    week = 7 * 24 * HOUR
    for n in range(20):
        shop.event("box-1", ts=NOW - week + n * MIN, hist=True)
        shop.event("box-1", ts=5, clk=t.ClockState.UNSYNCED, hist=True)
        shop.health("box-1", ts=NOW - week + n * MIN, hist=True, temperature=99.0)
        shop.health("box-1", ts=5, clk=t.ClockState.UNSYNCED, hist=True, temperature=99.0)
    assert shop.pass_time(300) == set()
    shop.event("box-1", ts=5, clk=t.ClockState.UNSYNCED)
    assert shop.turn(5) == {("box-1", "")}


def test_events_within_a_time(shop):
    """More than three crashes in an hour are one alert of that box, and it is over when the hour is."""
    shop.rule(Events(codes=("node_down",), more_than=3, within_s=3600), for_s=0)
    shop.born("box-1")
    shop.born("box-2")
    for n in range(4):
        shop.event("box-1")
        shop.event(f"box-{2 + n}")
        shop.now += 10 * MIN
    assert shop.turn() == {("box-1", "")}
    assert shop.alerts()[0].alert.text == "4 × node down in 1 h"
    assert shop.pass_time(1700) == set()


def test_a_change_within_a_time(shop):
    """A count that grew and a disk that falls, by how much in an hour; a count that began anew counts from nothing."""
    shop.rule(Change(metric="outbox_evicted", more_than=10), id="count", for_s=0)
    shop.rule(Change(metric="disk_free", more_than=0.2, falling=True), id="disk", for_s=0)
    shop.born("box-1")
    shop.born("box-2")
    shop.health("box-1", full=True, outbox_evicted=100, disk_free=0.9)
    shop.health("box-2", full=True, outbox_evicted=100, disk_free=0.9)
    for _ in range(60):
        shop.now += MIN
        shop.health("box-1")
        shop.health("box-2")
    shop.health("box-1", outbox_evicted=110, disk_free=0.71)
    shop.health("box-2", outbox_evicted=11, disk_free=0.69)
    shop.turn(60)
    assert sorted((shown.alert.device, shown.alert.text) for shown in shop.alerts()) == [
        ("box-2", "Reports dropped for want of space or age rose by 11 in 1 h, to 11"),
        ("box-2", "Space on the data partition fell by 21 % in 1 h, to 69 %"),
    ]


def test_a_metric_that_is_not_told(shop):
    """The box is there and tells everything but its temperature: an alert after the time; a box that never told it has none."""
    shop.rule(Stale(metric="temperature"), for_s=1800)
    shop.born("box-1")
    shop.born("box-2")
    shop.health("box-1", full=True, temperature=60.0, fps=30.0)
    shop.health("box-2", full=True, fps=30.0)
    for minute in range(30):
        assert shop.turn(60) == (set() if minute < 29 else {("box-1", "temperature")})
        shop.health("box-1", full=minute % 10 == 0, fps=30.0)
        shop.health("box-2", full=minute % 10 == 0, fps=30.0)
    shop.health("box-1", temperature=60.0)
    assert shop.pass_time(130) == set()


# --- people's part


def test_scope_and_changes_of_a_rule(shop):
    """A rule is for the boxes that it names; when it no longer is for one, or is off, or gone, the alert is over."""
    shop.rule(Missing(), scope=Scope(sites=("Store 12",), names=("box-*",)))
    for name, site in (("box-1", "Store 12"), ("box-2", "Store 13"), ("kiosk-1", "Store 12"), ("box-3", "Store 12")):
        shop.born(name, site)
        shop.status(name, "lost")
    assert shop.pass_time(300) == {("box-1", ""), ("box-3", "")}
    shop.rule(Missing(), scope=Scope(names=("box-1",)))
    assert shop.turn(5) == {("box-1", "")}
    shop.rule(Missing(), enabled=False)
    assert shop.turn(5) == set()
    shop.rule(Missing())
    assert len(shop.pass_time(5)) == 4
    desk.delete(shop.db, "alert_rule", "r")
    assert shop.turn(5) == set()
    assert shop.db.read("SELECT count(*) FROM alert_track") == [(0,)]


def test_maintenance_is_silent(shop):
    """In the night's window alerts are kept but not told; what still is when it ends is told then."""
    shop.rule(Missing(), title="Box is missing")
    zone_now = (NOW // S) % 86_400
    begin, end = ((zone_now // 60 + minutes) % 1440 for minutes in (0, 30))
    again = Window(begin=f"{begin // 60:02}:{begin % 60:02}", end=f"{end // 60:02}:{end % 60:02}")
    desk.put_maintenance(shop.db, Maintenance(id="night", title="Night", again=again, scope=Scope(sites=("Store 12",))), "anna", NOW)
    for name in ("box-1", "box-2"):
        shop.born(name)
        shop.status(name, "lost")
    shop.pass_time(900)
    assert [shown.maintenance for shown in shop.alerts("firing")] == ["Night", "Night"]
    shop.status("box-2", "online")
    shop.pass_time(800)
    assert shop.summaries() == []
    shop.pass_time(200)
    assert shop.summaries() == ["Box is missing: box-1 (Store 12): the connection was lost"]


def test_acknowledge_silence_and_comment(shop):
    """Acknowledged: no reminder. Silenced: nothing at all of this subject until then, also of its next alert. All is in its history."""
    shop.rule(Missing(), title="Box is missing", remind_s=600)
    for name in ("box-1", "box-2", "box-3"):
        shop.born(name, site=name)
        shop.status(name, "lost")
    shop.pass_time(400)
    ids = {shown.alert.device: shown.alert.id for shown in shop.alerts()}
    assert desk.acknowledge(shop.db, [ids["box-1"]], "anna", "on my way", shop.now) == {"box-1"}
    assert desk.acknowledge(shop.db, [ids["box-1"]], "bert", "", shop.now) == set()
    desk.silence(shop.db, [ids["box-2"]], "bert", shop.now + 2 * HOUR, "line is being repaired", shop.now)
    desk.comment(shop.db, ids["box-3"], "anna", "called the shop", shop.now)
    before = len(shop.messages())
    shop.pass_time(1250)
    assert shop.summaries()[before:] == ["Still: Box is missing: box-3 (box-3): the connection was lost"] * 2
    for state in ("online", "lost"):
        shop.status("box-2", state)
        shop.pass_time(400)
    assert not [told for told in shop.messages()[before:] if any(item.device == "box-2" for item in told.alerts)]
    shown = desk.one(shop.db, ids["box-1"], shop.now)
    assert (shown.alert.acknowledged_by, [(note.author, note.text) for note in shown.notes]) == ("anna", [("anna", "on my way")])
    found = desk.counts(shop.db)
    assert (found.firing, found.open) == (3, 2)


def test_channels_hear_what_is_theirs(shop):
    """By severity and by site; a channel that is off hears nothing."""
    to = Webhook(url="http://127.0.0.1:1/")
    desk.put_channel(shop.db, Channel(id="errors", title="E", to=to, severity=t.Severity.ERROR), "anna", NOW)
    desk.put_channel(shop.db, Channel(id="site", title="S", to=to, scope=Scope(sites=("Store 13",))), "anna", NOW)
    desk.put_channel(shop.db, Channel(id="off", title="O", to=to, enabled=False), "anna", NOW)
    shop.rule(Missing())
    for name, site in (("box-1", "Store 12"), ("box-2", "Store 13")):
        shop.born(name, site)
        shop.status(name, "lost")
    shop.pass_time(400)
    rows = shop.db.read("SELECT channel, count(*) FROM alert_delivery GROUP BY channel ORDER BY channel")
    assert rows == [("all", 2), ("site", 1)]


# --- crashes


class Failing:
    """A store whose commits fail, before or after they are kept, as a cut connection or a crash would have it."""

    def __init__(self, db):
        self.db, self.plan = db, iter(())

    def __getattr__(self, name):
        return getattr(self.db, name)

    def write(self):
        return _Commit(self.db, next(self.plan, ""))


class _Commit:
    def __init__(self, db, fails):
        self.inner, self.fails = db.write(), fails

    def __enter__(self):
        return self.inner.__enter__()

    def __exit__(self, *error):
        if self.fails == "before":
            self.inner.__exit__(Unavailable, Unavailable("cut"), None)
            raise Unavailable("cut")
        ended = self.inner.__exit__(*error)
        if self.fails == "after":
            raise Unavailable("cut")
        return ended


def story(shop, crash):
    """An hour of a box that is lost, comes back and is lost; `crash(n)` before turn n."""
    shop.rule(Missing(), title="Box is missing", flaps=3)
    shop.born("box-1")
    n = 0
    for state, minutes in (("lost", 10), ("online", 10), ("lost", 10), ("online", 10), ("lost", 3), ("online", 40)):
        shop.status("box-1", state)
        for _ in range(minutes * 2):
            n += 1
            crash(n)
            shop.now += 30 * S
            try:
                shop.evaluator.turn(shop.now, True)
            except Unavailable:
                shop.evaluator.forget()
    told = shop.messages()
    return [(one.summary, one.state) for one in told], len({one.id for one in told})


def test_once_in_effect_across_crashes(db, tmp_path):
    """A controller that begins anew before every turn, and commits that fail before or after they are kept: the same messages, once."""
    from fleet.database import open_database

    expected, ids = story(Shop(db), lambda _: None)
    assert len(expected) == ids == 6
    assert expected[4][0] == "Box is missing: box-1 (Store 12): the connection was lost (1 flapping)"
    other = open_database(tmp_path / "restart.db")
    again = Shop(other)
    found, ids = story(again, lambda _: again.restart())
    assert (found, ids) == (expected, 6)
    other.close()
    other = open_database(tmp_path / "fail.db")
    failing = Failing(other)

    def fail(n):
        failing.plan = iter([("before", "", "after")[n % 3]])

    assert story(Shop(other, failing), fail) == (expected, 6)
    other.close()


def test_two_evaluators(shop):
    """Two that believe to be the one: each turn is committed by one of them, the other begins again from there."""
    shop.rule(Missing(), title="Box is missing")
    shop.born("box-1")
    shop.status("box-1", "lost")
    second = Evaluator(shop.db, "Visavis", "http://console")
    for _ in range(200):
        shop.now += 5 * S
        shop.evaluator.turn(shop.now, True)
        second.turn(shop.now, True)
    assert shop.summaries() == ["Box is missing: box-1 (Store 12): the connection was lost"]
    assert len(shop.alerts()) == 1


def test_the_first_rules_come_once(db):
    """A new store has them; one that an admin deleted stays away."""
    store.fill(db, NOW)
    assert len(desk.rules(db)) > 10
    desk.delete(db, "alert_rule", "clock")
    store.fill(db, NOW)
    assert "clock" not in {filed.rule.id for filed in desk.rules(db)}
