"""`visavis bench fleet`: what it refuses, and the store that it grows. The load is measured, not tested; its parts are in tests/fleet."""

from __future__ import annotations

import pytest

from fleet import history
from visavis.bench import fleet
from visavis.bench._fleet_growth import _Day, grow
from visavis.bench.report import BenchError, lines_of


@pytest.mark.unit
def test_what_can_be_killed():
    """Anything else is one line."""
    with pytest.raises(BenchError, match="broker, controller, device"):
        fleet.run(kill="broker,sun")


@pytest.mark.system
def test_a_store_is_grown_weighed_and_asked():
    """Rows and bytes by table, all queries of the console with answers, and a table that can be printed."""
    result = grow(devices=3, days=3, seed=1)
    days = [_Day(1), _Day(2), _Day(3)]  # a machine for each box
    assert result["rows_a_box_and_day"]["five_minutes"] == round(sum(len(day.five) for day in days) / 3)
    assert result["rows_a_box_and_day"]["raw"] == round(sum(len(day.raw) for day in days) / 3)
    assert all(10 < size < 1000 for size in result["bytes_a_row"].values())
    assert result["megabytes"] > 1
    assert all(found.n == 100 for found in result["query_ms"].values())
    assert any(line[0] == "query_ms · chart_of_a_week" for line in lines_of(result))


@pytest.mark.unit
def test_a_day_is_merged_as_the_controller_merges():
    """Counts and sums of the coarser tables agree with each other and are those of the samples that were not repetitions."""
    day = _Day(2)
    assert sum(row[5] for row in day.five) == sum(row[5] for row in day.hour) <= len(day.raw)
    assert sum(row[4] for row in day.five) == pytest.approx(sum(row[4] for row in day.hour))
    assert all(row[2] <= row[3] for row in day.five)
    assert {row[1] % history.RAW_MS for row in day.hour} == {hour * 3_600_000 for hour in range(24)}
