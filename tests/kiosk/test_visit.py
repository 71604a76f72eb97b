"""Whose visit it is: the card that asks whether somebody is still there, and what was said before a visit. In a real Chromium."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from runtime import messages as m
from tests.support.kiosk import LIMIT_S, House, eventually

pytestmark = pytest.mark.system

CARD = "#veil[data-kind=still]:not([hidden])"
START = "#veil[data-kind=start]:not([hidden])"
OVER, STAY = "#veil-buttons button:last-child", "#veil-buttons button:first-child"
SHOWN = "() => ['you', 'live'].map((id) => document.getElementById(id).textContent)"


def ask(house: House, page: Any) -> None:
    """The visitor has not moved for a while; beneath the card an order waits for its Yes."""
    house.floor("attentive", "engaged")
    house.next_turn()
    house.granted = house.turn
    house.floor()
    reply = m.Reply(house.turn, time.monotonic_ns(), 0, "Shall I?", last=True, expects="confirm", card="")
    yes = "document.querySelector('#choices button')?.textContent === 'Yes'"
    eventually(lambda: house.dialogue.publish("reply", reply) or page.evaluate(yes), "the order waits")
    page.focus("#choices button")
    house.floor("attentive", "still_there", wipe_in_ms=20000)
    page.wait_for_selector(CARD)


def said(house: House) -> list[str]:
    """All inputs so far, each answered as the conductor does: with a floor, at once."""
    beats = house.alive()["beats"]
    eventually(lambda: house.alive()["beats"] > beats, "what the page said before has arrived")
    seen = house._kept.setdefault("conductor", [])
    seen += house.conductor.receive(0.5)
    inputs = [message.kind.value for link, message in seen if link == "visitor" and message.kind.value not in ("page", "mic")]
    if "stay" in inputs:
        house.floor("attentive", "engaged")
    return inputs


@pytest.mark.parametrize(("button", "meant"), [(OVER, "start_over"), (STAY, "stay")])
def test_the_cards_buttons_say_what_is_meant_however_long_they_are_pressed(house: House, page: Any, button: str, meant: str) -> None:
    """While the mouse is down nothing is said, so that the card stays under it; then the button's own word, once."""
    ask(house, page)
    box = page.locator(button).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    assert said(house) == []
    assert page.is_visible(CARD)
    page.mouse.up()
    assert said(house) == [meant]


def test_the_cards_buttons_work_by_keyboard(house: House, page: Any) -> None:
    """Tab goes to "Start over" and Space presses it, though the floor has time to answer each key."""
    ask(house, page)
    page.keyboard.press("Tab")
    assert said(house) == []
    page.keyboard.down("Space")
    assert said(house) == []
    page.keyboard.up("Space")
    assert said(house) == ["start_over"]


@pytest.mark.parametrize("key", ["a", "ArrowDown"])
def test_any_other_key_is_somebody_who_is_still_there(house: House, page: Any, key: str) -> None:
    """The card asks for a sign; which one it is does not matter."""
    ask(house, page)
    page.keyboard.press(key)
    assert said(house) == ["stay"]
    page.wait_for_selector("#veil", state="hidden")


def test_a_key_that_is_held_does_not_go_on_to_what_lies_beneath(house: House, page: Any) -> None:
    """Enter on "I am still here", held until the card is gone: the order beneath, which has the focus again, is not answered."""
    ask(house, page)
    page.keyboard.down("Enter")
    assert said(house) == ["stay"]
    page.wait_for_selector("#veil", state="hidden")
    assert page.evaluate("document.activeElement.textContent") == "Yes"
    page.keyboard.down("Enter")  # the keyboard repeats it
    page.keyboard.up("Enter")
    assert said(house) == ["stay"]


@contextmanager
def touched(house: House, browser: Any) -> Iterator[Any]:
    """The page on a screen that is touched."""
    context = browser.new_context(viewport={"width": 720, "height": 1280}, permissions=["microphone"], has_touch=True)
    context.set_default_timeout(LIMIT_S * 1000)
    page = context.new_page()
    page.goto(house.url)
    eventually(lambda: house.alive()["beats"] > 0, "the page is there")
    yield page
    context.close()


def test_the_card_by_touch(house: House, browser: Any) -> None:
    """A tap on a button is what the button says and no more; one beside the buttons is a sign; neither reaches the page beneath."""
    with touched(house, browser) as page:
        ask(house, page)
        page.tap("#veil-title")
        assert said(house) == ["stay"]
        page.wait_for_selector("#veil", state="hidden")
        house.floor("attentive", "still_there", wipe_in_ms=20000)
        page.wait_for_selector(CARD)
        page.tap(OVER)
        assert said(house) == ["stay", "start_over"]


@pytest.mark.parametrize(("before", "after"), [("still_there", "engaged"), ("engaged", "still_there")])
def test_no_card_comes_or_goes_under_a_finger(house: House, browser: Any, before: str, after: str) -> None:
    """Somebody speaks, or the time is over, while a finger is on its way: what it touched is meant, nothing beneath or above it."""
    with touched(house, browser) as page:
        ask(house, page)
        place = page.locator("#choices button" if before == "still_there" else OVER).first.bounding_box()
        house.floor("attentive", before, wipe_in_ms=20000)
        page.wait_for_selector(f"body[data-session={before}]")
        if before == "engaged":
            page.wait_for_selector("#veil", state="hidden")
        finger = page.context.new_cdp_session(page)
        at = {"x": place["x"] + place["width"] / 2, "y": place["y"] + place["height"] / 2}
        finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
        house.floor("attentive", after, wipe_in_ms=20000)
        page.wait_for_selector(f"body[data-session={after}]")
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_selector("#veil", state="hidden" if after == "engaged" else "visible")
        assert set(said(house)) <= {"stay"}


@pytest.fixture
def ordinary(browser: Any, chromium: str) -> Iterator[Any]:
    """A browser that plays nothing before somebody touches it."""
    launched = browser.browser_type.launch(executable_path=chromium, args=["--no-sandbox"])
    yield launched
    launched.close()


def test_a_touch_beside_the_button_starts_the_sound_too(house: House, ordinary: Any) -> None:
    """The card says "Touch to start"; that a finger goes down is no gesture to a browser, that it was a tap is."""
    page = ordinary.new_context(viewport={"width": 720, "height": 1280}, has_touch=True).new_page()
    page.goto(house.url)
    eventually(lambda: (house.alive()["beat"] or {}).get("audio") == "suspended", "the page is there")
    assert not house.sounds()
    page.touchscreen.tap(360, 200)  # nothing is asked of the page before: Playwright asks as if somebody had touched it
    eventually(house.sounds, "the sound runs")
    page.wait_for_selector("#veil", state="hidden")


def test_touch_to_start_stays_under_the_finger(house: House, ordinary: Any) -> None:
    """The sound may play as soon as the button is pressed; the card goes when it is let go, and beneath nothing was touched."""
    page = ordinary.new_page()
    page.set_default_timeout(LIMIT_S * 1000)
    page.clock.install()
    page.goto(house.url)
    page.wait_for_selector(START)
    assert not house.sounds()
    page.clock.pause_at(time.time() + 3600)
    box = page.locator("#veil-buttons button").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    eventually(lambda: page.title() and house.sounds(), "the sound runs")
    page.clock.run_for(1000)
    assert page.is_visible(START)
    page.mouse.up()
    page.wait_for_selector("#veil", state="hidden")
    page.clock.resume()
    assert said(house) == []


def test_what_was_said_before_a_visit_is_not_for_the_next_visitor(house: House, context: Any) -> None:
    """Neither shown nor announced, on a touch or when it is old; the words that begin the visit are."""
    page = context.new_page()
    told: list[str] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: told.append(str(data))))
    page.goto(house.url)
    eventually(house.sounds, "the page is there")
    set_clock = "(later) => { const at = performance.now() + later; performance.now = () => at; }"
    page.evaluate(set_clock, 0)

    def say(text: str) -> None:
        house.recogniser.publish("words", m.Transcript(house.turn, time.monotonic_ns(), 0, 100, text, final=True))

    def hear(text: str) -> None:
        say(text)
        eventually(lambda: page.evaluate("1") and any(text in data for data in told), "the page was told")

    def visit(text: str, posture: str, later: int = 0) -> list[str]:
        house.visit += 1
        house.floor("idle", "attract")
        page.wait_for_selector("body[data-session=attract]")
        hear(text)
        assert page.evaluate(SHOWN) == ["", ""]
        page.evaluate(set_clock, later)
        house.floor(posture, "engaged")
        page.wait_for_selector("body[data-session=engaged]")
        shown: list[str] = page.evaluate(SHOWN)
        return shown

    eventually(lambda: say("warm") or (page.evaluate("1") and any("warm" in data for data in told)), "the recogniser is heard")
    assert visit("my number is one two", "attentive") == ["", ""]
    assert visit("a flat white please", "thinking") == ["a flat white please"] * 2
    assert visit("and so I told her", "listening", later=4000) == ["", ""]
    hear("a tea please")
    assert page.evaluate(SHOWN) == ["a tea please"] * 2
