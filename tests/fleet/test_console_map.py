"""The map of sites, boxes whose certificate has ended, and people who are limited, in a real Chromium."""

from __future__ import annotations

import pytest

import runtime.telemetry as t
from fleet import accounts, inventory, renewal
from fleet.accounts import Role
from fleet.inventory import Filter
from fleet.scopes import parse
from fleet.sites import position, sites
from runtime.telemetry import pki
from tests.fleet.support import Fleet, Stranger
from tests.fleet.test_console import AXE, LIMIT_MS, RULES, browser

__all__ = ["browser"]

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")

BOXES = (
    ("berlin-1", "Berlin", "52.52, 13.40", 60.0),
    ("berlin-2", "Berlin", "52.54,13.42", 97.0),
    ("lyon-1", "Lyon", "45.76, 4.84", 88.0),
    ("tokyo-1", "Tokyo", "35.7, 139.7", 50.0),
    ("alone", "", "41.9, 12.5", 50.0),
    ("nowhere", "Moon", "", 50.0),
)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("52.52, 13.40", (52.52, 13.40)),
        ("-33.9,151", (-33.9, 151.0)),
        (" 90 , -180 ", (90.0, -180.0)),
        ("91, 0", None),
        ("0, 181", None),
        ("", None),
        ("52.52", None),
        ("52,52, 13,40", None),
        ("nan, 0", None),
        ("1e1, 0", None),
    ],
)
def test_a_position_is_two_numbers(text, found):
    """Latitude and longitude in degrees, or none."""
    assert position(text) == found


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Boxes in three cities, one that tells no site, one that tells no place, and one whose certificate has ended."""
    folder = tmp_path_factory.mktemp("map")
    fleet = Fleet(folder / "data")
    boxes = []
    for name, site, place, temperature in BOXES:
        boxes.append(Stranger(fleet, fleet.enrol(name), name))
        attributes = {"site": site, "position": place} if place else {"site": site}
        assert boxes[-1].say(t.UpKind.STATUS, t.Status(state="online"), retain=True) == 0
        assert boxes[-1].say(t.UpKind.BIRTH, t.Birth(attributes=attributes, health_s=3600)) == 0
        assert boxes[-1].say(t.UpKind.HEALTH, t.Health(m={"temperature": temperature}, full=True)) == 0
    now = fleet.times.wall_ms()
    issued = inventory.enrol(fleet.db, fleet.controller.authority, "old-1", 30, now - 40 * 86_400_000)
    for name, data in (("c.pem", issued.certificate), ("c.key", issued.key)):
        (folder / name).write_bytes(data)
    proof = pki.prove(folder / "identity", "old-1", folder / "c.pem", folder / "c.key")
    renewal.late(fleet.db, fleet.controller.authority, **proof, address="10.0.0.5", now_ms=now)
    accounts.create(fleet.db, "anna", Role.ADMIN, "correct horse battery", 1)
    accounts.create(fleet.db, "ben", Role.OPERATOR, "correct horse battery", 1, parse(["site:Berlin*"]))
    fleet.until(lambda: all(fleet.device(name) and fleet.device(name).health for name, *_ in BOXES))
    yield fleet
    for box in boxes:
        box.close()
    fleet.stop()


@pytest.fixture
def opened(browser, chain):
    """Opens the console as somebody; fails the test on any error in its console."""
    problems, contexts = [], []

    def open_as(who, **more):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | more))
        contexts.append(context)
        key = accounts.open_session(chain.db, who, chain.times.wall_ms())
        context.add_cookies([{"name": chain.controller.cookie, "value": key, "url": chain.controller.server.url}])
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{chain.controller.server.url}/#fleet")
        page.wait_for_selector("main table tbody tr")
        return page

    yield open_as
    for context in contexts:
        context.close()
    assert problems == []


def axe(page):
    page.context.new_cdp_session(page).send("Page.setBypassCSP", {"enabled": True})
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(f"axe.run({RULES})")
    return [(problem["id"], problem["nodes"][0]["html"]) for problem in found["violations"]]


@pytest.mark.system
def test_sites_of_the_store(chain):
    """Counted by site at the mean of its boxes; the filters and the scope hold; a box without a place is only counted."""
    found = sites(chain.db, Filter())
    assert [(site.site, site.device, site.boxes, site.bad, site.warn) for site in found.sites] == [
        ("Berlin", "", 2, 1, 0),
        ("Lyon", "", 1, 0, 1),
        ("Tokyo", "", 1, 0, 0),
        ("alone", "alone", 1, 0, 0),
    ]
    assert found.sites[0].latitude == pytest.approx(52.53)
    assert found.unplaced == 2  # nowhere, and old-1, which was never heard
    assert [site.site for site in sites(chain.db, Filter(condition="warn")).sites] == ["Lyon"]
    assert [site.site for site in sites(chain.db, Filter(), parse(["site:Tok*"])).sites] == ["Tokyo"]


@pytest.mark.system
def test_the_map_by_keyboard(opened):
    """Marks say in words what they stand for; Enter chooses a site for the list too; sites that overlap open when chosen."""
    page = opened("anna")
    page.get_by_role("button", name="Map", exact=True).click()
    mark = page.get_by_role("button", name="Berlin: 2 boxes, 1 to act on")
    mark.press("Enter")
    page.wait_for_selector("main tbody a:has-text('tokyo-1')", state="detached")
    expect = pytest.importorskip("playwright.sync_api").expect
    expect.set_options(timeout=LIMIT_MS)
    expect(page.locator("main tbody a:has-text('berlin')")).to_have_count(2)
    expect(mark).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("combobox", name="Site")).to_have_value("Berlin")
    mark.press(" ")  # again: all of them
    page.wait_for_selector("main tbody a:has-text('tokyo-1')")
    for _ in range(5):
        page.get_by_role("button", name="Wider").click()
    page.get_by_role("button", name="3 sites: 4 boxes, 1 to act on, 1 to look at").press("Enter")
    page.get_by_role("button", name="All sites").click()
    mark.wait_for()
    page.get_by_role("combobox", name="Health").select_option("warn")
    page.get_by_role("button", name="Lyon: 1 box, 1 to look at").wait_for()
    expect(page.locator(".place")).to_have_count(1)


@pytest.mark.system
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_map_is_for_everybody(opened, width, scheme):
    """Wide and light, on a phone and dark: no finding of axe-core, nothing wider than the screen."""
    page = opened("anna", viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.get_by_role("button", name="Map", exact=True).click()
    page.wait_for_selector(".place")
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.system
def test_somebody_who_is_limited(opened):
    """Sees the boxes of the scope, on the list and on the map, and no pages about all boxes; no request of the page is refused."""
    page = opened("ben")
    assert page.locator("nav a").all_inner_texts() == ["Boxes", "Alerts", "Events"]
    assert page.locator("main table tbody th a").all_inner_texts() == ["berlin-1", "berlin-2"]
    page.get_by_role("button", name="Map", exact=True).click()
    page.wait_for_selector(".place")
    assert page.locator(".place").count() == 1
    page.goto(page.url.split("#")[0] + "#people")
    page.wait_for_selector("h1:has-text('Boxes')")
    page.goto(page.url.split("#")[0] + "#box/berlin-1")
    page.wait_for_selector(".charts .u-wrap")
    assert axe(page) == []


@pytest.mark.system
def test_an_admin_approves_a_certificate(opened, chain):
    """The box that waits is on top of the page; approved, it is gone from there."""
    page = opened("anna")
    page.get_by_role("button", name="Approve old-1").click()
    page.wait_for_selector("text=Certificates that have ended", state="detached")
    assert renewal.asking(chain.db) == []
    assert len(inventory.certificates(chain.db, "old-1")) == 2
