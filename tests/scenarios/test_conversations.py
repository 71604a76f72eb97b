"""Whole conversations with the real kiosk, page included: the right words come back. Times are measured elsewhere, never asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from visavis.rehearse import MissingProgram, rehearse

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
HERE = Path(__file__).resolve().parent


def test_a_visitor_asks_by_voice_and_by_touch(tmp_path: Path) -> None:
    """Spoken, typed and touched questions are answered; everything that sounded is found in room.wav and the files are there."""
    scenario = HERE / "short.toml"
    try:
        report = rehearse(scenario, tmp_path / "out", record=False)
    except MissingProgram as error:
        pytest.skip(str(error))
    assert report["not_found"] == []
    assert report["trouble"] == []
    assert report["unexpected"] == 0
    assert report["false_cutoffs"] == 0
    assert report["n"]["first_sound_ms"] == 2
    assert (tmp_path / "out" / "room.wav").stat().st_size > 0
