"""A fan's own control in sysfs: taken, driven, and given back as it was.

On a Jetson NVIDIA's service nvfancontrol writes the same file about once a second, so while it runs the fan is not ours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from firmware._files import integer_or_none, text, why
from firmware._hwmon import Hwmon
from firmware.errors import LeverError

__all__ = ["PwmFan", "attributes", "find_fans", "nvfancontrol_runs", "put"]

_MANUAL = 1
_FULL = 255
_SLACK = 8
"""Drivers round the duty to their own steps."""
_NVFANCONTROL = "sys/fs/cgroup/system.slice/nvfancontrol.service"


class PwmFan:
    """One pwm channel. `saved` is what `restore` needs, as plain text for the record."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._pwm = name, path
        self._enable = path.with_name(f"{path.name}_enable")

    def saved(self) -> dict[str, str]:
        """The attribute files with what stands in them now. Raises LeverError."""
        try:
            return {str(p): text(p) for p in (self._pwm, self._enable) if p.exists()}
        except OSError as error:
            raise LeverError(f"{self.name}: {self._pwm}: {why(error)}") from error

    def drive(self, duty: float, found: Mapping[str, str]) -> float:
        """Set the duty (0 to 1), never below what the box itself had chosen (`found`); gives what was set. Raises LeverError."""
        wanted = max(round(min(1.0, max(0.0, duty)) * _FULL), _number(found.get(str(self._pwm))))
        if str(self._enable) in found:
            put(self._enable, str(_MANUAL))
        put(self._pwm, str(wanted))
        now = integer_or_none(self._pwm)
        if now is None or abs(now - wanted) > _SLACK:
            raise LeverError(f"{self.name}: set to {wanted}, reads {now}: something else drives this fan")
        return wanted / _FULL


def find_fans(root: Path, names: tuple[str, ...]) -> tuple[list[PwmFan], dict[str, str]]:
    """(fans that are ours to drive, name → why not) among the drivers named: a board chip may drive anything, so it must be named."""
    ours: list[PwmFan] = []
    not_ours: dict[str, str] = {}
    taken = nvfancontrol_runs(root)
    for driver, path in Hwmon(root).devices():
        if driver not in names:
            continue
        for pwm in sorted(path.glob("pwm[0-9]")):
            name = f"{driver} {pwm.name}"
            if taken:
                not_ours[name] = "nvfancontrol drives it: systemctl disable --now nvfancontrol, if Visavis shall"
            elif not os.access(pwm, os.W_OK):
                not_ours[name] = f"no permission to write {pwm}: 'visavis firmware install' gives it to the group visavis"
            else:
                ours.append(PwmFan(name, pwm))
    return ours, not_ours


def attributes(root: Path, names: tuple[str, ...]) -> frozenset[str]:
    """The files through which the fans of the drivers named are driven, whoever drives them now."""
    found = (pwm for driver, path in Hwmon(root).devices() if driver in names for pwm in path.glob("pwm[0-9]"))
    return frozenset(f"{pwm}{end}" for pwm in found for end in ("", "_enable"))


def put(path: Path, content: str) -> None:
    """Write one attribute. Raises LeverError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)  # an attribute is never created
        try:
            os.write(fd, content.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise LeverError(f"{path}: {why(error)}") from error


def nvfancontrol_runs(root: Path) -> bool:
    """Whether NVIDIA's service has the fan; its control group is there exactly while it runs."""
    return (root / _NVFANCONTROL).is_dir()


def _number(content: str | None) -> int:
    return int(content) if content and content.isdecimal() else 0
