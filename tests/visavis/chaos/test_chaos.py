"""Faults in a real kiosk, each once where that is quick. What was lost is asserted, times are not: test machines are busy."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from visavis.chaos import picture, run
from visavis.chaos.house import House, what_is_left
from visavis.chaos.outside import why_no_browser

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
FAST = {"voice": {"rate": 1.6}}
"""Spoken faster: the tests wait for whole answers."""
LIMIT_S = 90.0
"""A hang is what lasts so long: the test's machine may be busy."""


def test_one_campaign_from_the_start_to_the_death_of_the_supervisor(tmp_path: Path) -> None:
    """Nothing hangs, nothing is lost, nothing is left, even by SIGKILL of the supervisor at the end; what cannot be done is said."""
    said: list[str] = []
    faults = ("kill", "starve", "flood", "microphone", "page", "clock")
    found = run(kills=1, minutes=12, seed=2, faults=faults, out=tmp_path, changes=FAST, limit_s=LIMIT_S, say=said.append)
    assert [(hit["fault"], hit["hang"], hit["lost"]) for hit in found["hits"] if hit["hang"] or hit["lost"]] == []
    assert (found["hangs"], found["leftovers"], found["left"]) == (0, 0, [])
    assert (found["planned"], found["done"]) == (5, 5)
    assert {"p50", "p95"} <= set(found["resume_s"])
    assert "p95" in found["frame_gap_ms"]
    assert all("p95" in found["faults"][name]["recovery_s"] for name in faults[:-1])
    assert "without privileges" in found["faults"]["clock"]["not_possible"]
    assert said[-1].startswith("5/5 ")


def test_the_real_page_rests_while_the_renderer_is_away(tmp_path: Path) -> None:
    """Killed in mid-sentence, with the page in Chromium: pictures of the resting face were shown until its frames came again."""
    if why := why_no_browser():
        pytest.skip(why)
    with House(tmp_path, FAST, limit_s=LIMIT_S) as house:
        gap_ms, hang = picture.shown_gap(house, "renderer", random.Random(1))
        assert hang == ""
        assert gap_ms is not None
        shown = sorted(picture.rows(house.probe), key=lambda row: row.drawn_ns)
    kinds = ["rest" if row.seq < 0 else "frame" for row in shown]
    assert kinds[0] == kinds[-1] == "frame"
    assert kinds.count("rest") >= 3


def test_pictures_are_read_up_to_the_last_whole_line(tmp_path: Path) -> None:
    """What the stage is writing just now is not there yet; no file, no pictures."""
    assert picture.rows(tmp_path) == []
    line = '{"seq":-1,"pts":-1,"turn":0,"drawn_ns":7,"heard":-1}\n'
    (tmp_path / "drawn.jsonl").write_text(line + line.replace("-1", "9", 1) + line[:20], encoding="utf-8")
    assert [(row.seq, row.drawn_ns) for row in picture.rows(tmp_path)] == [(-1, 7), (9, 7)]


def test_what_a_kiosk_leaves_is_seen(tmp_path: Path) -> None:
    """A process that lives on and a directory that is there are named."""
    left = what_is_left([1, os.getpid()], tmp_path, limit_s=0.0)
    assert left == [f"process {os.getpid()} outlived the supervisor", f"{tmp_path} is still there"]
