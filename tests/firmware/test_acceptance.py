"""The acceptance run on boxes that are not here, and the commands as a technician types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from firmware.acceptance import examine, report
from firmware.install import Finding
from tests.firmware import trees

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """An Orin with everything plugged in, its fan ours."""
    trees.orin(tmp_path)
    trees.write(tmp_path / "sys/class/watchdog/watchdog0/identity", "Tegra WDT")
    trees.write(tmp_path / "sys/class/watchdog/watchdog0/state", "active")
    trees.write(tmp_path / "sys/class/watchdog/watchdog0/timeout", 30)
    trees.write(tmp_path / "sys/class/rtc/rtc0/name", "tegra-rtc")
    trees.write(tmp_path / "sys/class/drm/card0-HDMI-A-1/status", "connected")
    trees.write(tmp_path / "sys/class/drm/card0-HDMI-A-1/modes", "1080x1920\n1920x1080")
    trees.write(tmp_path / "sys/class/video4linux/video0/name", "USB camera")
    trees.write(tmp_path / "proc/asound/pcm", "00-03: HDMI 0 : HDMI 0 : playback 1\n01-00: USB Audio : USB Audio : capture 1")
    trees.write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson AGX Orin\0")
    return tmp_path


def run(root: Path, *, spins: bool = True) -> dict[str, Finding]:
    """The findings by name; the fan turns faster while it is waited for, if it does."""
    rpm = root / "sys/class/hwmon/hwmon4/rpm"

    def wait(_: float) -> None:
        if spins and rpm.exists():
            rpm.write_text(f"{int(rpm.read_text()) + 900}\n")

    return {f.what: f for f in examine(root, wait=wait, record=root / "levers.json")}


def states(found: dict[str, Finding], *names: str) -> list[str]:
    """The states of some."""
    return [found[name].state for name in names]


def test_a_good_box_passes(box: Path) -> None:
    """Sensors, limits, fan, watchdog, clock, screen, sound, camera: passed, with what was seen; the fan is as before."""
    found = run(box)
    names = ("sensors", "limits", "throttling", "fan moves", "hardware watchdog", "clock", "display", "loudspeaker", "microphone", "camera")
    assert states(found, *names) == ["pass"] * len(names)
    assert found["limits"].detail == "nearest: cpu-thermal, 44.7 °C to go (limit 99.0 °C)"
    assert found["fan moves"].detail == "1410 → 2310 rpm at 100 %"
    assert found["display"].detail == "HDMI-A-1: 1080x1920"
    assert (box / "sys/class/hwmon/hwmon3/pwm1").read_text().strip() == "64"


def test_a_fan_that_does_not_turn_fails(box: Path) -> None:
    """Driven at full and no faster: the plug, dust, or a dead fan."""
    found = run(box, spins=False)
    assert (found["fan moves"].state, found["fan moves"].detail) == ("fail", "1410 → 1410 rpm at 100 %")


def test_an_empty_box_fails_line_by_line(tmp_path: Path) -> None:
    """Nothing plugged in, nothing installed: failures with remedies, skips with reasons, no exception."""
    found = run(tmp_path)
    assert states(found, "sensors", "limits", "hardware watchdog", "display", "loudspeaker", "microphone") == ["fail"] * 6
    assert states(found, "fan moves", "power modes", "clock", "camera", "services") == ["skip"] * 5
    assert all(f.remedy for f in found.values() if f.state == "fail")
    assert all(f.detail for f in found.values())


def test_heat_and_over_current_are_failures(box: Path) -> None:
    """A throttle alert now, or an under-voltage since the start, does not pass."""
    trees.cooler(box, 2, "gpu-throttle-alert", 1)
    assert run(box)["throttling"].detail == "held down now: gpu-throttle-alert"
    trees.cooler(box, 2, "gpu-throttle-alert", 0)
    trees.hwmon(box, 1, "soctherm_oc", oc1_event_cnt=2, oc2_event_cnt=0, oc3_event_cnt=77)
    assert run(box)["throttling"].detail == "since it was switched on: under-voltage: 2"


def test_a_watchdog_that_is_not_armed_fails(box: Path) -> None:
    """There is one and nobody feeds it."""
    trees.write(box / "sys/class/watchdog/watchdog0/state", "inactive")
    assert run(box)["hardware watchdog"].detail == "Tegra WDT is there and not armed"


def test_the_report_is_a_page(box: Path) -> None:
    """A table row for each check, the board, and the count of failures."""
    findings = list(run(box).values())
    page = report(findings, box)
    assert "NVIDIA Jetson AGX Orin ·" in page
    assert all(f"| {f.what} | **{f.state}** |" in page for f in findings)
    failures = sum(f.state == "fail" for f in findings)
    assert f"{len(findings)} checks, {failures} failed: " in page
    assert len(page.splitlines()) < 60


def visavis(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run([sys.executable, "-m", "visavis", *arguments], cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)} | environ,
                          capture_output=True, text=True, check=False)  # fmt: skip


@pytest.mark.system
def test_the_command_writes_its_report(box: Path, tmp_path: Path) -> None:
    """One line per check, the file, and exit status 1 because nothing is installed there."""
    (box / "sys/class/hwmon/hwmon3/pwm1").unlink()  # without a fan there is nothing to wait for
    done = visavis("firmware", "acceptance", "--root", str(box), "--out", str(tmp_path / "report.md"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "ok    limits" in done.stdout
    assert "FAIL  program" in done.stdout
    assert (tmp_path / "report.md").read_text().startswith("# Acceptance of ")


@pytest.mark.system
def test_a_report_that_cannot_be_written_is_one_line(box: Path, tmp_path: Path) -> None:
    """The place is named, with what to do."""
    (box / "sys/class/hwmon/hwmon3/pwm1").unlink()
    done = visavis("firmware", "acceptance", "--root", str(box), "--out", "/proc/report.md", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("visavis: /proc/report.md: ")
    assert done.stderr.endswith("choose another place with --out\n")


@pytest.mark.system
def test_sensors_for_programs(tmp_path: Path) -> None:
    """`sensors --json --once` is one JSON object, whatever this machine has; the status says whether there is a temperature."""
    done = visavis("sensors", "--json", "--once", cwd=tmp_path)
    told = json.loads(done.stdout)
    readable = any(t["state"] == "ok" for t in told["temperatures"])
    assert done.returncode == (0 if readable else 2)
    assert {"margin_c", "nearest", "throttles", "events", "fans", "rails"} <= told.keys()


def test_the_table_says_what_a_person_wants_to_know(box: Path) -> None:
    """Temperatures with limits, what is asleep or broken, fans, watts, counters, and the verdict in words."""
    from rich.console import Console

    from firmware.sensors import Sensors
    from visavis.sensors import _table, as_json

    trees.zone(box, 9, "cv1-thermal", "-256000", trees.ORIN_TRIPS)
    trees.cooler(box, 1, "cpu-throttle-alert", 2)
    trees.hwmon(box, 9, "[/odd]", temp1_input=20_000)
    snapshot = Sensors(box, nvml=False).read()
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115 - a screen that is not there
    console.print(_table(snapshot))
    console.file.close()
    text = console.export_text()
    seen = (
        "gpu-thermal",
        "104.5",
        "-256 °C cannot be",
        "[/odd] temp1",
        "1410 rpm",
        "25%",
        "5.9 W of 396 W",
        "instantaneous over-current: 4012",
    )
    assert [wanted for wanted in seen if wanted not in text] == []
    assert "holds the clocks down (heat)" in text
    assert "cpu-thermal: 44.7 °C until the box throttles" in text
    assert as_json(snapshot)["nearest"] == "cpu-thermal"


@pytest.mark.system
def test_restore_without_a_record_is_silent(tmp_path: Path) -> None:
    """The unit runs it after every end of the kiosk."""
    done = visavis("firmware", "restore", "--record", str(tmp_path / "levers.json"), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.system
def test_switch_without_a_release_is_one_line(tmp_path: Path) -> None:
    """Nothing is staged."""
    done = visavis("firmware", "switch", "--base", str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"visavis: {tmp_path}/staged: No such file or directory: no release is waiting\n")


@pytest.mark.system
def test_check_names_what_is_missing(tmp_path: Path) -> None:
    """Exit status 1, a line each with what to do."""
    done = visavis("firmware", "check", "--root", str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAIL  xwayland" in done.stdout
    assert "→ apt install xwayland" in done.stdout
