"""A rising voice is told from a falling and a flat one, in time for a face to answer."""

from __future__ import annotations

import numpy as np
import pytest

from engines.synthesis import EspeakSynthesiser
from engines.voice_activity.rising import Rising

RATE = 16_000
FRAME = 512


def _voice(hertz: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """A buzz with ten harmonics that follows `hertz`."""
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 11))
    return (3000 * sound + np.random.default_rng(0).normal(0, noise, len(hertz))).astype(np.int16)


def _told(sound: np.ndarray) -> list[float]:
    rising = Rising()
    return [rising.hear(sound[i : i + FRAME]) for i in range(0, len(sound) - FRAME + 1, FRAME)]


@pytest.mark.parametrize("begin", [90.0, 140.0, 220.0])
@pytest.mark.parametrize("noise", [0.0, 300.0])
def test_a_glide_is_told_by_its_size(begin: float, noise: float):
    """Of six semitones up in 320 ms at least half is told, of as many down the negative, of a held tone nothing."""
    flat = np.full(RATE // 2, begin)
    glide = begin * 2 ** (np.linspace(0, 0.5, round(0.32 * RATE)))
    assert 3 < _told(_voice(np.concatenate([flat, glide]), noise))[-1] < 7
    down = _told(_voice(np.concatenate([flat * 2**0.5, glide[::-1]]), noise))[-1]
    assert -7 < down < -3
    assert abs(_told(_voice(flat, noise))[-1]) < 0.5


def test_told_within_the_rise():
    """Three semitones are told before the glide has ended: no more than 200 ms after its start."""
    flat, glide = np.full(RATE // 2, 150.0), 150.0 * 2 ** np.linspace(0, 0.6, round(0.3 * RATE))
    told = _told(_voice(np.concatenate([flat, glide])))
    assert max(told[: int((RATE // 2 + 0.2 * RATE) / FRAME)]) > 2.5


def test_noise_and_silence_do_not_rise():
    """What has no pitch has no melody."""
    noise = np.random.default_rng(1).normal(0, 3000, RATE).astype(np.int16)
    assert set(_told(np.zeros(RATE, np.int16))) == {0.0}
    assert max(map(abs, _told(noise))) < 3


def test_forgets():
    """After forget the frames before count no more."""
    rising, sound = Rising(), _voice(150.0 * 2 ** np.linspace(0, 1, RATE // 2))
    for i in range(0, len(sound) - FRAME, FRAME):
        rising.hear(sound[i : i + FRAME])
    rising.forget()
    assert rising.hear(sound[-FRAME:]) == 0.0


def test_a_question_rises_more_than_an_order():
    """In espeak-ng's voice "really?" rises at its end, "really." does not."""
    voice = EspeakSynthesiser()

    def last(text: str) -> float:
        pcm = np.concatenate([clip.pcm for clip in voice.speak(text)])
        sound = np.interp(np.arange(0, len(pcm), voice.rate / RATE), np.arange(len(pcm)), pcm).astype(np.int16)
        return max(_told(sound)[-25:])

    assert last("Do you have oat milk?") > last("You have oat milk.") + 1
