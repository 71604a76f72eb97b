"""The figures of docs/heat.md, from the result of `visavis bench thermal` that is kept in docs/benchmarks/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["BEGIN", "END", "fill", "text"]

BEGIN, END = "<!-- made by `visavis bench report` from benchmarks/thermal.json: do not edit -->", "<!-- to here -->"
_COLUMNS = {
    "seconds_above_trip": "s above the trip",
    "cases_above_trip": "cases above it",
    "min_fps": "lowest fps",
    "changes_per_hour_p95": "changes/h, p95",
    "worst_hour_p95": "worst hour, p95",
    "mean_quality": "mean quality",
    "switched_off": "cases that went off",
}


def fill(page: Path, result: Mapping[str, Any]) -> None:
    """Write the figures between the two marks of `page`. Raises ValueError where they are missing."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page}: has no place for the figures: a line {BEGIN!r} and, below it, {END!r}")
    page.write_text(f"{before}{begin}\n\n{text(result)}\n{end}{after}", encoding="utf-8")


def text(result: Mapping[str, Any]) -> str:
    """The figures in Markdown."""
    policies, rest, calm = result["policies"], result["infeasible"], result["no_heat_problem"]
    figures = [[name, *(str(row[key]) for key in _COLUMNS)] for name, row in policies.items()]
    days = [
        [day, *("-" if row[name] is None else f"{row[name]:.3f}" for name in policies)] for day, row in result["quality_by_profile"].items()
    ]
    return f"""Seed {result["seed"]}, {result["boxes"]} boxes, {result["hours"]:g} hours: {result["feasible"]} feasible cases of \
{len(result["cases"]["rows"])}; {result["feasible_that_trip_without_a_policy"]} of them go over the trip without any policy.

{_table(["policy", *_COLUMNS.values()], figures)}

Quality is the share of the best picture's lines times the share of its frames; the loop counts 0. By day:

{_table(["day", *policies], days)}

The {rest["cases"]} cases that no setting can hold: at the last rung before the trip {rest["last_rung_before_trip"]}, alarm before the trip
{rest["alarm_before_trip"]}, worse than without a policy {rest["worse_than_no_policy"]}. In {rest["never_switched_off"]} of them
the box never switched itself off and talk went on all day (without a policy: {rest["never_switched_off_without_a_policy"]}); in the \
others it did, as it would have at the
last rung all day ({rest["switched_off_needlessly"]} exceptions).

| those cases, together | governor | no policy |
| --- | ---: | ---: |
| hours unserved: off, or fewer than 25 frames a second in time | {rest["hours_unserved"]} | {rest["hours_unserved_without_a_policy"]} |
| times it switched itself off | {rest["shutdowns"]} | {rest["shutdowns_without_a_policy"]} |
| hours above the trip or off | {rest["hours_above_trip_or_off"]} | {rest["hours_above_trip_or_off_without_a_policy"]} |

Off more often than without a policy: {rest["off_more_often"]}, more often than at the last rung all day, too: \
{rest["off_more_often_than_at_the_last_rung_all_day"]}.
Longer above the trip or off than without a policy: {rest["longer_above_trip_or_off"]}; \
{rest["longer_at_the_last_rung_all_day_too"]} of them would be at the last rung all day, too,
and in {rest["longer_but_never_off"]} of them the governor's box never went off.

Days without a heat problem ({calm["cases"]}): {calm["moves"]} moves of any lever. A decision takes {result["decide_us"]:g} µs, at one a \
second {result["governor_core_pct"]:.4f} % of a core.
"""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)
