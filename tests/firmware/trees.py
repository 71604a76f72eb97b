"""Sysfs trees of boxes that are not here, as their kernels show them: sources are the device trees and field logs named beside each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write(path: Path, content: object) -> Path:
    """One attribute file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")
    return path


def zone(root: Path, number: int, kind: str, milli: object, trips: Mapping[str, int] | None = None, mode: str = "enabled") -> Path:
    """A thermal zone; `trips` are (type of trip, millidegrees)."""
    path = root / f"sys/class/thermal/thermal_zone{number}"
    write(path / "type", kind)
    write(path / "temp", milli)
    write(path / "mode", mode)
    for trip, (name, limit) in enumerate((trips or {}).items()):
        write(path / f"trip_point_{trip}_type", name)
        write(path / f"trip_point_{trip}_temp", limit)
    return path


def cooler(root: Path, number: int, kind: str, state: int) -> Path:
    """A cooling device."""
    path = root / f"sys/class/thermal/cooling_device{number}"
    write(path / "type", kind)
    write(path / "cur_state", state)
    return path


def hwmon(root: Path, number: int, name: str, **attributes: object) -> Path:
    """An hwmon device."""
    path = root / f"sys/class/hwmon/hwmon{number}"
    write(path / "name", name)
    for key, value in attributes.items():
        write(path / key, value)
    return path


ORIN_TRIPS = {"active": 50_000, "passive": 99_000, "critical": 104_500}
"""Of the kernel's device tree for tegra234: passive 99.0, critical 104.5 (the fan's active trips come first)."""
THOR_TRIPS = {"critical": 114_500}


def orin(root: Path) -> Path:
    """An AGX Orin on JetPack 6: zones in this kernel's order, fan, tachometer, INA3221 rails, over-current counters."""
    temperatures = (
        ("cpu-thermal", 54_312),
        ("gpu-thermal", 50_906),
        ("cv0-thermal", 49_000),
        ("soc0-thermal", 51_250),
        ("tj-thermal", 54_312),
    )
    for number, (kind, milli) in enumerate(temperatures):
        zone(root, number, kind, milli, ORIN_TRIPS)
    zone(root, 8, "tboard-thermal", 41_500)
    cooler(root, 0, "pwm-fan", 1)
    cooler(root, 1, "cpu-throttle-alert", 0)
    cooler(root, 2, "gpu-throttle-alert", 0)
    hwmon(root, 0, "cpu_thermal", temp1_input=54_312)  # the kernel's second face of the zone
    hwmon(root, 1, "soctherm_oc", oc1_event_cnt=0, oc2_event_cnt=0, oc3_event_cnt=4012, oc1_throt_en=1)
    hwmon(root, 2, "ina3221", in1_label="VDD_GPU_SOC", in1_input=19_800, curr1_input=300, curr1_crit=20_000,
          in2_label="VDD_CPU_CV", in2_input=19_800, curr2_input=100, in3_label="NC", in3_input=0, curr3_input=0,
          in4_label="sum of shunt voltages", in4_input=1, curr4_input=900)  # fmt: skip
    hwmon(root, 3, "pwmfan", pwm1=64)
    hwmon(root, 4, "pwm_tach", rpm=1410)
    return root


def thor(root: Path) -> Path:
    """A Thor on JetPack 7: other zone names, and only critical trips."""
    for number, (kind, milli) in enumerate(
        (("tj-thermal", 61_000), ("cpu-thermal", 60_500), ("gpu-thermal", 61_000), ("soc012-thermal", 58_000))
    ):
        zone(root, number, kind, milli, THOR_TRIPS)
    hwmon(root, 0, "pwmfan", pwm1=128, pwm1_enable=1)
    hwmon(root, 1, "pwm_tach", rpm=2900)
    return root


def pc(root: Path) -> Path:
    """An Intel desktop: zones that mean little, coretemp, a drive, a board chip with nonsense limits."""
    zone(root, 0, "acpitz", 27_800, {"critical": 119_000})
    zone(root, 1, "x86_pkg_temp", 45_000, {"passive": 0})  # a trip for user programs, unset
    hwmon(root, 2, "coretemp", temp1_label="Package id 0", temp1_input=45_000, temp1_max=80_000, temp1_crit=100_000,
          temp2_label="Core 0", temp2_input=44_000, temp2_crit=100_000)  # fmt: skip
    hwmon(root, 0, "nvme", temp1_label="Composite", temp1_input=38_850, temp1_max=81_850, temp1_crit=84_850)
    hwmon(root, 1, "nct6775", temp1_label="SYSTIN", temp1_input=33_000, temp1_max=0, temp7_input=-61_000,
          fan2_input=0, pwm2=153, pwm2_enable=5, fan1_input=861, pwm1=102, pwm1_enable=5)  # fmt: skip
    for core in range(2):
        write(root / f"sys/devices/system/cpu/cpu{core}/thermal_throttle/package_throttle_count", 7)
    return root
