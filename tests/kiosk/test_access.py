"""Everybody can use it: axe, keyboard alone, large text, reduced motion, large targets."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from kiosk import stage
from runtime import messages as m
from tests.support.kiosk import House, eventually

pytestmark = pytest.mark.system

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
RULES = "{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }"
CARD = '{"type": "order", "title": "Your order", "lines": [{"text": "a flat white", "price": "£3.40"}], "total": "£3.40", "number": 42}'


def violations(page: Any) -> list[str]:
    """What axe finds: rule and element."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(f"() => axe.run(document, {RULES})")["violations"]
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found for node in rule["nodes"]]


def converse(house: House, page: Any) -> None:
    """A visit in the middle: words of both, a card, answers."""
    house.floor("thinking", "engaged")
    house.next_turn()
    house.granted = house.turn
    house.floor()
    words = m.Transcript(house.turn, time.monotonic_ns(), 0, 100, "a flat white please", final=True)
    reply = m.Reply(house.turn, time.monotonic_ns(), 0, "", last=True, expects="confirm", card=CARD)

    def told() -> bool:
        house.recogniser.publish("words", words)
        house.dialogue.publish("reply", reply)
        return bool(page.inner_text("#you")) and page.is_visible("#card")

    eventually(told, "words and card are shown")
    house.speak("That makes three pounds forty", 0.3)
    house.heard("finished")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Axe may hold a page's thread for seconds on a busy machine: the stage shall not take it for dead."""
    monkeypatch.setattr(stage, "SILENT_PAGE_NS", 10**12)


def show(house: House, page: Any, state: str) -> None:
    """Bring the page into one of its states."""
    if state != "attract":
        converse(house, page)
    if state == "still there":
        house.floor("attentive", "still_there", wipe_in_ms=20000)
        page.wait_for_selector("#veil:not([hidden])")
    elif state in ("type", "display", "volume", "language"):
        page.click(f"#{state}")
    elif state == "contrast":
        page.click("#display")
        page.click("#sw-contrast")


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("state", ["attract", "talk", "type", "display", "volume", "language", "contrast", "still there"])
def test_axe_finds_nothing(house: House, page: Any, state: str) -> None:
    """WCAG 2.2 A and AA and best practice, in every state of the page."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in tests/kiosk")
    show(house, page, state)
    page.wait_for_timeout(300)  # colours fade for 160 ms; axe would measure them half way
    assert violations(page) == []


def walk(page: Any, most: int = 60) -> list[str]:
    """The elements that Tab reaches, in order, until it comes round."""
    reached: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
        if name in reached:
            break
        reached.append(name)
    return reached


def test_everything_is_reached_by_tab_in_reading_order(house: House, page: Any) -> None:
    """First what the conversation offers, then the controls from Stop to Start over; the focus can be seen."""
    converse(house, page)
    page.click("#notice-ok")
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    reached = [name for name in walk(page) if name]
    wanted = ["Yes", "No", "stop", "type", "display", "volume", "language", "staff", "over"]
    assert [name for name in reached if name in wanted] == wanted
    page.focus("#staff")
    page.keyboard.press("Tab")
    assert float(page.evaluate("getComputedStyle(document.activeElement).outlineWidth").removesuffix("px")) >= 3


def test_a_whole_visit_by_keyboard(house: House, page: Any) -> None:
    """Talk, type a question, answer a question, make the text larger, stop, start over: no pointer."""
    page.focus("#talk")
    page.keyboard.press("Enter")
    assert house.visitor("presence").text == "here"
    converse(house, page)
    page.focus("#notice-ok")
    page.keyboard.press("Enter")
    page.focus("#type")
    page.keyboard.press("Enter")
    page.keyboard.type("opening hours")
    page.keyboard.press("Enter")
    assert house.visitor("typed").text == "opening hours"
    assert page.evaluate("document.activeElement.id") == "type"
    page.focus("#display")
    page.keyboard.press("Space")
    page.focus("#larger")
    page.keyboard.press("Enter")
    assert page.evaluate("document.body.dataset.size") == "2"
    page.keyboard.press("Escape")
    house.visitor("stop")
    assert page.is_hidden("#panel-display")
    page.focus("#over")
    page.keyboard.press("Enter")
    house.visitor("start_over")


def test_the_screen_keyboard_is_one_tab_stop(house: House, page: Any) -> None:
    """Arrow keys move inside it; a key types."""
    house.floor("attentive", "engaged")
    page.click("#type")
    page.focus("#keys button")
    for key in ("ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.input_value("#typed") == "W"
    assert page.evaluate("document.querySelectorAll('#keys [tabindex=\"0\"]').length") == 1


def test_targets_are_large(house: House, page: Any) -> None:
    """Every button is at least 48 pixels in both directions."""
    converse(house, page)
    for panel in ("type", "display", "volume", "language"):
        page.click(f"#{panel}")
        small = page.evaluate(
            """() => [...document.querySelectorAll("button, input")].filter((one) => one.offsetParent && !one.closest("#keys"))
                 .map((one) => [one.id || one.textContent, one.getBoundingClientRect()])
                 .filter(([, box]) => box.width < 48 || box.height < 48).map(([name]) => name)"""
        )
        assert small == []


def test_reduced_motion_is_a_still_portrait_with_captions(house: House, browser: Any) -> None:
    """Whoever asks their system for less motion gets a resting picture; the words are there all the same."""
    context = browser.new_context(reduced_motion="reduce", permissions=["microphone"])
    page = context.new_page()
    page.goto(house.url)
    house.floor("attentive", "engaged")
    page.wait_for_selector("#still:not([hidden])")
    eventually(house.sounds, "the page's sound runs")
    house.next_turn()
    house.speak("Hello there", 0.3)
    house.heard("finished")
    eventually(lambda: page.inner_text("#avatar") == "Hello there", "the caption is shown")
    context.close()


def test_at_200_percent_text_nothing_is_lost(house: House, page: Any) -> None:
    """With letters twice as large everything can still be seen or scrolled to, and the controls stay on the screen."""
    converse(house, page)
    page.evaluate("document.documentElement.style.fontSize = '32px'")
    boxes = page.evaluate(
        """() => [...document.querySelectorAll("#controls button")].map((one) => one.getBoundingClientRect())
             .map((box) => box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight && box.height >= 48)"""
    )
    assert all(boxes)
    assert len(boxes) == 7
    page.locator("button.choice").last.scroll_into_view_if_needed()
    assert page.locator("button.choice").last.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_captions_carry_their_language_and_partials_are_not_announced(house: House, page: Any) -> None:
    """`lang` is the conversation's; the live region gets final words only."""
    house.floor("listening", "engaged")
    partial = m.Transcript(house.turn, time.monotonic_ns(), 0, 100, "where are", stable=5)
    eventually(lambda: house.recogniser.publish("words", partial) or page.inner_text("#you") == "where are", "the partial is shown")
    assert page.inner_text("#live") == ""
    house.recogniser.publish("words", m.Transcript(house.turn, time.monotonic_ns(), 0, 100, "where are the toys", final=True))
    eventually(
        lambda: page.evaluate("document.getElementById('live').textContent") == "where are the toys", "the final words are announced"
    )
    language = house.ctx.pack.languages[0]
    assert page.evaluate("[document.getElementById('you').lang, document.getElementById('avatar').lang]") == [language, language]


def test_the_kiosk_blocks_the_browsers_own_keys(house: House, context: Any) -> None:
    """Ctrl, Alt, Meta and function keys reach nothing; the menu of a long press neither; letters do."""
    page = context.new_page()
    page.goto(f"{house.url}?kiosk=1")
    page.wait_for_selector("body[data-kiosk]")
    prevented = page.evaluate(
        """() => ["KeyN ctrlKey", "KeyT ctrlKey", "F5", "F11", "F1", "F4 altKey", "ArrowLeft altKey", "KeyQ metaKey", "a"].map((text) => {
             const [key, modifier] = text.split(" ");
             const event = new KeyboardEvent("keydown", { key, cancelable: true, bubbles: true, ...(modifier && { [modifier]: true }) });
             document.body.dispatchEvent(event);
             return event.defaultPrevented;
           })"""
    )
    assert prevented == [True] * 8 + [False]
    assert page.evaluate("!document.body.dispatchEvent(new MouseEvent('contextmenu', { cancelable: true, bubbles: true }))")
    assert page.evaluate("getComputedStyle(document.body).touchAction") == "none"
