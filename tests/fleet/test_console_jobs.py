"""Rollouts and settings in a real Chromium: the wizard by keyboard, live progress, a stop, phone, both schemes, axe-core."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

import runtime.telemetry as t
from fleet import accounts, desired, job_views, jobs
from fleet.desired import Group
from fleet.job_spec import Spec, Task
from fleet.job_views import BoxQuery
from fleet.phases import Phase, Plan
from fleet.selection import Selection
from tests.fleet.support import Fleet, Stranger
from tests.fleet.test_console import LIMIT_MS, PASSWORD, browser, violations  # noqa: F401 - a fixture

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

NAMES = ["box-1", "box-2", "box-3"]


class Boxes:
    """Bare clients that answer what they are told to."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.made = {name: Stranger(fleet, fleet.enrol(name), name) for name in NAMES}
        for name, box in self.made.items():
            box.say(t.UpKind.STATUS, t.Status(state="online"), retain=True)
            site = "Bern" if name != "box-3" else "Basel"
            birth = t.Birth(
                attributes={"site": site, "model": "Orin", "timezone": "Europe/Berlin"}, versions={"visavis": "1.2"}, health_s=3600
            )
            box.say(t.UpKind.BIRTH, birth)
        fleet.until(lambda: all(fleet.device(name).site for name in NAMES))

    def jobs(self, name):
        """The commands of rollouts that a box got."""
        topics = [message for message in self.made[name].came if message.topic.endswith("/job")]
        return [t.decode_down(message.payload, t.DownKind.JOB)[1] for message in topics]

    def answer(self, name, outcome=t.Outcome.DONE, reason="", count=1):
        """Wait for the job's command, and answer it."""
        self.made[name].wait(lambda: len(self.jobs(name)) >= count)
        self.made[name].say(t.UpKind.JOB, t.Answer(id=self.jobs(name)[-1].id, name="ping", outcome=outcome, reason=reason))

    def report(self, name, reported, refused=None):
        version = desired.of_box(self.fleet.db, name).version
        self.made[name].say(t.UpKind.SHADOW, t.Reported(version=version, reported=reported, refused=refused or {}))


@contextmanager
def begun(data):
    """A controller with an admin and three boxes that are online."""
    fleet = Fleet(data)
    fleet.boxes = Boxes(fleet)
    accounts.create(fleet.db, "anna", accounts.Role.ADMIN, PASSWORD, 1)
    yield fleet
    for box in fleet.boxes.made.values():
        box.close()
    fleet.stop()


@pytest.fixture
def shop(tmp_path):
    """One of a test's own."""
    with begun(tmp_path / "data") as made:
        yield made


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """One to look at, with a job that runs, a group, and a box that refuses a setting."""
    with begun(tmp_path_factory.mktemp("console") / "data") as shop:
        now = shop.times.wall_ms()
        plan = Plan(phases=(Phase(size=1, unit="boxes", success=100, stop=100, rest_s=600, approve=True), Phase()))
        shop.job = jobs.create(shop.db, Spec(title="Look at every box of the chain", task=Task(command="ping"), plan=plan), "anna", now)
        jobs.act(shop.db, shop.job, "start", "anna", now)
        group = Group(
            name="everybody",
            priority=1,
            selection=Selection(name="box-*"),
            settings={"health_s": 60, "volume": 0.5},
            author="anna",
            changed=now,
        )
        desired.put_group(shop.db, group)
        shop.boxes.report("box-1", {"health_s": 60, "log_level": "info"}, {"volume": "nothing on this box can set it"})
        shop.until(lambda: desired.of_box(shop.db, "box-1").state == "differs")
        yield shop


@contextmanager
def looking(browser, shop):  # noqa: F811
    """Opens the console at a page, signed in; fails the test on any error in a console."""
    problems, contexts = [], []

    def open_at(page_name, **more):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | more))
        contexts.append(context)
        key = accounts.open_session(shop.db, "anna", shop.times.wall_ms())
        context.add_cookies([{"name": shop.controller.cookie, "value": key, "url": shop.controller.server.url}])
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        # Chromium logs each answer 400, which is how a mistake in a form is told.
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" and "status of 400" not in line.text else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{shop.controller.server.url}/#{page_name}")
        page.wait_for_selector("main section, main form")
        return page

    try:
        yield open_at
    finally:
        for context in contexts:
            context.close()
    assert problems == []


@pytest.fixture
def opened(browser, shop):  # noqa: F811
    """See `looking`."""
    with looking(browser, shop) as open_at:
        yield open_at


def test_a_rung_that_a_command_holds_is_on_the_page_of_the_box(opened, shop):
    """With its end, and gone with the next report without it."""
    told = t.Reported(version=0, reported={"rung": 0}, held_rung=2, held_until=shop.times.wall_ms() + 3600_000)
    shop.boxes.made["box-1"].say(t.UpKind.SHADOW, told)
    shop.until(lambda: desired.of_box(shop.db, "box-1").held is not None)
    page = opened("box/box-1")
    note = page.get_by_text("A command holds rung 2 until ")
    note.wait_for()
    shop.boxes.report("box-1", {"rung": 0})
    note.wait_for(state="detached")


def test_a_rollout_from_the_wizard_to_the_end(opened, shop):
    """Made in three steps by keyboard, started, watched live; a failure stops it with its reason; tried again, approved, done."""
    page = opened("jobs")
    page.get_by_role("link", name="New rollout").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Title").fill("Look at Bern")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=3 boxes")
    page.get_by_label("Site").select_option("Bern")
    page.wait_for_selector("text=2 boxes")
    page.get_by_role("button", name="Next: how").press("Enter")
    page.get_by_role("button", name="Remove phase 2").press("Enter")
    page.wait_for_selector("legend:has-text('Phase 1 (1 box)')")
    page.get_by_label("Then rest (minutes)").fill("0")
    assert page.get_by_label("Ask before the next").is_checked()
    page.get_by_role("button", name="Start it now").press("Enter")
    page.wait_for_selector("h1:has-text('Look at Bern')")
    (job,) = jobs.load(shop.db.read, boxes=True)
    assert job.spec.selection == Selection(site="Bern")
    first = next(name for name, box in job.rollout.boxes.items() if box.phase == 0)
    other = next(name for name in job.rollout.boxes if name != first)
    shop.boxes.answer(first, t.Outcome.FAILED, "out of paper")
    page.wait_for_selector(".note:has-text('Stopped: phase 1: 1 of 1 failed.')")
    page.wait_for_selector(f"tr:has-text('{first}'):has-text('out of paper')")
    assert violations(page) == []
    page.click("text=Try failed boxes again")
    shop.boxes.answer(first, count=2)
    page.wait_for_selector("text=Waits for approval")
    assert shop.boxes.jobs(other) == []
    page.click("text=Begin the next phase")
    shop.boxes.answer(other)
    page.wait_for_selector("[role=status]:has-text('Done')")
    page.wait_for_selector("td:has-text('phase 2 began')")
    page.get_by_label("Which").select_option("done")
    page.click(f"tr:has-text('{first}') a")
    page.wait_for_selector("section:has(h2:has-text('Rollouts')) tr:has-text('Look at Bern'):has-text('done')")
    page.click("a:has-text('Look at Bern')")
    page.get_by_role("link", name="Copy").click()
    assert page.get_by_label("Title").input_value() == "Look at Bern again"


def test_what_was_corrected_is_what_starts(opened, shop):
    """A rollout for a name that no box has is kept as one draft; with another name and task it is another, and that one starts."""
    page = opened("jobs/new")
    page.get_by_label("Title").fill("Look")
    page.keyboard.press("Enter")
    page.get_by_label("Name").fill("bxo-1")
    page.wait_for_selector("text=0 boxes")
    page.click("text=Next: how")
    for _ in range(2):
        with page.expect_response("**/api/v1/jobs/*"):
            page.click("text=Start it now")
        page.wait_for_selector("[role=alert]:has-text('no box is selected')")
    assert len(jobs.load(shop.db.read)) == 1
    page.click("button:has-text('Back')")
    page.get_by_label("Name").fill("box-1")
    page.wait_for_selector("text=1 box")
    page.click("button:has-text('Back')")
    page.get_by_label("Title").fill("Look at one")
    page.keyboard.press("Enter")
    page.click("text=Next: how")
    page.click("text=Start it now")
    page.wait_for_selector("h1:has-text('Look at one')")
    made = {job.spec.title: set(job.rollout.boxes) for job in jobs.load(shop.db.read, boxes=True)}
    assert made == {"Look": set(), "Look at one": {"box-1"}}


def test_less_time_to_reach_a_box_than_boxes_are_spread_over(opened, shop):
    """One line says so before anything is kept; what it asks for is then taken."""
    page = opened("jobs/new")
    page.get_by_label("Title").fill("Look")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=3 boxes")
    page.click("text=Next: how")
    page.get_by_label("Reach a box within (hours)").fill("2")
    page.get_by_label("Spread over (minutes)").fill("125")
    page.click("text=Keep as a draft")
    page.wait_for_selector('[role=alert]:has-text(\'"Reach a box within" is shorter than "Spread over"\')')
    page.wait_for_selector("[role=alert]:has-text('Give at least 2.09 hours')")
    assert violations(page) == []
    assert jobs.load(shop.db.read) == []
    page.get_by_label("Reach a box within (hours)").fill("2.09")
    page.click("text=Keep as a draft")
    page.wait_for_selector("h1:has-text('Look')")
    (job,) = jobs.load(shop.db.read)
    assert (job.spec.plan.reach_s, job.spec.jitter_s) == (7524, 7500)


def test_pause_and_abort(opened, shop):
    """Abort asks first; what was not sent is left out, and the list shows it."""
    spec = Spec(title="Slow", task=Task(command="ping"), plan=Plan(phases=(Phase(),), at_once=1))
    made = jobs.create(shop.db, spec, "anna", shop.times.wall_ms())
    page = opened(f"jobs/{made}")
    page.click("button:has-text('Start')")
    page.click("dialog button.primary")
    shop.until(lambda: any(box.state == "sent" for box in job_views.boxes(shop.db, made, BoxQuery())))
    page.click("button:has-text('Pause')")
    page.wait_for_selector("[role=status]:has-text('Paused')")
    page.click("button:has-text('Resume')")
    page.click("button:has-text('Abort')")
    page.click("dialog button:has-text('Leave it')")
    assert jobs.load(shop.db.read, made)[0].rollout.state == "running"
    page.click("button:has-text('Abort')")
    page.click("dialog button.danger")
    page.wait_for_selector("[role=status]:has-text('Aborted')")
    page.get_by_label("Which").select_option("dropped")
    page.wait_for_selector("tr:has-text('left out'):has-text('aborted')")
    page.click("a:has-text('Rollouts') >> nth=0")
    page.wait_for_selector("tr:has-text('Slow'):has-text('Aborted')")


def test_settings_of_a_group_and_of_a_box(opened, shop):
    """A group is made in the dialog; a box that refuses shows why; on its own page a value of its own is set and taken back."""
    page = opened("settings")
    page.click("text=New group")
    page.get_by_label("Name of the group").fill("bern")
    page.get_by_label("Site").select_option("Bern")
    page.get_by_label("Setting").select_option("volume")
    page.get_by_label("Value").fill("7")
    page.click("dialog button:has-text('Add')")
    page.wait_for_selector("text=a value that may be is needed")
    page.get_by_label("Value").fill("0.5")
    page.click("dialog button:has-text('Add')")
    page.wait_for_selector("dialog :text('Loudness of the voice: 0.5')")
    assert violations(page) == []
    page.click("dialog button:has-text('Save')")
    page.wait_for_selector("tr:has-text('bern'):has-text('2 not yet')")
    shop.boxes.report("box-1", {"volume": 0.5})
    shop.boxes.report("box-2", {"health_s": 30}, {"volume": "nothing on this box can set it"})
    page.wait_for_selector("tr:has-text('bern'):has-text('1 as wanted'):has-text('1 differ')")
    page.wait_for_selector("tr:has-text('box-2'):has-text('nothing on this box can set it')")
    page.click("a:has-text('box-2')")
    page.wait_for_selector("tr:has-text('Loudness of the voice'):has-text('by group bern')")
    page.get_by_label("Setting").select_option("health_s")
    page.get_by_label("Value").fill("60")
    page.click("text=Set for this box")
    page.wait_for_selector("tr:has-text('60'):has-text('by this box'):has-text('Waits for the box')")
    page.click("text=Take back Seconds between")
    page.wait_for_selector("tr:has-text('its own')")
    assert desired.of_box(shop.db, "box-2").own == {}


def test_the_packs_of_a_box_are_offered_by_name(opened, shop):
    """The command and the setting offer what the box says is installed, and nothing else; of another box any name can be written."""
    shop.boxes.made["box-1"].say(t.UpKind.BIRTH, t.Birth(pack="coffee-bar", packs=("coffee-bar", "tea-bar"), commands=("switch_pack",)))
    page = opened("box/box-1")
    page.get_by_label("Command").select_option("switch_pack")
    page.wait_for_selector("select[name=pack]")
    assert page.locator("select[name=pack] option").all_inner_texts() == ["coffee-bar", "tea-bar"]
    page.locator("select[name=pack]").select_option("tea-bar")
    page.click("button:has-text('Send')")
    page.wait_for_selector("tr:has-text('Show another experience pack'):has-text('tea-bar')")
    page.get_by_label("Setting").select_option("pack")
    page.get_by_label("Value").select_option("tea-bar")
    page.click("text=Set for this box")
    page.wait_for_selector("tr:has-text('Experience pack'):has-text('tea-bar'):has-text('by this box')")
    assert desired.of_box(shop.db, "box-1").own == {"pack": "tea-bar"}
    page.goto(page.url.replace("box-1", "box-2"))
    page.wait_for_selector("h1:has-text('box-2')")
    page.get_by_label("Setting").select_option("pack")
    page.get_by_label("Value").fill("juice-bar")


@pytest.mark.parametrize("name", ["jobs", "jobs/JOB", "jobs/new", "settings", "box/box-1"])
def test_axe_and_phone(browser, full, name):  # noqa: F811
    """WCAG 2.2 A and AA and best practice, light and dark; at a phone's width nothing is cut off sideways."""
    with looking(browser, full) as opened:
        page = opened(name.replace("JOB", full.job), viewport={"width": 390, "height": 844}, color_scheme="dark")
        page.wait_for_selector("h1")
        page.wait_for_selector("table" if name != "jobs/new" else "form")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1280, "height": 900})
        assert violations(page) == []
        assert page.evaluate("document.activeElement.tagName") == "H1"
