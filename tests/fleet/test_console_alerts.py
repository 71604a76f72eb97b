"""The console's pages about alerts in a real Chromium against a real controller: live, by keyboard, rules, maintenance, who is told."""

from __future__ import annotations

import pytest

import runtime.telemetry as t
from fleet import accounts, alert_desk
from fleet.alerts import LISTEN_MS
from fleet.scopes import parse
from tests.fleet.support import Fleet, Stranger
from tests.fleet.test_alerts_api import Leap
from tests.fleet.test_console import LIMIT_MS, PASSWORD, browser, violations  # noqa: F401 - a fixture

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A controller with an admin, and a box that was lost long enough for an alert."""
    fleet = Fleet(tmp_path_factory.mktemp("alerts") / "data", times=Leap(), alert_s=0.1)
    accounts.create(fleet.db, "anna", accounts.Role.ADMIN, PASSWORD, 1)
    accounts.create(fleet.db, "vera", accounts.Role.VIEWER, PASSWORD, 1)
    accounts.create(fleet.db, "otto", accounts.Role.OPERATOR, PASSWORD, 1, parse(["name:box-1"]))
    fleet.boxes = [Stranger(fleet, fleet.enrol(name), name) for name in ("box-1", "box-2")]
    for box in fleet.boxes:
        box.say(t.UpKind.STATUS, t.Status(state="online"), retain=True)
        box.say(t.UpKind.BIRTH, t.Birth(attributes={"site": "Store 12"}, health_s=36_000))
        box.say(t.UpKind.STATUS, t.Status(state="lost"), retain=True)
    fleet.until(lambda: all(fleet.state(box.name) == "lost" for box in fleet.boxes))
    fleet.times.ahead += LISTEN_MS + 300_000
    fleet.until(lambda: alert_desk.counts(fleet.db).firing == 2)
    yield fleet
    for box in fleet.boxes:
        box.close()
    fleet.stop()


@pytest.fixture
def opened(browser, shop):  # noqa: F811 - the fixture
    """Opens the console at a page, signed in; fails the test on any error in a console."""
    problems, contexts = [], []

    def open_at(page_name, name="anna", **more):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | more))
        contexts.append(context)
        key = accounts.open_session(shop.db, name, shop.times.wall_ms())
        context.add_cookies([{"name": shop.controller.cookie, "value": key, "url": shop.controller.server.url}])
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        # Chromium logs each answer 400, which is how a mistake in a form is told.
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" and "status of 400" not in line.text else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{shop.controller.server.url}/#{page_name}")
        page.wait_for_selector("nav.tabs")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert problems == []


def test_two_boxes_of_a_site_are_one_row(opened):
    """What fires is counted in the navigation; the site's row names how many boxes and opens to them; a word filters."""
    page = opened("alerts")
    page.wait_for_selector("li.alert:has-text('2 boxes')")
    assert page.locator("li.alert").count() == 1
    assert page.get_by_role("link", name="Alerts 2 firing").count() == 1
    page.get_by_text("2 alerts").click()
    page.wait_for_selector("tr:has-text('box-2')")
    page.get_by_label("Box, site or what").fill("box-1")
    page.wait_for_selector("li.alert:has-text('the connection was lost')")
    page.get_by_label("Box, site or what").fill("harbour")
    page.wait_for_selector("text=No alert matches.")


def test_acknowledge_by_keyboard_silence_and_say(opened, shop):
    """Acknowledged from the dialog with a word, silenced, commented: the page shows it by itself, and the alert's own page who did it."""
    page = opened("alerts")
    page.get_by_role("button", name="Acknowledge Box is missing").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.get_by_label("What there is to say").fill("on my way")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Acknowledged by anna")
    assert page.get_by_role("button", name="Acknowledge").count() == 0
    page.get_by_role("button", name="Silence Box is missing").click()
    page.locator("select[name=minutes]").select_option("60")
    page.locator("dialog button.primary").click()
    page.wait_for_selector("text=Silent until")
    page.get_by_role("button", name="Tell again").click()
    page.wait_for_selector("text=Silent until", state="detached")
    (one, _) = alert_desk.alerts(shop.db, alert_desk.AlertQuery(), shop.times.wall_ms())
    page = opened(f"alert/{one.alert.id}")
    page.get_by_label("What there is to say").fill("a fuse")
    page.keyboard.press("Enter")
    page.wait_for_selector("li:has-text('anna said: a fuse')")
    assert page.locator("li:has-text('acknowledged it: on my way')").count() == 1


def test_a_rule_from_the_form(opened, shop):
    """Made, told in words, turned off, changed and deleted; a limit that cannot be is one line beside the form."""
    page = opened("alerts/rules")
    page.click("text=A new rule")
    page.get_by_label("Name", exact=True).fill("Too warm in the shop")
    page.get_by_label("Over again at").fill("90")
    page.click("text=Make it")
    page.wait_for_selector("form [role=alert]:has-text('clear lies on the well side')")
    page.get_by_label("Over again at").fill("70")
    page.get_by_text("Only some boxes").click()
    page.get_by_label("Sites").fill("Store 12\nStore 13")
    page.click("text=Make it")
    row = page.locator("li.alert", has_text="Too warm in the shop")
    row.wait_for()
    assert "Hottest sensor is at 80 °C or more for 5 min" in row.inner_text()
    assert "Store 12, Store 13" in row.inner_text()
    found = next(filed.rule for filed in alert_desk.rules(shop.db) if filed.rule.id == "too-warm-in-the-shop")
    assert (found.when.above, found.when.clear, found.scope.sites) == (80, 70, ("Store 12", "Store 13"))
    row.get_by_role("button", name="Turn off").click()
    row.get_by_text("Off", exact=True).wait_for()
    row.get_by_role("button", name="Change").click()
    for kind, words in (
        ("missing", "lost or silent"),
        ("events", "A node ended"),
        ("change", "rises in"),
        ("stale", "is not told"),
    ):
        page.locator("select[name=kind]").select_option(kind)
        if kind == "events":
            page.locator("select[name=codes]").select_option("node_down")
        page.get_by_label("For, minutes", exact=True).fill("30")
        page.click("text=Change it")
        page.locator("li.alert", has_text="Too warm in the shop").get_by_text(words).wait_for()
        page.locator("li.alert", has_text="Too warm in the shop").get_by_role("button", name="Change").click()
    page.click("text=Leave it")
    row.get_by_role("button", name="Delete").click()
    page.click("text=Delete it")
    row.wait_for(state="detached")


def test_maintenance_and_who_is_told(opened, shop):
    """A night's window by days and hours, and a webhook whose key is shown once and whose path is not shown again."""
    page = opened("alerts/maintenance")
    page.click("text=New maintenance")
    page.get_by_label("Name", exact=True).fill("Night")
    page.locator("select[name=kind]").select_option("again")
    page.get_by_label("Tuesday").check()
    page.get_by_label("Time zone").fill("Europe/Nowhere")
    page.click("text=Make it")
    page.wait_for_selector("form [role=alert]:has-text('no time zone')")
    page.get_by_label("Time zone").fill("Europe/Rome")
    page.click("text=Make it")
    page.wait_for_selector("li.alert:has-text('Tuesday, 02:00 to 05:00 (Europe/Rome)')")
    page = opened("alerts/channels")
    page.click("text=Tell somebody new")
    page.get_by_label("Name", exact=True).fill("Operations")
    page.get_by_label("Address").fill("http://127.0.0.1:1/very-secret")
    page.click("text=Make it")
    page.wait_for_selector("code:has-text('whsec_')")
    row = page.locator("li.alert", has_text="Operations")
    assert "http://127.0.0.1:1/…" in row.inner_text()
    row.get_by_role("button", name="Test").click()
    row.get_by_text("Cannot connect").wait_for()
    page.click("text=Tell somebody new")
    page.get_by_label("Name", exact=True).fill("Manager")
    page.locator("select[name=kind]").select_option("mail")
    page.get_by_label("To, one in each line").fill("anna@example.com")
    page.get_by_label("From", exact=True).fill("fleet@example.com")
    page.get_by_label("Mail server").fill("mail.example.com")
    page.click("text=Make it")
    page.wait_for_selector("li.alert:has-text('anna@example.com by mail.example.com')")
    assert len(alert_desk.channels(shop.db)) == 2


def test_a_viewer_only_sees(opened):
    """No buttons that change anything, and nobody's addresses."""
    page = opened("alerts", name="vera")
    page.wait_for_selector("li.alert")
    assert page.locator("main li.alert button").count() == 0
    assert page.get_by_role("link", name="Who is told").count() == 0
    page = opened("alerts/rules", name="vera")
    page.wait_for_selector("li.alert")
    assert page.locator("main button").count() == 0


def test_who_is_limited_sees_alerts_of_those_boxes(opened):
    """One of the two alerts, in the list and in the navigation, with its buttons; what is about all boxes is not offered."""
    page = opened("alerts", name="otto")
    page.wait_for_selector("li.alert:has-text('box-1')")
    page.get_by_role("link", name="Alerts 1 firing").wait_for()
    assert page.locator("li.alert").count() == 1
    assert page.get_by_role("button", name="Silence Box is missing: box-1").count() == 1
    assert page.locator("nav.tabs a").all_inner_texts() == ["Now", "History"]
    page.get_by_role("link", name="History").click()
    page.wait_for_selector("main tbody tr:has-text('box-1')")
    assert page.locator("main tbody tr").count() == 1
    page.get_by_role("link", name="the connection was lost").or_(page.get_by_role("link", name="Box is missing")).first.click()
    page.wait_for_selector("text=it became an alert")


@pytest.mark.parametrize("name", ["alerts", "alerts/history", "alerts/rules", "alerts/maintenance", "alerts/channels"])
def test_axe_and_phone(opened, name):
    """WCAG 2.2 A and AA and best practice, light and dark, with the form open; at a phone's width nothing is cut off sideways."""
    page = opened(name, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.wait_for_selector("main section")
    if page.locator("main h1 + button.primary").count():
        page.locator("main h1 + button.primary").click()
        page.wait_for_selector("form.stack")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert violations(page) == []


def test_live(opened, shop):
    """A box that is back: the alert goes from the page and the navigation by itself. Last, for it ends what the others look at."""
    page = opened("alerts")
    page.wait_for_selector("li.alert:has-text('2 boxes')")
    for box in shop.boxes:
        box.say(t.UpKind.STATUS, t.Status(state="online"), retain=True)
    shop.until(lambda: all(shop.state(box.name) == "online" for box in shop.boxes))
    shop.times.ahead += 10_000

    def over():
        shop.times.ahead += 30_000
        return alert_desk.counts(shop.db).firing == 0

    shop.until(over)
    page.wait_for_selector("text=Nothing fires: all is well.")
    page.wait_for_selector("nav .count", state="detached")
