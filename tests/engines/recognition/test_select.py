"""The best recogniser that works here, and why not a better one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.models import find, state_of
from engines.recognition import PocketsphinxRecogniser, select

BUILT_IN = "ears" if state_of(find("smart-turn")).status == "ok" else "pocketsphinx"
"""What serves without a model of vosk's: the ears where the turn model was fetched."""


def test_without_a_model_the_built_in_one_serves() -> None:
    """Nothing fetched: our own ears where the turn model is, else pocketsphinx, and how to get better."""
    chosen = select("auto", None)
    assert chosen.name == BUILT_IN
    assert "visavis models fetch" in dict(chosen.why_not)["vosk"]


def test_without_the_turn_model_the_ears_are_deaf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty model store: pocketsphinx serves, and the line says what to fetch."""
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chosen = select("auto", None)
    assert isinstance(chosen.engine, PocketsphinxRecogniser)
    assert "visavis models fetch" in dict(chosen.why_not)["ears"]


def test_preference_is_kept() -> None:
    """Who wants pocketsphinx gets it, whatever models there are."""
    assert dict(select("pocketsphinx", None).why_not) == dict.fromkeys(("vosk", "ears"), "pocketsphinx is preferred")


def test_broken_model_is_told_and_the_next_serves(tmp_path: Path) -> None:
    """Half a model never stops the kiosk; the line says what is missing."""
    (tmp_path / "am").mkdir()
    (tmp_path / "am" / "final.mdl").write_text("version https://git-lfs.github.com/spec/v1\n")
    chosen = select("vosk", tmp_path)
    assert chosen.name == BUILT_IN
    assert "final.mdl" in dict(chosen.why_not)["vosk"]


def test_engine_of_another_version_is_told() -> None:
    """A preference that this version cannot serve is answered with what it has."""
    chosen = select("phones", None)
    assert chosen.name == BUILT_IN
    assert "not in this version" in dict(chosen.why_not)["phones"]


@pytest.mark.parametrize("model", ["nowhere", "file"])
def test_path_that_is_no_folder(tmp_path: Path, model: str) -> None:
    """A missing folder and a file are both refused in words."""
    (tmp_path / "file").write_bytes(b"x")
    assert "no folder with a Vosk model" in dict(select("vosk", tmp_path / model).why_not)["vosk"]
