"""The real vosk on the tiny model of tests/models/vosk-tiny; run by test_vosk.py in a process without the ears' Kaldi."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.errors import EngineError, ModelError
from engines.recognition import RATE, SpeechDomain, VoskRecogniser, select
from tests.engines.recognition.speech import decode, in_order, say

MODEL = Path(__file__).resolve().parents[2] / "models" / "vosk-tiny"
SPOKEN = ("can i have a large latte please", "where are the toilets")

pytest.importorskip("vosk", reason="vosk is an extra: pip install 'visavis[vosk]'")


@pytest.fixture(scope="module")
def engine() -> VoskRecogniser:
    """The tiny model, which has learnt the small shop."""
    found = VoskRecogniser(MODEL)
    found.prepare(SpeechDomain((*SPOKEN, "yes please", "a small mocha with oat milk"), hints={"size": ("large", "small please")}))
    return found


@pytest.mark.parametrize("text", SPOKEN)
def test_hears_a_sentence_of_the_grammar(engine: VoskRecogniser, text: str) -> None:
    """Word for word, with times inside the sound, and partial results on the way."""
    pcm = say(text)
    partials, final = decode(engine, pcm)
    assert final.text == text
    assert in_order(final.words, len(pcm))
    assert final.confidence > 0.5
    assert any(partial.text for partial in partials)


def test_hints_are_heard_beside_the_grammar(engine: VoskRecogniser) -> None:
    """Expecting an answer does not make the engine deaf to anything else; an unknown hint changes nothing."""
    for hint in ("size", "no such hint", ""):
        engine.expect(hint)
        assert decode(engine, say(SPOKEN[0]))[1].text == SPOKEN[0]


def test_cancelled_utterance_leaves_nothing(engine: VoskRecogniser) -> None:
    """After `cancel` there is nothing to finish, and feeding needs a new `begin`."""
    engine.begin()
    engine.feed(say(SPOKEN[0])[:RATE])
    engine.cancel()
    assert engine.finish().text == ""
    with pytest.raises(EngineError, match="begin"):
        engine.feed(np.zeros(160, np.int16))


def test_a_whole_model_is_selected() -> None:
    """With a model, vosk comes first."""
    chosen = select("auto", MODEL)
    assert chosen.name == "vosk"
    assert chosen.why_not == ()


def test_corrupt_model_is_one_clear_line(tmp_path: Path) -> None:
    """A damaged network is refused with the folder and the remedy, and pocketsphinx serves."""
    for path in MODEL.rglob("*"):
        if path.is_file() and path.suffix != ".py":
            target = tmp_path / path.relative_to(MODEL)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (tmp_path / "am" / "final.mdl").write_bytes(b"nonsense " * 100)
    with pytest.raises(ModelError, match="visavis models verify"):
        VoskRecogniser(tmp_path)


def test_ears_are_refused_beside_it(engine: VoskRecogniser) -> None:
    """Where vosk was loaded the ears would hang or crash: they say so, and pocketsphinx serves."""
    assert engine is not None
    chosen = select("ears")
    assert chosen.name == "pocketsphinx"
    assert "vosk was tried" in dict(chosen.why_not)["ears"]
