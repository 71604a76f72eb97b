"""What a box is like now, whatever the order in which its reports come."""

from __future__ import annotations

import random
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.present import Marks, merge

pytestmark = pytest.mark.unit

REPORTS = st.lists(
    st.tuples(st.booleans(), st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9), max_size=4)), min_size=1, max_size=12
)


def known(reports):
    """After these reports (number, whole, values, boot), in this order."""

    def step(state, report):
        seq, whole, values, boot, ts = report
        return merge(*state, values, whole=whole, boot=boot, seq=seq, ts=ts)

    return reduce(step, reports, ({}, Marks(), 0))


@given(REPORTS, st.randoms(use_true_random=False))
def test_any_order(told, rng: random.Random):
    """However the reports of one start are mixed, the present is the same as in order, and as old as the last of them."""
    reports = [(seq, whole, values, "b1", 1000 + seq) for seq, (whole, values) in enumerate(told, 1)]
    mixed = reports[:]
    rng.shuffle(mixed)
    health, _, ts = known(mixed)
    assert health == known(reports)[0]
    assert ts == 1000 + len(reports)


@given(REPORTS, REPORTS)
def test_starts(before, after):
    """What a box told before it started again says nothing about what it told since."""
    old = [(seq, whole, values, "b1", seq) for seq, (whole, values) in enumerate(before, 1)]
    new = [(seq, whole, values, "b2", 1000 + seq) for seq, (whole, values) in enumerate(after, 1)]
    for late in range(len(old)):
        assert known(old[:late] + new + old[late:])[0] == known(old[:late] + new)[0]


def test_a_clock_that_is_set_back():
    """Within a start the numbers count, not the clock: a newer report with an earlier time is the present."""
    health, _, ts = known([(1, True, {"a": 1}, "b1", 5000), (2, False, {"a": 2}, "b1", 3000)])
    assert (health, ts) == ({"a": 2}, 3000)


def test_a_repeated_report():
    """The same report again changes nothing."""
    reports = [(1, True, {"a": 1}, "b1", 1), (2, False, {"a": 2}, "b1", 2)]
    assert known([*reports, *reports]) == known(reports)
