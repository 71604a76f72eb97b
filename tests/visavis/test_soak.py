"""The verdict of a soak: what grows, drifts or is left is named."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runtime.messages import VOICE_RATE, NodeEvent, NodeState
from visavis import _processes
from visavis.chaos.hearing import Loudspeaker, Span
from visavis.chaos.house import House
from visavis.soak import Picture, Sample, _Talk, judge, rows, skews_ms

pytestmark = pytest.mark.unit
S = 1_000_000_000


def samples(*, grows: float = 0.0, descriptors: int = 0, fps: float = 0.0, skew: float = 0.0, warm: float = 0.0) -> list[Sample]:
    """An hour, a sample each minute; `grows` in MB an hour, the others as changes in the last twenty minutes."""
    found = []
    for minute in range(61):
        late = minute >= 40
        pss = {"voice": 80 + grows * minute / 60 + (warm if minute < 10 else 0), "stage": 40.0}
        found.append(
            Sample(
                minute * 60.0, pss, {"voice": 50 + late * descriptors, "stage": 60}, {"voice": 4, "stage": 4}, 30 - late * fps, late * skew
            )
        )
    return found


def test_a_kiosk_that_stays_as_it_is_holds() -> None:
    """Growth before the warm-up is over does not count."""
    found = judge(samples(warm=-20.0, grows=0.5))
    assert (found["verdict"], found["failed"]) == ("holds", [])
    assert found["pss_mb_per_hour"] == 0.5
    assert found["settled"] == 51


@pytest.mark.parametrize(
    ("what", "failed"),
    [
        ({"grows": 1.5}, ["pss_mb_per_hour"]),
        ({"descriptors": 1}, ["descriptors of voice"]),
        ({"fps": 2.0}, ["fps_lost"]),
        ({"skew": 6.0}, ["skew_drift_ms"]),
        ({"skew": -6.0}, ["skew_drift_ms"]),
        ({"grows": -30.0, "fps": -2.0}, []),
    ],
)
def test_what_fails_is_named(what: dict[str, float], failed: list[str]) -> None:
    """Each limit on its own; what gets better is no failure."""
    found = judge(samples(**what))  # type: ignore[arg-type]
    assert found["failed"] == failed
    assert found["verdict"] == ("fails" if failed else "holds")


def test_silence_and_leftovers_fail_too() -> None:
    """So do too few samples: nothing was judged."""
    assert judge(samples(), unanswered=["Where?"], leftovers=["process 7"])["failed"] == ["unanswered", "leftovers"]
    assert "pss_mb_per_hour" in judge(samples()[:1])["failed"]
    assert judge([])["verdict"] == "fails"
    assert [line[0] for line in rows(judge(samples()))] == ["stage", "voice"]


def test_a_node_that_fell_fails() -> None:
    """A crash gives back what had leaked, so that nothing seems to grow: the fall itself is named."""
    found = judge(samples(), fallen=["voice: exited: signal 9"])
    assert (found["verdict"], found["failed"], found["fallen"]) == ("fails", ["fallen"], ["voice: exited: signal 9"])
    assert judge(samples(), fallen=[])["verdict"] == "holds"


@pytest.fixture
def talk(tmp_path: Path) -> _Talk:
    """A visitor in a house of which only the log is used; this process stands for the supervisor."""
    house = House(tmp_path)
    house.kiosk = cast("Any", SimpleNamespace(pid=os.getpid()))
    house.page = cast("Any", SimpleNamespace(speaker=Loudspeaker()))
    return _Talk(house)


def test_who_fell_is_kept_when_the_log_is_forgotten(talk: _Talk) -> None:
    """Each fall is told once, also the one after the last sample; nodes that come up are none."""
    seen = talk._house.seen
    for state, reason in ((NodeState.STARTING, ""), (NodeState.READY, ""), (NodeState.DOWN, "stuck"), (NodeState.READY, "")):
        seen.add("bus nodes", NodeEvent(0, 1, "voice", state, 1, reason))
    assert len(talk.pass_time(0.0)) == 1
    seen.add("bus nodes", NodeEvent(0, 1, "stage", NodeState.GIVEN_UP, 9, "cannot work"))
    assert talk.fallen == ["voice down: stuck", "stage given_up: cannot work"]
    assert len(talk.pass_time(0.0)) == 1
    seen.add("bus nodes", NodeEvent(0, 1, "stage", NodeState.GIVEN_UP, 9, "cannot work", again=True))
    assert talk.fallen == ["voice down: stuck", "stage given_up: cannot work"]


def test_frames_that_come_while_the_processes_are_read_count_for_the_next_sample(talk: _Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is thrown away, none counts twice."""

    def read(_: int) -> float:
        talk._house.seen.add("page frame", (2, -1.0))
        return 1.0

    monkeypatch.setattr(_processes, "pss_mb", read)
    talk._house.seen.add("page frame", (1, -1.0))
    first, second = talk.pass_time(0.0)[0], talk.pass_time(0.0)[0]
    assert first.fps > 0
    assert second.fps > 0


def test_a_picture_is_late_against_its_sound_or_not_at_all() -> None:
    """The page holds an early one back; idle ones and those whose sample was never heard say nothing."""
    spans = [Span(1, 10 * S, 12 * S, 0)]
    pictures = [
        Picture(10 * S, VOICE_RATE),  # a second early
        Picture(11 * S + 30_000_000, VOICE_RATE),  # 30 ms late
        Picture(11 * S, -1.0),
        Picture(11 * S, 9.0 * VOICE_RATE),
    ]
    assert skews_ms(pictures, spans) == [0.0, 30.0]
