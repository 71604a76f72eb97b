"""When a box renews its certificate, as rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.telemetry.renewal import Facts, Pair, Renewal, Step, candidates, decide, failed, welcomed

pytestmark = pytest.mark.unit

DAY = 86_400_000
BEGIN = 1_790_000_000_000
OLD = Pair("configured", BEGIN, BEGIN + 30 * DAY, "00" * 32)
MONO = 10_000_000


def facts(day, *, mono=MONO, down=-1, pair=OLD, trial=False):
    now = None if day is None else BEGIN + round(day * DAY)
    return Facts(mono, now, down, pair, trial)


def test_it_asks_after_two_thirds_and_not_all_boxes_at_once():
    """Before, nothing; after, one request; the moment is spread over a tenth of the life by the certificate's own fingerprint."""
    assert decide(Renewal(), facts(19.9))[1] is Step.NOTHING
    assert decide(Renewal(), facts(20.1))[1] is Step.ASK
    late = replace(OLD, fingerprint="ff" * 32)
    assert decide(Renewal(), facts(22.9, pair=late))[1] is Step.NOTHING
    assert decide(Renewal(), facts(23.1, pair=late))[1] is Step.ASK


def test_it_asks_again_later_and_later():
    """After 15 minutes, 30, … at most 6 hours, until there is an answer."""
    renewal, step = decide(Renewal(), facts(21))
    waits, mono = [], MONO
    for _ in range(8):
        begin = mono
        while (found := decide(renewal, facts(21, mono=mono)))[1] is Step.NOTHING:
            mono += 60_000
        renewal, step = found
        assert step is Step.ASK
        waits.append((mono - begin) // 60_000)
    assert waits == [15, 30, 60, 120, 240, 360, 360, 360]


def test_a_clock_that_was_never_set_decides_nothing():
    """Nobody knows the time and the connection stands: nothing is due."""
    assert decide(Renewal(), facts(None))[1] is Step.NOTHING


def test_while_away_only_a_certificate_that_has_ended_asks_by_the_other_way():
    """Valid: wait for the network. Ended for five minutes without a connection: ask, every quarter of an hour or so."""
    assert decide(Renewal(), facts(29, down=0))[1] is Step.NOTHING
    assert decide(Renewal(), facts(31, down=MONO - 299_000))[1] is Step.NOTHING
    renewal, step = decide(Renewal(), facts(31, down=MONO - 300_000))
    assert step is Step.ASK_LATE
    assert decide(renewal, facts(31, mono=MONO + 600_000, down=0))[1] is Step.NOTHING
    assert decide(renewal, facts(31, mono=MONO + 1_200_000, down=0))[1] is Step.ASK_LATE


def test_a_box_in_1970_asks_by_the_other_way_after_an_hour():
    """It does not know whether its certificate has ended; the controller does."""
    assert decide(Renewal(), facts(None, down=MONO - 3_599_000))[1] is Step.NOTHING
    assert decide(Renewal(), facts(None, down=MONO - 3_600_000))[1] is Step.ASK_LATE


def test_a_trial_is_tried_once_and_becomes_the_pair():
    """It came: connect anew with it; let in, all begins anew."""
    renewal, step = decide(Renewal(asked=3, again_ms=MONO + 1), facts(21, trial=True))
    assert step is Step.TRY
    assert decide(renewal, facts(21, trial=True))[1] is Step.NOTHING  # it is on its way
    trial = Pair("trial", BEGIN + 21 * DAY, BEGIN + 51 * DAY)
    assert candidates([OLD, trial], renewal, MONO, None)[0] is trial
    assert welcomed(renewal, trial, MONO) == Renewal()


def test_a_trial_that_is_not_let_in_is_given_up_after_three_times():
    """Each time the old pair proves that it is not the network; then the trial is discarded, and a day passes."""
    renewal, mono = Renewal(), MONO
    trial = Pair("trial", BEGIN + 21 * DAY, BEGIN + 51 * DAY)
    for _ in range(3):
        while (found := decide(renewal, facts(21, mono=mono, trial=True)))[1] is not Step.TRY:
            mono += 60_000
        renewal = failed(found[0], trial, mono)
        assert candidates([OLD, trial], renewal, mono, None) == [OLD]
        renewal = welcomed(renewal, OLD, mono)
    renewal, step = decide(renewal, facts(21, mono=mono, trial=True))
    assert step is Step.DISCARD
    assert decide(renewal, facts(21, mono=mono + DAY - 1))[1] is Step.NOTHING
    assert decide(renewal, facts(21, mono=mono + DAY))[1] is Step.ASK


def test_a_network_that_is_gone_proves_nothing_against_a_trial():
    """Neither pair gets through, for as long as it may take: the trial is tried again and never given up."""
    renewal, mono = decide(Renewal(), facts(21, trial=True))[0], MONO
    trial = Pair("trial", BEGIN + 21 * DAY, BEGIN + 51 * DAY)
    shown = []
    for _ in range(100):
        pair = candidates([OLD, trial], renewal, mono, None)[0]
        shown.append(pair.source)
        renewal = failed(renewal, pair, mono)
        mono += 45_000
        renewal, step = decide(renewal, facts(21, mono=mono, down=MONO, trial=True))
        assert step is Step.NOTHING
    assert {"trial", "configured"} == set(shown)
    assert renewal.trials == 0


def test_the_pair_made_last_is_shown_and_one_that_has_ended_only_if_there_is_no_other():
    """A certificate that an admin put there by hand after the renewed one wins; an ended one comes last."""
    own = Pair("own", BEGIN + 20 * DAY, BEGIN + 50 * DAY)
    assert candidates([OLD, own], Renewal(), MONO, BEGIN + 21 * DAY) == [own, OLD]
    newer = replace(OLD, begins=BEGIN + 25 * DAY, ends=BEGIN + 28 * DAY)
    assert candidates([newer, own], Renewal(), MONO, BEGIN + 26 * DAY) == [newer, own]
    assert candidates([newer, own], Renewal(), MONO, BEGIN + 29 * DAY) == [own, newer]
    assert candidates([newer, own], Renewal(), MONO, None) == [newer, own]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.booleans(),
            st.booleans(),
            st.booleans(),
            st.integers(0, 7_200_000),
            st.sampled_from(["none", "failed", "welcomed"]),
        ),
        max_size=40,
    )
)
@settings(deadline=None)
def test_whatever_happens_something_can_be_shown_and_nothing_is_asked_in_a_hurry(steps):
    """Any sequence of times, losses and trials: there is a pair to show, and two requests are never closer than 11 minutes."""
    renewal, mono, last = Renewal(), MONO, -(10**9)
    trial = Pair("trial", BEGIN + 21 * DAY, BEGIN + 51 * DAY)
    for day, known, there, connected, wait, event in steps:
        mono += wait
        pairs = [OLD, trial] if there else [OLD]
        chosen = candidates(pairs, renewal, mono, None)[0]
        if event == "failed":
            renewal = failed(renewal, chosen, mono)
        elif event == "welcomed":
            renewal = welcomed(renewal, chosen, mono)
            last = -(10**9) if chosen.source == "trial" else last  # another certificate, another life
        down = -1 if connected else 0
        renewal, step = decide(renewal, facts(day if known else None, mono=mono, down=down, trial=there))
        if step in (Step.ASK, Step.ASK_LATE):
            assert not there
            assert step is (Step.ASK if connected else Step.ASK_LATE)
            if step is Step.ASK:
                assert mono - last >= 11 * 60_000
                last = mono
