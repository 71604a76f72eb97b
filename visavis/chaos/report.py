"""The report: figures per fault, per killed node, and over all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from visavis.chaos.campaign import Hit
from visavis.rehearse.measure import quantiles

__all__ = ["rows", "summary"]

_FIGURES = ("resume_s", "frame_gap_ms", "arrived_gap_ms", "drawn_gap_ms", "quiet_gap_ms", "recovery_s", "ready_s", "face_back_s")


def summary(hits: Sequence[Hit], left: Sequence[str], impossible: dict[str, str], *, planned: int) -> dict[str, Any]:
    """The report of these hits; `left` is what was there after the end, `planned` how many hits there should have been.

    `resume_s` and `frame_gap_ms` at the top are over the SIGKILLs (over all hits if there were none); frames are counted apart for the
    renderer, which draws them.
    """
    main = [one for one in hits if one.fault == "kill"] or list(hits)
    others = [one for one in main if one.target != "renderer"]
    faults = {name: _figures([one for one in hits if one.fault == name]) for name in dict.fromkeys(one.fault for one in hits)}
    for name, why in impossible.items():
        faults[name] = {"n": 0, "not_possible": why}
    return {
        "hangs": sum(bool(one.hang) for one in hits),
        "leftovers": len(left) + sum(len(one.leftovers) for one in hits),
        "left": [*left, *(what for one in hits for what in one.leftovers)],
        "resume_s": _quantiles([one.resume_s for one in main]),
        "frame_gap_ms": _quantiles([one.frame_gap_ms for one in others]),
        "frame_gap_renderer_ms": _quantiles([one.frame_gap_ms for one in main if one.target == "renderer"]),
        "quiet_gap_ms": _quantiles([one.quiet_gap_ms for one in hits]),
        "planned": planned,
        "done": len(hits),
        "faults": faults,
        "nodes": {name: _figures([one for one in main if one.target == name]) for name in sorted({one.target for one in main})},
    }


def _figures(hits: Sequence[Hit]) -> dict[str, Any]:
    found: dict[str, Any] = {"n": len(hits), "hangs": sum(bool(one.hang) for one in hits), "leftovers": sum(len(o.leftovers) for o in hits)}
    for name in _FIGURES:
        values = [getattr(one, name) for one in hits]
        if any(value is not None for value in values):
            found[name] = _quantiles(values)
    lost: dict[str, int] = {}
    for what in (what for one in hits for what in one.lost):
        lost[what] = lost.get(what, 0) + 1
    return found | {"lost": lost}


def _quantiles(values: Sequence[float | None]) -> dict[str, Any]:
    return dict(msgspec.to_builtins(quantiles([value for value in values if value is not None])))


def rows(result: dict[str, Any]) -> list[list[str]]:
    """A line per fault and per killed node: n, hangs, what was lost, and p50/p95 of the figures."""
    lines = []
    named = list(result["faults"].items())
    named += [(f"  kill {name}", figures) for name, figures in result["nodes"].items() if name]
    for name, found in named:
        if "not_possible" in found:
            lines.append([name, "0", "", "", "", "", "", found["not_possible"]])
            continue
        figures = [_pair(found.get(key)) for key in ("frame_gap_ms", "resume_s", "recovery_s", "face_back_s")]
        lost = ", ".join(f"{count} × {what}" for what, count in found["lost"].items())
        lines.append([name, str(found["n"]), str(found["hangs"]), *figures, lost])
    return lines


def _pair(figure: dict[str, Any] | None) -> str:
    if not figure or figure["p50"] is None:
        return ""
    return f"{figure['p50']:g} / {figure['p95']:g}"
