"""report.json and the table of it: what a rehearsal measured, with n, hardware, versions and commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from visavis.latency import Record
from visavis.rehearse import frames, measure
from visavis.rehearse.analysis import FRAME, Answer, Heard, Turn
from visavis.rehearse.frames import Drawn
from visavis.rehearse.room import RATE

__all__ = ["AGREE_MS", "agreement", "build", "rows"]

AGREE_MS = 30.0
"""Turn records and room.wav may differ by so much."""
_STOP_REACH_S = 2.0


def build(
    heard: Heard,
    turns: Sequence[Turn],
    drawn: Sequence[Drawn],
    records: Sequence[Record],
    levels: measure.Levels,
    room_start_ns: int,
    memory: Sequence[tuple[float, float]],
    **about: Any,
) -> dict[str, Any]:
    """The report. `levels` are the loudspeaker's; `memory` is (seconds, PSS MB of all nodes, Chromium apart); `about` goes in as it is."""
    first = [t.first_sound_ms for t in turns if t.first_sound_ms is not None]
    ducks = [t.duck_ms for t in turns if t.duck_ms is not None and t.verb == "interrupt"]
    others = [t.duck_ms for t in turns if t.duck_ms is not None and t.verb != "interrupt"]
    interruptions = [t.interruption_ms for t in turns if t.interruption_ms is not None]
    stops = _stops(records, levels, room_start_ns, heard.answers)
    skews = frames.pts_skew(drawn, heard.answers, room_start_ns)
    fps, gaps = frames.frame_rate(drawn)
    asked = [t for t in turns if t.verb in ("say", "play", "interrupt")]
    overlays = [t for t in turns if t.verb in ("backchannel", "noise")]
    report: dict[str, Any] = {
        "first_sound_ms": measure.quantiles(first),
        "duck_ms": measure.quantiles(ducks),
        "duck_ms_others": measure.quantiles(others),
        "stop_ms": measure.quantiles(stops),
        "interruption_ms": measure.quantiles(interruptions),
        "false_cutoffs": sum(t.false_cutoff for t in asked),
        "false_stops": sum(t.false_stop for t in overlays),
        "missed_interruptions": sum(t.missed for t in turns),
        "unexpected": sum(t.as_expected is False for t in turns),
        "unanswered": sum(t.answer < 0 for t in asked),
        "fps": fps,
        "gap_ms": gaps,
        "skew_ms": measure.quantiles(skews),
        "pss_mb": round(max((mb for _, mb in memory), default=0.0), 1),
        "pss_mb_per_hour": round(measure.slope_per_hour([s for s, _ in memory], [mb for _, mb in memory]), 2),
        "n": {
            "first_sound_ms": len(first),
            "duck_ms": len(ducks),
            "duck_ms_others": len(others),
            "stop_ms": len(stops),
            "interruption_ms": len(interruptions),
            "false_cutoffs": len(asked),
            "false_stops": len(overlays),
            "unexpected": sum(t.as_expected is not None for t in turns),
            "fps": len(drawn),
            "gap_ms": gaps.n,
            "skew_ms": len(skews),
            "pss_mb": len(memory),
        },
        "false_stops_by_source": _by_source(overlays),
        "interruptions_by_source": dict(Counter(t.source for t in turns if t.verb == "interrupt")),
        "records": agreement(turns, records, room_start_ns),
        "not_found": heard.lost,
        "turns": list(turns),
    }
    return report | about


def _by_source(overlays: Sequence[Turn]) -> dict[str, dict[str, int]]:
    result: dict[str, dict[str, int]] = {}
    for turn in overlays:
        row = result.setdefault(f"{turn.verb}: {turn.source}", {"n": 0, "false_stops": 0})
        row["n"] += 1
        row["false_stops"] += turn.false_stop
    return result


def _stops(records: Sequence[Record], levels: measure.Levels, start_ns: int, answers: Sequence[Answer]) -> list[float]:
    """From each decided stop (the record's mark) to silence in the room, where the reply sounded at that moment."""
    found = []
    for record in records:
        decided = record.marks.get("stop")
        if decided is None:
            continue
        place = (decided - start_ns) / 1e6
        if not any(a.begin * 1000 / RATE < place < a.end * 1000 / RATE for a in answers):
            continue
        after = int(place // measure.FRAME_MS)
        silent = measure.silent_at(levels, after, after + round(_STOP_REACH_S * RATE / FRAME))
        if silent is not None:
            found.append(max(0.0, silent * measure.FRAME_MS - place))
    return found


def agreement(turns: Sequence[Turn], records: Sequence[Record], room_start_ns: int) -> dict[str, Any]:
    """How far the product's own turn records are from room.wav: (speech_end → sound_heard) and the end of speech itself, in ms."""
    by_turn = {record.turn: record.marks for record in records}
    latency, end = [], []
    for turn in turns:
        marks = by_turn.get(turn.answer)
        if turn.first_sound_ms is None or marks is None:
            continue
        if "speech_end" in marks and "sound_heard" in marks:
            latency.append((marks["sound_heard"] - marks["speech_end"]) / 1e6 - turn.first_sound_ms)
        if "speech_end" in marks:
            end.append((marks["speech_end"] - room_start_ns) / 1e6 - turn.speech_end_s * 1000)
    apart = sum(abs(value) > AGREE_MS for value in latency)
    return {"n": len(latency), "over_30_ms": apart, "latency_ms": measure.quantiles(latency), "speech_end_ms": measure.quantiles(end)}


def rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """The report as lines of a table: figure, n, p50, p95, p99 (counts stand under p50)."""

    def show(value: float | None) -> str:
        return "-" if value is None else f"{value:.0f}"

    lines, cpu = [], report["cpu_pct_by_node"]
    for key in ("first_sound_ms", "duck_ms", "stop_ms", "interruption_ms", "gap_ms", "skew_ms"):
        q = msgspec.to_builtins(report[key])  # a kept report has it as a dict already
        lines.append((key, str(q["n"]), show(q["p50"]), show(q["p95"]), show(q["p99"])))
    lines.append(("gap_ms p99.9", "", show(msgspec.to_builtins(report["gap_ms"])["p999"]), "", ""))
    for key, of in (
        ("false_cutoffs", "false_cutoffs"),
        ("false_stops", "false_stops"),
        ("missed_interruptions", "interruption_ms"),
        ("unanswered", "false_cutoffs"),
        ("unexpected", "unexpected"),
    ):
        lines.append((key, str(report["n"][of]), str(report[key]), "", ""))
    lines.append(("fps", str(report["n"]["fps"]), f"{report['fps']:.1f}", "", ""))
    lines.append(("pss_mb", str(report["n"]["pss_mb"]), f"{report['pss_mb']:.0f}", "", ""))
    lines.append(("CPU, % of one core, all nodes", "", f"{sum(pct for name, pct in cpu.items() if name != 'chromium'):.0f}", "", ""))
    lines.append(("CPU, % of one core, Chromium", "", f"{cpu.get('chromium', 0.0):.0f}", "", ""))
    records = report["records"]
    lines.append(("records apart > 30 ms", str(records["n"]), str(records["over_30_ms"]), "", ""))
    return lines


def save(report: dict[str, Any], path: Path) -> None:
    """Write the report as JSON, one key per line."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
