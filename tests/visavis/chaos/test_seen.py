"""The log of what came: what is forgotten, and what is not."""

from __future__ import annotations

import pytest

from runtime.messages import Floor, Posture, Session
from visavis.chaos.seen import Seen

pytestmark = pytest.mark.unit


def floor(turn: int) -> Floor:
    """The floor while `turn` has it."""
    return Floor(turn, 0, Posture.SPEAKING, Session.ENGAGED, 1, 0)


def test_the_newest_of_a_kind_is_not_forgotten() -> None:
    """A floor that was told long ago still holds: without it, an answer to an older turn would pass for the next one's."""
    seen = Seen()
    for turn in (4, 5):
        seen.add("bus floor", floor(turn))
    seen.add("page frame")
    seen.forget(seen.mark())
    newest = seen.last("bus floor")
    assert newest is not None
    assert newest.what.turn == 5
    assert seen.all("bus floor") == []
    assert seen.wait("bus floor", since=0, limit_s=0.0) is None
    assert seen.last("bus heard") is None


def test_what_lies_between_two_marks() -> None:
    """Each entry is in one stretch, also where others were forgotten."""
    seen = Seen()
    seen.add("page frame", 1)
    first = seen.mark()
    seen.add("page frame", 2)
    seen.forget(first)
    second = seen.mark()
    seen.add("page frame", 3)
    assert [entry.what for entry in seen.all("page frame", first, second)] == [2]
    assert [entry.what for entry in seen.all("page frame", second)] == [3]
    assert seen.all("page frame", 0, first) == []
