"""Words against hums, coughs and noise, by sound alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr

from engines.errors import EngineError, ModelError
from engines.recognition.ears import EarsRecogniser
from engines.recognition.ears.encoder import WIDTH
from engines.recognition.ears.worded import LEAD, NEWEST, SEEN, Worded, seen
from tests.engines.recognition.speech import DOMAIN, say
from visavis.rehearse import voices
from visavis.rehearse.measure import speech_bounds
from visavis.rehearse.room import RATE as ROOM_RATE


def test_a_look_is_the_mean_since_the_onset_and_the_newest_frames() -> None:
    """What is before the onset counts for nothing; units that shout are held down."""
    layers = np.zeros((LEAD + 20, WIDTH), np.float32)
    layers[:LEAD] = 50.0
    layers[-NEWEST:, 0] = 10.0
    layers[-1, 1] = 1e6
    look = seen(layers)
    assert look.shape == (SEEN,)
    assert look[0] == pytest.approx(10 * NEWEST / 20)
    assert look[WIDTH] == pytest.approx(10.0)
    assert look[1] == pytest.approx(60 / 20)
    assert not look[2:WIDTH].any()


def test_saved_weights_are_loaded_again(tmp_path: Path) -> None:
    """The same odds from the file."""
    rng = np.random.default_rng(1)
    line = Worded(rng.normal(size=SEEN), rng.normal(size=SEEN) / SEEN, -0.5)
    line.save(tmp_path / "line.npz")
    layers = rng.normal(size=(40, WIDTH)).astype(np.float32)
    assert Worded.load(tmp_path / "line.npz").odds(layers) == pytest.approx(line.odds(layers), abs=1e-4)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04cut"])
def test_a_broken_file_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    """Empty, a pointer, cut off: refused in words that name the file and what to do."""
    path = tmp_path / "worded.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"worded\.npz: not usable.*install again") as error:
        Worded.load(path)
    assert "\n" not in str(error.value)


def test_weights_that_are_no_numbers_are_refused() -> None:
    """NaN, or of another size."""
    with pytest.raises(ValueError, match="not all are numbers"):
        Worded(np.zeros(SEEN), np.full(SEEN, np.nan), 0.0)
    with pytest.raises(ValueError, match="weight"):
        Worded(np.zeros(SEEN), np.zeros(3), 0.0)


def chance(ears: EarsRecogniser, sound: np.ndarray) -> float:
    """P(words) after the first 500 ms of `sound` in a quiet room, looked at every 80 ms from 160 ms on, as over the avatar's voice."""
    onset = speech_bounds(sound.astype(np.float32) / 32768, 16_000)[0]
    room = np.random.default_rng(2).normal(0, 20, 4800 + 8000)
    room[4800:] += np.pad(sound, (0, 8000))[onset : onset + 8000]
    heard = room.astype(np.int16)
    ears.begin()
    ears.feed(heard[: 4800 + 2560])
    found = ears.partial()
    for at in range(4800 + 2560, len(heard), 640):
        ears.feed(heard[at : at + 640])
        found = ears.partial()
    ears.cancel()
    return found.worded


def test_words_are_told_from_hums_coughs_and_noise(tmp_path: Path) -> None:
    """Half a second is enough: sentences of a made voice on one side, mm-hm, uh-huh, a cough, laughter and noise on the other."""
    try:
        ears = EarsRecogniser(cache=tmp_path)
    except EngineError as error:
        pytest.skip(str(error))
    ears.prepare(DOMAIN)
    rng = np.random.default_rng(1)
    words = [chance(ears, say(text)) for text in ("can i have a large latte please", "where are the toilets", "what time do you close")]
    others = [(soxr.resample(voices.made(name, 3), ROOM_RATE, 16_000) * 3000).astype(np.int16) for name in voices.MADE]
    others.append((rng.normal(0, 800, 16_000)).astype(np.int16))
    assert min(words) > 0.9
    assert max(chance(ears, sound) for sound in others) < 0.5
    assert ears.finish().worded == -1.0
