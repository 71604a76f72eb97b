"""Who can set a Jetson's power mode by name: NVIDIA's own `nvpmodel` (needs root), or jtop's service (needs its group).

Modes are caps on clocks and cores, not on watts, and their numbers differ from module to module: only names are used, and what was
set is read back.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from firmware.errors import LeverError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Jtop", "NvpModel", "PowerModes"]

_LIMIT_S = 30.0
_JTOP_ROUNDS = 15
"""Answers of jtop (about one a second) within which a mode must have changed."""
_MODEL = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")


_PREFIX = "MODE_"
"""Some boards' files and answers put it before the name, not always both."""


class PowerModes(Protocol):
    """Power modes by name. All raise LeverError."""

    def names(self) -> tuple[str, ...]:
        """The modes that this board has."""
        ...

    def current(self) -> str:
        """The mode that is on."""
        ...

    def set(self, name: str) -> None:
        """Switch, without a restart of the box; a mode that wants one is refused."""
        ...


class NvpModel:
    """The program `nvpmodel`; `command` and `config` stand in for the real ones in tests."""

    def __init__(self, command: Sequence[str] = ("nvpmodel",), config: Path = Path("/etc/nvpmodel.conf")) -> None:
        self._command, self._config = tuple(command), config

    def names(self) -> tuple[str, ...]:
        """The names in nvpmodel.conf."""
        return tuple(self._ids())

    def current(self) -> str:
        """What `nvpmodel -q` says."""
        found = re.search(r"NV Power Mode:\s*(\S+)", self._run("-q"))
        if not found:
            raise LeverError("nvpmodel -q does not name the power mode")
        return found[1].removeprefix(_PREFIX)

    def set(self, name: str) -> None:
        """Switch by the number that this board has for the name."""
        name = name.removeprefix(_PREFIX)
        number = self._ids().get(name)
        if number is None:
            raise LeverError(f"power mode {name}: this board has {', '.join(self.names()) or 'none'}")
        said = self._run("-m", str(number))
        if self.current() != name:
            wants = "it wants a restart of the box" if "reboot" in said.lower() else "nvpmodel did not switch"
            raise LeverError(f"power mode {name}: {wants}; still {self.current()}")

    def _ids(self) -> dict[str, int]:
        try:
            text = self._config.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise LeverError(f"{self._config}: {error.strerror}: no power modes on this box") from error
        return {name.removeprefix(_PREFIX): int(number) for number, name in _MODEL.findall(text)}

    def _run(self, *arguments: str) -> str:
        try:
            # Without an input, the question whether to restart the box at once is answered with no.
            done = subprocess.run(
                [*self._command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
        except FileNotFoundError as error:
            raise LeverError(f"{self._command[0]} is not installed: no power modes on this box") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LeverError(f"{self._command[0]} {' '.join(arguments)}: {error}") from error
        return done.stdout + done.stderr


class Jtop:
    """jtop's service (extra package jetson-stats): the way to power mode and fan for a program that is not root."""

    def __init__(self, socket: Path = Path("/run/jtop.sock")) -> None:
        self._socket = socket

    def names(self) -> tuple[str, ...]:
        """The modes that jtop lists."""
        with self._session() as jetson:
            return tuple(str(name) for name in jetson.nvpmodel.models)

    def current(self) -> str:
        """The mode that is on."""
        with self._session() as jetson:
            return str(jetson.nvpmodel.name)

    def set(self, name: str) -> None:
        """Switch; jtop only passes the wish on, so this waits until the mode is on."""
        with self._session() as jetson:
            jetson.nvpmodel.set_nvpmodel_name(name, force=False)  # force would restart the box without asking
            if not _until(jetson, lambda: jetson.nvpmodel.name == name):
                raise LeverError(f"power mode {name}: jtop did not switch; still {jetson.nvpmodel.name}")

    def fan(self) -> tuple[str, str, float]:
        """(fan, its profile, percent), such as ("pwmfan", "quiet", 30.0)."""
        with self._session() as jetson:
            name = next(iter(jetson.fan), None)
            if name is None:
                raise LeverError("jtop lists no fan")
            return str(name), str(jetson.fan.get_profile(name)), float(jetson.fan.get_speed(name))

    def set_fan_profile(self, fan: str, profile: str) -> None:
        """Give the fan to a profile; `manual` stops NVIDIA's service, any other starts it again."""
        with self._session() as jetson:
            jetson.fan.set_profile(fan, profile)
            if not _until(jetson, lambda: jetson.fan.get_profile(fan) == profile):
                raise LeverError(f"{fan}: jtop did not switch to the profile {profile}")

    def drive_fan(self, fan: str, percent: float) -> None:
        """Take the fan from NVIDIA's own control and drive it."""
        self.set_fan_profile(fan, "manual")
        with self._session() as jetson:
            jetson.fan.set_speed(fan, percent)

    def clocks(self) -> bool:
        """Whether jetson_clocks pins all clocks to their maximum."""
        with self._session() as jetson:
            return bool(jetson.jetson_clocks)

    def set_clocks(self, pinned: bool) -> None:
        """Pin the clocks, or let them follow the load, which is cooler."""
        with self._session() as jetson:
            jetson.jetson_clocks = pinned
            if not _until(jetson, lambda: bool(jetson.jetson_clocks) is pinned):
                raise LeverError("jetson_clocks: jtop did not switch")

    @contextmanager
    def _session(self) -> Iterator[Any]:
        """A connection that has answered once. jtop's exceptions become LeverError here."""
        if not self._socket.exists():
            raise LeverError(f"jtop's service is not running (no {self._socket})")
        try:
            from jtop import JtopException, jtop
        except ImportError as error:
            raise LeverError("jtop is not installed: pip install jetson-stats (AGPL-3)") from error
        try:
            with jtop() as jetson:
                if not jetson.ok():
                    raise LeverError("jtop's service does not answer")
                yield jetson
        except JtopException as error:
            raise LeverError(f"jtop: {' '.join(str(error).split())}") from error


def _until(jetson: Any, done: Any) -> bool:
    """Wait for jtop's answers until `done()`; each `ok()` blocks until the next one."""
    return any(done() for _ in range(_JTOP_ROUNDS) if jetson.ok())
