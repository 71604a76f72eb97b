"""The console in a real Chromium against a real controller: an admin's first day, phone, keyboard, both schemes, axe-core."""

from __future__ import annotations

import os
import shutil
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import runtime.telemetry as t
from fleet import accounts
from fleet.scopes import Scope
from tests.fleet.support import Fleet, Stranger
from tests.runtime.telemetry.support import Cable

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

AXE = Path(__file__).parents[1] / "kiosk" / "node_modules" / "axe-core" / "axe.min.js"
RULES = "{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }"
PASSWORD = "correct horse battery"
LIMIT_MS = 60_000
HEALTH = {"temperature": 96.0, "rung": 2, "fps": 24.5, "memory_free": 0.4, "stage_p95_ms.sound_heard": 900.0, "node_state.voice": "ready"}


def tell(box, **health):
    assert box.say(t.UpKind.STATUS, t.Status(state="online"), retain=True) == 0
    birth = t.Birth(attributes={"site": "Store 12", "model": "Orin"}, versions={"visavis": "1.2"}, commands=("ping",), health_s=3600)
    assert box.say(t.UpKind.BIRTH, birth) == 0
    assert box.say(t.UpKind.HEALTH, t.Health(m=HEALTH | health, full=True)) == 0
    assert box.say(t.UpKind.EVENT, t.EventBody(code="node_down", names={"node": "voice", "cause": "stuck"}, numbers={"restarts": 1})) == 0


def cut(fleet):
    """Break all connections of browsers."""
    for handler in fleet.controller.server._runner.server.connections:
        if handler.transport is not None:
            handler.transport.abort()


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; of one module, because Playwright's loop keeps asyncio.run from others."""
    path = os.environ.get("VISAVIS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        pytest.skip("no Chromium: install the package chromium or set VISAVIS_CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A controller with an admin, a hot box that talks and one that was never seen."""
    fleet = Fleet(tmp_path_factory.mktemp("console") / "data")
    box = Stranger(fleet, fleet.enrol("box-1"), "box-1")
    fleet.enrol("box-2")
    tell(box)
    accounts.create(fleet.db, "anna", accounts.Role.ADMIN, PASSWORD, 1)
    fleet.box = box
    fleet.until(lambda: fleet.codes("box-1").count("node_down") == 1)
    yield fleet
    box.close()
    fleet.stop()


@pytest.fixture
def opened(browser, shop):
    """Opens the console at a page, signed in; fails the test on any error in a console."""
    problems, contexts = [], []

    def open_at(page_name, **more):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | more))
        contexts.append(context)
        key = accounts.open_session(shop.db, "anna", shop.times.wall_ms())
        context.add_cookies([{"name": shop.controller.cookie, "value": key, "url": shop.controller.server.url}])
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{shop.controller.server.url}/#{page_name}")
        page.wait_for_selector(".charts .u-wrap" if "box/" in page_name else "main table")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def watched(browser, shop):
    """The list of boxes in an own browser whose connection a test breaks: (page, the key of its session)."""
    context = browser.new_context()
    key = accounts.open_session(shop.db, "anna", shop.times.wall_ms())
    context.add_cookies([{"name": shop.controller.cookie, "value": key, "url": shop.controller.server.url}])
    context.set_default_timeout(LIMIT_MS)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    with page.expect_response("**/api/v1/live"):
        page.goto(f"{shop.controller.server.url}/#fleet")
    page.wait_for_selector("tr:has-text('box-1')")
    yield page, key
    context.close()
    assert problems == []


def violations(page):
    """What axe finds: rule and element."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in tests/kiosk")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(f"() => axe.run(document, {RULES})")["violations"]
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found for node in rule["nodes"]]


def test_first_sign_in(browser, tmp_path):
    """The link that the controller tells at its start leads to the first admin, then to an empty list; signing out ends it."""
    fleet = Fleet(tmp_path / "data")
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(LIMIT_MS)
    page.goto(fleet.call(lambda: fleet.controller.welcome))
    assert page.input_value("input[name=code]") == accounts.setup_code(fleet.data)
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill("something else")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=The two passwords differ.")
    assert violations(page) == []
    page.get_by_label("Password again").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=No boxes yet")
    page.click("text=Sign out")
    page.wait_for_selector("text=Sign in to the fleet")
    assert context.request.get(f"{fleet.controller.server.url}/api/v1/devices").status == 401
    context.close()
    fleet.stop()


def test_the_list_is_live_and_can_be_filtered(opened, shop):
    """A box that gets cooler is shown so without a reload; a filter leaves only what matches."""
    page = opened("fleet")
    row = page.locator("tr", has_text="box-1")
    assert "96 °C" in row.inner_text()
    assert "Act" in row.inner_text()
    tell(shop.box, temperature=61.0)
    page.wait_for_selector("tr:has-text('box-1'):has-text('61 °C'):has-text('Well')")
    page.get_by_label("Name or site").fill("store")
    page.wait_for_selector("tr:has-text('box-2')", state="detached")
    page.get_by_label("Name or site").fill("")
    page.click("button:has-text('Lost')")
    page.wait_for_selector("text=No box matches.")


def test_not_live_is_said_and_ends_by_itself(watched, shop):
    """Something before the controller refuses all for a while: what is shown stays, with a word that it may be old, until it is live."""
    page, _ = watched
    tell(shop.box, temperature=50.0)
    page.wait_for_selector("tr:has-text('box-1'):has-text('50 °C')")
    page.route("**/api/v1/**", lambda route: route.fulfill(status=502, content_type="text/html", body="Bad gateway"))
    shop.call(cut, shop)
    page.wait_for_selector("text=Not live: what is shown may be old")
    page.wait_for_selector("[role=alert]:has-text('The controller answers 502.')")
    assert page.locator("tr:has-text('box-1'):has-text('50 °C')").count() == 1
    assert violations(page) == []
    tell(shop.box, temperature=51.0)
    page.unroute("**/api/v1/**")
    page.wait_for_selector("tr:has-text('box-1'):has-text('51 °C')")
    page.wait_for_selector("text=Not live", state="detached")
    page.wait_for_selector("text=The controller answers 502.", state="detached")
    tell(shop.box, temperature=52.0)
    page.wait_for_selector("tr:has-text('box-1'):has-text('52 °C')")


COUNTED = """window.streams = window.words = 0;
window.EventSource = class extends EventSource {
  constructor(url) {
    super(url);
    window.streams++;
    this.addEventListener("here", () => window.words++);
  }
};"""


@contextmanager
def timed(browser, shop, name, port):
    """The list of boxes through `port`, its stream open, on a clock that a test sets as sleep does a laptop's."""
    context = browser.new_context()
    key = accounts.open_session(shop.db, name, shop.times.wall_ms())
    address = shop.controller.server.url.replace(str(shop.settings.port), str(port))
    context.add_cookies([{"name": shop.controller.cookie, "value": key, "url": address}])
    context.set_default_timeout(LIMIT_MS)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.add_init_script(COUNTED)
    page.clock.install()
    page.goto(f"{address}/#fleet")
    page.wait_for_selector("tr:has-text('box-1')")
    shop.until(lambda: page.evaluate("window.words"))
    yield page
    context.close()
    assert problems == []


def test_a_stream_that_died_without_a_word_is_said_and_opened_again(browser, shop):
    """A laptop slept: nothing comes any more, nothing ends. What is shown may be old, says the console; it tries until it is live again."""
    with closing(Cable(shop.settings.port)) as cable, timed(browser, shop, "anna", cable.port) as page:
        tell(shop.box, temperature=70.0)
        page.wait_for_selector("tr:has-text('box-1'):has-text('70 °C')")
        cable.cut.set()
        tell(shop.box, temperature=71.0)
        page.clock.fast_forward("02:00:00")
        page.wait_for_selector("text=Not live: what is shown may be old")
        assert page.locator("tr:has-text('box-1'):has-text('70 °C')").count() == 1
        page.clock.fast_forward("00:40")  # the next one hears nothing either
        shop.until(lambda: page.evaluate("window.streams") >= 3)
        cable.cut.clear()
        page.wait_for_selector("text=Not live", state="detached")
        page.wait_for_selector("tr:has-text('box-1'):has-text('71 °C')")


def test_a_stream_with_nothing_to_tell_stays_live(browser, shop):
    """What it says then is enough: it is not opened again, and nothing is called old."""
    accounts.create(shop.db, "zoe", accounts.Role.VIEWER, PASSWORD, 1, Scope(("name:box-1",)))
    with timed(browser, shop, "zoe", shop.settings.port) as page:
        page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 1)
        for _ in range(5):
            words = page.evaluate("window.words")
            shop.call(shop.controller.hub.tell, {"box-2"})  # not for zoe
            shop.until(lambda words=words: page.evaluate("window.words") > words)
            page.clock.run_for(20_000)
        assert page.evaluate("window.streams") == 1
        assert page.get_by_text("Not live").count() == 0


def test_a_page_that_comes_while_nothing_answers_comes_up_by_itself(browser, shop):
    """Opened while the controller is away: one line, and the list as soon as it is back."""
    context = browser.new_context()
    key = accounts.open_session(shop.db, "anna", shop.times.wall_ms())
    context.add_cookies([{"name": shop.controller.cookie, "value": key, "url": shop.controller.server.url}])
    context.set_default_timeout(LIMIT_MS)
    page = context.new_page()
    page.route("**/api/v1/session", lambda route: route.abort())
    page.goto(f"{shop.controller.server.url}/#fleet")
    page.wait_for_selector("text=The controller cannot be reached.")
    page.unroute("**/api/v1/session")
    page.wait_for_selector("tr:has-text('box-1')")
    assert page.get_by_text("The controller cannot be reached.").count() == 0
    context.close()


def test_a_session_that_ends_leads_to_the_door(watched, shop):
    """Nobody touches the page; when its session is over it is the door that is shown, not boxes as they were."""
    page, key = watched
    accounts.close_session(shop.db, key)
    tell(shop.box)
    page.wait_for_selector("text=Sign in to the fleet")


def test_a_command_and_its_answer(opened, shop):
    """Sent by keyboard from the box's page, it reaches the box; its answer appears by itself, with who sent it."""
    page = opened("box/box-1")
    page.get_by_label("Command").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("tr:has-text('anna')")
    shop.box.wait(lambda: any(message.topic.endswith("/command") for message in shop.box.came))
    message = next(message for message in shop.box.came if message.topic.endswith("/command"))
    command = t.decode_down(message.payload, t.DownKind.COMMAND)[1]
    assert (command.name, command.by) == ("ping", "anna")
    shop.box.say(t.UpKind.JOB, t.Answer(id=command.id, name="ping", outcome=t.Outcome.DONE, result={"uptime_s": 7}))
    page.wait_for_selector("tr:has-text('done')")
    assert "Hottest sensor" in page.get_by_role("img").first.get_attribute("aria-label")


def test_enrol_and_revoke(opened, shop):
    """The enrolment's dialog hands out four files; revoking asks first, and then the box is told to have no certificate."""
    page = opened("fleet")
    page.click("text=Enrol a box")
    page.get_by_label("Name", exact=True).fill("box-3")
    page.click("text=Make the certificate")
    with page.expect_download() as download:
        page.click("button:has-text('box-3.key')")
    assert b"PRIVATE KEY" in Path(download.value.path()).read_bytes()
    assert page.locator("dialog button").all_inner_texts() == ["ca.pem", "box-3.pem", "box-3.key", "fleet.toml", "Done"]
    page.click("text=Done")
    page.click("a:has-text('box-3')")
    page.click("text=Revoke all")
    page.click("text=Leave it")
    assert not shop.device("box-3").revoked
    page.click("text=Revoke all")
    page.click("dialog button.danger")
    page.wait_for_selector("text=This box has no valid certificate")
    assert shop.device("box-3").revoked


@pytest.mark.parametrize("name", ["fleet", "box/box-1", "events", "audit", "people"])
def test_axe_and_phone(opened, name):
    """WCAG 2.2 A and AA and best practice, light and dark; at a phone's width nothing is cut off sideways."""
    page = opened(name, viewport={"width": 390, "height": 844}, color_scheme="dark")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert violations(page) == []
    assert page.evaluate("document.activeElement.tagName") == "H1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_the_head_is_one_line(opened, scheme):
    """A button opens the pages, by keyboard too; Escape and choosing a page close them, and the focus is where one goes on."""
    page = opened("fleet", viewport={"width": 390, "height": 844}, color_scheme=scheme)
    button, link = page.get_by_role("button", name="Menu"), page.get_by_role("link", name="Events")
    for width in (320, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.locator("header.top").bounding_box()["height"] < 2 * button.bounding_box()["height"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not link.is_visible()
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    link.wait_for()
    assert button.get_attribute("aria-expanded") == "true"
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Boxes"
    page.keyboard.press("Escape")
    link.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.className") == "menu"
    for name in ("Events", "Events"):  # the second time it is the page that one is at
        button.click()
        page.get_by_role("link", name=name).click()
        page.wait_for_selector("h1:has-text('Events'):focus")
        link.wait_for(state="hidden")
    page.set_viewport_size({"width": 1280, "height": 900})
    link.wait_for()
    assert not button.is_visible()
