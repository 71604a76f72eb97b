"""The verdict of a soak: what grows, drifts or is left is named."""

from __future__ import annotations

import pytest

from runtime.messages import VOICE_RATE
from visavis.chaos.hearing import Span
from visavis.soak import Picture, Sample, judge, rows, skews_ms

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
