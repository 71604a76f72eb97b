"""What the machine itself tells, without anything of the kiosk: memory, disk, load, heat. A figure that cannot be read is left out."""

from __future__ import annotations

import os
from pathlib import Path

from firmware.readings import CapKind
from firmware.sensors import Sensors

__all__ = ["Machine"]


class Machine:
    """Readings of this box; `disk` is a folder on the data partition, under `root` lie the box's sys and proc."""

    def __init__(self, disk: Path, root: Path = Path("/")) -> None:
        self._disk, self._proc = disk, root / "proc"
        self._sensors = Sensors(root, nvml=root == Path("/"))

    def close(self) -> None:
        """Let go of the graphics card."""
        self._sensors.close()

    def figures(self) -> dict[str, int | float | bool | str]:
        """By names of the catalogue."""
        return {**self._memory(), **self._space(), **self._load(), **self._heat()}

    def _memory(self) -> dict[str, float]:
        try:
            lines = (line.split() for line in (self._proc / "meminfo").read_text().splitlines())
            found = {words[0]: int(words[1]) for words in lines if len(words) >= 2}
            return {"memory_free": round(found["MemAvailable:"] / found["MemTotal:"], 3)}
        except (OSError, ValueError, KeyError, ZeroDivisionError):
            return {}

    def _space(self) -> dict[str, float]:
        try:
            found = os.statvfs(next(path for path in (self._disk, *self._disk.parents) if path.is_dir()))
        except (OSError, StopIteration):
            return {}
        return {"disk_free": round(found.f_bavail / found.f_blocks, 4)} if found.f_blocks else {}

    def _load(self) -> dict[str, int | float]:
        try:
            load = float((self._proc / "loadavg").read_text().split()[0]) / (os.cpu_count() or 1)
            return {"load": round(load, 2), "uptime": int(float((self._proc / "uptime").read_text().split()[0]))}
        except (OSError, ValueError, IndexError):
            return {}

    def _heat(self) -> dict[str, float | bool]:
        told = self._sensors.read()
        values: dict[str, float | bool] = {}
        degrees = [sensor.celsius for sensor in told.temperatures if sensor.celsius is not None]
        if degrees:
            values["temperature"] = round(max(degrees), 1)
        if told.margin_c is not None:
            values["thermal_margin"] = round(told.margin_c, 1)
        if told.throttles:
            values["throttled"] = told.capped(CapKind.HEAT) or told.capped(CapKind.EMERGENCY)
        if told.rails:
            values["power_watts"] = round(max(rail.watts for rail in told.rails), 1)
        return values
