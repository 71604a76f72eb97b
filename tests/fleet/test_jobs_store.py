"""Rollouts in the store: each step whole or not at all, the same commands after a crash, answers that come when they come."""

from __future__ import annotations

import datetime

import pytest

import runtime.telemetry as t
from fleet import desired, jobs, journal
from fleet.errors import BadRequest
from fleet.job_spec import Spec, Task
from fleet.phases import Phase, Plan
from fleet.selection import Selection
from fleet.windows import Window, share
from tests.fleet.boxes import NOW, Boxes

pytestmark = pytest.mark.unit

NAMES = [f"box-{number}" for number in range(5)]
PHASES = Plan(phases=(Phase(size=1, unit="boxes", stop=50), Phase(size=2, unit="boxes", success=50, stop=60), Phase(success=100)))


@pytest.fixture
def boxes(db):
    made = Boxes(db)
    made.come(*NAMES)
    return made


class Job:
    """A rollout and what drives it."""

    def __init__(self, boxes, **more):
        self.boxes, self.db = boxes, boxes.db
        spec = Spec(**({"title": "Ping them", "task": Task(command="ping"), "plan": PHASES} | more))
        self.id = jobs.create(self.db, spec, "anna", boxes.now)

    def act(self, what):
        return jobs.act(self.db, self.id, what, "anna", self.boxes.now)

    def step(self, seconds=1.0):
        self.boxes.now += round(seconds * 1000)
        return jobs.step(self.db, self.id, self.boxes.now)

    def kept(self):
        return jobs.load(self.db.read, self.id, boxes=True)[0]

    @property
    def state(self):
        return self.kept().rollout.state

    def states(self):
        return {name: box.state for name, box in self.kept().rollout.boxes.items()}

    def phase(self, number):
        return sorted(name for name, box in self.kept().rollout.boxes.items() if box.phase == number)


def test_from_draft_to_done(boxes):
    """Three phases; each box gets one command with a name that follows from job, box and attempt; the story is kept."""
    job = Job(boxes)
    assert job.step().jobs == set()
    job.act("start")
    assert job.step().commands == set(job.phase(0))
    assert job.step().jobs == set()  # nothing changed
    seen = {}
    for number in range(3):
        found = boxes.send()
        assert sorted(found) == job.phase(number)
        seen |= found
        for name, id_ in found.items():
            assert id_ == jobs.command_id(job.id, name, 1)
            boxes.answer(name, id_)
        assert jobs.waiting(boxes.db) == [job.id]
        job.step()
    assert (job.state, set(job.states().values())) == ("done", {"done"})
    assert sorted(seen) == NAMES
    assert [note.text for note in job.kept().notes] == ["made", "started", "phase 2 began", "phase 3 began", "done"]
    assert jobs.waiting(boxes.db) == []
    (order,) = boxes.db.read("SELECT name, author, issued, expires FROM command WHERE id = ?", seen["box-0"])
    assert order[:2] == ("ping", "rollout Ping them (anna)")
    assert order[3] - order[2] == 900_000


def test_a_failure_stops_it_with_its_reason(boxes):
    """Refused, unsupported and failed are failures with the box's reason; retry is another command; a late answer counts."""
    job = Job(boxes)
    job.act("start")
    job.step()
    (canary,) = job.phase(0)
    boxes.answer(canary, boxes.send()[canary], t.Outcome.UNSUPPORTED)
    job.step()
    assert job.state == "stopped"
    assert job.kept().rollout.boxes[canary].reason == "unsupported"
    assert job.kept().notes[-1] == jobs.Note(boxes.now, "", "stopped: phase 1: 1 of 1 failed")
    job.act("retry")
    job.step()
    again = boxes.send()
    assert again == {canary: jobs.command_id(job.id, canary, 2)}
    job.step(901)
    assert job.kept().rollout.boxes[canary].reason == "no answer within 900 s"
    assert job.state == "stopped"
    boxes.answer(canary, again[canary])
    assert jobs.waiting(boxes.db) == [job.id]
    job.step()
    assert job.states()[canary] == "done"
    job.act("resume")
    assert len(job.step().commands) == 2


def test_aborted_nothing_more_leaves(boxes):
    """What waits to be sent is withdrawn, what the broker has is not sent again when it comes back; an answer still counts."""
    job = Job(boxes, plan=Plan(at_once=2))
    job.act("start")
    job.step()
    first = boxes.send()
    assert len(first) == 2
    name = min(first)
    job.act("abort")
    assert boxes.queued() == {}
    journal.reopen(boxes.db)
    assert journal.due(boxes.db, "", boxes.now) == []
    boxes.answer(name, first[name])
    job.step()
    assert sorted(job.states().values()) == ["done", "dropped", "dropped", "dropped", "sent"]
    job.step(901)
    assert sorted(job.states().values()) == ["done", "dropped", "dropped", "dropped", "failed"]
    with pytest.raises(BadRequest, match="not while the rollout is aborted"):
        job.act("resume")
    jobs.remove(boxes.db, job.id)
    assert jobs.load(boxes.db.read) == []


def test_a_box_may_be_reached_as_late_as_its_turn_comes(boxes):
    """As much time to reach a box as boxes are spread over is enough: whoever is online is sent to, the last one too."""
    job = Job(boxes, plan=Plan(reach_s=1800, answer_s=3600), jitter_s=1800)
    job.act("start")
    for _ in range(181):
        job.step(10)
    assert set(job.states().values()) == {"sent"}


def test_a_box_away_and_back(boxes):
    """A box that is away gets no command; back, it gets its one; away for the whole time it is missed and holds nobody up."""
    job = Job(boxes, plan=Plan(phases=(Phase(size=2, unit="boxes", success=100), Phase(success=100)), reach_s=3600))
    job.act("start")
    one, two = job.phase(0)
    boxes.go(one)
    job.step()
    assert set(boxes.send()) == {two}
    boxes.come(one)
    job.step()
    assert set(boxes.queued()) == {one}
    boxes.go(*job.phase(1))
    for name in (one, two):
        boxes.answer(name, jobs.command_id(job.id, name, 1))
    job.step()
    assert job.kept().rollout.phase == 1
    job.step(3599)
    assert set(job.states().values()) == {"done", "due"}
    job.step(1)
    assert set(job.states().values()) == {"done", "missed"}
    assert (job.state, job.kept().rollout.reason) == ("stopped", "phase 2: none of its 3 boxes was reached")


def test_settings_as_a_job(boxes):
    """Each box's own settings change in its phase; it is done when it reports them, failed when it refuses; retry asks it again."""
    job = Job(boxes, task=Task(settings={"health_s": 60}), plan=Plan(phases=(Phase(size=1, unit="boxes", stop=50), Phase())))
    job.act("start")
    (canary,) = job.phase(0)
    assert job.step().shadows == {canary}
    ((name, shadow),) = desired.due(boxes.db)
    assert (name, shadow.desired) == (canary, {"health_s": 60})
    boxes.report(canary, shadow.version - 1, {"health_s": 60})  # an older set: no answer to this
    assert job.step().jobs == set()
    boxes.report(canary, shadow.version, {"health_s": 30}, {"health_s": "the system refused"})
    job.step()
    assert job.kept().rollout.boxes[canary].reason == "health_s: the system refused"
    assert job.state == "stopped"
    job.act("retry")
    assert job.step().shadows == {canary}
    ((_, again),) = desired.due(boxes.db)
    assert again.version > shadow.version
    boxes.report(canary, again.version, {"health_s": 60})
    job.step()
    for name, shadow in desired.due(boxes.db):
        boxes.report(name, shadow.version, {"health_s": 60})
    job.step()
    assert job.state == "done"


def test_settings_are_taken_back(boxes):
    """Null takes a setting back; a box that never had it reports all the same."""
    job = Job(boxes, task=Task(settings={"health_s": None}), plan=Plan())
    job.act("start")
    job.step()
    found = desired.due(boxes.db)
    assert [shadow.desired for _, shadow in found] == [{}] * 5
    for name, shadow in found:
        boxes.report(name, shadow.version, {"health_s": 30})
    job.step()
    assert job.state == "done"


def ms(text, zone=datetime.timezone.utc):
    return round(datetime.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def test_windows_of_boxes(db):
    """In its own night by its own clock; a box's own window goes before; within the window each has its own delay."""
    boxes = Boxes(db)
    boxes.now = ms("2026-10-01T00:30:00")
    boxes.come("berlin", timezone="Europe/Berlin")
    boxes.come("tokyo", timezone="Asia/Tokyo")
    boxes.come("nowhere", timezone="Mars/Olympus")
    boxes.come("noon", timezone="Europe/Berlin", maintenance="12:00-13:00")
    job = Job(boxes, plan=Plan(answer_s=2 * 86_400), window=Window(begin="02:00", end="05:00"))
    job.act("start")
    job.step(0)
    assert set(boxes.send()) == {"berlin"}
    job.step(2 * 3600)
    assert set(boxes.send()) == {"nowhere"}  # 02:30 UTC, the zone of the job
    job.step(8 * 3600)
    assert set(boxes.send()) == {"noon"}
    job.step(7 * 3600)
    assert set(boxes.send()) == {"tokyo"}
    late = Job(boxes, plan=Plan(), jitter_s=600)
    late.act("start")
    began, moments = boxes.now, {}
    for _ in range(61):
        late.step(10)
        moments |= dict.fromkeys(boxes.send(), boxes.now - began)
    assert set(moments) == {"berlin", "tokyo", "nowhere", "noon"}
    for name, after_ms in moments.items():  # its own share of the delay, and the steps are 10 s apart
        assert 0 <= after_ms - share(late.id, name, "delay") * 600_000 < 10_001


@pytest.mark.parametrize("dynamic", [False, True])
def test_every_phase_is_spread_over(boxes, dynamic):
    """The delay of a box counts from the beginning of its phase, also of the second one, whose boxes have waited or joined before."""
    plan = Plan(phases=(Phase(size=1, unit="boxes", success=100), Phase(success=100)))
    job = Job(boxes, plan=plan, jitter_s=600, dynamic=dynamic)
    job.act("start")
    while not job.step(10).commands:
        pass
    boxes.come("box-8", "box-9")
    job.step(10)
    (canary,) = job.phase(0)
    boxes.answer(canary, boxes.send()[canary])
    moments = {}
    began = boxes.now
    for _ in range(61):
        job.step(10)
        moments |= dict.fromkeys(boxes.send(), boxes.now - began)
    assert set(moments) == set(job.phase(1))
    assert len(moments) == (6 if dynamic else 4)
    for name, after_ms in moments.items():  # the phase began with the first of these steps, which are 10 s apart
        assert 10_000 <= after_ms - share(job.id, name, "delay") * 600_000 < 20_001


def test_dynamic_and_frozen(boxes):
    """A dynamic rollout takes in boxes that come to be selected while it runs, and leaves those that cease to be; a frozen one does not."""
    frozen, dynamic = (Job(boxes, plan=Plan(at_once=1), selection=Selection(site="Bern"), dynamic=one) for one in (False, True))
    for job in (frozen, dynamic):
        job.act("start")
        job.step()
    sent = next(name for name, state in dynamic.states().items() if state == "sent")
    moved = next(name for name in NAMES if dynamic.states()[name] == frozen.states()[name] == "due")
    boxes.come(moved, site="Basel")
    boxes.come(sent, site="Basel")
    boxes.come("box-9")
    for job in (frozen, dynamic):
        job.step()
    assert "box-9" not in frozen.states()
    assert frozen.states()[moved] == "due"
    assert (dynamic.states()[moved], dynamic.states()[sent], dynamic.states()["box-9"]) == ("dropped", "sent", "due")


def test_a_step_is_whole_or_not_at_all(boxes, monkeypatch):
    """If the store fails while a step is kept, nothing of it is there; the next step does the same again, with the same names."""
    job = Job(boxes)
    job.act("start")

    def broken(*_):
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_save", broken)
        with pytest.raises(RuntimeError):
            job.step()
    assert boxes.queued() == {}
    assert set(job.states().values()) == {"due", "waiting"}
    job.step()
    (canary,) = job.phase(0)
    assert boxes.queued() == {canary: jobs.command_id(job.id, canary, 1)}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"task": Task()}, "either a command or settings"),
        ({"task": Task(command="ping", settings={"health_s": 60})}, "either a command or settings"),
        ({"task": Task(command="dance")}, "no command 'dance'"),
        ({"task": Task(command="volume", args={"level": 7})}, "volume: "),
        ({"task": Task(settings={"health_s": 1})}, "health_s: "),
        ({"zone": "Mars/Olympus"}, "no time zone"),
        (
            {"plan": Plan(reach_s=1799), "jitter_s": 1800},
            "plan.reach_s is 1799, shorter than jitter_s, 1800: .* give at least 1800 s to reach",
        ),
        ({"selection": Selection(boxes=("a/b",))}, "cannot be the name"),
    ],
)
def test_rollouts_that_cannot_be(boxes, more, text):
    """One line says what is wrong before anything is kept."""
    with pytest.raises(BadRequest, match=text):
        Job(boxes, **more)
    assert jobs.load(boxes.db.read) == []


def test_acts_that_do_not_fit(boxes):
    """An empty selection cannot start; a draft cannot be resumed; what has begun cannot be removed; a name nobody knows is refused."""
    nobody = Job(boxes, selection=Selection(site="Mars"))
    with pytest.raises(BadRequest, match="no box is selected"):
        nobody.act("start")
    job = Job(boxes)
    for what, text in (("resume", "draft"), ("approve", "no phase"), ("retry", "no box to try again"), ("pause", "draft")):
        with pytest.raises(BadRequest, match=text):
            job.act(what)
    job.act("start")
    with pytest.raises(BadRequest, match="aborted before"):
        jobs.remove(boxes.db, job.id)
    with pytest.raises(BadRequest, match="no such rollout"):
        jobs.act(boxes.db, "none", "start", "anna", NOW)


def test_old_ones_are_forgotten(boxes):
    """What ended before the limit goes with its boxes; what runs stays, however old."""
    old, running = Job(boxes), Job(boxes)
    for job in (old, running):
        job.act("start")
        job.step()
    old.act("abort")
    jobs.prune(boxes.db, boxes.now + 1)
    assert [one.id for one in jobs.load(boxes.db.read)] == [running.id]
    assert {row[0] for row in boxes.db.read("SELECT DISTINCT job FROM job_box")} == {running.id}
