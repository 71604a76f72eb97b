"""When a box may be worked on: local time, nights, days, daylight saving, and each box's own delay."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.selection import Crowd, Face, Selection, matches
from fleet.windows import Window, is_open, own_window, share, zone

BERLIN, NEW_YORK = zone("Europe/Berlin"), zone("America/New_York")


def at(text, where=BERLIN):
    return round(datetime.datetime.fromisoformat(text).replace(tzinfo=where).timestamp() * 1000)


@pytest.mark.parametrize(
    ("begin", "end", "days", "now", "wanted"),
    [
        ("02:00", "05:00", (), "2026-07-31T02:00:00", True),
        ("02:00", "05:00", (), "2026-07-31T04:59:59", True),
        ("02:00", "05:00", (), "2026-07-31T05:00:00", False),
        ("22:00", "04:00", (), "2026-07-31T23:00:00", True),
        ("22:00", "04:00", (), "2026-08-01T03:59:00", True),
        ("22:00", "04:00", (), "2026-08-01T12:00:00", False),
        ("22:00", "04:00", (4,), "2026-08-01T03:00:00", True),  # began on Friday
        ("22:00", "04:00", (5,), "2026-08-01T03:00:00", False),
        ("00:00", "00:00", (), "2026-08-01T12:00:00", True),  # all day
        ("02:00", "03:00", (), "2026-03-29T03:00:00", False),  # the hour that does not exist
        ("02:00", "03:00", (), "2026-10-25T02:30:00", True),
    ],
)
def test_local_time(begin, end, days, now, wanted):
    """A window is of the box's own clock, may go over midnight, and belongs to the day on which it begins."""
    assert is_open(Window(begin=begin, end=end, days=days), BERLIN, at(now)) is wanted


def test_the_same_night_elsewhere():
    """Three in Berlin is not night in New York."""
    window = Window(begin="02:00", end="05:00")
    assert is_open(window, BERLIN, at("2026-07-31T03:00:00"))
    assert not is_open(window, NEW_YORK, at("2026-07-31T03:00:00"))
    assert is_open(window, NEW_YORK, at("2026-07-31T03:00:00", NEW_YORK))


@given(st.floats(0, 100_000), st.integers(0, 86_399), st.integers(0, 1439), st.integers(0, 1439))
def test_a_delay_only_opens_later(delay, second, begin, end):
    """With a delay a window is never open when it is closed without one, and is open in its second half whatever the delay."""
    window = Window(begin=f"{begin // 60:02}:{begin % 60:02}", end=f"{end // 60:02}:{end % 60:02}")
    now = at("2026-07-31T00:00:00", datetime.timezone.utc) + second * 1000
    late, early = is_open(window, datetime.timezone.utc, now, delay), is_open(window, datetime.timezone.utc, now)
    assert early or not late
    length = (end - begin) % 1440 * 60 or 86_400
    if early and (second - begin * 60) % 86_400 >= length / 2:
        assert late


@pytest.mark.parametrize("text", ["", "2-5", "02:00", "25:00-03:00", "02:00-05:00\n", "nachts", 7])
def test_a_window_that_cannot_be_read_is_none(text):
    """What a box tells is taken only if it is plain."""
    assert own_window({"maintenance": text}) is None


def test_what_boxes_tell():
    """`maintenance` is a window, a zone has to exist, a share is always the same."""
    assert own_window({"maintenance": "02:00-05:00"}) == Window(begin="02:00", end="05:00")
    assert zone("Mars/Olympus") is None
    assert zone("../../etc/passwd") is None
    assert zone("") is None
    assert share("a", "b") == share("a", "b") != share("ab")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, True),
        ({"name": "shop-*"}, True),
        ({"name": "shop-1?"}, True),
        ({"name": "hop-12"}, False),
        ({"name": "shop.12"}, False),
        ({"site": "Bern"}, True),
        ({"site": "Basel"}, False),
        ({"site": "Bern", "model": "Orin", "release": "1.2"}, True),
        ({"site": "Bern", "release": "1.3"}, False),
        ({"boxes": ("shop-12", "shop-13")}, True),
        ({"boxes": ("shop-13",)}, False),
    ],
)
def test_selections(wanted, found):
    """All fields that are set have to match; a name may have * and ?, and nothing else of it is special."""
    assert matches(Selection(**wanted), Face("shop-12", "Bern", "Orin", "1.2")) is found


NAMES = st.text("ab1-", min_size=1, max_size=4)
PLACES = st.sampled_from(["", "Bern", "Basel"])
SELECTIONS = st.builds(
    Selection,
    name=st.one_of(st.just(""), NAMES, NAMES.map(lambda text: f"{text}*"), st.text("ab1-*?", max_size=4)),
    site=PLACES,
    model=st.sampled_from(["", "Orin"]),
    release=st.sampled_from(["", "1.2"]),
    boxes=st.lists(NAMES, max_size=3).map(tuple),
)
FACES = st.builds(Face, NAMES, PLACES, st.sampled_from(["Orin", "RTX"]), st.sampled_from(["1.2", "1.3"]))


@given(st.lists(FACES, max_size=12, unique_by=lambda face: face.name), st.lists(SELECTIONS, max_size=5))
def test_a_crowd_finds_what_looking_at_each_finds(boxes, selections):
    """However boxes and selections are mixed, those that match and no others, by name."""
    crowd = Crowd(boxes)
    for selection in selections:
        assert crowd.select(selection) == sorted((face for face in boxes if matches(selection, face)), key=lambda face: face.name)
