"""`visavis ears`: from a folder of recordings to the file that ships, on very few of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engines.errors import EngineError
from engines.models import locate
from engines.recognition.ears.hearing import Phones
from engines.recognition.training.orders import fold_of
from tests.engines.recognition.speech import SPOKEN, say
from visavis import ears

SAID = ("can i have a large latte please", "where are the toilets", "what time do you close")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of a few made speakers, with one noise and no room; three orders."""
    root = tmp_path_factory.mktemp("data")
    (root / "noise/speech-commands").mkdir(parents=True)
    soundfile.write(root / "noise/speech-commands/hum.wav", np.random.default_rng(1).normal(0, 0.1, 20_000), 16_000)
    for corpus, header in (("speechocean", "file\tspeaker\tage\tseconds\ttext"), ("kathleen-full", "file\tseconds\ttext")):
        (root / "speech" / corpus).mkdir(parents=True)
        rows = [header]
        for number, text in enumerate(SAID * 4):
            name = f"take{number}_1.flac"
            shutil.copy(SPOKEN / f"{text.replace(' ', '_')}.flac", root / "speech" / corpus / name)
            rows.append("\t".join([name, *([str(number), "30"] if corpus == "speechocean" else []), "2.0", text]))
        (root / "speech" / corpus / "text.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (root / "speech/coffee-orders").mkdir()
    for number, text in enumerate(SAID):
        shutil.copy(SPOKEN / f"{text.replace(' ', '_')}.flac", root / f"speech/coffee-orders/order-{number}.flac")
    return root


@pytest.fixture(scope="module")
def turn_model() -> Path:
    """The turn model's file; skips where it is not in the model store."""
    try:
        return locate("smart-turn")
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def work(torch: Any, turn_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - the skips
    """A work folder after training; the words of the orders were worked out before."""
    found = tmp_path_factory.mktemp("work")
    (found / "orders.json").write_text(json.dumps({f"order-{number}": text for number, text in enumerate(SAID)}))
    ears.train(data, found, copies=1, passes=1, tell=lambda _: None)
    return found


def test_training_makes_weights_for_all_and_for_each_part(work: Path) -> None:
    """base, ears and one for each part of the orders; folds.json says which never heard an order."""
    assert all((work / f"{name}.pt").is_file() for name in ("base", "ears", *(f"fold-{part}" for part in range(ears.FOLDS))))
    folds = json.loads((work / "folds.json").read_text())
    assert folds == {f"order-{number}": f"fold-{fold_of(f'order-{number}', ears.FOLDS)}.onnx" for number in range(len(SAID))}


def test_trained_again_nothing_is_done_twice(work: Path, data: Path) -> None:
    """The weights stay as they are, and no pass is told."""
    before = {path.name: path.read_bytes() for path in work.glob("*.pt")}
    told: list[str] = []
    ears.train(data, work, copies=1, passes=1, tell=told.append)
    assert {path.name: path.read_bytes() for path in work.glob("*.pt")} == before
    assert not [line for line in told if line.startswith("pass")]


def test_packed_weights_are_heard_with(work: Path, tmp_path: Path) -> None:
    """`pack` tells the size of a file that the ears take."""
    out = tmp_path / "new" / "ears.onnx"
    assert ears.pack(work, out) == out.stat().st_size < 4_000_000
    found, _ = Phones(locate("smart-turn"), out)(say(SAID[1])[: 100 * 320])
    assert np.isfinite(found).all()


@pytest.mark.usefixtures("turn_model")
def test_evaluation_counts_phones_that_are_wrong(data: Path) -> None:
    """The weights that ship, on the people who are held out: a rate for all and for each group."""
    found = ears.evaluate(data)
    assert found["recordings"] == sum(group["recordings"] for group in found["groups"].values())
    assert all(0.0 <= group["phone_errors"] < 1.0 for group in found["groups"].values())


@pytest.mark.usefixtures("torch")
def test_no_recordings_is_an_os_error(tmp_path: Path) -> None:
    """An empty folder is told by its name."""
    with pytest.raises(OSError, match="speechocean"):
        ears.train(tmp_path, tmp_path / "work", tell=lambda _: None)
