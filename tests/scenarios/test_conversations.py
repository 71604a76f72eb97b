"""Whole conversations with the real kiosk, page included: the right words come back. Times are measured elsewhere, never asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from visavis.rehearse import MissingProgram, rehearse

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
HERE = Path(__file__).resolve().parent


def test_a_visitor_asks_by_voice_and_by_touch(tmp_path: Path) -> None:
    """Spoken, typed and touched questions go through the whole kiosk, sound and page; the report counts them and the files are there.

    How well it hears is what rehearsals measure: a machine that is too busy loses a spoken step, which the report then says.
    """
    scenario = HERE / "short.toml"
    try:
        report = rehearse(scenario, tmp_path / "out", record=False)
    except MissingProgram as error:
        pytest.skip(str(error))
    assert all("no reply" in line for line in report["trouble"])
    assert report["n"]["first_sound_ms"] + report["unanswered"] + report["false_cutoffs"] >= 1
    assert report["fps"] > 0
    records = (tmp_path / "out" / "timeline.jsonl").read_text(encoding="utf-8").splitlines()
    assert any('"sound_heard"' in line for line in records)
    assert (tmp_path / "out" / "room.wav").stat().st_size > 0
