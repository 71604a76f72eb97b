"""Settings and rollouts with real uplinks, a real mosquitto and a controller that is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import httpx
import msgspec
import pytest

from fleet import accounts, desired, inventory, job_views, jobs, journal
from fleet.authority import Authority
from fleet.bundle import bundle, write_bundle
from fleet.database import open_database
from fleet.job_spec import Spec, Task
from fleet.job_views import BoxQuery
from fleet.phases import Phase, Plan
from fleet.windows import share
from tests.fleet.support import Box, Fleet, SetTimes
from tests.fleet.test_api import HEADER, admin, signed_in  # noqa: F401 - a fixture
from tests.runtime.telemetry.support import free_port

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

NAMES = [f"box-{number}" for number in range(5)]
ROOT = Path(__file__).resolve().parents[2]


class Ahead(SetTimes):
    """A clock that can be put forward."""

    ahead_ms = 0

    def wall_ms(self):
        return super().wall_ms() + self.ahead_ms


@pytest.fixture
def fleet(tmp_path):
    """A controller whose clock can be put forward."""
    made = Fleet(tmp_path / "data", times=Ahead())
    yield made
    if made.thread.is_alive():
        made.stop()


def runs(db, name):
    """How often a box carried out a command, as it tells itself."""
    return sum(event.code == "command_run" for event in journal.events(db, device=name, limit=1000))


def states(db, job):
    return {box.device: box.state for box in job_views.boxes(db, job, BoxQuery())}


def test_three_phases_over_five_boxes(fleet, admin, box):  # noqa: F811
    """One box refuses and one is away all the time: the failure is told with its reason, the phases go on, everybody else did it once."""
    plan = Plan(
        phases=(
            Phase(size=1, unit="boxes", success=100, stop=100),
            Phase(size=2, unit="boxes", success=50, stop=100),
            Phase(success=50, stop=60),
        ),
        reach_s=60,
    )
    spec = Spec(title="Look", task=Task(command="ping"), plan=plan)
    for name in NAMES:
        fleet.enrol(name)
    made = admin.post("/jobs", content=msgspec.json.encode(spec)).json()
    order = sorted(NAMES, key=lambda name: share(made["id"], name))
    failing, away = order[1], order[4]
    for name in NAMES:
        if name != away:
            box(name, 'allow = ["change"]' if name == failing else "")
    fleet.until(lambda: all(fleet.state(name) == "online" for name in NAMES if name != away))
    assert admin.post(f"/jobs/{made['id']}", json={"do": "start"}).json()["state"] == "running"
    settled = {**dict.fromkeys(order, "done"), failing: "failed"}
    fleet.until(lambda: states(fleet.db, made["id"]) == {**settled, away: "due"})
    fleet.times.ahead_ms = 61_000
    fleet.until(lambda: states(fleet.db, made["id"]) == {**settled, away: "missed"})
    found = fleet.until(lambda: next((job for job in [admin.get(f"/jobs/{made['id']}").json()] if job["state"] == "done"), None))
    assert [phase["state"] for phase in found["phases"]] == ["met", "met", "met"]
    assert found["counts"] == {"done": 3, "failed": 1, "missed": 1}
    (failure,) = admin.get(f"/jobs/{made['id']}/boxes", params={"state": "failed"}).json()
    assert (failure["device"], failure["reason"], failure["phase"]) == (failing, "not_allowed", 1)
    for name in set(NAMES) - {failing, away}:
        fleet.until(lambda name=name: runs(fleet.db, name) == 1)
    box(away)
    assert admin.post(f"/jobs/{made['id']}", json={"do": "retry"}).json()["counts"]["due"] == 2
    fleet.until(lambda: states(fleet.db, made["id"])[away] == "done")
    fleet.until(lambda: runs(fleet.db, away) == 1)


def test_settings_reach_a_box_now_and_when_it_is_back(fleet, admin, box):  # noqa: F811
    """A group's setting is applied and reported; changed while the box is away, it is there when it is back; what it refuses shows."""
    one = box("box-1")
    fleet.until(lambda: fleet.state("box-1") == "online")
    assert admin.post("/settings/groups/all", json={"settings": {"health_s": 7, "brightness": 0.1}}).json() == {"boxes": 1}
    found = fleet.until(lambda: next((s for s in [admin.get("/devices/box-1/settings").json()] if s["state"] == "differs"), None))
    (difference,) = found["differences"]
    assert (difference["name"], "a darker screen looks broken" in difference["reason"]) == ("brightness", True)
    assert found["reported"]["health_s"] == 7
    assert one.node._health_s == 7
    assert admin.get("/settings").json()["states"] == {"same": 0, "pending": 0, "differs": 1}
    one.stop()
    fleet.until(lambda: fleet.state("box-1") == "offline")
    assert admin.post("/settings/groups/all", json={"settings": {"health_s": 7}}).json() == {"boxes": 1}
    assert admin.post("/devices/box-1/settings", json={"settings": {"log_level": "debug"}}).json()["state"] == "pending"
    one.start()
    fleet.until(lambda: desired.of_box(fleet.db, "box-1").state == "same")
    assert (Path(one.ctx.boot.run_dir) / "log-level").read_text() == "DEBUG"
    assert admin.delete("/settings/groups/all").status_code == 200
    fleet.until(lambda: desired.of_box(fleet.db, "box-1").state == "same")
    assert one.node._health_s == 5  # as its own kiosk.toml says


def test_settings_as_a_rollout(fleet, admin, box):  # noqa: F811
    """Two boxes one after the other; each is done when it has reported."""
    for name in NAMES[:2]:
        box(name)
    fleet.until(lambda: all(fleet.state(name) == "online" for name in NAMES[:2]))
    body = {"title": "Talk less", "task": {"settings": {"health_s": 9}}, "plan": {"phases": [{"size": 1, "unit": "boxes"}, {}]}}
    made = admin.post("/jobs", json=body).json()
    admin.post(f"/jobs/{made['id']}", json={"do": "start"})
    fleet.until(lambda: admin.get(f"/jobs/{made['id']}").json()["state"] == "done")
    assert {desired.of_box(fleet.db, name).reported["health_s"] for name in NAMES[:2]} == {9}


def test_who_may_what(fleet, admin):  # noqa: F811
    """A viewer sees; an operator rolls out and sets what a person in the shop could, drives what an admin made; audit tells all."""
    fleet.enrol("box-1")
    ping, pack = ({"title": "x", "task": task} for task in ({"command": "ping"}, {"command": "switch_pack", "args": {"pack": "tea"}}))
    with closing(signed_in(fleet, admin, "viewer")) as viewer, closing(signed_in(fleet, admin, "operator")) as operator:
        for path in ("/jobs", "/settings", "/settings/groups", "/devices/box-1/settings", "/devices/box-1/jobs"):
            assert viewer.get(path).status_code == 200, path
        assert viewer.post("/jobs/preview", json={}).json() == {"count": 1, "names": ["box-1"], "phases": [1]}
        assert viewer.post("/jobs", json=ping).status_code == 403
        assert operator.post("/jobs", json=ping).status_code == 200
        for body in (pack, {"title": "x", "task": {"settings": {"health_s": 9}}}):
            assert "needs the role admin" in operator.post("/jobs", json=body).json()["error"]
        made = admin.post("/jobs", json=pack).json()["id"]
        assert viewer.post(f"/jobs/{made}", json={"do": "start"}).status_code == 403
        for what in ("start", "pause", "resume", "abort"):
            assert operator.post(f"/jobs/{made}", json={"do": what}).status_code == 200, what
        assert operator.delete(f"/jobs/{made}").status_code == 403
        assert operator.post("/settings/groups/all", json={"settings": {"health_s": 9}}).status_code == 403
        assert operator.post("/devices/box-1/settings", json={"settings": {"log_level": "debug"}}).status_code == 200
        assert "needs the role admin" in operator.post("/devices/box-1/settings", json={"settings": {"pack": "tea"}}).json()["error"]
    assert admin.delete(f"/jobs/{made}").status_code == 200
    actions = [entry["action"] for entry in admin.get("/audit").json()]
    assert actions[:6] == ["rollout removed", "settings", "rollout abort", "rollout resume", "rollout pause", "rollout start"]
    for body in (
        {"title": ""},
        {"title": "x"},
        {**ping, "plan": {"phases": []}},
        {**ping, "zone": "Mars"},
        {**ping, "plan": {"at_once": 0}},
        {**ping, "plan": {"reach_s": 60}, "jitter_s": 61},
    ):
        answer = admin.post("/jobs", json=body)
        assert answer.status_code == 400, body
        assert "\n" not in answer.json()["error"]


class Killed:
    """A controller in a process of its own, that is killed and started again."""

    def __init__(self, folder):
        self.data, self.port, self.broker = folder, free_port(), free_port()
        folder.mkdir(parents=True)
        now = SetTimes().wall_ms()
        self.authority = Authority(folder / "authority", now)
        self.db = open_database(folder / "fleet.db")
        self.token = accounts.make_token(self.db, "test", accounts.Role.ADMIN, "test", 30, now)
        self.process = None

    def enrol(self, name, folder):
        issued = inventory.enrol(self.db, self.authority, name, 30, SetTimes().wall_ms())
        write_bundle(bundle(issued, self.authority.pem, f"localhost:{self.broker}", "default"), folder)
        return folder

    def start(self):
        words = ["fleet", "serve", "--data", self.data, "--port", self.port, "--broker-host", "127.0.0.1", "--broker-port", self.broker]
        words += ["--name", "localhost"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "visavis", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )
        assert any(re.search("The console", line) for line in self.process.stdout)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def ask(self, method, path, body=None):
        url = f"http://127.0.0.1:{self.port}/api/v1{path}"
        return httpx.request(method, url, json=body, headers={**HEADER, "Authorization": f"Bearer {self.token}"}, timeout=60).json()

    def until(self, condition):
        for _ in range(600):
            found = condition()
            if found:
                return found
            threading.Event().wait(0.1)
        raise AssertionError(found)


def test_a_controller_that_is_killed_goes_on(tmp_path):
    """Killed in each phase, between sending and answering too: every box did the job once, the phases came in order, it ends as done."""
    fleet = Killed(tmp_path / "data")
    boxes = []
    try:
        folders = {name: fleet.enrol(name, tmp_path / f"bundle-{name}") for name in NAMES}
        fleet.start()
        boxes = [Box(tmp_path / f"home-{name}", folders[name], name) for name in NAMES]
        fleet.until(lambda: all(inventory.device(fleet.db, name).state == "online" for name in NAMES))
        plan = {"phases": [{"size": 1, "unit": "boxes"}, {"size": 2, "unit": "boxes"}, {}], "at_once": 2}
        made = fleet.ask("POST", "/jobs", {"title": "Look", "task": {"command": "ping"}, "plan": plan})["id"]
        fleet.ask("POST", f"/jobs/{made}", {"do": "start"})
        for begun in (1, 2, 4):
            fleet.until(lambda begun=begun: sum(state in ("sent", "done") for state in states(fleet.db, made).values()) >= begun)
            fleet.kill()
            fleet.start()
        fleet.until(lambda: jobs.load(fleet.db.read, made)[0].rollout.state == "done")
        assert set(states(fleet.db, made).values()) == {"done"}
        fleet.until(lambda: all(runs(fleet.db, name) >= 1 for name in NAMES))
        fleet.until(lambda: not any(box.node._outbox.counts().rows for box in boxes))  # nothing more is on its way
        assert [runs(fleet.db, name) for name in NAMES] == [1] * 5
        rows = fleet.db.read("SELECT device, answered FROM command")
        phases = {box.device: box.phase for box in job_views.boxes(fleet.db, made, BoxQuery())}
        by_time = [phases[row[0]] for row in sorted(rows, key=lambda row: row[1])]
        assert by_time == sorted(by_time)
        fleet.kill()
    finally:
        for one in boxes:
            one.close()
        if fleet.process and fleet.process.poll() is None:
            os.kill(fleet.process.pid, signal.SIGKILL)
            fleet.process.wait()
        fleet.db.close()
