"""Figures of the last turns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.telemetry.turns import Recent

MINUTE = 60 * 10**9


def record(**after):
    """A turn record with these times after the end of speech."""
    return {"stages": dict.fromkeys(after, 1), "after_speech_end_ms": after}


def test_quantiles_by_stage():
    """Median and 95th percentile of each known stage; unknown ones do not leave the box."""
    recent = Recent()
    for number in range(1, 101):
        recent.add(record(sound_heard=float(number), zanzibar=1.0), 0)
    figures = recent.figures(0)
    assert set(figures.stages) == {"sound_heard"}
    spread = figures.stages["sound_heard"]
    assert (spread.p50, spread.p95, spread.n) == (50.0, 95.0, 100)


def test_old_turns_and_turns_without_speech():
    """After half an hour a turn no longer counts; a typed one has no times; what the visitor stopped is counted for good."""
    recent = Recent()
    recent.add(record(sound_heard=500.0, stop=900.0), 0)
    recent.add({"stages": {"granted": 1}}, 20 * MINUTE)
    assert recent.figures(30 * MINUTE).stages["sound_heard"].n == 1
    figures = recent.figures(31 * MINUTE)
    assert (figures.stages, figures.aborted) == ({}, 1)


@given(st.lists(st.floats(0, 60_000), min_size=1, max_size=300))
def test_quantiles_are_among_the_times(times):
    """Each figure is a time that was measured, and the median is not above the 95th percentile."""
    recent = Recent()
    for time in times:
        recent.add(record(granted=time), 0)
    spread = recent.figures(0).stages["granted"]
    last = times[-200:]
    assert spread.p50 in last
    assert spread.p95 in last
    assert spread.p50 <= spread.p95
    assert sum(time <= spread.p95 for time in last) >= 0.95 * len(last)
