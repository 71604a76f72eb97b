"""`visavis avatar`: mistakes cost one line and leave nothing behind; films are whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

av = pytest.importorskip("av", reason="av is not installed (extra: rehearse)")

from engines.studio import show as studio  # noqa: E402 - after the skip
from visavis import films  # noqa: E402
from visavis.cli import main  # noqa: E402
from visavis.films import film, show  # noqa: E402

pytestmark = pytest.mark.unit
STOCK = Path(__file__).resolve().parents[2] / "engines" / "avatars" / "stock"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of the stock pack with one byte of its plate changed."""
    pack = Path(shutil.copytree(STOCK, tmp_path / "pack"))
    data = bytearray((pack / "plate.png").read_bytes())
    data[len(data) // 2] ^= 1
    (pack / "plate.png").write_bytes(bytes(data))
    return pack


def _one_line(arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["avatar", *arguments]) == 2
    said = capsys.readouterr().err
    assert what in said
    assert said.count("\n") == 1


def test_a_broken_pack_is_neither_shown_nor_evaluated(
    broken: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The damaged file is named and no film or card begun."""
    card = (broken / "card.json").read_bytes()
    _one_line(["show", str(broken), str(tmp_path / "out")], "plate.png: damaged", capsys)
    _one_line(["evaluate", str(broken), str(shared / "avatar")], "plate.png: damaged", capsys)
    assert not (tmp_path / "out").exists()
    assert (broken / "card.json").read_bytes() == card


def test_a_pack_with_other_controls_is_not_evaluated(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control names that the data do not have: one line."""
    pack = Path(shutil.copytree(STOCK, tmp_path / "pack"))
    text = (pack / "avatar.toml").read_text("utf-8")
    (pack / "avatar.toml").write_text(text.replace('"browDown_L"', '"browFrown_L"', 1), "utf-8")
    _one_line(["evaluate", str(pack), str(shared / "avatar")], "its controls are not those of", capsys)


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("arguments", [["train", "nowhere", "out"], ["pack", "nowhere.pt", "nowhere", "out", "--name", "x"]])
def test_missing_data_are_named(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is made where nothing is."""
    monkeypatch.chdir(tmp_path)
    _one_line(arguments, "nowhere/controls.npz: missing", capsys)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_missing_film_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made of nothing."""
    monkeypatch.chdir(tmp_path)
    _one_line(["person", "nowhere.mp4", "--out", "out"], "nowhere.mp4: cannot be read as a film", capsys)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_all_controls_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sheet has a tile for each of 50 one-sided ends, both ends of the five angles and every viseme; the film a second for each."""
    assert studio._SWEEP_FRAMES == films._SWEEP_FPS
    monkeypatch.setattr(studio, "_SWEEP_FRAMES", 4)  # with 24 it is a minute of CPU, all of it in the same loop
    monkeypatch.setattr(films, "_SWEEP_FPS", 4)
    sheet, controls = show(STOCK, tmp_path / "out")
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[1] == 10 * 192
    tiles = picture.shape[0] // 192 * 10
    assert tiles >= 51 + 5 + 1
    with av.open(str(controls)) as film_:
        frames = film_.streams.video[0].frames
    assert frames % 4 == 0
    assert tiles - 10 < frames // 4 <= tiles


def test_a_film_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    """An error in the middle: the file that was there before stays as it was."""
    path = tmp_path / "film.mp4"
    path.write_bytes(b"before")

    def frames() -> Iterator[NDArray[np.uint8]]:
        yield np.zeros((64, 64, 3), np.uint8)
        raise RuntimeError("the pen broke")

    with pytest.raises(RuntimeError, match="the pen broke"):
        film(path, frames(), 25)
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_a_film_has_its_frames_and_its_sound(tmp_path: Path) -> None:
    """Half a second of picture and of sound."""
    frames = [np.full((64, 64, 3), k * 20, np.uint8) for k in range(12)]
    assert film(tmp_path / "film.mp4", frames, 24, (np.zeros(11025, np.float32), 22050)) == 12
    with av.open(str(tmp_path / "film.mp4")) as made:
        assert made.streams.video[0].frames == 12
        assert float(made.streams.audio[0].duration * made.streams.audio[0].time_base) == pytest.approx(0.5, abs=0.1)
