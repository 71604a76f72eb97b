"""The words benchmark: its count of word errors, its groups, and the baseline on real sound."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import EngineMissing
from engines.recognition import RATE, PocketsphinxRecogniser
from engines.recognition.training.corpora import clips
from tests.engines.recognition.speech import say
from visavis.bench import words
from visavis.bench.words import Setting, errors, general_sphinx, general_talk, heard_by, run

Sentence = st.lists(st.sampled_from("abc"), max_size=6)


@pytest.mark.parametrize(
    ("said", "heard", "wrong"),
    [
        ("a large latte", "a large latte", 0),
        ("a large latte", "a latte", 1),
        ("a large latte", "a large late tea", 2),
        ("a large latte", "", 3),
        ("", "large latte", 2),
        ("where are the toilets", "are the toilets where", 2),
    ],
)
def test_word_errors_are_counted(said: str, heard: str, wrong: int) -> None:
    """Substituted, left out and put in words count one each."""
    assert errors(said.split(), heard.split()) == wrong


@given(Sentence, Sentence, Sentence)
def test_word_errors_are_a_distance(one: list[str], two: list[str], three: list[str]) -> None:
    """Nothing wrong only in the same words; the same both ways; no shorter way through a third sentence."""
    assert (errors(one, two) == 0) == (one == two)
    assert errors(one, two) == errors(two, one)
    assert errors(one, three) <= errors(one, two) + errors(two, three)
    assert abs(len(one) - len(two)) <= errors(one, two) <= max(len(one), len(two))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A data folder with two sentences in each corpus, said by many speakers so that each split has some."""
    for corpus, fields, text in (
        ("speechocean", ["file", "speaker", "age", "seconds", "text"], "where are the toilets"),
        ("kathleen-full", ["file", "seconds", "text"], "Yes, please!"),
    ):
        folder = tmp_path / "speech" / corpus
        folder.mkdir(parents=True)
        sound = say(text.lower().replace(",", "").rstrip("!"))
        with (folder / "text.tsv").open("w", newline="", encoding="utf-8") as lines:
            table = csv.DictWriter(lines, fields, delimiter="\t", quoting=csv.QUOTE_NONE)
            table.writeheader()
            for number in range(60):
                row = {"file": f"s{number:03}.flac", "speaker": f"p{number:03}", "age": 8 if number % 2 else 30, "seconds": 1, "text": text}
                table.writerow({name: row[name] for name in fields})
                soundfile.write(folder / f"s{number:03}.flac", sound, RATE)
    return tmp_path


def test_each_group_has_its_word_errors(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By group and engine, only of recordings that no training heard; the first engine's figures stand at the top."""
    heard: list[int] = []

    def forgetful(setting: Setting) -> words.Transcribe:
        assert setting.data == recordings

        def transcribe(pcm: np.ndarray) -> str:
            heard.append(len(pcm))
            return "Where are toilets"

        return transcribe

    def missing(_setting: Setting) -> words.Transcribe:
        raise EngineMissing("it is not installed")

    monkeypatch.setattr(words, "TALKERS", {"missing": missing, "forgetful": forgetful})
    result = run(data=recordings)
    held_out = list(clips(recordings, "test"))
    assert 0 < len(held_out) < 60
    assert len(heard) == len(held_out)
    assert result["engine"] == "forgetful"
    assert result["skipped"] == {"missing": "it is not installed"}
    assert result["groups"] == result["engines"]["forgetful"]["groups"]
    assert {group: of["recordings"] for group, of in result["groups"].items()} == {
        group: sum(clip.group == group for clip in held_out) for group in {clip.group for clip in held_out}
    }
    assert {group: of["word_errors"] for group, of in result["groups"].items()} == {
        "kathleen, native adult": 1.5,
        "mandarin accent, 13 and older": 0.25,
        "mandarin accent, child (to 12)": 0.25,
    }
    assert all(len(row) == len(header) for _, header, rows in result["tables"] for row in rows)
    assert all(of["recordings"] == 1 for of in run(data=recordings, limit=1)["groups"].values())


def test_baseline_hears_general_english() -> None:
    """With no shop to expect, the general model still hears clear sentences, one after another."""
    transcribe = general_sphinx(Setting(Path()))
    assert [transcribe(say("yes please")) for _ in range(2)] == ["yes please"] * 2


def test_our_recognisers_hear_the_training_sentences(recordings: Path) -> None:
    """One that is prepared for connected talk knows the words of the training's texts, and nothing of the test's."""
    domain = general_talk(recordings)
    assert set(domain.sentences) == {"where are the toilets", "yes please"}
    assert len(domain.sentences) == len(list(clips(recordings, "train")))
    transcribe = heard_by(PocketsphinxRecogniser(), domain)
    assert transcribe(say("where are the toilets")) == "where are the toilets"


def test_engine_that_nobody_knows_is_told(recordings: Path) -> None:
    """Which engines there are."""
    with pytest.raises(ValueError, match="no engine 'teapot'"):
        run(data=recordings, engine="teapot")


def test_folder_without_recordings_is_told(tmp_path: Path) -> None:
    """Not a traceback: which file is missing."""
    with pytest.raises(ValueError, match=r"speechocean/text\.tsv"):
        run(data=tmp_path)


def test_recorded_people_are_transcribed(shared: Path) -> None:
    """The baseline hears one recording of each group, and most of the clear one (not a figure: `visavis bench words` measures)."""
    result = run(data=shared / "data", engine="pocketsphinx", limit=1)
    assert len(result["groups"]) == 3
    assert 0 <= result["groups"]["kathleen, native adult"]["word_errors"] < 0.7
