"""Looks at the kiosk from outside, as a visitor would: is there a page that shows the face? If not for long, climbs the ladder.

Runs as a service of its own (`visavis firmware watch`), beside the kiosk and not below it. Network loss is no trouble: only this box's own
loopback is asked.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import msgspec

from firmware import releases
from firmware.errors import FirmwareError, LadderError
from firmware.ladder import MAX_BOOTS, MINUTE, Ladder, Record, Step, Verdict, begin, decide, load, save
from firmware.notify import Notifier

__all__ = ["ASKS", "Box", "ThisBox", "Watch", "watch"]

log = logging.getLogger("health")

ASKS = Path("/run/visavis-ask")
"""Where the kiosk, which is not root, asks for a restart: an empty file with the step's name. Root owns the folder, the kiosk's group may
write there. Nothing is read from it, so there is nothing to forge; and no restart is asked for more often than the ladder's counts allow.
"""
_ASKABLE = (Step.SERVICE, Step.DISPLAY, Step.REBOOT)
_ASK_AGAIN_NS = 5 * MINUTE
"""The same wish is granted no more often."""
_LOOK_EVERY_S = 5.0
_ANSWER_S = 2.0
_COMMAND_S = 20.0


class Box(Protocol):
    """What the watch needs of the box."""

    def look(self) -> Verdict:
        """How the kiosk is now; never raises."""
        ...

    def has_previous(self) -> bool:
        """Whether there is a release to go back to."""
        ...

    def release(self) -> str:
        """The id of the current release; "" where there are none."""
        ...

    def asked(self) -> tuple[Step, ...]:
        """What the kiosk itself, or the fleet through it, has asked for since the last time; never raises."""
        ...

    def take(self, step: Step) -> None:
        """Do it. Raises FirmwareError."""
        ...


class ThisBox:
    """The box this runs on; `systemctl` stands in for the program in tests."""

    def __init__(
        self,
        url: str,
        base: Path = releases.BASE,
        systemctl: Sequence[str] = ("systemctl", "--no-ask-password", "--no-block"),
        asks: Path = ASKS,
    ) -> None:
        self._url, self._base, self._systemctl, self._asks = url.rstrip("/"), base, tuple(systemctl), asks

    def look(self) -> Verdict:
        """Ask the stage whether a page is there that draws."""
        try:
            with urllib.request.urlopen(f"{self._url}/alive", timeout=_ANSWER_S) as answer:  # noqa: S310 - our own loopback address
                return Verdict.WELL if json.load(answer)["page"] else Verdict.NO_PAGE
        except (OSError, ValueError, KeyError, TypeError):
            return Verdict.NO_KIOSK

    def has_previous(self) -> bool:
        """Whether `previous` names a release other than the current one."""
        return releases.has_previous(self._base)

    def release(self) -> str:
        """The name of the folder that `current` names."""
        current = self._base / "current"
        return current.resolve().name if current.exists() else ""

    def asked(self) -> tuple[Step, ...]:
        """The files in the folder of asks, which go."""
        found = []
        for step in _ASKABLE:
            try:
                (self._asks / step.value).unlink()
            except OSError:
                continue  # not asked; or a folder of that name, which is no way to ask
            found.append(step)
        return tuple(found)

    def take(self, step: Step) -> None:
        """Ask systemd for it, without waiting until it is done; who is not root asks visavis-health, which does it within seconds."""
        if os.geteuid() != 0:
            self._ask_health(step)
        elif step is Step.SERVICE:
            self._ask("restart", "visavis-kiosk.service")
        elif step is Step.DISPLAY:
            self._ask("restart", "visavis-display.service")
        elif step is Step.REBOOT:
            self._ask("reboot")
        elif step is Step.PREVIOUS_RELEASE:
            log.error("release %s is left for the previous one", releases.roll_back(self._base))
            self._ask("reboot")
        elif step is Step.SAFE_SCREEN:
            self._ask("start", "visavis-safe.service")

    def _ask_health(self, step: Step) -> None:
        if step not in _ASKABLE:
            raise FirmwareError(f"{step.value}: only root may, not the kiosk itself")
        try:
            (self._asks / step.value).touch()
        except OSError as error:
            raise FirmwareError(
                f"{self._asks}: {error.strerror}: nobody can be asked for it ('visavis firmware install' makes it)"
            ) from error

    def _ask(self, *arguments: str) -> None:
        try:
            subprocess.run([*self._systemctl, *arguments], check=True, capture_output=True, text=True, timeout=_COMMAND_S)
        except subprocess.CalledProcessError as error:
            raise FirmwareError(f"systemctl {' '.join(arguments)}: {' '.join(str(error.stderr).split())}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FirmwareError(f"systemctl {' '.join(arguments)}: {error}") from error


class Watch:
    """Executes the ladder's steps, each only after its count is on the disk."""

    def __init__(self, box: Box, path: Path, boot_id: str, now_ns: int) -> None:
        self._box, self._path = box, path
        self._complained = False
        self._granted: dict[Step, int] = {}  # when a wish was granted last
        for wish in box.asked():  # nobody knows how long ago
            log.warning("asked for before this watch began: %s: not done", wish.value)
        ladder = begin(load(path), boot_id, now_ns)
        if not ladder.trusted:
            log.warning("%s: no record of earlier steps: this box will not restart itself before it has worked for half an hour", path)
        elif not self._written(ladder.record):
            ladder = replace(ladder, trusted=False)
        self.ladder: Ladder = ladder

    def look(self, now_ns: int) -> Step | None:
        """Look once and do what is due; gives the step taken by the rule."""
        for wish in self._box.asked():
            self._grant(wish, now_ns)
        verdict, previous = self._box.look(), self._box.has_previous()
        after, step = decide(self.ladder, verdict, previous, now_ns)
        if step is Step.PREVIOUS_RELEASE:
            after = replace(after, record=msgspec.structs.replace(after.record, rolled_back=self._box.release()))
        if (after.record, after.trusted) != (self.ladder.record, self.ladder.trusted) and not self._written(after.record):
            untrusted = replace(self.ladder, trusted=False)
            if step is None:
                after = replace(after, record=untrusted.record, trusted=False)
            else:
                after, step = decide(untrusted, verdict, previous, now_ns)
        self.ladder = after
        if step is not None and step is not Step.NODE:
            log.warning("%s: %s", verdict.value, step.value)
            self._take(step)
        return step

    def _grant(self, wish: Step, now_ns: int) -> None:
        granted = self._granted.get(wish)
        if granted is not None and now_ns - granted < _ASK_AGAIN_NS:
            log.warning("asked for again: %s: not done, once in %d minutes is enough", wish.value, _ASK_AGAIN_NS // MINUTE)
            return
        if wish is Step.REBOOT and not self._counted():
            return
        self._granted[wish] = now_ns
        log.warning("asked for: %s", wish.value)
        self._take(wish)

    def _counted(self) -> bool:
        """Count a restart of the box that is asked for, on the disk; False if there must be none."""
        record = self.ladder.record
        if not self.ladder.trusted or record.boots >= MAX_BOOTS or record.reboots >= MAX_BOOTS:
            log.error("asked for a restart of the box: refused, it has started %d times without calm", record.boots)
            return False
        counted = msgspec.structs.replace(record, reboots=record.reboots + 1)
        if not self._written(counted):
            return False
        self.ladder = replace(self.ladder, record=counted)
        return True

    def _take(self, step: Step) -> None:
        try:
            self._box.take(step)
        except FirmwareError as error:
            log.error("%s", error)  # noqa: TRY400 - the next step comes after its time, whatever became of this one

    def _written(self, record: Record) -> bool:
        try:
            save(self._path, record)
        except LadderError as error:
            if not self._complained:
                log.error("%s", error)  # noqa: TRY400 - a person's line, no traceback
            self._complained = True
            return False
        self._complained = False
        return True


def watch(box: Box, path: Path, boot_id: str, notifier: Notifier, stop: threading.Event) -> None:
    """Look every few seconds until `stop`; each look is a ping of this service's own watchdog."""
    watching = Watch(box, path, boot_id, time.monotonic_ns())
    notifier.send(READY=1)
    while True:
        watching.look(time.monotonic_ns())
        notifier.send(WATCHDOG=1, STATUS=f"tried: {', '.join(watching.ladder.tried) or 'nothing'}")
        if stop.wait(_LOOK_EVERY_S):
            break
    notifier.send(STOPPING=1)
