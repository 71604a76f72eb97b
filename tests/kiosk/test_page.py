"""The page in a real Chromium against the real stage: face, voice, captions, touch, wipe."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from runtime import messages as m
from tests.support.kiosk import TONE_HZ, House, eventually, grey

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("page")]

LINE = "A large flat white with oat milk that is four pounds ten"
CANVAS = "(at) => [...document.getElementById(at).getContext('2d').getImageData(20, 20, 1, 1).data]"


@pytest.fixture
def page(house: House, page: Any) -> Any:
    """One that tells the times of its sound right."""
    eventually(house.settled, "the page's sound has run for a while")
    return page


def test_frames_are_drawn_in_their_own_colours(house: House, page: Any) -> None:
    """A full-range grey of the ring is the same grey on the canvas."""
    house.renderer.picture = grey(37)
    eventually(lambda: all(abs(value - 37) <= 2 for value in page.evaluate(CANVAS, "face")[:3]), "the grey is drawn")
    eventually(lambda: house.alive()["beat"]["fps"] > 0, "the page counts what it draws")


def test_large_frames_go_through_the_generator(house: House, page: Any) -> None:
    """From 720 lines on the video element shows the face, and the canvas is gone."""
    house.renderer.picture = grey(90, 720, 720)
    eventually(lambda: page.evaluate("document.getElementById('face-video').videoWidth") == 720, "the video has frames")
    assert page.is_hidden("#face")


def test_a_granted_turn_is_played_reported_and_captioned(house: House, page: Any) -> None:
    """Heard says started and finished with all words; the playhead comes from the page and rises; the caption holds the words."""
    house.floor("thinking", "engaged")
    house.next_turn()
    start = house.speak(LINE, 1.5)
    assert house.heard("started").index == start
    places = []
    while (message := house.playhead()).playing:
        places.append(message)
    assert all(place.page for place in places)
    indices = [place.index for place in places]
    assert indices == sorted(indices)
    assert indices[-1] > start + m.VOICE_RATE // 2
    assert house.heard("finished").text == LINE
    eventually(lambda: page.inner_text("#avatar") == LINE, "the caption is complete")
    assert house.mark("sound_heard").t_ns > house.mark("sound_sent").t_ns


def test_the_playhead_does_not_go_back_when_the_outputs_clock_is_corrected(page: Any) -> None:
    """Set back, it waits; what the worklet begins anew, at an earlier sample too, is told as it is."""
    told = page.evaluate("""async () => {
        const { Voice } = await import("/js/voice.js");
        const told = [], voice = new Voice(10000, (kind, what) => kind === "playhead" && told.push(Math.round(what.index / 1000)));
        Object.defineProperty(voice, "running", { value: true });
        voice.tick = () => {}; // its clock is set by hand
        const at = (ms) => { voice.clock = performance.now() - ms; voice.report(); };
        voice.segments.push({ turn: 1, index: 5000, frame: 0, end: null });
        for (const ms of [400, 500, 300, 450, 600]) at(ms);
        voice.segments.push({ turn: 1, index: 2000, frame: 7000, end: null });
        at(800);
        return told;
    }""")
    assert told == [9, 10, 10, 10, 11, 3]


def test_nothing_sounds_before_it_is_granted(house: House, page: Any) -> None:
    """A reply prepared on speculation waits, and its words are not shown."""
    house.floor("listening", "engaged")
    house.next_turn()
    house.speak(LINE, 0.4, grant=False)
    page.wait_for_timeout(400)
    assert house.alive()["voice"]["turn"] == 0
    assert page.inner_text("#avatar") == ""
    house.granted = house.turn
    house.floor()
    assert house.heard("finished").text == LINE


def test_a_risen_turn_silences_the_voice_and_only_heard_words_count(house: House, page: Any) -> None:
    """Heard says stopped with the words that began, and the caption keeps just those."""
    house.floor("speaking", "engaged")
    house.next_turn()
    start = house.speak(LINE, 12.0)
    house.heard("started")
    house.playhead(lambda at: at.index > start + 2 * m.VOICE_RATE)
    house.next_turn()
    stopped = house.heard("stopped")
    assert 0 < len(stopped.text) < len(LINE)
    assert LINE.startswith(stopped.text)
    eventually(lambda: page.inner_text("#avatar") == stopped.text, "the caption ends where the voice did")
    assert house.alive()["voice"]["turn"] == 0


def test_a_voice_over_the_avatar_ducks_it_until_the_conductor_decides(house: House) -> None:
    """Onset: the page confirms a lower level; RESUME brings it back."""
    house.floor("speaking", "engaged")
    house.next_turn()
    house.speak(LINE, 12.0)
    house.heard("started")
    onset = m.Activity(house.turn, time.monotonic_ns(), m.ActivityKind.ONSET, 0, 0)
    house.bench.repeat_until(lambda: house.listener.publish("activity", onset), house.conductor, "playhead")
    house.bench.wait_for(house.conductor, "playhead", lambda at: at.gain < 0.2)
    house.mark("duck")
    house.conductor.send("sound", m.Sound(house.turn, time.monotonic_ns(), m.SoundAction.RESUME))
    house.playhead(lambda at: at.gain == 1.0 and at.playing)


def test_escape_stops_the_voice_without_the_conductor(house: House, page: Any) -> None:
    """The Stop key works whatever else does: the voice ends, and the conductor is told."""
    house.floor("speaking", "engaged")
    house.next_turn()
    house.speak(LINE, 12.0)
    house.heard("started")
    page.keyboard.press("Escape")
    assert house.heard("stopped").text != LINE
    house.visitor("stop")


def test_frames_of_a_turn_wait_for_their_sound(house: House, page: Any) -> None:
    """A frame drawn for a sample is not shown before that sample is heard, and then soon."""
    house.floor("speaking", "engaged")
    house.next_turn()
    eventually(lambda: page.evaluate(CANVAS, "face")[0] > 190, "the idle picture is there")
    start = house.speak(LINE, 3.0)
    house.renderer.turn, house.renderer.pts, house.renderer.picture = house.turn, start, grey(20)
    house.heard("started")
    eventually(lambda: page.evaluate(CANVAS, "face")[0] < 30, "the frame is shown once its sound is heard")
    house.mark("frame_first")


def test_typed_words_and_suggestions_reach_the_conductor(house: House, page: Any) -> None:
    """Typing on the page's own keyboard or a real one sends TYPED; a suggestion sends TOUCH."""
    house.floor("attentive", "engaged")
    page.click("#type")
    page.click("#keys button[data-key=h]")
    page.click("#keys button[data-key=i]")
    page.keyboard.type(" there")
    page.keyboard.press("Enter")
    assert house.visitor("typed").text == "Hi there"
    assert page.inner_text("#you") == "Hi there"
    page.locator("button.choice").first.click()
    assert house.visitor("touch").text == house.ctx.pack.suggestions[0].text


def test_an_order_card_and_answer_buttons_are_shown_only_when_granted(house: House, page: Any) -> None:
    """A speculative reply's card stays hidden; granted, it is shown with Yes and No."""
    house.floor("thinking", "engaged")
    house.next_turn()
    card = '{"type": "order", "title": "Your order", "lines": [{"text": "a flat white", "price": "£3.40"}], "total": "£3.40"}'
    reply = m.Reply(house.turn, time.monotonic_ns(), 0, "Shall I?", last=True, expects="confirm", card=card)
    for _ in range(3):
        house.dialogue.publish("reply", reply)
    page.wait_for_timeout(300)
    assert page.is_hidden("#card")
    house.granted = house.turn
    house.floor()
    page.wait_for_selector("#card:not([hidden])")
    assert "£3.40" in page.inner_text("#card")
    assert page.locator("button.choice").all_inner_texts() == ["Yes", "No"]


def test_the_microphone_arrives_at_16_khz(house: House) -> None:
    """A 48 kHz device's 500 Hz tone is 500 Hz in the mic ring, its ticks live and in step with the clock."""
    eventually(lambda: house.alive()["mic"]["chunks"] > 100, "sound arrives")
    end = house.mic.position
    pcm = house.mic.read(end - m.MIC_RATE, m.MIC_RATE).astype(np.float64)
    peak = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)))).argmax()
    assert peak == pytest.approx(TONE_HZ, abs=3)
    # On a busy machine a tick may come late; the clock is off if none is in step.
    house.expect(
        house.listener, "mic", lambda tick: tick.live and tick.index >= end and abs(house.mic.time_of(tick.index) - tick.t_ns) < 50_000_000
    )


def test_a_new_visit_wipes_the_screen(house: House, page: Any) -> None:
    """Transcript, typed text, card, volume, contrast and text size go back to the defaults."""
    house.floor("attentive", "engaged")
    words = m.Transcript(house.turn, time.monotonic_ns(), 0, 100, "my secret", final=True, stable=9)
    eventually(lambda: house.recogniser.publish("words", words) or page.inner_text("#you") == "my secret", "the words are shown")
    page.click("#volume")
    page.click("#quieter")
    page.click("#display")
    page.click("#sw-contrast")
    page.click("#larger")
    page.click("#type")
    page.keyboard.type("half a sent")
    assert page.evaluate("document.body.dataset.contrast") == "true"
    house.visit += 1
    house.turn += 1
    house.floor("idle", "attract")
    eventually(lambda: page.evaluate("document.body.dataset.contrast") == "false", "the contrast is back")
    assert page.evaluate("[...document.querySelectorAll('#you, #avatar, #live')].map(e => e.textContent).join('')") == ""
    assert page.input_value("#typed") == ""
    assert page.evaluate("[document.body.dataset.size, document.getElementById('volume-level').value]") == ["1", "80"]
    assert page.is_hidden("#panel-type")
    assert page.is_visible("#welcome")


def test_still_there_counts_down_and_one_touch_stays(house: House, page: Any) -> None:
    """The card has the focus on its button; pressing it tells the conductor."""
    house.floor("attentive", "still_there", wipe_in_ms=15000)
    page.wait_for_selector("#veil:not([hidden])")
    assert page.inner_text("#veil-count").endswith("s")
    assert page.evaluate("document.activeElement.closest('#veil-buttons') !== null")
    page.keyboard.press("Enter")
    house.visitor("stay")
    house.floor("attentive", "engaged")
    page.wait_for_selector("#veil", state="hidden")


def test_notices_for_visitor_and_technician_are_shown_and_taken_back(house: House, page: Any) -> None:
    """A lost sense is told in plain words; it disappears when the node is back."""
    lost = m.NodeEvent(0, time.monotonic_ns(), "recogniser", m.NodeState.GIVEN_UP, 5, "no model")
    house.supervisor.publish("nodes", lost)
    page.wait_for_selector("#lines li.visitor")
    assert "type or touch" in page.inner_text("#lines li.visitor")
    assert "no model" in page.inner_text("#lines li.technician")
    house.supervisor.publish("nodes", m.NodeEvent(0, time.monotonic_ns(), "recogniser", m.NodeState.READY))
    page.wait_for_selector("#lines li", state="detached")
