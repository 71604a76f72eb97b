"""A job's plan, and which box is in which phase: boxes in the order of a hash of job and name, cut into phases. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fleet.windows import share

__all__ = ["Phase", "Plan", "cut", "place", "sizes"]

_DAY_S = 86_400


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`size` boxes, or percent of all; the last phase takes all that remain, whatever it says.

    It is met when `success` percent of the reached boxes are done; `stop` percent of its boxes failed stop the job (0: the first
    failure does). Then `rest_s` pass, and with `approve` a person has to agree, before the next phase begins.
    """

    size: Annotated[float, Meta(gt=0, le=1_000_000)] = 100
    unit: Literal["percent", "boxes"] = "percent"
    success: Annotated[float, Meta(gt=0, le=100)] = 90
    stop: Annotated[float, Meta(ge=0, le=100)] = 20
    rest_s: Annotated[int, Meta(ge=0, le=30 * _DAY_S)] = 0
    approve: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`at_once` boxes at most are at it together. From its turn on a box has `reach_s` to be reachable, then `answer_s` to answer."""

    phases: Annotated[tuple[Phase, ...], Meta(min_length=1, max_length=20)] = (Phase(),)
    at_once: Annotated[int, Meta(ge=1, le=100_000)] = 50
    reach_s: Annotated[int, Meta(ge=60, le=30 * _DAY_S)] = 7 * _DAY_S
    answer_s: Annotated[int, Meta(ge=10, le=7 * _DAY_S)] = 900


def sizes(phases: Iterable[Phase], count: int) -> list[int]:
    """How many of `count` boxes each phase takes: percent are rounded up, the last takes the rest."""
    rows, left, found = list(phases), count, []
    for phase in rows[:-1]:
        wanted = int(phase.size) if phase.unit == "boxes" else -int(-phase.size * count // 100)
        found.append(min(left, max(1, wanted)))
        left -= found[-1]
    return [*found, left]


def cut(job: str, plan: Plan, names: Iterable[str]) -> tuple[dict[str, int], tuple[float, ...]]:
    """The phase of each box, and the highest hash in each phase, by which boxes that join later find theirs."""
    order = sorted(set(names), key=lambda name: (share(job, name), name))
    phases: dict[str, int] = {}
    bounds: list[float] = []
    for number, size in enumerate(sizes(plan.phases, len(order))):
        for name in order[len(phases) : len(phases) + size]:
            phases[name] = number
        bounds.append(share(job, order[len(phases) - 1]) if size else bounds[-1] if bounds else -1.0)
    return phases, (*bounds[:-1], 1.0)


def place(job: str, plan: Plan, bounds: tuple[float, ...], name: str) -> int:
    """The phase of a box that joins later: by its hash. A phase of so many boxes takes no more than those; the last takes any."""
    mine = share(job, name)
    fits = (number for number, bound in enumerate(bounds) if mine <= bound and plan.phases[number].unit == "percent")
    return next(fits, len(bounds) - 1)
