"""What a box can set for its fleet, and what it says of the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime.telemetry as t
from runtime.bus import LinkError
from runtime.messages import Held
from runtime.telemetry.levers import Lever, Levers
from runtime.telemetry.page import Page
from runtime.telemetry.picture import Picture
from runtime.telemetry.times import time_zone
from tests.runtime.telemetry.support import HandTimes

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
    assert made()[1].apply({"pack": "coffee"})[1]["pack"] == "nothing on this box can set it"
    done, levers = made(error=OSError("/secret/path"))
    assert levers.apply({"health_s": 10}) == ({"health_s": 30.0, "log_level": "info"}, {"health_s": "the system refused (OSError)"})
    assert done == []


def test_a_command_holds_until_a_setting_names_it():
    """Settings of something else leave it alone; one that names it wins, and a command then says where it is held."""
    done, levers = made()
    assert levers.set("log_level", "debug") == ""
    assert levers.apply({"health_s": 10})[0] == {"health_s": 10, "log_level": "debug"}
    assert levers.apply({"log_level": "error"})[0] == {"health_s": 30.0, "log_level": "error"}
    assert "error" in levers.set("log_level", "debug")
    assert levers.apply({})[0] == {"health_s": 30.0, "log_level": "info"}
    assert [value for name, value in done if name == "log_level"] == ["debug", "error", "info"]
    assert levers.set("pack", "coffee") == "nothing on this box can set it"
    assert levers.set("colour", "red") == "unknown setting"


class Stage:
    """A stage that is there or not, and what it was told."""

    def __init__(self):
        self.there, self.told = True, []

    def send(self, setting):
        if not self.there:
            raise LinkError("the receiver has exited")
        self.told.append((setting.name, setting.value))


def test_the_page_is_told_what_it_begins_with():
    """Once what is changed; what the stage missed when it is back; all of it when it may be another one."""
    stage = Stage()
    page = Page(stage.send, lambda: 1, volume=0.9, languages=("en-GB", "de-DE"))
    levers = Levers(page.levers(), ALL)
    page.tick()
    assert stage.told == [("brightness", 1.0), ("language", "en-GB"), ("volume", 0.9)]
    stage.told.clear()
    wanted = {"volume": 1, "brightness": 0.2, "language": "de-DE"}
    assert levers.apply(wanted) == (wanted, {})
    assert levers.apply(wanted) == (wanted, {})
    assert sorted(stage.told) == [("brightness", 0.2), ("language", "de-DE"), ("volume", 1.0)]
    stage.told.clear()
    stage.there = False
    assert levers.apply({**wanted, "volume": 0.5})[1] == {}
    page.tick()
    stage.there = True
    page.tick()
    page.tick()
    assert stage.told == [("volume", 0.5)]
    page.again()
    assert stage.told[1:] == [("brightness", 0.2), ("language", "de-DE"), ("volume", 0.5)]
    stage.told.clear()
    assert levers.apply({})[0] == {"volume": 0.9, "brightness": 1.0, "language": "en-GB"}
    assert dict(stage.told) == {"volume": 0.9, "brightness": 1.0, "language": "en-GB"}


def test_what_is_held_runs_out_without_another_word():
    """The end is reported once, however the seconds are rounded; the seconds that are left go down although the governor says no more."""
    clock, changes = [0], []
    times = HandTimes()
    picture = Picture(lambda _: None, lambda: clock[0], times, named=False, changed=lambda: changes.append(picture.held))
    assert (picture.left_s, picture.held) == (0, None)
    rungs = ("512", "384")
    picture.heard(Held(0, 1, rungs, 0, -1, 0.0, 0))
    picture.heard(Held(0, 1, rungs, 0, 1, 60.0, 7))
    end = times.wall_ms() + 60_000
    picture.heard(Held(0, 1, rungs, 0, 1, 59.3, 7))
    clock[0] += 20 * 10**9
    assert (picture.left_s, picture.held, changes) == (40, (1, end), [(1, end)])
    clock[0] += 60 * 10**9
    assert picture.left_s == 0
    picture.heard(Held(0, 1, rungs, 0, -1, 0.0, 7))
    assert changes == [(1, end), None]


def test_what_this_page_cannot_is_refused_with_what_it_can():
    """A language that the pack does not have, and a screen so dark that it looks broken."""
    levers = Levers(Page(Stage().send, lambda: 1, volume=1.0, languages=("en-GB", "de-DE")).levers(), ALL)
    reported, refused = levers.apply({"language": "fr", "brightness": 0.1})
    assert reported == {"volume": 1.0, "brightness": 1.0, "language": "en-GB"}
    assert refused["language"] == "the pack does not have it; it has en-GB, de-DE"
    assert refused["brightness"].startswith("this box goes from 0.2")
    assert levers.set("language", "fr") == refused["language"]


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
