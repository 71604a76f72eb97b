"""The order of the faults, and the report."""

from __future__ import annotations

import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from visavis import chaos
from visavis.chaos.campaign import Hit, described, plan
from visavis.chaos.faults import FAULTS
from visavis.chaos.house import House
from visavis.chaos.report import rows, summary
from visavis.cli import main
from visavis.rehearse.errors import KioskFailed

pytestmark = pytest.mark.unit


def test_the_seed_decides_and_every_node_is_killed_in_turn() -> None:
    """The same seed gives the same faults; each node is killed once before any is killed twice."""
    faults = ("kill", "stop", "page")
    order = plan(40, faults, random.Random(7))
    assert order == plan(40, faults, random.Random(7))
    assert order != plan(40, faults, random.Random(8))
    kills = [target for name, target in order if name == "kill"]
    nodes = FAULTS["kill"].targets
    assert len(kills) == 40
    assert set(kills[: len(nodes)]) == set(nodes)
    assert [name for name, _ in order].count("stop") == 2
    assert [name for name, _ in order].count("page") == 2


def test_few_kills_leave_the_others_one_each() -> None:
    """And many no more than three."""
    assert sorted(name for name, _ in plan(1, ("kill", "flood"), random.Random(1))) == ["flood", "kill"]
    assert [name for name, _ in plan(500, ("flood",), random.Random(1))] == ["flood"] * 3


def test_the_report_has_its_figures_over_the_kills_and_the_renderer_apart() -> None:
    """What the fault was decides where a figure counts; what was lost and left is counted and named."""
    hits = [
        Hit("kill", "voice", frame_gap_ms=60.0, resume_s=0.5, recovery_s=1.0),
        Hit("kill", "renderer", frame_gap_ms=600.0, resume_s=0.0, recovery_s=0.6, lost=["the end of the answer"]),
        Hit("stop", "stage", frame_gap_ms=5000.0, resume_s=4.0, hang="stage was not ready again", leftovers=["zombie 7"]),
    ]
    found = summary(hits, ["3 descriptors of the supervisor"], {"clock": "not possible here"}, planned=4)
    assert (found["hangs"], found["leftovers"], found["planned"], found["done"]) == (1, 2, 4, 3)
    assert found["left"] == ["3 descriptors of the supervisor", "zombie 7"]
    assert found["resume_s"]["n"] == 2
    assert found["frame_gap_ms"]["p95"] == 60.0
    assert found["frame_gap_renderer_ms"]["p95"] == 600.0
    assert found["faults"]["kill"]["lost"] == {"the end of the answer": 1}
    assert found["faults"]["clock"]["not_possible"] == "not possible here"
    assert found["nodes"]["voice"]["n"] == 1
    assert [line[0] for line in rows(found)] == ["kill", "stop", "clock", "  kill renderer", "  kill voice"]
    assert "HANG: stage was not ready again" in described(hits[2])


def test_an_unknown_fault_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that are known."""
    assert main(["chaos", "--faults", "kill,teapot"]) == 2
    said = capsys.readouterr().err
    assert "unknown fault 'teapot': known are kill, stop" in said
    assert said.count("\n") == 1


def test_all_faults_can_be_asked_for() -> None:
    """Those of the kiosk, of what stands around it, and the one that is told to be impossible."""
    assert set(chaos.ALL) == {*FAULTS, "broker", "browser", "clock"}


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (KioskFailed("voice was down already"), "the fault could not be done: voice was down already"),
        (ProcessLookupError(3, "No such process"), "the fault could not be done: [Errno 3] No such process"),
    ],
)
def test_a_fault_that_cannot_be_done_is_in_the_report(
    trouble: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node was down at that moment, or went in the middle of it: a hang with its reason, and the campaign goes on."""

    def cannot(*_: object) -> Hit:
        raise trouble

    monkeypatch.setattr(chaos, "hit", cannot)
    found = chaos._one(House(tmp_path), dict(FAULTS), "kill", "voice", random.Random(1))
    assert (found.fault, found.target, found.hang) == ("kill", "voice", said)


def test_a_node_that_is_down_is_named(tmp_path: Path) -> None:
    """Not a KeyError."""
    house = House(tmp_path)
    house.kiosk = cast("Any", SimpleNamespace(pid=os.getpid()))
    with pytest.raises(KioskFailed, match="voice was down already"):
        FAULTS["stop"].do(house, "voice", random.Random(1))
