"""`visavis chaos`: breaks the real running kiosk in the middle of conversations, one fault after the other, and says what that cost.

    result = run(kills=20, minutes=10, seed=1)

The kiosk is `visavis run` with its default engines; the page is one without a browser, so that the moment of every frame and every
sample is known; the visitor types, and speaks where it is about ears. What a hang, a gap and a break are: docs/faults.md.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from visavis._processes import tree
from visavis.chaos import picture
from visavis.chaos.campaign import Hit, described, hit, plan
from visavis.chaos.faults import FAULTS, Fault
from visavis.chaos.house import LIMIT_S, House, what_is_left
from visavis.chaos.outside import Broker, Screen, why_no_broker, why_no_browser
from visavis.chaos.report import summary
from visavis.rehearse.errors import KioskFailed, RehearsalError

__all__ = ["ALL", "ChaosError", "run"]

ALL = (*FAULTS, "broker", "browser", "clock")
"""Every fault that can be asked for."""
_NO_CLOCK = (
    "not possible here: the clock that the nodes read (CLOCK_MONOTONIC) never jumps, and the time of day cannot be set without privileges; "
    "only the uplink reads the time of day"
)


class ChaosError(RehearsalError):
    """What was asked for cannot be done; one line."""


def run(
    *,
    kills: int = 20,
    minutes: float = 10.0,
    seed: int = 1,
    faults: Sequence[str] = ALL,
    out: Path | None = None,
    changes: dict[str, Any] | None = None,
    limit_s: float = LIMIT_S,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Do `kills` SIGKILLs over all nodes in turn, and the other `faults` between them, for at most `minutes`; returns the report.

    `out` keeps the kiosk's log and turn records; `changes` are tables laid over the default kiosk.toml. What has not
    come after `limit_s` counts as a hang, what is there a third of it after the end as left.
    Raises ChaosError for an unknown fault, RehearsalError if the kiosk does not come up.
    """
    if unknown := [name for name in faults if name not in ALL]:
        raise ChaosError(f"unknown fault {unknown[0]!r}: known are {', '.join(ALL)}")
    rng = random.Random(seed)
    impossible = _impossible(faults)
    wanted = plan(kills, [name for name in dict.fromkeys(faults) if name not in impossible], rng)
    began = time.monotonic()
    hits: list[Hit] = []
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="visavis-chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        house, doable = _set_up(stack, folder, wanted, dict(changes or {}), limit_s)
        say(f"the kiosk runs, {len(wanted)} faults are to come")
        descriptors = _open_files(house.kiosk.pid)
        for name, target in wanted:
            if time.monotonic() - began > minutes * 60:
                break
            hits.append(_one(house, doable, name, target, rng))
            say(f"{len(hits)}/{len(wanted)} {described(hits[-1])}")
            if dead := _dead(house):
                hits[-1].hang = dead
                break
        more = 0 if _dead(house) else _open_files(house.kiosk.pid) - descriptors
        left = [f"{more} descriptors of the supervisor"] if more > 0 else []
        left += _end(house)
    return summary(hits, left, impossible, planned=len(wanted)) | {
        "seed": seed, "kills": kills, "minutes": round((time.monotonic() - began) / 60, 2), "hits": msgspec.to_builtins(hits),
    }  # fmt: skip


def _impossible(faults: Sequence[str]) -> dict[str, str]:
    """Faults that cannot be done here, and why."""
    reasons = {"clock": _NO_CLOCK, "broker": why_no_broker(), "browser": why_no_browser()}
    return {name: reasons[name] for name in faults if reasons.get(name)}


def _set_up(
    stack: ExitStack, folder: Path, wanted: Sequence[tuple[str, str]], changes: dict[str, Any], limit_s: float
) -> tuple[House, dict[str, Fault]]:
    """The kiosk, with a broker to talk to if that is to break."""
    doable = dict(FAULTS)
    if any(name == "broker" for name, _ in wanted):
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="visavis-broker-")))
        broker = stack.enter_context(Broker(place / "broker"))
        doable["broker"] = Fault("broker", "the fleet's broker is killed, and comes back", broker.away)
        changes["fleet"] = broker.fleet
    return stack.enter_context(House(folder, changes, limit_s=limit_s)), doable


def _one(house: House, doable: dict[str, Fault], name: str, target: str, rng: random.Random) -> Hit:
    """One fault, and what came of it. One that cannot be done is a hang in the report, not the end of it: that is when it is needed."""
    result = Hit(name, target)
    try:
        if name == "browser":
            return Screen(house).kill()
        result = hit(house, doable[name], target, rng)
        if name == "kill" and target in picture.TARGETS and not result.hang and not why_no_browser():
            result.frame_gap_ms, result.hang = picture.shown_gap(house, target, rng)
            result.note = "frames: of a second kill, with the page in Chromium"
    except (OSError, RehearsalError) as error:
        result.hang = f"the fault could not be done: {error}"
    return result


def _dead(house: House) -> str:
    """Why there is no kiosk any more, "" if there is one."""
    try:
        house.kiosk.check()
    except KioskFailed as error:
        return str(error)
    return ""


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _end(house: House) -> list[str]:
    """SIGKILL of the supervisor, the last fault: what of the kiosk is left a moment later."""
    pids = tree(house.kiosk.pid)
    if not _dead(house):
        os.kill(pids[0], signal.SIGKILL)
    left = what_is_left(pids, house.run_dir, house.limit_s / 3)
    return left if _dead(house) else [*left, "the supervisor outlived SIGKILL"]
