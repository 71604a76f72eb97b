"""The ruler itself: known signals, known answers."""

from __future__ import annotations

import numpy as np
import pytest

from visavis.rehearse import measure

RATE = 48_000
pytestmark = pytest.mark.unit


def noise(seconds: float, level_db: float = -20.0, seed: int = 1) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)
    return samples * np.float32(10 ** (level_db / 20))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def test_a_level_is_the_rms_of_its_frame() -> None:
    """A full-scale square wave is 0 dBFS, silence the floor."""
    level = measure.levels_db(np.concatenate([np.ones(480, np.float32), silence(0.01)]), RATE)
    assert level.tolist() == [0.0, -120.0]


def test_speech_ends_with_the_last_frame_within_30_db_of_the_peak() -> None:
    """A tail 40 dB below the peak is no speech, one 20 dB below it is."""
    clip = np.concatenate([silence(0.2), noise(0.5), noise(0.1, -40), noise(0.3, -62), silence(0.1)])
    assert measure.speech_bounds(clip, RATE) == (round(0.2 * RATE), round(0.8 * RATE))


def test_the_hum_of_the_recording_is_no_speech() -> None:
    """28 dB under the voice it is within what else would count."""
    clip = noise(1.0, -48, seed=2)
    clip[round(0.4 * RATE) : round(0.8 * RATE)] += noise(0.4, -20)
    assert measure.speech_bounds(clip, RATE) == (round(0.4 * RATE), round(0.8 * RATE))


def test_a_click_before_the_first_word_is_no_speech() -> None:
    """Thirty milliseconds of it; one after the last word still counts, so that no reply is called in time because of it."""
    clip = np.concatenate([noise(0.03, -25), silence(0.3), noise(0.4, -20), silence(0.3), noise(0.03, -25)])
    assert measure.speech_bounds(clip, RATE) == (round(0.33 * RATE), len(clip))
    assert measure.speech_bounds(noise(0.03, -25), RATE) == (0, round(0.03 * RATE))


def test_a_clip_that_is_all_voice_is_speech_from_end_to_end() -> None:
    """Its softest part is no floor."""
    clip = np.concatenate([noise(0.3, -30), noise(0.3, -20), noise(0.3, -30)])
    assert measure.speech_bounds(clip, RATE) == (0, len(clip))


def test_a_silent_clip_has_no_end_of_speech() -> None:
    """It is refused instead of given a place."""
    with pytest.raises(ValueError, match="no sound"):
        measure.speech_bounds(silence(1), RATE)


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_a_clip_is_found_to_the_sample_in_noise_and_at_another_level(gain: float) -> None:
    """Cross-correlation finds the clip where it was played."""
    clip = noise(0.4, -20, seed=3)
    recording = noise(3.0, -60, seed=4)
    recording[54_321 : 54_321 + len(clip)] += np.float32(gain) * clip
    place, likeness = measure.locate(clip, recording, 20_000, 100_000)
    assert place == 54_321
    assert likeness > 0.9


def test_a_clip_that_was_not_played_is_unlike_everything() -> None:
    """The likeness tells that the place is none."""
    _, likeness = measure.locate(noise(0.4, seed=5), noise(2.0, seed=6), 0, 48_000)
    assert likeness < 0.1


def test_the_first_sound_is_the_first_frame_within_30_db_of_the_replys_peak() -> None:
    """Hiss before the reply is not the reply."""
    level = measure.levels_db(np.concatenate([silence(0.3), noise(0.2, -58), noise(1.0, -20), silence(0.5)]), RATE)
    assert measure.sound_start(level, 0, len(level)) == 50
    assert measure.sound_end(level, 0, len(level)) == 150
    assert measure.sound_start(level, 160, len(level)) is None


def test_silence_must_last() -> None:
    """A pause of 140 ms between words is no stop, one of 150 ms is."""
    level = measure.levels_db(np.concatenate([noise(0.5), silence(0.14), noise(0.5), silence(0.15), noise(0.1)]), RATE)
    assert measure.silent_at(level, 0) == 114
    assert measure.silent_at(level, 120) is None


def test_a_duck_is_found_against_the_known_voice() -> None:
    """Louder and softer words do not matter: the gain does."""
    voice = np.concatenate([noise(0.3, -15), noise(0.3, -35), noise(0.2, -70), noise(0.7, -20)])
    heard = voice.copy() * np.float32(0.5)
    heard[round(1.0 * RATE) :] *= np.float32(10 ** (-18 / 20))
    gain = measure.gain_track(voice, heard, RATE)
    assert np.isnan(gain[70])
    assert measure.duck_at(gain, 85) in (100, 101)


def test_a_duck_within_a_pause_of_the_voice_has_no_time() -> None:
    """The voice is quiet from 600 to 800 ms and turned down somewhere in there: nobody can tell when."""
    voice = np.concatenate([noise(0.6, -15), noise(0.2, -70), noise(0.7, -20)])
    heard = voice.copy()
    heard[round(0.7 * RATE) :] *= np.float32(10 ** (-18 / 20))
    gain = measure.gain_track(voice, heard, RATE)
    assert gain[95] < -15
    assert measure.duck_at(gain, 50) is None


def test_a_softer_word_is_no_duck() -> None:
    """The voice's own dynamics give None."""
    voice = np.concatenate([noise(0.5, -15), noise(0.5, -30)])
    assert measure.duck_at(measure.gain_track(voice, voice * np.float32(0.7), RATE), 40) is None


def test_a_late_mouth_is_late_by_that_much() -> None:
    """A mouth that follows the sound 60 ms later is measured as 60 ms, to the step of the search."""
    rng = np.random.default_rng(7)
    envelope = np.convolve(rng.random(500), np.ones(8) / 8, mode="same")
    times = np.arange(20, 460) * 10.0
    opening = np.interp(times - 60.0, np.arange(500) * 10.0, envelope) + rng.normal(0, 0.01, len(times))
    lag, likeness = measure.envelope_lag(times, opening, envelope, 10.0)
    assert lag == 60.0
    assert likeness > 0.9


def test_a_mouth_that_never_moves_has_no_lag() -> None:
    """It is refused instead of being in time by chance."""
    with pytest.raises(ValueError, match="nothing moves"):
        measure.envelope_lag(np.arange(20) * 10.0, np.zeros(20), np.random.default_rng(1).random(30), 10.0)


def test_quantiles_of_nothing_are_none() -> None:
    """No value is no figure."""
    assert measure.quantiles([]) == measure.Quantiles(0)
    assert measure.quantiles([1.0, 2.0, 3.0]).p50 == 2.0


def test_a_growth_of_one_mb_a_minute_is_sixty_an_hour() -> None:
    """The slope is per hour."""
    assert measure.slope_per_hour([0, 60, 120], [10, 11, 12]) == pytest.approx(60)
