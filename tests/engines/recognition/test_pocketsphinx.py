"""pocketsphinx on made speech, and on recorded people where there are some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from engines.errors import EngineError, ModelError
from engines.recognition import RATE, PocketsphinxRecogniser, SpeechDomain
from tests.engines.recognition.speech import DOMAIN, decode, in_order, say


@pytest.fixture(scope="module")
def engine() -> PocketsphinxRecogniser:
    """An engine that has learnt the small shop."""
    found = PocketsphinxRecogniser()
    found.prepare(DOMAIN)
    return found


def test_hears_a_sentence_of_the_domain(engine: PocketsphinxRecogniser) -> None:
    """A clear sentence arrives word for word, with times that lie in the sound."""
    pcm = say("can i have a large latte please")
    partials, final = decode(engine, pcm)
    assert final.text == "can i have a large latte please"
    assert [word.text for word in final.words] == final.text.split()
    assert in_order(final.words, len(pcm))
    assert 0.0 <= final.confidence <= 1.0
    assert any(partial.text for partial in partials)


def test_stable_prefix_keeps_its_promise(engine: PocketsphinxRecogniser) -> None:
    """What is called stable is a prefix of whole words, and never covers the newest one."""
    partials, final = decode(engine, say("where are the toilets"))
    assert any(partial.stable for partial in partials)
    for partial in partials:
        assert partial.text[: partial.stable].split() == partial.text.split()[: len(partial.text[: partial.stable].split())]
        assert partial.stable < len(partial.text) or not partial.text
    assert final.stable == len(final.text)


def test_silence_is_no_words(engine: PocketsphinxRecogniser) -> None:
    """A quiet room gives an empty text that no kiosk acts on."""
    _, final = decode(engine, np.random.default_rng(2).normal(0, 3, RATE).astype(np.int16))
    assert final.text == ""
    assert final.confidence < 0.5


def test_next_utterance_knows_nothing_of_a_cancelled_one(engine: PocketsphinxRecogniser) -> None:
    """After `cancel` (twice does no harm) the next utterance is heard by itself."""
    engine.begin()
    engine.feed(say("what time do you close")[:RATE])
    engine.cancel()
    engine.cancel()
    assert engine.finish().text == ""
    assert decode(engine, say("yes please"))[1].text == "yes please"


def test_expecting_an_answer_hears_it(engine: PocketsphinxRecogniser) -> None:
    """A hint makes a model of its own; an unknown hint expects nothing in particular."""
    engine.expect("size")
    assert decode(engine, say("large please"))[1].text == "large please"
    engine.expect("no such hint")
    assert decode(engine, say("where are the toilets"))[1].text == "where are the toilets"


def test_vocabulary_is_reachable(engine: PocketsphinxRecogniser) -> None:
    """A word that no sentence has can still be recognised."""
    assert "cappuccino" in decode(engine, say("cappuccino"))[1].text


def test_feeding_nobody_is_an_error() -> None:
    """Sound without `begin`, and `begin` without `prepare`, are mistakes of the caller."""
    engine = PocketsphinxRecogniser()
    with pytest.raises(EngineError, match="prepare"):
        engine.begin()
    with pytest.raises(EngineError, match="begin"):
        engine.feed(np.zeros(160, np.int16))


def test_missing_model_is_one_clear_line(tmp_path: Path) -> None:
    """A wrong folder is refused before the library, which would crash, sees it."""
    with pytest.raises(ModelError, match=r"mdef is missing: .*recognition\.model"):
        PocketsphinxRecogniser(tmp_path)


def test_domain_without_sentences_is_refused() -> None:
    """There would be nothing to listen for."""
    with pytest.raises(EngineError, match="no sentence"):
        PocketsphinxRecogniser().prepare(SpeechDomain(sentences=()))


def test_recorded_digits(shared: Path) -> None:
    """A recorded person who says digits is understood but for a few."""
    sound, _ = soundfile.read(shared / "data/speech/vosk-test/test.flac", dtype="int16")
    digits = "zero one two three four five six seven eight nine oh".split()
    said = "one zero zero zero one nine oh two one oh zero one eight zero three".split()
    rng = np.random.default_rng(3)
    engine = PocketsphinxRecogniser()
    engine.prepare(SpeechDomain(tuple(" ".join(rng.choice(digits, size=6)) for _ in range(500))))
    heard = decode(engine, sound)[1].text.split()
    assert sum(a == b for a, b in zip(heard, said, strict=False)) >= 12
