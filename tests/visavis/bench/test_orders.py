"""The orders benchmark: its mixing, its cutting, and a whole run on orders spoken here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engines.recognition import ENGINES, RATE, Selection, SpeechDomain
from engines.voice_activity import Energy
from tests.engines.recognition.speech import say
from visavis.bench import hearing
from visavis.bench.hearing import by_folds, utterances
from visavis.bench.orders import PEERS, mixed, run


def test_mixing_is_the_peers_way() -> None:
    """The loudest frames stand at the stated distance, and the noise is read on from clip to clip."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.3, RATE)
    clips = [("a", np.sin(np.arange(8192) / 9)), ("b", np.zeros(8192)), ("c", 0.1 * np.sin(np.arange(8192) / 7))]
    done = dict(mixed(clips, noise, 12.0))

    def peak(sound: np.ndarray) -> float:
        return float(np.square(sound.reshape(-1, 512)).mean(axis=1).max())

    for name, sound in clips:
        added = done[name] - sound
        assert peak(sound) == pytest.approx(peak(added) * 10**1.2, abs=1e-6)
    added = done["c"] - clips[2][1]
    piece = np.take(noise, np.arange(2 * 8192, 3 * 8192), mode="wrap")
    assert np.corrcoef(added, piece)[0, 1] == pytest.approx(1.0)


def test_utterances_begin_before_the_onset_and_part_at_long_pauses() -> None:
    """Two sentences two seconds apart are two utterances, with pre-roll; as one turn they are one."""
    pcm = np.concatenate((np.zeros(RATE, np.int16), say("yes please"), np.zeros(2 * RATE, np.int16), say("no thank you")))
    apart = utterances(pcm, Energy(), RATE)
    assert len(apart) == 2
    assert apart[0][0] > RATE // 2
    assert len(utterances(pcm, Energy(), len(pcm))) == 1
    assert utterances(np.zeros(RATE, np.int16), Energy(), RATE) == []


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """A folder like coffee-orders with one order that is labelled right, one wrong, and a question as other speech."""
    orders, other, noise = tmp_path / "speech" / "coffee-orders", tmp_path / "speech" / "kathleen", tmp_path / "noise" / "kitchen"
    for folder in (orders, other, noise):
        folder.mkdir(parents=True)
    for name, text, folder in (
        ("right", "give me a small coffee with brown sugar", orders),
        ("wrong", "can i have a large cappuccino", orders),
        ("question", "where are the toilets", other),
    ):
        soundfile.write(folder / f"{name}.flac", say(text), RATE)
    soundfile.write(noise / "hum.flac", np.random.default_rng(4).normal(0, 900, 5 * RATE).astype(np.int16), RATE)
    label = {
        "right.wav": {
            "intent": "orderDrink",
            "slots": {"size": "small", "coffeeDrink": "coffee", "sugarAmount": " brown sugar"},
        },
        "wrong.wav": {"intent": "orderDrink", "slots": {"size": "large", "coffeeDrink": "americano"}},
        "not-recorded.wav": {"intent": "orderDrink", "slots": {}},
    }
    (orders / "label.json").write_text(json.dumps(label))
    return tmp_path


def test_run_counts_what_was_understood(spoken: Path, tmp_path: Path) -> None:
    """The right order counts, the wrongly labelled one does not, a question is no order; the result is kept as JSON."""
    kept = tmp_path / "orders.json"
    result = run(data=spoken, snr=[24.0], engine="pocketsphinx", json_file=kept)
    assert result["orders_accepted"] == 1.0
    assert result["false_orders_by"] == {"kathleen": [0, 1]}
    assert result["cross_validated"] is False
    assert result["accuracy"] == 0.5
    assert result["missed"] == ["wrong"]
    assert (result["false_orders"], result["non_orders"], result["false_order_files"]) == (0.0, 1, [])
    assert result["engines"]["pocketsphinx"]["orders"] == 2
    assert set(result["by_snr"]) == {"24"}
    assert result["rtf"] > 0
    assert json.loads(kept.read_text())["accuracy"] == 0.5
    (_, header, rows), (_, _, more) = result["tables"]
    assert header == ["", "clean", "24 dB"]
    assert [row[0] for row in rows] == ["visavis · pocketsphinx", *PEERS]
    assert all(len(row) == len(header) for row in rows)
    assert all(len(row) == 2 for row in more)


def test_all_engines_that_work_are_measured(spoken: Path) -> None:
    """Each has its figures and its row; the best one's stand at the top; one that does not work is told with the reason."""
    result = run(data=spoken, snr=[24.0], engine="all", limit=1)
    assert "no model has been fetched" in result["skipped"]["vosk"]
    assert set(result["engines"]) | set(result["skipped"]) == set(ENGINES)
    best = result["engines"][result["engine"]]
    assert result["engine"] == next(name for name in ENGINES if name in result["engines"])
    assert all(result[key] == value for key, value in best.items())
    (_, _, rows), (_, header, more), (_, _, missing) = result["tables"]
    assert [row[0] for row in rows] == [*(f"visavis · {name}" for name in result["engines"]), *PEERS]
    assert header == ["", *result["engines"]]
    assert all(len(row) == len(header) for row in more)
    assert ["vosk", result["skipped"]["vosk"]] in missing


class Named:
    """A recogniser that tells which weights it was made with: stands for the ears, whose weights take minutes to train."""

    def __init__(self, weights: Path | None) -> None:
        self.weights, self.prepared = weights, False

    def prepare(self, _domain: SpeechDomain) -> None:
        self.prepared = True


def test_each_recording_is_heard_by_weights_that_never_saw_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One recogniser per file of weights, made when first wanted and kept; recordings of other kinds get the usual one."""
    made: list[Path | None] = []

    def make(name: str, _model: Path | None = None, weights: Path | None = None) -> Selection:
        made.append(weights)
        return Selection(Named(weights), name)  # type: ignore[arg-type]

    monkeypatch.setattr(hearing, "select", make)
    folds = tmp_path / "folds.json"
    folds.write_text(json.dumps({"a": "one.npz", "b": "two.npz", "c": "one.npz"}))
    usual = make("ears")
    choice = by_folds(folds, ["a", "b", "c"], usual, SpeechDomain(("yes",)))
    assert made == [None]
    assert [choice(name).weights for name in "abca"] == [tmp_path / f"{name}.npz" for name in ("one", "two", "one", "one")]
    assert choice("a").prepared
    assert choice("a") is choice("c")
    assert choice("other speech") is usual.engine
    assert made == [None, tmp_path / "one.npz", tmp_path / "two.npz"]
    with pytest.raises(ValueError, match=r"folds\.json: names no weights for d"):
        by_folds(folds, ["a", "d"], usual, SpeechDomain(("yes",)))


def test_folder_of_orders_serves_as_data(spoken: Path) -> None:
    """`--data` may name the folder of recordings itself."""
    result = run(data=spoken / "speech" / "coffee-orders", snr=[], negatives=[], limit=1)
    assert result["orders"] == 1
    assert result["by_snr"] == {}


def test_folder_without_labels_is_told(tmp_path: Path) -> None:
    """Not a traceback: which file is missing, and where it was looked for."""
    with pytest.raises(ValueError, match=r"no label\.json"):
        run(data=tmp_path)


def test_recorded_people_are_understood(shared: Path) -> None:
    """Of the first recorded orders most are understood by what ships (not a figure: `visavis bench orders` measures)."""
    result = run(data=shared / "data", snr=[], negatives=[], limit=12)
    assert result["accuracy"] >= 0.5
