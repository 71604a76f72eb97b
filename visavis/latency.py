"""The kiosk's own turn records (timeline.jsonl): how long each stage took after the end of the visitor's speech.

A line is one turn: its number and, by stage, the time of its mark (ns, CLOCK_MONOTONIC). See law 8 and `runtime.nodes.health`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from visavis.rehearse import measure

__all__ = ["ANCHOR", "STAGES", "Record", "TimelineError", "read", "table"]

ANCHOR = "speech_end"
STAGES = ("silence", "judged", "transcript", "asked", "reply_first", "speech_first", "granted", "sound_sent", "sound_heard", "frame_first")
"""Stages in the order in which they usually come; each is reported as ms after ANCHOR."""
BARGE_IN = (("duck", "stop"), ("stop", "silent"))


class TimelineError(Exception):
    """The file cannot be read or is no timeline; one line."""


class Record(msgspec.Struct, frozen=True):
    """One turn: stage → ns."""

    turn: int
    marks: dict[str, int]


def read(path: Path) -> list[Record]:
    """All turn records of a timeline. Raises TimelineError."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise TimelineError(f"{path}: cannot be read: {error.strerror}") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_record(msgspec.json.decode(line)))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise TimelineError(f"{path}, line {number}: is no turn record: {error}") from error
    return records


def _record(row: dict[str, Any]) -> Record:
    return Record(int(row["turn"]), {stage: int(t_ns) for stage, t_ns in row["stages"].items()})


def table(records: Sequence[Record]) -> dict[str, measure.Quantiles]:
    """By stage: ms after the end of speech over all turns that have both; then the spans of BARGE_IN."""
    result = {}
    for stage in STAGES:
        spans = [(r.marks[stage] - r.marks[ANCHOR]) / 1e6 for r in records if stage in r.marks and ANCHOR in r.marks]
        result[stage] = measure.quantiles(spans)
    for begin, end in BARGE_IN:
        spans = [(r.marks[end] - r.marks[begin]) / 1e6 for r in records if begin in r.marks and end in r.marks]
        result[f"{begin} → {end}"] = measure.quantiles(spans)
    return result
