"""What to do when the kiosk does not come back by itself: node → service → display → restart of the box → previous release → safe screen.

`decide` is the rule, without I/O. It knows no wall clock: a box without a battery wakes up in 1970. Time is CLOCK_MONOTONIC of this boot,
and what must outlive a boot is counted, not dated. The counters stand in a file that is written before each step and go back to zero only
after half an hour of a working kiosk, so a box can never restart itself for ever: at most `MAX_REBOOTS` times and once more for the
previous release, then it shows the safe screen and stays up. Without a record that can be read and written it does not restart at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from firmware._files import write_record
from firmware.errors import LadderError

__all__ = ["CALM_NS", "MAX_BOOTS", "MAX_REBOOTS", "MAX_ROLLBACKS", "Ladder", "Record", "Step", "Verdict", "begin", "decide", "load", "save"]

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
MAX_REBOOTS = 2
MAX_ROLLBACKS = 1
MAX_BOOTS = 5
"""Boots without calm, whoever caused them (the hardware watchdog, a loose plug): after so many we add none of our own."""
CALM_NS = 30 * MINUTE
SETTLED_NS = MINUTE
"""A kiosk that works for so long has recovered; the next trouble begins at the lowest step again."""
BOOT_GRACE_NS = 3 * MINUTE
"""After a start of the box: engines load, the first time they compile."""
AGAIN_NS = 60 * MINUTE
"""On the safe screen: so long until the kiosk is tried again, without a restart of the box."""

Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class Step(str, Enum):
    """What is done, from the least to the most."""

    NODE = "node"  # wait: the supervisor restarts nodes by itself
    SERVICE = "service"
    DISPLAY = "display"
    REBOOT = "reboot"
    PREVIOUS_RELEASE = "previous release"
    SAFE_SCREEN = "safe screen"


class Verdict(str, Enum):
    """How the kiosk is, seen from outside."""

    WELL = "well"
    NO_PAGE = "no page"  # the stage answers, but nobody shows its page
    NO_KIOSK = "no kiosk"  # the stage does not answer


_ORDER = {
    Verdict.NO_KIOSK: (Step.NODE, Step.SERVICE, Step.DISPLAY, Step.REBOOT, Step.PREVIOUS_RELEASE, Step.SAFE_SCREEN),
    Verdict.NO_PAGE: (Step.NODE, Step.DISPLAY, Step.SERVICE, Step.REBOOT, Step.PREVIOUS_RELEASE, Step.SAFE_SCREEN),
}
_PATIENCE_NS = {
    Step.NODE: 30 * SECOND,
    Step.SERVICE: 90 * SECOND,
    Step.DISPLAY: 60 * SECOND,
    Step.REBOOT: 5 * MINUTE,  # the box is on its way down; only a failed shutdown sees the end of this
    Step.PREVIOUS_RELEASE: 5 * MINUTE,
    Step.SAFE_SCREEN: AGAIN_NS,
}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives a boot: counts since the last calm. `rolled_back` is the release that was left, for the updater to refuse."""

    boot_id: str
    boots: Count = 0
    reboots: Count = 0
    rollbacks: Count = 0
    rolled_back: str = ""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where we stand. `trusted`: the record was read and could be written; without it no step may be taken that a boot forgets."""

    record: Record
    trusted: bool
    wait_ns: int
    tried: tuple[Step, ...] = ()
    well_ns: int | None = None


def begin(record: Record | None, boot_id: str, now_ns: int) -> Ladder:
    """The state at the start of the watch; `record` None: there was none, or a broken one. Write its record before anything else."""
    kept = record or Record(boot_id=boot_id)
    if kept.boot_id != boot_id:
        kept = msgspec.structs.replace(kept, boot_id=boot_id, boots=min(kept.boots + 1, 1_000_000))
    return Ladder(kept, record is not None, now_ns + BOOT_GRACE_NS)


def decide(ladder: Ladder, verdict: Verdict, has_previous: bool, now_ns: int) -> tuple[Ladder, Step | None]:
    """The next state and the step to take now. The new record, if it differs, must be on the disk before the step is taken."""
    if verdict is Verdict.WELL:
        return _well(ladder, now_ns), None
    ladder = replace(ladder, well_ns=None)
    if now_ns < ladder.wait_ns:
        return ladder, None
    step = next(s for s in _ORDER[verdict] if s not in ladder.tried and _may(s, ladder, has_previous))
    record = ladder.record
    if step is Step.REBOOT:
        record = msgspec.structs.replace(record, reboots=record.reboots + 1)
    elif step is Step.PREVIOUS_RELEASE:
        record = msgspec.structs.replace(record, rollbacks=record.rollbacks + 1)
    # After the safe screen the climb begins anew; its one hour is what keeps that from being a loop.
    tried = (Step.NODE,) if step is Step.SAFE_SCREEN else (*ladder.tried, step)
    return replace(ladder, record=record, tried=tried, wait_ns=now_ns + _PATIENCE_NS[step]), step


def _well(ladder: Ladder, now_ns: int) -> Ladder:
    since = now_ns if ladder.well_ns is None else ladder.well_ns
    ladder = replace(ladder, well_ns=since)
    if now_ns - since >= SETTLED_NS:
        ladder = replace(ladder, tried=(), wait_ns=now_ns)
    if now_ns - since >= CALM_NS:
        # What was rolled back stays known: it is no better for the calm that the older release brought.
        calm = Record(boot_id=ladder.record.boot_id, rolled_back=ladder.record.rolled_back)
        ladder = replace(ladder, record=calm, trusted=True)
    return ladder


def _may(step: Step, ladder: Ladder, has_previous: bool) -> bool:
    if step not in (Step.REBOOT, Step.PREVIOUS_RELEASE):
        return True
    if not ladder.trusted or ladder.record.boots >= MAX_BOOTS:
        return False
    if step is Step.REBOOT:
        return ladder.record.reboots < MAX_REBOOTS
    return has_previous and ladder.record.rollbacks < MAX_ROLLBACKS


def load(path: Path) -> Record | None:
    """The record at `path`; None where there is none, or a broken one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def save(path: Path, record: Record) -> None:
    """Write the record so that it survives a power cut. Raises LadderError."""
    try:
        write_record(path, msgspec.json.encode(record))
    except OSError as error:
        raise LadderError(f"{path}: {error.strerror}: the steps taken cannot be counted, so this box will not restart itself") from error
