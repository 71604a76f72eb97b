"""The ears as the kiosk has them, on recorded people; what they refuse, and what they say then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from engines.errors import EngineError, ModelError
from engines.models import locate
from engines.recognition import Hypothesis, SpeechDomain
from engines.recognition.ears import EarsRecogniser
from runtime.config import Config
from runtime.conversation.domain import speech_domain
from runtime.conversation.understanding import Understander
from runtime.packs import load as load_pack
from tests.engines.recognition.speech import DOMAIN, decode, in_order, say

ORDERS = ("00e09cf0", "01a50d1b", "04b09ada", "05ae073e", "08b22cb8")


class Kiosk(NamedTuple):
    """The prepared recogniser of the shipped pack, and what understands its texts."""

    ears: EarsRecogniser
    understand: Understander


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> EarsRecogniser:
    """One that has learnt nothing yet; skips where the turn model is not in the model store."""
    try:
        locate("smart-turn")
    except EngineError as error:
        pytest.skip(str(error))
    return EarsRecogniser(cache=tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def kiosk(engine: EarsRecogniser) -> Kiosk:
    """Prepared as the kiosk prepares it."""
    pack = load_pack(Config().pack_path)
    engine.prepare(speech_domain(pack))
    return Kiosk(engine, Understander(pack))


def load(path: Path) -> NDArray[np.int16]:
    """A recording, brought to 16 kHz."""
    found, rate = soundfile.read(path, dtype="int16")
    return found if rate == 16_000 else soxr.resample(found, rate, 16_000)


def orders(shared: Path) -> Iterator[tuple[NDArray[np.int16], dict[str, str]]]:
    """Five recordings with the slots on their labels."""
    folder = shared / "data/speech/coffee-orders"
    labels = json.loads((folder / "label.json").read_text(encoding="utf-8"))
    for start in ORDERS:
        (path,) = folder.glob(f"{start}*.flac")
        yield load(path), {name: value.strip() for name, value in labels[f"{path.stem}.wav"]["slots"].items()}


def at_once(ears: EarsRecogniser, pcm: NDArray[np.int16]) -> Hypothesis:
    """The final text of a sound that was fed in one piece."""
    ears.begin()
    ears.feed(pcm)
    return ears.finish()


def test_orders_are_understood_with_every_slot(kiosk: Kiosk, shared: Path) -> None:
    """Intent and slots as on the label, words in their order inside the sound, sure of it, and a sentence that can end."""
    for pcm, slots in orders(shared):
        heard = at_once(kiosk.ears, pcm)
        meant = kiosk.understand(heard.text)
        assert (meant.intent, meant.slots) == ("orderDrink", slots), heard.text
        assert in_order(heard.words, len(pcm))
        assert " ".join(word.text for word in heard.words) == heard.text
        assert heard.confidence > 0.5
        assert heard.ends > 0.1
        assert heard.stable == len(heard.text)
        assert heard.text not in heard.alternatives


def test_what_is_called_stable_is_never_taken_back(kiosk: Kiosk, shared: Path) -> None:
    """While an order is spoken every stable prefix is the beginning of what comes later; the end of the order is open."""
    for pcm, _ in list(orders(shared))[:2]:
        partials, final = decode(kiosk.ears, pcm)
        for earlier, later in zip(partials, [*partials[1:], final], strict=True):
            assert later.text.startswith(earlier.text[: earlier.stable])
        assert any(partial.stable for partial in partials)
        assert final.text


def test_other_speech_is_no_order(kiosk: Kiosk, shared: Path) -> None:
    """A sentence about something else is not understood as an order, or is doubted."""
    paths = sorted((shared / "data/speech/rhasspy-test-en").glob("*.flac"))[:3]
    assert paths
    for path in paths:
        heard = at_once(kiosk.ears, load(path))
        assert kiosk.understand(heard.text).intent != "orderDrink" or heard.confidence < 0.5


def test_an_order_in_noise_keeps_its_drink(kiosk: Kiosk, shared: Path) -> None:
    """A second voice, and noise of a shop, at 12 dB under an order."""
    (pcm, slots), (other, _) = list(orders(shared))[:2]
    noise = np.random.default_rng(3).normal(0, 1000, len(pcm))
    for beside in (np.resize(other, len(pcm)).astype(float), noise):
        level = np.sqrt(np.square(pcm.astype(float)).mean() / np.square(beside).mean() / 10**1.2)
        heard = at_once(kiosk.ears, np.clip(pcm + beside * level, -32768, 32767).astype(np.int16))
        assert kiosk.understand(heard.text).slots.get("coffeeDrink") == slots["coffeeDrink"], heard.text


def test_silence_and_nothing_are_no_words(kiosk: Kiosk) -> None:
    """No sound, too little for a frame, and a quiet room: an empty text that no kiosk acts on."""
    quiet = np.random.default_rng(2).normal(0, 3, 32_000).astype(np.int16)
    for pcm in (np.empty(0, np.int16), np.zeros(100, np.int16), np.zeros(32_000, np.int16), quiet):
        heard = at_once(kiosk.ears, pcm)
        assert heard.text == ""
        assert heard.confidence < 0.5


def test_a_cancelled_utterance_leaves_nothing(kiosk: Kiosk) -> None:
    """After `cancel` (twice does no harm) nothing is there; the next utterance is heard by itself."""
    kiosk.ears.begin()
    kiosk.ears.feed(say("what time do you close"))
    kiosk.ears.partial()
    kiosk.ears.cancel()
    kiosk.ears.cancel()
    assert kiosk.ears.partial() == kiosk.ears.finish() == Hypothesis()
    kiosk.ears.begin()
    assert kiosk.ears.partial() == Hypothesis()
    kiosk.ears.cancel()
    with pytest.raises(EngineError, match="begin"):
        kiosk.ears.feed(np.zeros(160, np.int16))


def test_feeding_nobody_is_an_error(engine: EarsRecogniser, tmp_path: Path) -> None:
    """`begin` before `prepare`, and `prepare` with nothing to listen for, are mistakes of the caller."""
    ears = EarsRecogniser(cache=tmp_path)
    assert engine is not ears
    with pytest.raises(EngineError, match="prepare"):
        ears.begin()
    for sentences in ((), ("…",)):
        with pytest.raises(EngineError, match="no sentence"):
            ears.prepare(SpeechDomain(sentences))


def test_a_missing_turn_model_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty model store: the line says what to fetch."""
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="visavis models fetch") as told:
        EarsRecogniser()
    assert "\n" not in str(told.value)


def test_another_shop_is_learnt_without_training(engine: EarsRecogniser) -> None:
    """Prepared for another pack, with a word that nobody can say in it, the same ears hear its sentences; what was asked is heard."""
    engine.prepare(SpeechDomain((*DOMAIN.sentences, "… please"), ("cappuccino", "…"), DOMAIN.pronunciations, DOMAIN.hints))
    assert at_once(engine, say("can i have a large latte please")).text == "can i have a large latte please"
    engine.expect("size")
    assert at_once(engine, say("large please")).text == "large please"
    engine.expect("no such hint")
    assert at_once(engine, say("where are the toilets")).text == "where are the toilets"
