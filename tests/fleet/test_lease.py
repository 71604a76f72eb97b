"""Who leads of several controllers: one at a time, the next soon after it died, by no clock but one's own."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.database import open_database
from fleet.lease import LEASE_MS, RENEW_MS, Lease

pytestmark = pytest.mark.unit


class Shared:
    """A store that says that others may use it: the rules are the same on both kinds."""

    shared = True

    def __init__(self, db):
        self.write = db.write


@pytest.fixture
def two(db):
    """Two controllers whose clocks have nothing in common."""
    store = Shared(db)
    return Lease(store, "main", "a"), Lease(store, "main", "b")


def test_one_leads_and_the_next_takes_over(two):
    """The first leads as long as it counts; when it stops, the other does after LEASE_MS of its own clock, then the first no more."""
    a, b = two
    assert a.leads(0)
    for step in range(10):
        assert a.leads(step * RENEW_MS)
        assert not b.leads(1_000_000 + step * RENEW_MS)
    last = 1_000_000 + 9 * RENEW_MS
    assert not b.leads(last + LEASE_MS - 1)
    assert b.leads(last + LEASE_MS)
    assert b.after_crash
    assert not a.leads(10 * RENEW_MS)
    assert not a.held(10 * RENEW_MS)
    assert b.held(last + LEASE_MS)


def test_whoever_cannot_count_knows_it_first(two, db):
    """Without the store a leader is no longer sure before another can take over; in a transaction the store itself says who leads."""
    a, b = two
    assert a.leads(0)
    assert not b.leads(500)  # sees it for the first time half a second later
    assert a.held(LEASE_MS - RENEW_MS - 1)
    assert not a.held(LEASE_MS - RENEW_MS)
    assert b.leads(500 + LEASE_MS)
    with db.write() as tx:
        assert not a.holds(tx)
        assert b.holds(tx)


def test_a_lease_that_was_given_back(two, db):
    """The other leads at once; giving back what another holds does nothing; who gave it back does not take it again."""
    a, b = two
    assert a.leads(0)
    Lease(Shared(db), "main", "c").release()
    assert not b.leads(1)
    a.release()
    assert not a.held(1)
    assert b.leads(2)
    assert not b.after_crash
    b.release()
    assert not a.leads(LEASE_MS + 3)


def test_one_that_hears_nobody(two):
    """It leads on until one that hears the boxes asks, and lets that one lead, in order. If none does, somebody leads all the same."""
    a, b = two
    assert a.leads(0)
    assert a.leads(3, hears=False)
    assert not b.leads(4, hears=False)
    assert a.leads(6, hears=False)  # nobody is better
    assert not b.leads(7)  # asks
    assert not b.leads(7)
    assert not a.leads(9, hears=False)
    assert not a.held(9)
    assert not a.leads(9, hears=False)  # it does not take back at once what it gave
    assert b.leads(10)
    assert not b.after_crash
    assert not a.leads(12)  # it hears them again, and asks for nothing
    assert b.leads(13)
    b.release()
    assert not a.leads(15, hears=False)
    assert a.leads(15 + LEASE_MS, hears=False)
    assert not a.after_crash


def test_one_that_hears_the_boxes_again_in_time(two):
    """Asked to hand over, it hears them again: it goes on, and what was asked is forgotten."""
    a, b = two
    assert a.leads(0)
    assert a.leads(3, hears=False)
    assert not b.leads(4)
    assert a.leads(6)
    assert a.leads(9, hears=False)
    assert not b.leads(9, hears=False)
    assert a.leads(12, hears=False)


def test_one_that_hears_nobody_and_dies(two):
    """That somebody asked of it does not make it live longer."""
    a, b = two
    assert a.leads(0)
    assert a.leads(3, hears=False)
    assert not b.leads(4)
    assert not b.leads(7)
    assert not b.leads(3 + LEASE_MS)
    assert b.leads(4 + LEASE_MS)
    assert b.after_crash


def test_a_store_of_ones_own(tmp_path):
    """A file has one controller: it leads without asking, also after it crashed."""
    db = open_database(tmp_path / "fleet.db")
    for holder in ("a", "b"):
        lease = Lease(db, "main", holder)
        assert lease.held(0)
        assert lease.leads(0)
        with db.write() as tx:
            assert lease.holds(tx)
        lease.release()
    assert db.read("SELECT * FROM memo") == []
    db.close()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9_000), st.booleans()), max_size=60))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_never_two(db, steps):
    """Whoever asks whenever, with clocks that are offset: at no moment are two sure that they lead."""
    with db.write() as tx:
        tx.run("DELETE FROM memo")
    now, offsets = 0, (0, 10**9, 77)
    leases = [Lease(Shared(db), "main", name) for name in "abc"]
    for who, pause, hears in steps:
        now += pause
        leases[who].leads(now + offsets[who], hears=hears)
        assert sum(lease.held(now + offset) for lease, offset in zip(leases, offsets, strict=True)) <= 1
