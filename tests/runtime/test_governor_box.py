"""From a box to the governor's readings and ladder, and from one ladder to another."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest

from firmware.readings import CapKind, Event, Fan, Rail, Snapshot, State, Temperature, Throttle
from firmware.sensors import Sensors
from runtime.config import Language
from runtime.governor import Rules, begin, decide
from runtime.governor_box import (
    Reach,
    carried,
    cooler_modes,
    has_no_thermometer,
    in_words,
    kind_of,
    ladder_of,
    memory_mb,
    model_is_here,
    model_share,
    readings_of,
)
from runtime.governor_ladder import LOOP, Setting
from runtime.messages import RungSize
from tests.firmware import trees

pytestmark = pytest.mark.unit

RUNGS = (RungSize("512", 512, 512), RungSize("384", 384, 384), RungSize("256", 256, 256))
PLAIN = Reach(kind="orin-nano", rungs=RUNGS, fps=30.0)
NOTHING = Snapshot()


def throttle(kind: CapKind) -> Throttle:
    return Throttle(name="x", kind=kind, active=True)


def test_an_orin_is_known_by_its_name_and_read(tmp_path: Path) -> None:
    """Board, margins, fan, rails and memory of a tree; a zone without a limit has no margin."""
    root = trees.orin(tmp_path)
    trees.write(root / "proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    trees.write(root / "proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable:    1048576 kB")
    snapshot = Sensors(root, nvml=False).read()
    assert kind_of(root, snapshot) == "agx-orin"
    readings = readings_of(snapshot, memory=memory_mb(root), frames=30, late=1, speaking=True)
    assert readings.margins["cpu-thermal"] == pytest.approx(99.0 - 54.312)
    assert readings.margins["tboard-thermal"] is None
    assert (readings.throttled, readings.capped, readings.fan_rpm, readings.memory_mb) == (False, False, 1410, 1024.0)
    assert readings.power_w == pytest.approx(5.94)
    assert (readings.frames, readings.late, readings.speaking) == (30, 1, True)


def test_what_is_not_told_is_none(tmp_path: Path) -> None:
    """An empty tree throttles neither, nor not."""
    readings = readings_of(NOTHING, memory=memory_mb(tmp_path))
    assert (readings.throttled, readings.capped, readings.fan_rpm, readings.memory_mb, readings.power_w) == (None, None, None, None, None)
    assert kind_of(tmp_path, NOTHING) == "pc"


def test_heat_emergencies_and_alarming_counters_are_throttling_a_power_limit_is_not() -> None:
    """As the firmware names them."""
    for kind, throttled, capped in ((CapKind.HEAT, True, False), (CapKind.EMERGENCY, True, False), (CapKind.POWER, False, True)):
        readings = readings_of(Snapshot(throttles=(throttle(kind),)))
        assert (readings.throttled, readings.capped) == (throttled, capped)
    for alarming in (True, False):
        event = Event(name="oc1", meaning="", total=5, new=2, alarming=alarming)
        assert readings_of(Snapshot(events=(event,))).throttled is alarming


def test_the_slowest_fan_and_the_largest_rail_count() -> None:
    """One fan that stands is a fan that stands."""
    snapshot = Snapshot(fans=(Fan(name="a", rpm=900), Fan(name="b", rpm=0), Fan(name="c", duty=0.5)), rails=(Rail(name="a", watts=3.0),))
    assert readings_of(snapshot).fan_rpm == 0
    assert readings_of(snapshot).power_w == 3.0


def test_a_graphics_card_makes_an_rtx_box(tmp_path: Path) -> None:
    """NVML names the card."""
    card = Temperature(name="NVIDIA GeForce RTX 4060", source="nvml", state=State.OK, celsius=50.0)
    assert kind_of(tmp_path, Snapshot(temperatures=(card,))) == "rtx"


def test_only_an_unknown_machine_without_any_sensor_has_nothing_to_read() -> None:
    """A Jetson that tells nothing is broken, and so is a sensor that cannot be read."""
    broken = Temperature(name="x", source="zone", state=State.UNREADABLE)
    assert has_no_thermometer("pc", NOTHING)
    assert not has_no_thermometer("orin-nano", NOTHING)
    assert not has_no_thermometer("pc", Snapshot(temperatures=(broken,)))
    unlimited = Temperature(name="x", source="hwmon", state=State.OK, celsius=40.0)
    limited = Temperature(name="y", source="hwmon", state=State.OK, celsius=40.0, slows_c=90.0)
    assert has_no_thermometer("pc", Snapshot(temperatures=(unlimited,)))
    assert not has_no_thermometer("pc", Snapshot(temperatures=(unlimited, limited)))
    assert not has_no_thermometer("pc", Snapshot(temperatures=(unlimited, broken)))
    assert not has_no_thermometer("orin-nano", Snapshot(temperatures=(unlimited,)))


@pytest.mark.parametrize(
    ("now", "names", "expected"),
    [
        ("MAXN", ("MAXN", "15W", "7W"), ("MAXN", "15W", "7W")),
        ("15W", ("MAXN", "7W", "15W", "25W"), ("15W", "7W")),
        ("MAXN_SUPER", ("10W", "MAXN_SUPER", "25W"), ("MAXN_SUPER", "25W", "10W")),
        ("15W", ("15W",), ("15W",)),
        ("DESKTOP", ("DESKTOP", "15W"), ()),
    ],
)
def test_only_modes_of_fewer_watts_are_steps_down(now: str, names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """The mode that the owner chose is the best one."""
    assert cooler_modes(now, names) == expected


def test_levers_are_those_of_the_reach() -> None:
    """A model only where it runs on this box, and no camera: nothing sets its rate."""
    plain = ladder_of(PLAIN, NOTHING)
    assert [lever.name for lever in plain.profile.levers] == ["rung", "fps"]
    full = ladder_of(msgspec.structs.replace(PLAIN, fan=True, modes=("25W", "15W")), Snapshot(fans=(Fan(name="a", duty=0.25),)))
    assert [lever.name for lever in full.profile.levers] == ["rung", "fps", "fan", "mode"]
    assert full.setting(full.heat.at[0]) == Setting("512", 30.0, None, None, 0.25, "25W")
    talks = ladder_of(msgspec.structs.replace(PLAIN, model=True), NOTHING)
    assert [lever.name for lever in talks.profile.levers] == ["rung", "fps", "llm"]
    assert talks.memory.steps == ()  # a shorter answer frees no memory


def test_the_models_share_goes_down_before_the_picture() -> None:
    """On every box with a model of its own: all of it, then less, then the picture; without one there is nothing to share."""
    for kind in ("orin-nano", "agx-orin", "rtx", "pc"):
        ladder = ladder_of(msgspec.structs.replace(PLAIN, kind=kind, model=True), NOTHING)
        shares = [round(model_share(ladder, ladder.setting(levels)), 3) for levels in ladder.heat.at]
        assert (shares[0], shares[1], shares[-1]) == (1.0, 0.6, 0.0)
        assert ladder.setting(ladder.heat.at[1]).rung == "512"
    assert model_share(ladder_of(PLAIN, NOTHING), Setting("384")) == 1.0


@pytest.mark.parametrize(
    ("engine", "url", "here"),
    [
        ("auto", "http://127.0.0.1:8080/v1", True),
        ("openai", "http://localhost:11434/v1", True),
        ("auto", "http://[::1]:8080/v1", True),
        ("auto", "https://api.example.com/v1", False),
        ("auto", "http://127.example.com/v1", False),
        ("grounded", "http://127.0.0.1:8080/v1", False),
        ("auto", "http://[", False),
        ("auto", "", False),
    ],
)
def test_only_a_model_on_this_machine_heats_it(engine: Literal["auto", "grounded", "openai"], url: str, here: bool) -> None:
    """By the address of its server."""
    assert model_is_here(Language(engine=engine, base_url=url)) is here


@pytest.mark.parametrize("kind", ["orin-nano", "agx-orin", "rtx"])
def test_a_blind_box_goes_to_its_safe_setting(kind: str) -> None:
    """What model and camera draw counts although nothing sets their rates: blind, the box does less than its best, and still draws."""
    ladder = ladder_of(msgspec.structs.replace(PLAIN, kind=kind), NOTHING)
    assert 0 < ladder.safe < len(ladder.heat.steps)
    rules = Rules()
    state = begin(ladder, rules)
    for second in range(600):
        state, setting, _ = decide(ladder, rules, state, readings_of(NOTHING), second * 1_000_000_000)
    assert setting != ladder.setting(ladder.heat.at[0])
    assert not setting.loop


@pytest.mark.parametrize("steps", range(5))
@pytest.mark.parametrize(
    "more", [{"model": True}, {"fan": True}, {"modes": ("MAXN", "15W", "10W")}, {"fps": 25.0}, {"rungs": RUNGS[1:]}, {"rungs": RUNGS[:1]}]
)
def test_nothing_gets_better_on_another_ladder(steps: int, more: dict[str, object]) -> None:
    """Whatever lever comes or goes, in both directions: of what both ladders have, no lever is better than it was."""
    one, other = ladder_of(PLAIN, NOTHING), ladder_of(msgspec.structs.replace(PLAIN, **more), NOTHING)
    for old, new in ((one, other), (other, one)):
        state = begin(old, Rules())
        taken = min(steps, len(old.heat.steps))
        levels = old.heat.at[taken]
        queue = msgspec.structs.replace(state.heat, steps=taken)
        state = msgspec.structs.replace(state, heat=queue, levels=levels, setting=old.setting(levels))
        after = carried(old, state, new)
        assert after.setting == new.setting(after.levels)
        for lever in new.profile.levers:
            before = getattr(state.setting, lever.name)
            had = next((one.levels for one in old.profile.levers if one.name == lever.name), (before,))
            if before in lever.levels and before != had[0]:  # what was at its best gave nothing up
                assert lever.levels.index(getattr(after.setting, lever.name)) >= lever.levels.index(before)
    assert carried(one, begin(one, Rules()), other) == begin(other, Rules())


def test_a_setting_in_words() -> None:
    """What is not a lever is not named."""
    assert in_words(Setting("384", 30.0, fan=0.4, mode="15W")) == "384, 30 fps, fan 40%, 15W"
    assert in_words(Setting(LOOP, 26.0)) == "loop, 26 fps"
    assert in_words(Setting("512", 30.0, 5.1)) == "512, 30 fps, model 5.1 tokens/s"
