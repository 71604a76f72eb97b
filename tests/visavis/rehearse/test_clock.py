"""The recording's clock against CLOCK_MONOTONIC."""

from __future__ import annotations

import numpy as np
import pytest

from visavis.rehearse.room import RATE, clock_line

BLOCK = 480
FRAME = 6
"""Bytes: three channels of 16 bits."""


@pytest.mark.parametrize("drift", [-2e-4, 0.0, 1e-4])
def test_drift_and_start_are_found_under_jitter(drift):
    """Blocks that come late, never early, from a timer that runs a little wrong: both are found within a millisecond over minutes."""
    late = np.random.default_rng(1).exponential(2e6, 20_000)
    arrivals = [
        (5_000_000_000 + round(i * BLOCK / RATE * (1 + drift) * 1e9 + late[i]), i * BLOCK * FRAME, BLOCK * FRAME) for i in range(len(late))
    ]
    start_ns, found = clock_line(arrivals)
    assert abs(start_ns - 5_000_000_000) < 1_000_000
    assert abs(found - drift) * (BLOCK / RATE) * len(late) < 0.001
