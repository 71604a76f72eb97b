"""What a box can set for its fleet, and what it says of the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime.telemetry as t
from runtime.telemetry.levers import Lever, Levers
from runtime.telemetry.times import time_zone

ALL = frozenset(t.Duty)
GOOD = {
    "health_s": 30,
    "backlog_hz": 10.5,
    "log_level": "debug",
    "volume": 0.5,
    "brightness": 1,
    "language": "de-CH",
    "pack": "coffee",
    "rung": 2,
}
BAD = {
    "health_s": 4,
    "backlog_hz": True,
    "log_level": "loud",
    "volume": 2,
    "brightness": "1",
    "language": "de\n",
    "pack": "../etc",
    "rung": 1.5,
}


def made(allow=ALL, error=None):
    """Two levers that note what they were set to."""
    done = []

    def health(value):
        if error is not None:
            raise error
        done.append(("health_s", value))

    return done, Levers(
        {"health_s": Lever(30.0, health), "log_level": Lever("info", lambda value: done.append(("log_level", value)))}, allow
    )


@pytest.mark.parametrize("name", GOOD)
def test_values_are_what_the_table_says(name):
    """Each setting takes a right value and gives one line for a wrong one."""
    assert t.wrong(name, GOOD[name]) == ""
    assert t.wrong(name, BAD[name])
    assert "\n" not in t.wrong(name, BAD[name])


def test_every_setting_has_an_example_here():
    """A new row of the table comes with a test."""
    assert {row.name for row in t.SETTINGS} == set(GOOD) == set(BAD)


def test_set_once_and_put_back():
    """A lever is moved when its value changes, and goes back to kiosk.toml's value when nothing is wanted any more."""
    done, levers = made()
    wanted = {"health_s": 10, "log_level": "debug"}
    assert levers.apply(wanted) == (wanted, {})
    assert levers.apply(wanted) == (wanted, {})
    assert levers.apply({"log_level": "debug"}) == ({"health_s": 30.0, "log_level": "debug"}, {})
    assert done == [("health_s", 10), ("log_level", "debug"), ("health_s", 30.0)]


def test_what_cannot_be_set_is_told_in_one_line():
    """No lever, no such setting, a wrong value, a duty that the box's owner does not allow, a system that refuses."""
    _, levers = made(frozenset({t.Duty.OBSERVE}))
    reported, refused = levers.apply({"health_s": 1, "log_level": "debug", "pack": "coffee", "colour": "red"})
    assert reported == {"health_s": 30.0, "log_level": "info"}
    assert refused["colour"] == "unknown setting"
    assert "allow" in refused["log_level"]
    assert ">= 5" in refused["health_s"]
    assert "pack_path" in made()[1].apply({"pack": "coffee"})[1]["pack"]
    done, levers = made(error=OSError("/secret/path"))
    assert levers.apply({"health_s": 10}) == ({"health_s": 30.0, "log_level": "info"}, {"health_s": "the system refused (OSError)"})
    assert done == []


@given(
    st.lists(st.dictionaries(st.sampled_from([*GOOD, "colour"]), st.sampled_from([*GOOD.values(), *BAD.values()]), max_size=4), max_size=6)
)
def test_the_report_is_what_the_levers_stand_at(sequence):
    """After any sequence, each lever stands where the report says, and everything wanted is either so or refused."""
    done, levers = made()
    for desired in sequence:
        reported, refused = levers.apply(desired)
        assert {"health_s": 30.0, "log_level": "info", **dict(done)} == reported
        assert all(name in refused or reported[name] == value for name, value in desired.items())


def test_the_time_zone_is_that_of_the_machine(tmp_path):
    """By the name that localtime links to; a machine that does not say has none."""
    link = tmp_path / "localtime"
    assert time_zone(link) == ""
    link.symlink_to("/usr/share/zoneinfo/America/Argentina/Salta")
    assert time_zone(link) == "America/Argentina/Salta"
