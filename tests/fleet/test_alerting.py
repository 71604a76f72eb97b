"""The rules of alerts by themselves, in simulated time: begin, hysteresis, flapping, grouping, restarts at any moment."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.alert_rules import DEFAULTS, Level, Maintenance, Missing, Rule, Threshold, check_rule, limits, silent
from fleet.alerting import BUDGET_MS, GAP_MS, MOST, WAIT_MS, Alert, Did, Notice, Pace, Phase, Seen, Told, Track, end, gather, news, step
from fleet.errors import BadRequest
from fleet.windows import Window
from runtime.telemetry import Severity, metric

NOW = 1_790_000_000_000
S, MIN, HOUR = 1000, 60_000, 3_600_000
KEY = ("missing", "box-1", "")
HOLDS, CLEAR, BETWEEN, UNKNOWN = Seen(holds=True), Seen(clear=True), Seen(), Seen(known=False)
pytestmark = pytest.mark.unit


def rule(**more):
    given_ = {"id": "missing", "title": "Box is missing", "when": Missing(), "for_s": 300, "clear_s": 60, "flaps": 3, "flap_s": 3600}
    return Rule(**(given_ | more))


def hot(**more):
    return rule(id="hot", when=Threshold(metric="temperature", level=Level.BAD), **more)


def run(the_rule, looks, key=KEY):
    """Step through (time, look); returns what was done, by time, and the track."""
    track, done = Track(), []
    for at, seen in looks:
        track, did = step(the_rule, track, seen, key, NOW + at)
        if did is not Did.NOTHING:
            done.append((at, did))
    return done, track


def test_pending_firing_resolved():
    """It fires when it has held for the rule's time, is over when it was well for the rule's time, and a short dip does not end it."""
    looks = [(0, HOLDS), (299 * S, HOLDS), (300 * S, HOLDS), (310 * S, CLEAR), (340 * S, HOLDS), (400 * S, CLEAR), (460 * S, CLEAR)]
    assert run(hot(), looks)[0] == [(300 * S, Did.FIRED), (460 * S, Did.RESOLVED)]


def test_it_counts_from_when_it_began():
    """A box that was lost a while ago, as the store knows, is not given the whole time again after a restart of the controller."""
    lost = Seen(holds=True, since=NOW - 299 * S)
    assert run(rule(), [(0, lost), (1 * S, lost)])[0] == [(1 * S, Did.FIRED)]


def test_hysteresis():
    """Between limit and clear limit nothing begins and nothing ends."""
    assert run(hot(), [(0, BETWEEN), (HOUR, BETWEEN)])[0] == []
    looks = [(0, HOLDS), (300 * S, BETWEEN), (2 * HOUR, BETWEEN), (2 * HOUR + 1, CLEAR), (2 * HOUR + MIN + 1, CLEAR)]
    assert run(hot(), looks)[0] == [(300 * S, Did.FIRED), (2 * HOUR + MIN + 1, Did.RESOLVED)]


def test_the_unknown_neither_begins_nor_ends():
    """A pending one begins anew after a gap; a firing one stays until it is known to be over for the whole time."""
    looks = [(0, HOLDS), (200 * S, UNKNOWN), (250 * S, HOLDS), (549 * S, HOLDS), (550 * S, HOLDS)]
    assert run(hot(), looks)[0] == [(550 * S, Did.FIRED)]
    looks = [(0, HOLDS), (300 * S, HOLDS), (301 * S, CLEAR), (330 * S, UNKNOWN), (900 * S, UNKNOWN), (901 * S, CLEAR), (961 * S, CLEAR)]
    assert run(hot(), looks)[0] == [(300 * S, Did.FIRED), (961 * S, Did.RESOLVED)]


def test_a_box_that_comes_and_goes_is_one_alert():
    """Each absence is too short to be told; the third within an hour is one alert that lasts until half an hour was well."""
    looks = [(minute * MIN, HOLDS if minute % 4 == 0 else CLEAR) for minute in range(120)]
    done, _ = run(rule(), [*looks, (147 * MIN, CLEAR)])
    assert done == [(8 * MIN, Did.FIRED), (147 * MIN, Did.RESOLVED)]
    done, track = run(rule(), looks)
    assert track.flapping
    assert track.phase is Phase.FIRING


def test_comings_between_two_looks_count():
    """What came and went unseen since the last look is told by the store's events and counts as well."""
    looks = [(0, CLEAR), (5 * S, Seen(clear=True, bounced=2)), (10 * S, Seen(clear=True, bounced=1))]
    assert run(rule(), looks)[0] == [(10 * S, Did.FIRED)]
    assert run(rule(flaps=0), looks)[0] == []


def test_a_threshold_flaps_by_its_alerts():
    """Spikes shorter than the rule's time are what the time is for; alerts that come again and again become one."""
    looks = [(minute * MIN, HOLDS if minute % 2 == 0 else CLEAR) for minute in range(60)]
    assert run(hot(), looks)[0] == []
    cycle = [HOLDS] * 7 + [CLEAR] * 3
    done, track = run(hot(), [(minute * MIN, cycle[minute % 10]) for minute in range(120)])
    assert [did for _, did in done] == [Did.FIRED, Did.RESOLVED, Did.FIRED, Did.RESOLVED, Did.FIRED]
    assert track.flapping


def test_a_rule_that_no_longer_looks():
    """What it had raised is over."""
    assert end(Track(phase=Phase.FIRING, alert="x")) == (Track(), Did.RESOLVED)
    assert end(Track(phase=Phase.PENDING)) == (Track(), Did.NOTHING)


LOOKS = st.lists(
    st.tuples(
        st.integers(0, 20 * MIN),
        st.sampled_from([HOLDS, CLEAR, BETWEEN, UNKNOWN, Seen(clear=True, bounced=2), Seen(holds=True, bounced=1)]),
    ),
    max_size=80,
)
RULES = st.builds(
    rule,
    when=st.sampled_from([Missing(), Threshold(metric="temperature", level=Level.BAD)]),
    for_s=st.sampled_from([0, 60, 300, 3600]),
    clear_s=st.sampled_from([0, 60, 600]),
    flaps=st.sampled_from([0, 1, 2, 5]),
    flap_s=st.sampled_from([60, 600, 3600]),
)


@given(RULES, LOOKS)
@settings(max_examples=300, deadline=None)
def test_whatever_comes(the_rule, gaps):
    """Alerts begin and end in turn; one begins only after it held for its time or flapped; a restart at every step changes nothing."""
    track = other = Track()
    now, firing, held = NOW, False, None
    for gap, seen in gaps:
        now += gap
        track, did = step(the_rule, track, seen, KEY, now)
        other, did_too = step(the_rule, msgspec.json.decode(msgspec.json.encode(other), type=Track), seen, KEY, now)
        assert (other, did_too) == (track, did)
        if not seen.known or seen.clear:
            held = None
        elif seen.holds and (held is None or seen.bounced):
            held = now
        if did is Did.FIRED:
            assert not firing
            assert track.alert
            assert track.flapping or (held is not None and now - held >= the_rule.for_s * 1000)
            firing = True
        elif did is Did.RESOLVED:
            assert firing
            assert track.phase is Phase.QUIET
            firing = False
        elif did is Did.FLAPPING:
            assert firing
        assert firing == (track.phase is Phase.FIRING)
        assert len(track.turns) <= max(1, the_rule.flaps)


@given(RULES.filter(lambda found: found.flaps), LOOKS)
@settings(max_examples=200, deadline=None)
def test_no_storm_of_one_subject(the_rule, gaps):
    """Within the flapping window one subject begins at most so many alerts as make it flapping, and an alert is called flapping once."""
    track, now, begun = Track(), NOW, []
    for gap, seen in gaps:
        now += gap
        track, did = step(the_rule, track, seen, KEY, now)
        if did is Did.FIRED:
            begun.append(now)
            assert len([at for at in begun if at > now - the_rule.flap_s * 1000 // 2]) <= the_rule.flaps


# --- limits


def test_limits():
    """From the catalogue: the worse limit is over half way to the milder one; a rule's own limit 5 % back, or where it says."""
    bad = Threshold(metric="*", level=Level.BAD)
    found = limits(bad, metric("temperature"))
    assert (found.limit, found.clear, found.falling) == (95, 90, False)
    found = limits(bad, metric("fps"))
    assert (found.limit, found.clear, found.falling) == (15, 19.5, True)
    assert limits(bad, metric("rung")) is None
    found = limits(Threshold(metric="temperature", above=80), metric("temperature"))
    assert (found.limit, found.clear) == (80, 76)
    found = limits(Threshold(metric="memory_free", below=0.2, clear=0.3), metric("memory_free"))
    assert (found.limit, found.clear, found.falling) == (0.2, 0.3, True)


def test_the_first_rules_are_right():
    """Every rule that a new controller begins with can be, and all have names of their own."""
    for one in DEFAULTS:
        check_rule(one)
    assert len({one.id for one in DEFAULTS}) == len(DEFAULTS)


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ({"kind": "missing", "states": ["online"]}, "lost, silent or offline"),
        ({"kind": "threshold", "metric": "warmth", "above": 1}, "no metric 'warmth'"),
        ({"kind": "threshold", "metric": "temperature"}, "one of level, above, below and equals"),
        ({"kind": "threshold", "metric": "temperature", "above": 80, "clear": 90}, "well side"),
        ({"kind": "threshold", "metric": "rung", "level": "bad"}, "no such limit"),
        ({"kind": "threshold", "metric": "mic_live", "equals": ["no"]}, "not with these values"),
        ({"kind": "threshold", "metric": "node_state", "equals": ["dead"]}, "starting, ready, down, given_up"),
        ({"kind": "threshold", "metric": "*", "above": 1}, "level of the catalogue"),
        ({"kind": "events", "codes": ["earthquake"]}, "no event 'earthquake'"),
        ({"kind": "change", "metric": "mic_live", "more_than": 1}, "is no number"),
        ({"kind": "stale", "metric": "temperature"}, "20 minutes"),
    ],
)
def test_rules_that_cannot_be(when, text):
    """Each is refused in one line that says why."""
    made = msgspec.convert({"id": "x", "title": "X", "when": when}, Rule)
    with pytest.raises(BadRequest, match=text):
        check_rule(made)


# --- maintenance


def at(text):
    """Wall time in ms of an ISO moment."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_maintenance_once_and_again():
    """Once from one moment to another; or again and again by the hours of a time zone, over midnight, summer and winter."""
    once = Maintenance(id="m", title="M", since=NOW, until=NOW + HOUR)
    assert [silent(once, NOW + ms) for ms in (-1, 0, HOUR - 1, HOUR)] == [False, True, True, False]
    friday = Maintenance(id="m", title="M", again=Window(begin="22:00", end="05:00", days=(4,)), zone="Europe/Rome")
    for day in ("2026-01-16T{}+01:00", "2026-07-17T{}+02:00"):  # Fridays
        assert [silent(friday, at(day.format(hour))) for hour in ("21:59", "22:00", "23:59")] == [False, True, True]
    assert silent(friday, at("2026-01-17T04:59+01:00"))
    assert not silent(friday, at("2026-01-17T05:00+01:00"))
    assert not silent(friday, at("2026-01-16T04:00+01:00"))
    bounded = msgspec.structs.replace(friday, until=at("2026-01-17T00:00+01:00"))
    assert silent(bounded, at("2026-01-16T23:00+01:00"))
    assert not silent(bounded, at("2026-01-17T01:00+01:00"))


# --- telling


def alert(n, *, site="Store 12", changed=NOW, **more):
    given_ = {"rule": "missing", "title": "Box is missing", "severity": Severity.ERROR, "subject": "", "model": "", "release": ""}
    given_ |= {"text": "", "began": NOW, "fired": NOW, "device": f"box-{n}", "id": f"a{n}", "site": site, "changed": changed}
    return Alert(**(given_ | more))


def nobody(_):
    return False


def told(alerts, now, *, paces=None, rules=None, muted=nobody, acknowledged=nobody):
    rules = rules or {"missing": rule()}
    return gather(alerts, rules, paces or {}, muted, acknowledged, now)


def test_a_site_is_one_notice():
    """200 boxes of a site that are lost within seconds are one notice, after a moment for the last of them."""
    alerts = [alert(n, changed=NOW + n * 100) for n in range(200)]
    assert told(alerts, NOW + WAIT_MS - 1)[0] == []
    notices, paces = told(alerts, NOW + WAIT_MS)
    assert [len(notice.alerts) for notice in notices] == [200]
    late = alert(200, changed=NOW + WAIT_MS)
    assert told([late], NOW + WAIT_MS + GAP_MS - 1, paces=paces)[0] == []
    assert len(told([late], NOW + WAIT_MS + GAP_MS, paces=paces)[0]) == 1


def test_many_sites_are_one_notice():
    """The line of the whole chain fails: one notice, not one for each of a hundred sites; two sites are two."""
    alerts = [alert(n, site=f"Store {n // 5}") for n in range(500)]
    notices, _ = told(alerts, NOW + WAIT_MS)
    assert [len(notice.alerts) for notice in notices] == [500]
    assert [len(notice.alerts) for notice in told(alerts[:10], NOW + WAIT_MS)[0]] == [5, 5]


def test_silent_while_muted_and_told_after():
    """Maintenance: nothing is told; what is still so afterwards is told then, and what was over meanwhile never."""
    assert told([alert(1)], NOW + HOUR, muted=lambda _: True)[0] == []
    assert len(told([alert(1)], NOW + 2 * HOUR)[0]) == 1
    assert told([alert(1, resolved=NOW + MIN)], NOW + 2 * HOUR)[0] == []


def test_over_is_told_once():
    """Who heard that it began hears that it is over; who never heard does not."""
    known = alert(1, resolved=NOW, told=Told.FIRING)
    assert [notice.alerts for notice in told([known], NOW + WAIT_MS)[0]] == [(known,)]
    assert news(alert(1, resolved=NOW, told=Told.RESOLVED)) is Told.NOTHING


def test_reminders():
    """Told again after the rule's time, in one notice, unless somebody acknowledged it."""
    rules = {"missing": rule(remind_s=3600)}
    old = [alert(n, site=f"Store {n}", told=Told.FIRING, told_at=NOW) for n in range(9)]
    assert told(old, NOW + HOUR - 1, rules=rules)[0] == []
    notices, _ = told(old, NOW + HOUR, rules=rules)
    assert [(notice.reminder, len(notice.alerts)) for notice in notices] == [(True, 9)]
    notices, _ = told(old, NOW + HOUR, rules=rules, acknowledged=lambda found: found.id != "a3")
    assert [found.id for notice in notices for found in notice.alerts] == ["a3"]


EVENTS = st.lists(st.tuples(st.integers(0, 3 * MIN), st.integers(0, 30), st.booleans()), max_size=60)


@given(EVENTS)
@settings(max_examples=150, deadline=None)
def test_no_storm_of_a_rule(events):
    """Whatever begins and ends in whatever order: at most so many notices in ten minutes, and in the end all that was to be told is."""
    alerts: dict[str, Alert] = {}
    paces: dict[str, Pace] = {}
    sent: list[Notice] = []
    now, serial = NOW, 0
    looks = [*events, *((GAP_MS, None, False) for _ in range(8))]
    for gap, box, over in looks:
        now += gap
        for found in list(alerts.values()):
            if box is not None and found.device == f"box-{box}" and over and not found.resolved:
                alerts[found.id] = msgspec.structs.replace(found, resolved=now, changed=now)
        if box is not None and not over and not any(a.device == f"box-{box}" and not a.resolved for a in alerts.values()):
            serial += 1
            made = alert(box, site=f"Store {box % 7}", changed=now, id=f"s{serial}", began=now, fired=now)
            alerts[made.id] = made
        notices, changed = told(alerts.values(), now, paces=paces)
        paces |= changed
        sent += notices
        for notice in notices:
            for found in notice.alerts:
                alerts[found.id] = msgspec.structs.replace(found, told=news(found), told_at=now)
        assert len([one for one in sent if one.ts > now - BUDGET_MS]) <= MOST
    assert not any(news(found) is not Told.NOTHING for found in alerts.values())
    states = [(found.id, news(found)) for notice in sent for found in notice.alerts]
    assert len(states) == len(set(states))
    assert len({notice.id for notice in sent}) == len(sent)
