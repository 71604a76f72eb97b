"""Fan, power mode and pinned clocks as levers, where the box lets us: `with Levers(record) as levers: levers.set_fan(0.8)`.

What was there before is put back at the end: when the block is left, on SIGTERM, and, because it stands in a file first, at the next
start after a crash or `kill -9` (or by `restore`, which the service calls when it has ended for whatever reason).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType

import msgspec

from firmware._fans import PwmFan, attributes, find_fans, nvfancontrol_runs, put
from firmware._files import text_or_none, write_record
from firmware._modes import Jtop, NvpModel, PowerModes
from firmware.errors import LeverError

__all__ = ["OWN_FANS", "Levers"]

log = logging.getLogger("power")

OWN_FANS = ("pwmfan",)
"""Drivers whose fan cools this box and nothing else: Jetson's. On a PC name the board's chip, e.g. nct6775."""


class _Before(msgspec.Struct):
    """What stood there: `files` only for this boot, since the devices' numbers change; the rest outlives a restart of the box."""

    boot_id: str = ""
    files: dict[str, str] = {}
    power_mode: str = ""
    fan_profile: tuple[str, str] | None = None
    fan_percent: float = 0.0
    clocks_pinned: bool | None = None


class Levers:
    """The levers of this box; `why_not` says of each missing one the reason. Use from one thread, once.

    `record` is a file on a disk that outlives a crash. `root` stands in for / in tests, `modes` for the way to the power modes.
    """

    def __init__(self, record: Path, root: Path = Path("/"), *, fans: tuple[str, ...] = OWN_FANS, modes: PowerModes | None = None) -> None:
        self._record, self._root = record, root
        self._jtop = Jtop(root / "run/jtop.sock")
        own = NvpModel(config=root / "etc/nvpmodel.conf") if os.geteuid() == 0 else self._jtop
        self._modes: PowerModes = modes or own
        self._fan_names = fans
        self._fans: list[PwmFan] = []
        self._jtop_fan = ""
        self._before = _Before()
        self._old_handler: Callable[[int, FrameType | None], object] | int | None = None
        self.modes: tuple[str, ...] = ()
        self.why_not: dict[str, str] = {}

    def __enter__(self) -> Levers:  # noqa: PYI034 - Self is newer than Python 3.10
        for trouble in self.restore():
            log.warning("what a crash left: %s", trouble)
        self.look()
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            # By default SIGTERM ends Python without leaving any block.
            self._old_handler = signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for trouble in self.restore():
            log.error("not put back: %s", trouble)
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)

    @property
    def fans(self) -> tuple[str, ...]:
        """The fans that are ours."""
        return tuple(fan.name for fan in self._fans) or ((self._jtop_fan,) if self._jtop_fan else ())

    @property
    def owes(self) -> bool:
        """Whether something is not as it was found: it is driven, or could not be put back."""
        before = self._before
        return bool(before.files or before.fan_profile or before.power_mode or before.clocks_pinned is not None)

    def look(self) -> None:
        """Look what is ours. What failed once may be there again: a service that had not started, a device that was busy."""
        self._find_fans()
        self.modes = ()
        try:
            self.modes = self._modes.names()
        except LeverError as error:
            self.why_not["power mode"] = str(error)

    def set_fan(self, duty: float) -> float:
        """Drive our fans with `duty` (0 to 1), never slower than the box had them; gives the duty of the first.

        Raises LeverError: the lever is not there, or something else drives the fan.
        """
        if self._jtop_fan:
            if self._before.fan_profile is None:
                _, profile, self._before.fan_percent = self._jtop.fan()
                self._before.fan_profile = (self._jtop_fan, profile)
                self._save()
            percent = max(100 * duty, self._before.fan_percent)
            self._jtop.drive_fan(self._jtop_fan, percent)
            return percent / 100
        if not self._fans:
            raise LeverError(next(f"{name}: {reason}" for name, reason in self.why_not.items() if name != "power mode"))
        for fan in self._fans:
            found = fan.saved()
            if not found.keys() <= self._before.files.keys():
                self._before.files = found | self._before.files  # what is still to be put back is older than what is found
                self._save()
        return [fan.drive(duty, self._before.files) for fan in self._fans][0]  # noqa: RUF015 - all are driven

    def power_mode(self) -> str:
        """The mode that is on. Raises LeverError."""
        return self._modes.current()

    def usual_power_mode(self) -> str:
        """The mode that was on before it was ours. Raises LeverError."""
        return self._before.power_mode or self._modes.current()

    def set_power_mode(self, name: str) -> None:
        """Switch the power mode. Raises LeverError."""
        if not self.modes:
            raise LeverError(f"power mode: {self.why_not.get('power mode', 'this box has none')}")
        if not self._before.power_mode:
            self._before.power_mode = self._modes.current()
            self._save()
        self._modes.set(name)

    def free_clocks(self) -> None:
        """Let pinned clocks (jetson_clocks) follow the load again, which is cooler. Raises LeverError."""
        if self._before.clocks_pinned is None:
            self._before.clocks_pinned = self._jtop.clocks()
            self._save()
        self._jtop.set_clocks(False)

    def restore(self) -> list[str]:
        """Put back what the record names; one line for each thing that could not be, which stays in the record for the next try."""
        try:
            kept = self._record.read_bytes()
            before = msgspec.json.decode(kept, type=_Before)
        except FileNotFoundError:
            self._before = _Before(boot_id=_boot_id(self._root))
            return []
        except (OSError, msgspec.DecodeError) as error:
            with suppress(OSError):
                self._record.unlink()
            self._before = _Before(boot_id=_boot_id(self._root))
            return [f"{self._record} cannot be read ({error}): fan and power mode stay as they are"]
        if before.boot_id != _boot_id(self._root):
            before.boot_id, before.files = _boot_id(self._root), {}
        foreign = self._drop_foreign(before.files)
        troubles = self._put_back(before)
        self._before = before
        if not troubles:
            troubles = _try(_forget, self._record)
        elif msgspec.json.encode(before) != kept:
            troubles += _try(self._save)
        return foreign + troubles

    def _put_back(self, before: _Before) -> list[str]:
        """What is as it was leaves `before`: once it has its own control again, the box may choose anew. Gives a line for what failed."""
        troubles: list[str] = []
        for path in sorted(before.files):  # pwm1 before pwm1_enable: automatic control comes last
            if not (failed := _try(put, Path(path), before.files[path])):
                del before.files[path]
            troubles += failed
        if before.fan_profile:
            if not (failed := _try(self._jtop.set_fan_profile, *before.fan_profile)):
                before.fan_profile, before.fan_percent = None, 0.0
            troubles += failed
        if before.power_mode:
            if not (failed := _try(self._modes.set, before.power_mode)):
                before.power_mode = ""
            troubles += failed
        if before.clocks_pinned is not None:
            if not (failed := _try(self._jtop.set_clocks, before.clocks_pinned)):
                before.clocks_pinned = None
            troubles += failed
        return troubles

    def _drop_foreign(self, files: dict[str, str]) -> list[str]:
        """Forget what is no setting of a fan: the record may belong to a user who may do less than this process."""
        ours = attributes(self._root, self._fan_names)
        foreign = [
            path
            for path, content in files.items()
            if self._before.files.get(path) != content  # what this process found itself may have vanished meanwhile
            and (path not in ours or not (content.isascii() and content.isdecimal()))
        ]
        for path in foreign:
            del files[path]
        return [f"{self._record}: {path} is no fan's setting, left as it is" for path in foreign]

    def _find_fans(self) -> None:
        self._jtop_fan = ""
        self._fans, self.why_not = find_fans(self._root, self._fan_names)
        if nvfancontrol_runs(self._root) or self._before.fan_profile:  # it rests while jtop has the fan from us
            with suppress(LeverError):
                self._jtop_fan = self._jtop.fan()[0]  # jtop knows how to take it from that service
                self.why_not = {}
        if not self.fans and not self.why_not:
            self.why_not["fan"] = f"no fan of the driver {' or '.join(self._fan_names)}"

    def _save(self) -> None:
        """Before anything is changed: without the record a crash would leave the box as we set it."""
        try:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            write_record(self._record, msgspec.json.encode(self._before))
        except OSError as error:
            raise LeverError(f"{self._record}: {error.strerror}: what was there before cannot be kept, so nothing is changed") from error


def _forget(record: Path) -> None:
    try:
        record.unlink()
    except OSError as error:
        raise LeverError(f"{record}: {error.strerror}") from error


def _try(action: Callable[..., None], *arguments: object) -> list[str]:
    try:
        action(*arguments)
    except LeverError as error:
        return [str(error)]
    return []


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)


def _boot_id(root: Path) -> str:
    return text_or_none(root / "proc/sys/kernel/random/boot_id") or ""
