"""The settings boxes should have: precedence, versions, what is sent, what differs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime.telemetry as t
from fleet import desired
from fleet.desired import Group, effective
from fleet.drift import drift, views
from fleet.errors import BadRequest
from fleet.selection import Face, Selection, matches
from tests.fleet.boxes import NOW, Boxes

pytestmark = pytest.mark.unit


def group(name, settings, *, priority=0, changed=NOW, **selection):
    return Group(name=name, priority=priority, selection=Selection(**selection), settings=settings, author="anna", changed=changed)


@pytest.fixture
def boxes(db):
    made = Boxes(db)
    made.come("bern-1", "bern-2")
    made.come("basel-1", site="Basel")
    return made


def test_precedence():
    """Its own settings win over groups, a higher priority over a lower one, among equals the first name; each setting by itself."""
    face = Face("bern-1", "Bern", "Orin", "1.2")
    rules = [
        group("a", {"health_s": 1, "volume": 0.1, "log_level": "info"}),
        group("b", {"health_s": 2, "volume": 0.2, "brightness": 0.2}),
        group("c", {"volume": 0.3}, priority=5, site="Bern"),
        group("d", {"volume": 0.4}, priority=9, site="Basel"),
    ]
    assert effective({"log_level": "debug"}, rules, face) == (
        {"health_s": 1, "volume": 0.3, "brightness": 0.2, "log_level": "debug"},
        {"health_s": "a", "volume": "c", "brightness": "b", "log_level": ""},
    )


values = st.dictionaries(st.sampled_from(["health_s", "volume", "rung"]), st.integers(0, 9), max_size=3)
rules_of_any_kind = st.lists(
    st.builds(group, st.sampled_from("abcdef"), values, priority=st.integers(0, 2), site=st.sampled_from(["", "Bern", "Basel"])),
    unique_by=lambda one: one.name,
)


@given(values, rules_of_any_kind, st.randoms())
def test_precedence_does_not_depend_on_the_order(own, rules, random):
    """However the groups come, each setting is from the first that names it: the box, then by priority, then by name."""
    face = Face("bern-1", "Bern", "Orin", "1.2")
    found = effective(own, rules, face)
    shuffled = list(rules)
    random.shuffle(shuffled)
    assert effective(own, shuffled, face) == found
    for name, value in found[0].items():
        named = sorted(
            (-one.priority, one.name, one.settings[name]) for one in rules if matches(one.selection, face) and name in one.settings
        )
        assert value == (own[name] if name in own else named[0][2])
    assert set(found[0]) == set(own).union(*(one.settings for one in rules if matches(one.selection, face)))


@pytest.mark.usefixtures("boxes")
def test_only_those_for_whom_it_changes_get_a_new_version(db):
    """A group for a site changes its boxes alone; the same group again changes nobody; taken back, the boxes go back."""
    assert desired.due(db) == []
    assert desired.put_group(db, group("bern", {"health_s": 60}, site="Bern")) == {"bern-1", "bern-2"}
    first = dict(desired.due(db))
    assert first["bern-1"] == t.Shadow(version=NOW, desired={"health_s": 60})
    assert "basel-1" not in first
    assert desired.put_group(db, group("bern", {"health_s": 60}, site="Bern", changed=NOW + 1)) == set()
    assert desired.put_own(db, "bern-1", {"health_s": 60}, NOW + 2) == set()
    assert desired.of_box(db, "bern-1").origin == {"health_s": ""}
    assert desired.remove_group(db, "bern", NOW + 3) == {"bern-2"}
    assert dict(desired.due(db))["bern-2"] == t.Shadow(version=NOW + 3, desired={})
    assert desired.put_own(db, "bern-1", {"health_s": None}, NOW) == {"bern-1"}
    assert dict(desired.due(db))["bern-1"] == t.Shadow(version=NOW + 1, desired={})  # higher, though the clock says the same


def test_a_box_that_moves(db, boxes):
    """A box that tells another site has what is wanted there."""
    desired.put_group(db, group("basel", {"health_s": 60}, site="Basel"))
    assert boxes.say("bern-1", t.UpKind.BIRTH, t.Birth(attributes={"site": "Basel"}), ts=NOW + 5).born == {"bern-1"}
    assert desired.refresh(db, NOW + 9, ("bern-1", "bern-2")) == {"bern-1"}
    assert desired.refresh(db, NOW + 10) == set()
    assert desired.of_box(db, "bern-1").wanted == {"health_s": 60}


def test_what_differs(db, boxes):
    """Pending until the box has reported this version; then the same, or what differs with the box's reason."""
    desired.put_group(db, group("all", {"health_s": 60, "volume": 0.5}))
    assert drift(db).states == {"same": 0, "pending": 3, "differs": 0}
    boxes.report("bern-1", NOW, {"health_s": 60.0, "volume": 0.5})
    boxes.report("bern-2", NOW, {"health_s": 30}, {"volume": "nothing on this box can set it"})
    found = drift(db)
    assert found.states == {"same": 1, "pending": 1, "differs": 1}
    assert [(box.device, box.state) for box in found.boxes] == [("bern-2", "differs"), ("basel-1", "pending")]
    (health, volume) = found.boxes[0].differences
    assert (health.name, health.wanted, health.found, health.reason) == ("health_s", 60, 30, "")
    assert (volume.found, volume.reason) == (None, "nothing on this box can set it")
    (view,) = views(db)
    assert (view.same, view.pending, view.differs) == (1, 1, 1)
    assert [name for name, _ in desired.due(db)] == ["basel-1"]
    assert desired.of_box(db, "bern-1").state == "same"
    assert desired.due(db, ["bern-1", "bern-2"]) == []


def test_a_group_is_judged_by_what_is_its_own(db, boxes):
    """What a box has otherwise of its own wishes, or of a group that wins, does not count for the others; what it refuses does."""
    desired.put_group(db, group("all", {"health_s": 60, "volume": 0.5}))
    desired.put_group(db, group("bern", {"volume": 0.2}, priority=5, site="Bern"))
    desired.put_own(db, "bern-1", {"brightness": 0.9}, NOW)
    for name, told, refused in (
        ("bern-1", {"health_s": 60, "volume": 0.2, "brightness": 0.5}, {}),
        ("bern-2", {"health_s": 60, "volume": 0.7}, {}),
        ("basel-1", {"health_s": 60, "volume": 0.5}, {"health_s": "not for long"}),
    ):
        boxes.report(name, desired.of_box(db, name).version, told, refused)
    found = {view.group.name: (view.same, view.pending, view.differs) for view in views(db)}
    assert found == {"bern": (1, 0, 1), "all": (2, 0, 1)}
    page = drift(db)
    assert page.states == {"same": 0, "pending": 0, "differs": 3}
    assert [box.device for box in page.boxes] == ["basel-1", "bern-1", "bern-2"]
    assert [box.device for box in drift(db, 2).boxes] == ["basel-1", "bern-1"]
    assert [box.state for box in desired.of_boxes(db, ["bern-2", "nobody"])] == ["differs"]


def test_a_rung_that_is_held_stands_beside_the_settings(db, boxes):
    """Until when by the box's clock; it is no difference, and the next report without it ends it."""
    desired.put_own(db, "bern-1", {"rung": 1}, NOW)
    boxes.say("bern-1", t.UpKind.SHADOW, t.Reported(version=NOW, reported={"rung": 1}, held_rung=2, held_until=NOW + 60_000))
    found = desired.of_box(db, "bern-1")
    assert (found.state, found.held) == ("same", desired.HeldRung(rung=2, until=NOW + 60_000))
    boxes.report("bern-1", NOW, {"rung": 1})
    assert desired.of_box(db, "bern-1").held is None


def test_the_newest_report_counts(db, boxes):
    """What waited on the box does not overwrite what is newer; a box that lost its memory tells its old version and is told anew."""
    desired.put_own(db, "bern-1", {"health_s": 60}, NOW)
    boxes.report("bern-1", NOW, {"health_s": 60}, ts=NOW + 10)
    boxes.report("bern-1", NOW - 5, {"health_s": 30}, ts=NOW + 5, hist=True)
    assert desired.of_box(db, "bern-1").state == "same"
    boxes.report("bern-1", 0, {"health_s": 30}, ts=NOW + 20)
    assert desired.of_box(db, "bern-1").state == "pending"
    assert [name for name, _ in desired.due(db)] == ["bern-1"]


def test_a_store_that_was_put_back(db, boxes):
    """A box with a higher version than the store gives would ignore it: the next one is above that."""
    desired.put_own(db, "bern-1", {"health_s": 60}, NOW)
    boxes.report("bern-1", NOW + 1000, {"health_s": 60})
    assert desired.refresh(db, NOW + 5) == {"bern-1"}
    assert desired.of_box(db, "bern-1").version == NOW + 1001


def test_a_version_without_a_next_one(db):
    """An older store that took one does not end the controller."""
    Boxes(db).come("bern-1")
    desired.put_own(db, "bern-1", {"health_s": 60}, NOW)
    with db.write() as tx:
        tx.run("UPDATE device SET reported_version = ? WHERE name = 'bern-1'", 2**63 - 1)
    assert desired.refresh(db, NOW + 5) == {"bern-1"}
    assert desired.of_box(db, "bern-1").version == 2**62 + 1
    assert desired.refresh(db, NOW + 6) == set()


def test_boxes_that_are_away_get_it_later(db, boxes):
    """Nothing is due for a box that is not online."""
    boxes.go("bern-1")
    desired.put_group(db, group("all", {"health_s": 60}))
    assert {name for name, _ in desired.due(db)} == {"bern-2", "basel-1"}
    boxes.come("bern-1")
    assert {name for name, _ in desired.due(db, ["bern-1"])} == {"bern-1"}


@pytest.mark.parametrize(
    ("settings", "text"),
    [({}, "at least one"), ({"colour": "red"}, "unknown setting"), ({"health_s": 1}, "health_s: "), ({"volume": "loud"}, "volume: ")],
)
def test_groups_that_cannot_be(db, settings, text):
    """Only settings of the catalogue with values that may be; one line says what is wrong."""
    with pytest.raises(BadRequest, match=text) as caught:
        desired.put_group(db, group("all", settings))
    assert "\n" not in str(caught.value)
    with pytest.raises(BadRequest, match="cannot name"):
        desired.put_group(db, group("a/b", {"health_s": 60}))
    with pytest.raises(BadRequest, match="no group"):
        desired.remove_group(db, "none", NOW)
    with pytest.raises(BadRequest, match="no box"):
        desired.put_own(db, "none", {"health_s": 60}, NOW)
