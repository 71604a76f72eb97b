"""Another shop than the one that ships: its pack alone makes the kiosk understand its sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from engines.recognition import RATE
from runtime.conversation.domain import speech_domain
from runtime.conversation.understanding import Understander
from runtime.packs import load
from tests.engines.recognition.speech import say
from visavis.bench.shop import PACK, labels_of, run


@pytest.fixture(scope="module")
def understand() -> Understander:
    """The house's pack."""
    return Understander(load(PACK))


def test_typed_sentences_have_the_labels_intents_and_slots(understand: Understander, shared: Path) -> None:
    """All 49 labelled sentences mean what their labels say."""
    wanted = labels_of(shared / "data" / "speech" / "rhasspy-test-en")
    assert len(wanted) == 49
    found = {name: understand(text) for name, (text, _, _) in wanted.items()}
    assert {name: (one.intent, one.slots) for name, one in found.items()} == {name: label[1:] for name, label in wanted.items()}


@pytest.mark.parametrize(
    ("text", "intent", "slots"),
    [
        ("could you switch the guest room lights on please", "ChangeLightState", {"name": "guest room light", "state": "on"}),
        ("kitchen ceiling light off", "ChangeLightState", {"name": "kitchen ceiling light", "state": "off"}),
        ("would you make the porch lamp warm white", "ChangeLightColor", {"name": "porch lamp", "color": "warm white"}),
        ("did I leave the garage open", "GetGarageState", {}),
        ("is the left garage door open", "GetGarageState", {"door": "left garage door"}),
        ("how warm is it upstairs", "GetTemperature", {"place": "upstairs"}),
        ("what time is it in Tokyo", "GetTime", {"place": "tokyo"}),
    ],
)
def test_house_is_more_than_the_recorded_sentences(understand: Understander, text: str, intent: str, slots: dict[str, str]) -> None:
    """Other rooms, lights, colours and wordings are understood too: the pack is no list of the recordings."""
    found = understand(text)
    assert (found.intent, found.slots) == (intent, slots)


@pytest.mark.parametrize("text", ["what is the wifi password", "a large latte please", "the light was beautiful that evening"])
def test_other_talk_wants_nothing_of_the_house(understand: Understander, text: str) -> None:
    """No tool is called."""
    assert understand(text).intent is None


def test_recorded_sentences_are_few_of_those_expected(shared: Path) -> None:
    """What the recogniser listens for is mostly other sentences than those recorded."""
    said = {text for text, _, _ in labels_of(shared / "data" / "speech" / "rhasspy-test-en").values()}
    expected = set(speech_domain(load(PACK), sentences=4000).sentences)
    assert len(expected & said) < 0.03 * len(expected)


def test_run_lists_what_was_not_understood(tmp_path: Path) -> None:
    """A sentence that this pack cannot mean is a miss, with what was heard; recordings without a JSON are left out."""
    soundfile.write(tmp_path / "yes.flac", say("yes please"), RATE)
    soundfile.write(tmp_path / "unlabelled.flac", say("no thank you"), RATE)
    (tmp_path / "yes.json").write_text(json.dumps({"text": "lights on", "intent": {"name": "ChangeLightState"}, "slots": {"state": "on"}}))
    result = run(data=tmp_path, engine="pocketsphinx")
    assert (result["accuracy"], result["sentences"], result["engine"]) == (0.0, 1, "pocketsphinx")
    (missed,) = result["missed"]
    assert (missed["name"], missed["said"]) == ("yes", "lights on")
    assert result["engines"]["pocketsphinx"]["accuracy"] == 0.0
    assert all(len(row) == len(header) for _, header, rows in result["tables"] for row in rows)


def test_folder_without_labels_is_told(tmp_path: Path) -> None:
    """Not a traceback: what is missing, and where."""
    with pytest.raises(ValueError, match="no recordings with a JSON"):
        run(data=tmp_path)


def test_broken_pack_is_told(tmp_path: Path, shared: Path) -> None:
    """Which pack, and what is wrong in it."""
    with pytest.raises(ValueError, match=r"pack\.toml"):
        run(data=shared / "data", pack=tmp_path, limit=1)
