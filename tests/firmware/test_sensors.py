"""Readers of zones, hwmon and the rest, on trees of boxes that are not here, on broken ones, and on this machine's own."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.readings import RESERVE_C, CapKind, Snapshot, State, Temperature
from firmware.sensors import Sensors
from tests.firmware import trees


def look(root: Path) -> Snapshot:
    """One reading of a tree."""
    return Sensors(root, nvml=False).read()


def by_name(snapshot: Snapshot) -> dict[str, Temperature]:
    """The temperatures by name."""
    return {t.name: t for t in snapshot.temperatures}


def test_orin_margins_come_from_its_own_passive_trips(tmp_path: Path) -> None:
    """The nearest zone to its own passive trip gives the margin; a zone without trips gives none."""
    snapshot = look(trees.orin(tmp_path))
    found = by_name(snapshot)
    assert found["gpu-thermal"].slows_c == 99.0
    assert found["gpu-thermal"].stops_c == 104.5
    assert found["tboard-thermal"].margin_c is None
    assert snapshot.tightest is not None
    assert snapshot.tightest.name == "cpu-thermal"
    assert snapshot.margin_c == pytest.approx(99.0 - 54.312)


def test_a_zone_is_not_counted_twice(tmp_path: Path) -> None:
    """The hwmon device that the kernel makes of a zone is left out."""
    names = [t.name for t in look(trees.orin(tmp_path)).temperatures]
    assert len(names) == len(set(names)) == 6


def test_orin_fan_rails_and_over_current(tmp_path: Path) -> None:
    """Duty from pwmfan, revolutions from the tachometer, watts of real rails only, and the three counters."""
    snapshot = look(trees.orin(tmp_path))
    assert {fan.name: (fan.rpm, fan.duty) for fan in snapshot.fans} == {
        "pwmfan fan1": (None, pytest.approx(64 / 255)),
        "pwm_tach fan": (1410, None),
    }
    assert {rail.name: rail.watts for rail in snapshot.rails} == {"VDD_GPU_SOC": pytest.approx(5.94), "VDD_CPU_CV": pytest.approx(1.98)}
    assert snapshot.rails[0].limit_w == pytest.approx(19.8 * 20)
    assert [event.name for event in snapshot.events] == ["oc1", "oc2", "oc3"]


def test_thor_margin_keeps_a_reserve_below_critical(tmp_path: Path) -> None:
    """Where only the critical trip is told, the box throttles earlier: the margin counts from a reserve below it."""
    snapshot = look(trees.thor(tmp_path))
    assert snapshot.margin_c == pytest.approx(114.5 - RESERVE_C - 61.0)
    assert {fan.name: fan.rpm for fan in snapshot.fans}["pwm_tach fan"] == 2900


def test_pc_limits_come_from_drivers_that_mean_them(tmp_path: Path) -> None:
    """Coretemp's limit is TjMax, the drive's its warning temperature; unset trips and a board chip's alarm levels are no limits."""
    found = by_name(look(trees.pc(tmp_path)))
    assert found["coretemp Package id 0"].slows_c == 100.0
    assert found["nvme Composite"].slows_c == pytest.approx(81.85)
    assert found["x86_pkg_temp"].margin_c is None
    assert found["nct6775 SYSTIN"].margin_c is None
    assert found["nct6775 temp7"].state is State.UNREADABLE
    assert found["acpitz"].margin_c == pytest.approx(119.0 - RESERVE_C - 27.8)


def test_a_trip_that_a_program_set_is_no_limit(tmp_path: Path) -> None:
    """Thermald sets x86_pkg_temp's passive trip to be woken there; nothing throttles at it."""
    trees.pc(tmp_path)
    trees.zone(tmp_path, 1, "x86_pkg_temp", 45_000, {"passive": 50_000})
    assert by_name(look(tmp_path))["x86_pkg_temp"].margin_c is None


def test_the_number_of_a_device_means_nothing(tmp_path: Path) -> None:
    """The same box with its directories numbered otherwise reads the same."""
    first, second = trees.pc(tmp_path / "a"), trees.pc(tmp_path / "b")
    for kind in ("sys/class/thermal/thermal_zone", "sys/class/hwmon/hwmon"):
        (second / f"{kind}0").rename(second / f"{kind}9")
    assert by_name(look(first)) == by_name(look(second))


def test_two_of_a_kind_are_told_apart(tmp_path: Path) -> None:
    """Two zones of one type keep both readings."""
    trees.zone(tmp_path, 0, "acpitz", 30_000)
    trees.zone(tmp_path, 1, "acpitz", 40_000)
    assert {name: t.celsius for name, t in by_name(look(tmp_path)).items()} == {"acpitz": 30.0, "acpitz #2": 40.0}


@pytest.mark.parametrize("kind", ["gpu-throttle-alert", "cpu-throttle-alert"])
def test_a_throttle_alert_is_told(tmp_path: Path, kind: str) -> None:
    """A throttle alert with a state above 0 means: clocks are held down by heat. A fan's state means nothing of the sort."""
    trees.orin(tmp_path)
    assert not look(tmp_path).capped(CapKind.HEAT)
    trees.cooler(tmp_path, 1, kind, 1)
    assert look(tmp_path).capped(CapKind.HEAT)


def test_over_current_counts_from_the_first_reading(tmp_path: Path) -> None:
    """Old events are no alarm, new ones on oc1 and oc2 are; oc3 may climb."""
    trees.orin(tmp_path)
    sensors = Sensors(tmp_path, nvml=False)
    assert sensors.read().alarms == ()
    trees.hwmon(tmp_path, 1, "soctherm_oc", oc1_event_cnt=0, oc2_event_cnt=3, oc3_event_cnt=9000)
    snapshot = sensors.read()
    assert [(e.name, e.new) for e in snapshot.alarms] == [("oc2", 3)]
    assert sensors.read().alarms == ()


def test_intel_throttling_is_told_and_no_alarm(tmp_path: Path) -> None:
    """A package throttle count that moves is told once; a short burst moves it in a cool box, so it alarms nobody."""
    trees.pc(tmp_path)
    sensors = Sensors(tmp_path, nvml=False)
    sensors.read()
    trees.write(tmp_path / "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", 9)
    snapshot = sensors.read()
    assert [(e.name, e.new) for e in snapshot.events] == [("package_throttle", 2)]
    assert snapshot.alarms == ()


@pytest.mark.parametrize(
    ("content", "state"),
    [("-256000", State.UNREADABLE), ("999000", State.UNREADABLE), ("", State.UNREADABLE), ("warm", State.UNREADABLE), ("-5000", State.OK)],
)
def test_what_cannot_be_is_no_reading(tmp_path: Path, content: str, state: State) -> None:
    """Absurd, empty and broken values are unreadable, with a reason and without a margin; plain frost is a reading."""
    trees.zone(tmp_path, 0, "cpu-thermal", content, trees.ORIN_TRIPS)
    (reading,) = look(tmp_path).temperatures
    assert reading.state is state
    assert (reading.margin_c is None) == (state is not State.OK)
    assert bool(reading.trouble) == (state is not State.OK)


def test_a_broken_sensor_does_not_silence_the_others(tmp_path: Path) -> None:
    """One zone whose reading fails (here: a directory in its place) is unreadable; the margin is that of the rest."""
    trees.orin(tmp_path)
    broken = tmp_path / "sys/class/thermal/thermal_zone0/temp"
    broken.unlink()
    broken.mkdir()
    snapshot = look(tmp_path)
    assert by_name(snapshot)["cpu-thermal"].trouble == "is a directory"
    assert snapshot.margin_c == pytest.approx(99.0 - 54.312)  # tj-thermal, the maximum of all, still tells it


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENODATA])
def test_a_sleeping_part_is_off_not_broken(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power-gated zone answers is no trouble. No file system answers that to a read, so the read itself is replaced."""
    trees.orin(tmp_path)
    asleep = tmp_path / "sys/class/thermal/thermal_zone1/temp"
    read_bytes = Path.read_bytes

    def gated(path: Path) -> bytes:
        if path == asleep:
            raise OSError(code, os.strerror(code), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", gated)
    reading = by_name(look(tmp_path))["gpu-thermal"]
    assert (reading.state, reading.trouble, reading.margin_c) == (State.OFF, "", None)


def test_disabled_zones_are_skipped(tmp_path: Path) -> None:
    """A zone that the kernel does not watch says nothing worth hearing (tj-thermal on some boards)."""
    trees.zone(tmp_path, 0, "tj-thermal", 20_000, trees.ORIN_TRIPS, mode="disabled")
    assert look(tmp_path).temperatures == ()


def test_zones_come_and_go_while_we_watch(tmp_path: Path) -> None:
    """A zone that vanishes is unreadable at worst and gone at the next reading; a new one is found."""
    trees.orin(tmp_path)
    sensors = Sensors(tmp_path, nvml=False)
    assert "tboard-thermal" in by_name(sensors.read())
    gone = tmp_path / "sys/class/thermal/thermal_zone8"
    gone.rename(tmp_path / "elsewhere")
    trees.zone(tmp_path, 9, "tdiode-thermal", 30_000)
    found = by_name(sensors.read())
    assert "tboard-thermal" not in found
    assert found["tdiode-thermal"].celsius == 30.0


def test_a_vanished_temperature_is_told(tmp_path: Path) -> None:
    """A zone whose directory stays but whose reading is gone is unreadable, with the reason."""
    trees.orin(tmp_path)
    sensors = Sensors(tmp_path, nvml=False)
    sensors.read()
    (tmp_path / "sys/class/thermal/thermal_zone8/temp").unlink()
    assert by_name(sensors.read())["tboard-thermal"].trouble == "no such file or directory"


def test_a_box_without_sensors_is_blind(tmp_path: Path) -> None:
    """No sysfs at all: an empty snapshot and no margin, never an error."""
    snapshot = look(tmp_path)
    assert snapshot == Snapshot()
    assert snapshot.margin_c is None


def test_a_socket_and_a_file_among_the_zones(tmp_path: Path) -> None:
    """Things that do not belong there are passed over."""
    trees.orin(tmp_path)
    trees.write(tmp_path / "sys/class/thermal/thermal_zone77", "a file")
    with socket.socket(socket.AF_UNIX) as stray:
        previous = Path.cwd()
        os.chdir(tmp_path / "sys/class/thermal")  # the path would be too long for a socket
        try:
            stray.bind("cooling_device9")
        finally:
            os.chdir(previous)
    assert by_name(look(tmp_path))["thermal_zone77"].state is State.UNREADABLE


ATTRIBUTES = ("thermal/thermal_zone0/temp", "thermal/thermal_zone0/type", "thermal/thermal_zone0/trip_point_1_temp",
              "thermal/cooling_device1/cur_state", "hwmon/hwmon1/oc2_event_cnt", "hwmon/hwmon2/in1_input", "hwmon/hwmon2/in1_label",
              "hwmon/hwmon2/curr1_crit", "hwmon/hwmon3/pwm1", "hwmon/hwmon4/rpm", "hwmon/hwmon4/name")  # fmt: skip
JUNK = st.one_of(st.binary(max_size=40), st.integers().map(lambda n: str(n).encode()), st.just(b"9" * 400))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(ATTRIBUTES), JUNK, min_size=1, max_size=4))
def test_whatever_stands_in_the_files(content: dict[str, bytes]) -> None:
    """Any bytes in any attribute: never an exception, and no temperature that cannot be."""
    with tempfile.TemporaryDirectory() as place:
        root = trees.orin(Path(place))
        for name, junk in content.items():
            (root / "sys/class" / name).write_bytes(junk)
        sensors = Sensors(root, nvml=False)
        for snapshot in (sensors.read(), sensors.read()):
            assert all(-40 <= t.celsius <= 150 for t in snapshot.temperatures if t.celsius is not None)
            assert all(event.new == 0 for event in snapshot.events)
            assert snapshot.margin_c is not None


def test_this_machine_can_be_read() -> None:
    """Whatever this machine has: every reading is one that can be, or says why not."""
    with Sensors() as sensors:
        snapshot = sensors.read()
    for reading in snapshot.temperatures:
        assert (reading.celsius is not None) == (reading.state is State.OK)
        assert bool(reading.trouble) == (reading.state is State.UNREADABLE)
