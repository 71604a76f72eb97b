"""What goes wrong with which box, and when: decided at the start from the seed, so that a run can be had again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fleet.errors import BadRequest

__all__ = ["FAULTS", "Plan", "Storm", "chosen", "plan", "storms"]

FAULTS = ("flapping", "offline", "skew", "storm")
_SHARE = {"flapping": 0.05, "offline": 0.05, "skew": 0.1}
_FLAP_S = (5.0, 60.0)
_BACKLOG_H = (1.0, 4.0)
_BACKLOG_STEP_S = 60.0
_STORM_EVERY_S = 300.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One box: mean seconds between flaps (0: none); reports that it made before, offline, and how far apart; an outage within the run
    (seconds from the start, from and to); how far its wall clock is off, and whether it says that it was set.
    """

    flap_s: float = 0.0
    backlog: int = 0
    backlog_step_s: float = _BACKLOG_STEP_S
    outage_s: tuple[float, float] = (0.0, 0.0)
    skew_ms: int = 0
    synced: bool = True


@dataclass(frozen=True, slots=True)
class Storm:
    """At `at_s` every box loses the network for `for_s`, and all want back."""

    at_s: float
    for_s: float


def chosen(text: str) -> frozenset[str]:
    """The faults named in `text`, with commas between. Raises BadRequest."""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    for name in names - set(FAULTS):
        raise BadRequest(f"there is no fault {name!r}: known are {', '.join(FAULTS)}")
    return names


def plan(faults: frozenset[str], rng: Random, run_s: float) -> Plan:
    """What befalls one box in a run of `run_s` seconds; kinds of faults meet in one box by chance."""
    hit = {name: name in faults and rng.random() < share for name, share in _SHARE.items()}
    begin = rng.uniform(0.2, 0.5) * run_s
    skew, synced = 0, True
    if hit["skew"]:
        # Never set (1970), ahead beyond what is believed, behind by a time zone.
        skew, synced = rng.choice(((-56 * 365 * 86_400_000, False), (3 * 3_600_000, True), (-3_600_000, True)))
    return Plan(
        flap_s=rng.uniform(*_FLAP_S) if hit["flapping"] else 0.0,
        backlog=round(rng.uniform(*_BACKLOG_H) * 3600 / _BACKLOG_STEP_S) if hit["offline"] else 0,
        outage_s=(begin, begin + rng.uniform(0.1, 0.3) * run_s) if hit["offline"] else (0.0, 0.0),
        skew_ms=skew,
        synced=synced,
    )


def storms(faults: frozenset[str], rng: Random, run_s: float) -> list[Storm]:
    """One in the middle of a short run, of a long one one every five minutes."""
    if "storm" not in faults:
        return []
    count = max(1, int(run_s / _STORM_EVERY_S))
    return [Storm((n + 0.5) * run_s / count, rng.uniform(2, 10)) for n in range(count)]
