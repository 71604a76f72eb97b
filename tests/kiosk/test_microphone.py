"""How the page brings the microphone's sound to 16 kHz: in a real Chromium."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.kiosk import House, eventually

pytestmark = pytest.mark.system

RESAMPLE = """async ([from, hz, block]) => {
  const { Resampler } = await import("/js/resample.js");
  const resampler = new Resampler(from, 16000);
  const out = [];
  const tone = (_, i) => Math.sin((2 * Math.PI * hz * i) / from);
  const all = Float32Array.from({ length: from }, tone);
  for (let at = 0; at < from; at += block) out.push(...resampler.push(all.subarray(at, at + block)));
  return [out, resampler.delayMs];
}"""


@pytest.mark.parametrize("block", [480, 441, 127])
@pytest.mark.parametrize("rate", [48000, 44100, 16000, 8000])
def test_speech_keeps_its_shape_and_its_place(scripts: Any, rate: int, block: int) -> None:
    """A tone of the speech band is the same tone at 16 kHz, sample for sample, however it was cut; only what the filter says is missing."""
    out, delay_ms = scripts.evaluate(RESAMPLE, [rate, 1000, block])
    assert abs(len(out) - 16000 * (1 - delay_ms / 1000)) <= 2
    expected = np.sin(2 * np.pi * 1000 * np.arange(len(out)) / 16000)
    assert np.abs(np.array(out) - expected)[200:].max() < 0.001


@pytest.mark.parametrize("rate", [48000, 44100])
def test_what_16_khz_cannot_carry_does_not_fold_back(scripts: Any, rate: int) -> None:
    """A tone of 10 kHz leaves nothing audible; without the filter it would be one of 6 kHz."""
    out, _ = scripts.evaluate(RESAMPLE, [rate, 10000, rate // 100])
    assert np.abs(out[200:]).max() < 0.001


def test_hold_to_talk_is_silent_until_it_is_held(house: House, page: Any) -> None:
    """The mic ring goes on in step, with silence; the sound is back with the button."""

    def loud() -> bool:
        return bool(np.abs(house.mic.read(house.mic.position - 1600, 1600)).max() > 300)

    eventually(lambda: house.alive()["mic"]["chunks"] > 10 and loud(), "the tone arrives")
    page.evaluate("document.getElementById('sw-hold').click()")
    eventually(lambda: not loud(), "hold to talk is silent")
    before = house.mic.position
    eventually(lambda: house.mic.position > before + 1600, "silence is sent")
    assert not loud()
    page.evaluate("document.getElementById('hold').dispatchEvent(new PointerEvent('pointerdown'))")
    eventually(loud, "held, the tone is back")


def test_a_browser_without_track_frames_takes_the_graph(house: House, context: Any) -> None:
    """The tone arrives through the second AudioContext, at 16 kHz."""
    page = context.new_page()
    page.add_init_script("delete window.MediaStreamTrackProcessor")
    page.goto(house.url)
    eventually(lambda: house.alive()["mic"]["chunks"] > 100, "sound arrives")
    pcm = house.mic.read(house.mic.position - 16000, 16000).astype(np.float64)
    assert np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)))).argmax() == pytest.approx(500, abs=3)
