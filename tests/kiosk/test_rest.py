"""What the visitor sees while the stage or the renderer is being started again: the resting face of the page, in a real Chromium."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from runtime import messages as m
from tests.support.kiosk import House, eventually

pytestmark = pytest.mark.system

PIXEL = "(at) => document.getElementById(at).getContext('2d').getImageData(20, 20, 1, 1).data[0]"
STORY = """async () => {
  const { Rest } = await import("/js/rest.js");
  const canvas = document.createElement("canvas");
  const rest = new Rest(canvas);
  const picture = (level) => {
    const data = new Uint8Array(64 * 96).fill(128);
    data.fill(level, 0, 64 * 64);
    return new VideoFrame(data, { format: "NV12", codedWidth: 64, codedHeight: 64, timestamp: 0,
      colorSpace: { primaries: "bt709", transfer: "iec61966-2-1", matrix: "bt709", fullRange: true } });
  };
  const level = () => canvas.getContext("2d").getImageData(20, 20, 1, 1).data[0];
  const told = { nothing: rest.play(1) };
  // Three seconds of a face that gets brighter by 2 with each picture, then a second in which it speaks.
  for (let i = 0; i < 75; i++) {
    const frame = picture(60 + 2 * i);
    rest.keep(frame, 40 * i);
    frame.close();
  }
  told.kept = rest.taking.length;
  rest.cut();
  const [levels, opacities] = [[], []];
  let now = 5000;
  for (; now < 15000; now += 16) if (rest.play(now)) (levels.push(level()), opacities.push(rest.opacity));
  told.resting = rest.resting;
  const leaving = [];
  for (let i = 0; i < 20; i++) (rest.end((now += 16)), leaving.push(rest.opacity));
  return { ...told, levels, opacities, leaving, over: rest.resting, hidden: canvas.hidden, count: rest.count };
}"""


def test_the_resting_face_goes_there_and_back_without_a_jump(house: House, context: Any) -> None:
    """On a clock of its own: it begins with the newest picture, wanders over the last 2.5 s of them and back, and fades in and out."""
    page = context.new_page()
    page.goto(house.url)
    story = page.evaluate(STORY)
    assert story["nothing"] is None
    assert 55 <= story["kept"] <= 64  # 2.5 s of 40 ms
    levels = story["levels"]
    assert abs(levels[0] - (60 + 2 * 74)) <= 3
    assert max(abs(a - b) for a, b in itertools.pairwise(levels)) <= 4
    ways = [a < b for a, b in itertools.pairwise(levels) if a != b]
    assert 2 <= sum(a != b for a, b in itertools.pairwise(ways)) <= 4  # it turns where the clip ends, nowhere else
    assert min(levels) < 60 + 2 * 74 - 110
    assert story["opacities"][0] < 0.1
    assert story["opacities"] == sorted(story["opacities"])
    assert story["opacities"][-1] == 1.0
    assert story["leaving"] == sorted(story["leaving"], reverse=True)
    assert (story["resting"], story["over"], story["hidden"], story["count"]) == (True, False, True, 1)


def opened(house: House, context: Any) -> Any:
    """A page that has seen a moving face for some seconds."""
    house.renderer.moves = True
    page = context.new_page()
    page.goto(house.url)
    page.wait_for_selector("body[data-face=live]")
    eventually(lambda: house.alive()["beats"] >= 3, "the page has seen the face")
    return page


def rests(page: Any) -> None:
    """The resting face is there, and moves."""
    page.wait_for_selector("#rest:not([hidden])")
    first = page.evaluate(PIXEL, "rest")
    eventually(lambda: abs(page.evaluate(PIXEL, "rest") - first) > 12, "it moves")


def test_without_the_stage_the_face_goes_on_and_all_heals_by_itself(house: House, context: Any) -> None:
    """No card for the visitor at first, and never a picture that stands; the lost connection is said when it lasts, to a technician too."""
    page = opened(house, context)
    house.stop_stage()
    rests(page)
    assert page.is_hidden("#veil")
    page.wait_for_selector("body[data-face=resting]")
    assert page.inner_text("#posture") != "Picture paused"
    page.wait_for_selector("#veil[data-kind=offline]:not([hidden])")
    page.wait_for_selector("#lines .technician:has-text('No connection to the kiosk')")
    rests(page)
    house.start_stage()
    page.wait_for_selector("#veil", state="hidden")
    page.wait_for_selector("body[data-face=live]")
    page.wait_for_selector("#rest", state="hidden")
    page.wait_for_selector("#lines .technician", state="detached")
    eventually(lambda: house.alive()["mic"]["live"], "the microphone is heard again")


def test_a_visit_outlives_the_stage(house: House, context: Any) -> None:
    """The next stage knows of no floor until the conductor tells it: words, half a sentence and the choice of no microphone stay."""
    page = context.new_page()
    page.goto(house.url)
    eventually(lambda: house.alive()["mic"]["live"], "the microphone is on")
    house.floor("attentive", "engaged")
    page.click("#notice-no-mic")
    words = m.Transcript(house.turn, time.monotonic_ns(), 0, 100, "a flat white", final=True)
    eventually(lambda: house.recogniser.publish("words", words) or page.inner_text("#you") == "a flat white", "the words are shown")
    page.click("#type")
    page.keyboard.type("half a sent")
    house.stop_stage()
    house.start_stage()
    eventually(house.answered, "the page has taken what the new stage told it")

    def kept() -> list[Any]:
        found: list[Any] = [page.inner_text("#you"), page.input_value("#typed"), page.inner_text("#mic-light")]
        return [*found, page.evaluate("document.body.dataset.session")]

    assert kept() == ["a flat white", "half a sent", "Microphone off", "engaged"]
    page.evaluate("document.body.dataset.session = ''")  # until a floor is told
    eventually(lambda: house.floor() or page.evaluate("document.body.dataset.session"), "the conductor is heard again")
    assert kept() == ["a flat white", "half a sent", "Microphone off", "engaged"]
    assert not house.alive()["mic"]["live"]


def test_a_voice_that_cannot_begin_is_said_and_tried_again(house: House, context: Any) -> None:
    """The stage dies while the page loads its player: until there is one the visitor reads, and is heard all the same."""
    files = house.stage._server._files
    player = files.pop("/js/player.js")
    page = context.new_page()
    page.goto(house.url)
    page.wait_for_selector("#lines .visitor:has-text('I cannot speak at the moment')")
    page.wait_for_selector("#lines .technician:has-text('The voice cannot begin')")
    eventually(lambda: house.alive()["mic"]["live"], "the microphone is on")
    assert not house.sounds()
    files["/js/player.js"] = player
    eventually(house.sounds, "there is a voice")
    page.wait_for_selector("#lines li", state="detached")


def test_without_the_renderer_the_face_goes_on_and_a_technician_is_told_when_it_lasts(house: House, context: Any) -> None:
    """The visitor sees a face that breathes; its next picture takes over, and the line is taken back."""
    page = opened(house, context)
    house.renderer.paused = True
    rests(page)
    assert page.query_selector("#lines .technician") is None
    page.wait_for_selector("#lines .technician:has-text('No pictures come from the renderer')")
    rests(page)
    assert page.is_hidden("#veil")
    assert house.alive()["beat"]["rests"] >= 1
    house.renderer.paused = False
    page.wait_for_selector("#rest", state="hidden")
    page.wait_for_selector("#lines .technician", state="detached")


def test_a_page_that_has_seen_no_face_at_rest_says_that_its_picture_stands(house: House, context: Any) -> None:
    """Two seconds without a frame, and only speaking ones before: the last picture, marked as paused; it comes back by itself."""
    house.renderer.turn, house.renderer.pts = house.turn + 5, 0
    page = context.new_page()
    page.goto(house.url)
    page.wait_for_selector("body[data-face=live]")
    house.renderer.paused = True
    page.wait_for_selector("body[data-face=stale]")
    assert page.inner_text("#posture") == "Picture paused"
    assert page.is_hidden("#rest")
    house.renderer.paused = False
    page.wait_for_selector("body[data-face=live]")


def test_who_wants_less_motion_has_no_resting_face(house: House, browser: Any) -> None:
    """The still picture stays still."""
    context = browser.new_context(reduced_motion="reduce", permissions=["microphone"])
    page = opened(house, context)
    page.wait_for_selector("#still:not([hidden])")
    house.renderer.paused = True
    page.wait_for_selector("body[data-face=stale]")
    assert page.is_hidden("#rest")
    context.close()
