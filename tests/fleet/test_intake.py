"""What boxes say, as the store keeps it: once, in its place in time, whatever comes; and hostile messages, which do nothing."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runtime.telemetry as t
from fleet import history, inventory, journal
from fleet.database import open_database
from fleet.errors import Unavailable
from fleet.history import HOURS_MS, RAW_MS, curve, prune
from fleet.intake import Accepted, Intake, Rejected, judge, note_seen, worst

NOW = 1_790_000_000_000
HOUR = 3_600_000
pytestmark = pytest.mark.unit


def envelope(kind, body, seq, *, ts=NOW, clk=t.ClockState.SYNCED, hist=False, boot="0" * 16, dev="box-1"):
    raw = msgspec.Raw(t.encode(body) if isinstance(body, msgspec.Struct) else body)
    return t.encode(t.Envelope(dev=dev, boot=boot, seq=seq, ts=ts, mono=1, clk=clk, kind=kind, body=raw, hist=hist))


def heard(kind, body, seq, *, now=NOW, retained=False, **more):
    found = judge(t.topic("default", "box-1", kind), envelope(kind, body, seq, **more), retained, "default", now)
    assert isinstance(found, Accepted), found
    return found


def health(seq, ts=NOW, *, full=False, **metrics):
    return heard(t.UpKind.HEALTH, t.Health(m={name.replace("__", "."): value for name, value in metrics.items()}, full=full), seq, ts=ts)


def test_each_message_counts_once(db):
    """Sent again, in the same batch, later, and after a restart of the controller, a message is a duplicate; another boot's is not."""
    intake = Intake(db)
    event = heard(t.UpKind.EVENT, t.EventBody(code="kiosk_started"), 5)
    assert intake.commit([event, event], NOW).duplicates == 1
    assert intake.commit([event], NOW).duplicates == 1
    assert Intake(db).commit([event], NOW).duplicates == 1
    assert Intake(db).commit([heard(t.UpKind.EVENT, t.EventBody(code="kiosk_started"), 5, boot="1" * 16)], NOW).duplicates == 0
    assert [row.code for row in journal.events(db)].count("kiosk_started") == 2


@given(st.lists(st.lists(st.integers(1, 40), max_size=60), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_in_any_order(db, boots):
    """Whatever the order: a number is new exactly the first time, and the ranges that are kept are the fewest possible."""
    with db.write() as tx:
        tx.run("DELETE FROM seen")
        for boot, numbers in enumerate(boots):
            known = set()
            for number in numbers:
                assert note_seen(tx, "box-1", str(boot), number) == (number not in known)
                known.add(number)
            rows = tx.run("SELECT first, last FROM seen WHERE boot = ? ORDER BY first", str(boot))
            assert {number for first, last in rows for number in range(first, last + 1)} == known
            assert len(rows) == len([number for number in known if number - 1 not in known])


def test_health_by_exception(db):
    """What changed replaces what was known; a full report replaces all; an older one, come late, changes curves but not the present."""
    intake = Intake(db)
    intake.commit([health(1, NOW - 3000, full=True, temperature=60.0, rung=1, mic_live=True)], NOW)
    intake.commit([health(2, NOW - 2000, temperature=70.0)], NOW)
    assert inventory.device(db, "box-1").health == {"temperature": 70.0, "rung": 1, "mic_live": True}
    intake.commit([health(4, NOW - 1000, full=True, temperature=80.0)], NOW)
    intake.commit([health(3, NOW - 1500, temperature=99.0)], NOW)
    assert inventory.device(db, "box-1").health == {"temperature": 80.0}
    assert curve(db, "box-1", "temperature", NOW - HOUR, NOW, NOW).mean == [60.0, 70.0, 99.0, 80.0]
    assert curve(db, "box-1", "rung_reason", NOW - HOUR, NOW, NOW).mean == []


def test_a_whole_report_repeats(db):
    """What it only says again is kept as a sample but merged once an hour; what it says anew, and the first of an hour, is merged."""
    intake = Intake(db)
    begin = NOW - NOW % HOUR - 2 * HOUR
    for n in range(12):
        intake.commit([health(n + 1, begin + n * 600_000, full=True, rung=1, temperature=60.0 + n)], NOW)
    counts = "SELECT {} FROM {} t JOIN series s ON s.id = t.series WHERE s.metric = ?"
    found = {name: db.read(counts.format("count(*)", "raw"), name)[0][0] for name in ("rung", "temperature")}
    assert found == {"rung": 12, "temperature": 12}
    found = {name: db.read(counts.format("sum(t.count)", "hour"), name)[0][0] for name in ("rung", "temperature")}
    assert found == {"rung": 2, "temperature": 12}
    assert len(db.read(counts.format("t.ts", "hour"), "rung")) == 2


def test_health_that_comes_in_another_order(db):
    """Two controllers commit a box's reports as they get them: nothing older replaces what is newer, nothing is forgotten."""
    one, other = Intake(db), Intake(db)
    one.commit([health(1, NOW - 9000, full=True, temperature=60.0, fps=30.0, rung=1)], NOW)
    other.commit([health(4, NOW - 6000, temperature=64.0)], NOW)
    one.commit([health(2, NOW - 8000, temperature=62.0, fps=25.0)], NOW)
    other.commit([health(3, NOW - 7000, rung=2)], NOW)
    device = inventory.device(db, "box-1")
    assert (device.health, device.health_ts) == ({"temperature": 64.0, "fps": 25.0, "rung": 2}, NOW - 6000)


def test_curves_by_age(db):
    """An hour shows every sample and what held before it; a week 5 minutes merged; a year hours merged; each with lowest and highest."""
    intake = Intake(db)
    begin = NOW - NOW % HOUR - 4 * HOUR
    batch = [health(n + 1, begin + n * 60_000, temperature=50.0 + n % 5) for n in range(180)]
    intake.commit(batch, NOW)
    hour = curve(db, "box-1", "temperature", begin + HOUR, begin + 2 * HOUR, NOW)
    assert (hour.step_ms, len(hour.ts), hour.mean[0]) == (0, 62, 54.0)
    week = curve(db, "box-1", "temperature", NOW - 7 * 24 * HOUR, NOW, NOW)
    assert (week.step_ms, len(week.ts), week.low[0], week.mean[0], week.high[0]) == (300_000, 36, 50.0, 52.0, 54.0)
    year = curve(db, "box-1", "temperature", NOW - 365 * 24 * HOUR, NOW, NOW)
    assert (year.step_ms, len(year.ts), year.low[0], year.high[0]) == (HOUR, 3, 50.0, 54.0)


def test_prune(db):
    """Samples go after two days, the rest after two years; what a box tells after a week offline is in the coarser tables all the same."""
    intake = Intake(db)
    intake.commit([health(1, NOW - 7 * 24 * HOUR, temperature=60.0), health(2, NOW, temperature=70.0)], NOW)
    intake.commit([heard(t.UpKind.EVENT, t.EventBody(code="kiosk_started"), 3)], NOW)
    assert db.read("SELECT count(*) FROM raw")[0][0] == 1
    assert curve(db, "box-1", "temperature", NOW - 9 * 24 * HOUR, NOW, NOW).mean == [60.0, 70.0]
    prune(db, NOW + RAW_MS + 1)
    assert [db.read(f"SELECT count(*) FROM {table}")[0][0] for table in ("raw", "five_minutes", "hour")] == [0, 2, 2]
    prune(db, NOW + HOURS_MS + HOUR)
    assert [db.read(f"SELECT count(*) FROM {table}")[0][0] for table in ("raw", "five_minutes", "hour", "event")] == [0, 0, 0, 0]


def test_presence(db):
    """Online, lost by the will, online again; a retained message that is no news changes nothing; each change is an event."""
    intake = Intake(db)

    def status(state, retained=False, now=NOW):
        intake.commit([heard(t.UpKind.STATUS, t.Status(state=state), 0, retained=retained, now=now)], now)
        return inventory.device(db, "box-1").state

    assert status("online") == "online"
    assert status("lost", now=NOW + 1) == "lost"
    assert status("lost", retained=True, now=NOW + 2) == "lost"
    assert inventory.device(db, "box-1").since == NOW + 1
    assert status("online", now=NOW + 3) == "online"
    assert [row.code for row in reversed(journal.events(db))] == ["box_online", "box_lost", "box_online"]


def test_silence(db):
    """A box that does not report three times is silent; nobody is before the controller listened so long; its next report ends it."""
    intake = Intake(db)
    birth = heard(t.UpKind.BIRTH, t.Birth(health_s=10), 1)
    intake.commit([heard(t.UpKind.STATUS, t.Status(state="online"), 0), birth], NOW)
    limit = NOW + 30_000 + 3 * 10_000
    assert inventory.silent(db, limit, NOW) == []
    assert inventory.silent(db, limit + 1, NOW + 1) == []
    assert inventory.silent(db, limit + 1, NOW) == ["box-1"]
    assert inventory.silent(db, limit + 2, NOW) == []
    intake.commit([heard(t.UpKind.HEALTH, t.Health(m={}), 2, now=limit + 3)], limit + 3)
    assert inventory.device(db, "box-1").state == "online"


def test_clocks(db):
    """Ahead by more than 10 minutes: counted and placed by arrival; never set or of 1970: by arrival; an hour late: where it belongs."""
    body = t.EventBody(code="kiosk_started")
    future = heard(t.UpKind.EVENT, body, 1, ts=NOW + 11 * 60_000)
    assert (future.ts, future.odd) == (NOW, "future")
    assert heard(t.UpKind.EVENT, body, 2, ts=NOW + 60_000).odd == ""
    assert heard(t.UpKind.EVENT, body, 3, ts=5).ts == NOW
    assert heard(t.UpKind.EVENT, body, 4, ts=NOW - HOUR, clk=t.ClockState.UNSYNCED).ts == NOW
    assert heard(t.UpKind.EVENT, body, 5, ts=NOW - HOUR, clk=t.ClockState.CORRECTED).ts == NOW - HOUR
    assert Intake(db).commit([future], NOW).strange == [("box-1", "future")]


@pytest.mark.parametrize(
    ("topic", "payload", "retained", "cause"),
    [
        ("visavis/1/default/box-1/up/nothing", b"{}", False, "topic"),
        ("visavis/1/other/box-1/up/event", b"{}", False, "topic"),
        ("visavis/1/default/box-1/down/ack", b"{}", False, "topic"),
        ("visavis/1/default/box-1/up/event", b"{", False, "malformed"),
        ("visavis/1/default/box-1/up/event", b"[" * 100_000, False, "malformed"),
        ("visavis/1/default/box-1/up/event", b"\xff\xfe", False, "malformed"),
        ("visavis/1/default/box-1/up/event", b" " * (t.MAX_UP + 1), False, "too_large"),
        ("visavis/1/default/box-1/up/event", envelope(t.UpKind.EVENT, b"{}", 1, dev="box-2"), False, "impostor"),
        ("visavis/1/default/box-1/up/event", envelope(t.UpKind.HEALTH, b'{"m":{}}', 1), False, "impostor"),
        ("visavis/1/default/box-1/up/event", envelope(t.UpKind.EVENT, b'{"code":"x"}', 1), True, "retained"),
        ("visavis/1/default/box-1/up/event", envelope(t.UpKind.EVENT, b'{"code":"x"}', 0), False, "seq"),
        ("visavis/1/default/box-1/up/event", envelope(t.UpKind.EVENT, b'{"code":"x"}', 2**63 - 1), False, "seq"),
        ("visavis/1/default/box-1/up/status", envelope(t.UpKind.STATUS, b'{"state":"king"}', 0), False, "malformed"),
    ],
)
def test_hostile_messages(topic, payload, retained, cause):
    """Each is refused for its cause, and blamed on whoever the broker let write there."""
    found = judge(topic, payload, retained, "default", NOW)
    assert isinstance(found, Rejected)
    assert found.cause == cause
    assert found.device == ("" if cause == "topic" else "box-1")


def test_a_body_that_nobody_understands_is_let_go(db):
    """Its number is kept, so that the box is told to forget it; nothing else of it is."""
    done = Intake(db).commit([heard(t.UpKind.EVENT, b'{"code": 7}', 1)], NOW)
    assert done.strange == [("box-1", "malformed")]
    assert db.read("SELECT first, last FROM seen") == [(1, 1)]
    assert [row.code for row in journal.events(db)] == ["box_online"]  # it lives, after all


def test_a_box_that_invents_metrics(db):
    """Beyond a bound nothing more of it is kept; strange instances are passed over."""
    intake = Intake(db)
    for n in range(4):
        batch = {f"node_cpu.n{n}-{k}": 1.0 for k in range(100)} | {"node_cpu.../x": 1.0}
        intake.commit([heard(t.UpKind.HEALTH, t.Health(m=batch), n + 1)], NOW)
    assert len(inventory.device(db, "box-1").health) == 200 <= history.MOST_SERIES
    assert db.read("SELECT count(*) FROM series")[0][0] == 200


def test_numbers_that_overflow(db):
    """A version without a next one is not kept and counted; a period that no box has is an hour at most, and no number is none."""
    intake = Intake(db)
    bodies = [(t.UpKind.SHADOW, t.Reported(version=2**63 - 1, reported={})), (t.UpKind.SHADOW, t.Reported(version=2**62, reported={}))]
    done = intake.commit([heard(kind, body, n + 1) for n, (kind, body) in enumerate(bodies)], NOW)
    assert done.strange == [("box-1", "version")]
    assert db.read("SELECT reported_version FROM device") == [(2**62,)]
    for seq, (told, kept) in enumerate([(1e308, 3600.0), (-1.0, 0.0), (60.0, 60.0)], 3):
        intake.commit([heard(t.UpKind.BIRTH, t.Birth(health_s=told), seq)], NOW)
        assert db.read("SELECT health_s FROM device") == [(kept,)]


def test_worst():
    """The worst metric decides; falling ones are bad below; a node that was given up is bad."""
    assert worst({}) == "unknown"
    assert worst({"temperature": 60.0, "fps": 30.0, "node_state.voice": "ready"}) == "ok"
    assert worst({"temperature": 85.0, "fps": 30.0}) == "warn"
    assert worst({"temperature": 85.0, "fps": 10.0}) == "bad"
    assert worst({"temperature": 60.0, "node_state.voice": "given_up"}) == "bad"


def test_a_store_that_cannot_be_written(tmp_path):
    """It is told as unavailable, nothing of the batch is kept, and the same batch can be committed later."""
    db = open_database(tmp_path / "fleet.db")
    intake = Intake(db)
    event = heard(t.UpKind.EVENT, t.EventBody(code="kiosk_started"), 1)
    pages = db._writer.execute("PRAGMA page_count").fetchone()[0]
    db._writer.execute(f"PRAGMA max_page_count = {pages}")
    rng = random.Random(1)
    full = [heard(t.UpKind.JOB, t.Answer(id="x", name="x", outcome=t.Outcome.DONE), n + 2) for n in range(3)]
    many = [health(n + 10, NOW - n * 61_000, **{f"node_cpu__n{k}": rng.random() for k in range(50)}) for n in range(200)]
    with pytest.raises(Unavailable, match="cannot be written"):
        intake.commit([event, *full, *many], NOW)
    assert journal.events(db) == []
    db._writer.execute("PRAGMA max_page_count = 1000000")
    assert intake.commit([event, *full, *many], NOW).duplicates == 0
    assert sorted(row.code for row in journal.events(db)) == ["box_online", "kiosk_started"]
    db.close()


def test_a_box_that_has_come_gets_what_it_has_not_answered(db):
    """Its session at the broker may be gone, and what was sent into it: that is sent again. Not what it has answered, nor what was sent to
    others; nor is anything when it is only the controller that hears the broker anew.
    """
    intake = Intake(db)

    def say(state, **more):
        intake.commit([heard(t.UpKind.STATUS, t.Status(state=state), 0, **more)], NOW)

    say("online")
    intake.commit([judge(t.topic("default", "box-2", t.UpKind.STATUS), _status("box-2"), False, "default", NOW)], NOW)
    answered, lost, other = (journal.order(db, box, "ping", {}, "anna", 30 * 86_400, NOW) for box in ("box-1", "box-1", "box-2"))
    for one in (answered, lost, other):
        journal.sent(db, one.id)
    say("online", retained=True)
    assert journal.due(db, "", NOW) == []
    say("lost")
    answer = heard(t.UpKind.JOB, t.Answer(id=answered.id, name="ping", outcome=t.Outcome.DONE), 1)
    intake.commit([heard(t.UpKind.STATUS, t.Status(state="online"), 0), answer], NOW)
    assert [one.id for one in journal.due(db, "", NOW)] == [lost.id]
    journal.sent(db, lost.id)
    say("lost")
    say("online", retained=True)  # it came while nobody listened
    assert [one.id for one in journal.due(db, "", NOW)] == [lost.id]


def _status(device):
    return envelope(t.UpKind.STATUS, t.Status(state="online"), 0, dev=device)
