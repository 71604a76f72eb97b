"""What the page makes of the microphone's frames: in a real Chromium, with sound that no microphone should give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.system

CAPTURE = """async ([rate, channels, bad]) => {
  const { capture } = await import("/js/capture.js");
  const size = rate / 100;
  const frames = new ReadableStream({
    start(controller) {
      for (let n = 0; n < 100; n++) {
        const data = new Float32Array(size * channels); // the first channel sounds, the others are silent
        const tone = (i) => 0.5 * Math.sin((2 * Math.PI * 500 * (n * size + i)) / rate);
        for (let i = 0; i < size; i++) data[i] = n >= 30 && n < 40 && bad ? Number(bad) : tone(i);
        controller.enqueue(new AudioData({
          format: "f32-planar", sampleRate: rate, numberOfFrames: size, numberOfChannels: channels, timestamp: n * 10000, data,
        }));
      }
      controller.close();
    },
  });
  const out = [];
  await capture(frames, (chunk) => out.push(...chunk));
  return out;
}"""


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_microphone_is_16_khz_and_mono(scripts: Any, rate: int, channels: int) -> None:
    """Telephone, CD and studio rates, one channel or the mean of two: the same tone of 500 Hz."""
    out = np.array(scripts.evaluate(CAPTURE, [rate, channels, ""]))
    assert len(out) == pytest.approx(16_000, abs=400)
    assert np.abs(np.fft.rfft(out[-8_000:] * np.hanning(8_000))).argmax() == pytest.approx(250, abs=1)
    assert np.abs(out).max() == pytest.approx(0.5 * 32767 / channels, rel=0.02)


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_silence(scripts: Any, rate: int, bad: str) -> None:
    """100 ms of no numbers in the buffer: silence there, and the tone before and after it."""
    out = np.array(scripts.evaluate(CAPTURE, [rate, 1, bad]))
    assert not out[5_000:6_200].any()
    for tone in (out[1_000:4_500], out[7_000:15_000]):
        assert np.abs(tone).max() == pytest.approx(0.5 * 32767, rel=0.02)
