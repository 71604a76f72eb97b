"""More than one page, foreign pages, pages that reload, pages without a microphone: in a real Chromium."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kiosk import _playout
from runtime import messages as m
from tests.support.kiosk import LIMIT_S, House, eventually

pytestmark = pytest.mark.system

LINE = "one two three four five six seven eight nine ten eleven twelve"


@pytest.fixture
def page(house: House, page: Any) -> Any:
    """One that tells the times of its sound right."""
    eventually(house.settled, "the page's sound has run for a while")
    return page


def test_the_second_page_is_told_and_may_take_over(house: House, page: Any, context: Any) -> None:
    """It says that the kiosk is open already; on a touch it takes the screen, and the first says where it went."""
    second = context.new_page()
    second.goto(house.url)
    second.wait_for_selector("#veil[data-kind=busy]:not([hidden])")
    assert house.alive()["pages"] == 1
    second.click("#veil-buttons button")
    second.wait_for_selector("#veil", state="hidden")
    page.wait_for_selector("#veil[data-kind=replaced]:not([hidden])")
    eventually(house.sounds, "the second page runs")
    assert house.alive()["pages"] == 2
    page.click("#veil-buttons button")
    second.wait_for_selector("#veil[data-kind=replaced]:not([hidden])")
    page.wait_for_selector("#veil", state="hidden")


def test_a_reload_in_the_middle_of_speech_goes_on_where_it_was(house: House, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The voice waits for the page, repeats the word that was cut, and is finished, not stopped."""
    monkeypatch.setattr(_playout, "PAUSE_LIMIT_NS", 10**12)  # a reload takes a second, on a busy test machine many
    house.floor("speaking", "engaged")
    house.next_turn()
    start = house.speak(LINE, 12.0)
    house.heard("started")
    cut = house.playhead(lambda at: at.index > start + m.VOICE_RATE and at.playing).index
    page.reload()
    reloaded_ns = time.monotonic_ns()
    again = house.playhead(lambda at: at.page and at.playing and at.t_ns > reloaded_ns)
    assert again.index >= cut - m.VOICE_RATE  # a word lasts a second here
    assert house.heard("finished").text == LINE
    eventually(house.sounds, "the page is whole again")


def test_a_page_without_permission_says_type_or_touch(house: House, browser: Any) -> None:
    """Denied: the conductor knows, ticks say so, and the visitor reads what to do instead."""
    context = browser.new_context()
    context.set_default_timeout(LIMIT_S * 1000)
    page = context.new_page()
    page.goto(house.url)
    assert house.expect(house.conductor, "visitor", lambda said: said.kind is m.InputKind.MIC).text == "denied"
    page.wait_for_selector("#lines li.visitor")
    assert "type or touch" in page.inner_text("#lines li.visitor")
    assert page.inner_text("#mic-light") == "Microphone off"
    assert not house.expect(house.listener, "mic", lambda _: True).live
    context.close()


def test_without_microphone_is_a_choice(house: House, page: Any) -> None:
    """The notice card's second button switches the microphone off for this visit; the next visit has it on again."""
    eventually(lambda: house.alive()["mic"]["live"], "the microphone is on")
    house.floor("attentive", "engaged")
    page.click("#notice-no-mic")
    assert house.expect(house.conductor, "visitor", lambda said: said.kind is m.InputKind.MIC and said.text == "off")
    assert not house.alive()["mic"]["live"]
    house.visit += 1
    house.floor("idle", "attract")
    eventually(lambda: house.alive()["mic"]["live"], "the microphone is on for the next visitor")


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """A page of another server on the same machine, which would like to see the kiosk's."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>elsewhere</title><body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of another origin on localhost."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


TRIES = """async ([url, port]) => {
  const quiet = (promise) => promise.catch(() => null);
  const socket = (path) => new Promise((done) => {
    const one = new WebSocket(`ws://localhost:${port}${path}`);
    one.onmessage = ({ data }) => done(`message ${data}`);
    one.onclose = one.onerror = () => done("closed");
  });
  const frame = document.createElement("iframe");
  frame.src = url;
  document.body.append(frame);
  await new Promise((loaded) => (frame.onload = loaded, setTimeout(loaded, 3000)));
  let inside = null;
  try { inside = frame.contentDocument?.querySelector("meta[name=visavis-key]")?.content ?? null; } catch {}
  const script = await new Promise((done) => {
    const element = document.createElement("script");
    element.src = `${url}js/strings.js`;
    element.onload = () => done("loaded");
    element.onerror = () => done("refused");
    document.body.append(element);
  });
  return {
    page: await quiet(fetch(url, { credentials: "include" }).then((answer) => answer.text())),
    blind: await quiet(fetch(url, { credentials: "include", mode: "no-cors" }).then((answer) => answer.text())),
    alive: await quiet(fetch(`${url}alive`).then((answer) => answer.text())),
    control: await socket("/control?page=x"),
    audio: await socket("/audio?page=x"),
    inside, script,
  };
}"""


def test_a_page_of_another_origin_gets_nothing(house: House, page: Any, context: Any, elsewhere: str) -> None:
    """Same machine, same browser, cookie in the jar: no text, no socket, no frame, no script; the kiosk's page is not disturbed."""
    foreign = context.new_page()
    foreign.goto(elsewhere)
    got = foreign.evaluate(TRIES, [house.url, house.port])
    assert not any(got[name] for name in ("page", "blind", "alive", "inside"))
    assert (got["control"], got["audio"], got["script"]) == ("closed", "closed", "refused")
    assert house.alive()["pages"] == 1
    assert page.is_visible("#controls")


def test_the_stage_reloads_a_page_that_hangs(house: House, context: Any) -> None:
    """Three seconds without a word of the page: it is reloaded, and works again."""
    page = context.new_page()
    page.goto(house.url)
    eventually(lambda: house.alive()["beats"] > 0, "the page beats")
    page.evaluate("() => { setTimeout(() => { const end = performance.now() + 5000; while (performance.now() < end); }, 0); }")
    eventually(lambda: house.alive()["reloads"] == 1, "the stage noticed")
    eventually(lambda: house.alive()["pages"] >= 2 and house.alive()["beats"] > 0, "it is back")
