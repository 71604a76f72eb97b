"""The commands that wear the kiosk out: `visavis chaos` and `visavis soak`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from visavis._output import ReportFile

__all__ = ["chaos", "soak"]


def chaos(
    *, kills: int = 20, minutes: float = 10.0, seed: int = 1, faults: str = "", json: ReportFile = None, out: Path | None = None
) -> int:
    """Break the running kiosk in the middle of conversations, one fault after the other, and say what the visitor saw and heard of it.

    Parameters
    ----------
    kills
        SIGKILLs, over all nodes in turn; of every other fault there is one for each twenty, at least one, at most three.
    minutes
        No fault is begun after so long.
    seed
        Chooses order, questions and moments.
    faults
        Only these, with commas between: kill, stop, memory, starve, slow_disk, full_disk, flip, flood, microphone, page, broker, browser,
        clock.
    json
        Write the report to this file.
    out
        Folder for the kiosk's log and turn records.

    """
    from visavis import chaos as trouble
    from visavis.bench.report import print_table
    from visavis.chaos.report import rows

    chosen = tuple(name.strip() for name in faults.split(",") if name.strip()) or trouble.ALL
    result = trouble.run(kills=kills, minutes=minutes, seed=seed, faults=chosen, out=out, say=_say)
    head = ("fault", "n", "hangs", "frame gap ms", "silence s", "recovery s", "face back s", "lost")
    print_table(f"{result['done']} of {result['planned']} faults, p50 / p95", head, rows(result))
    print(f"hangs {result['hangs']}, leftovers {result['leftovers']}{''.join(f', {what}' for what in result['left'])}")
    _write(result, json)
    return 0


def soak(*, hours: float = 1.0, json: ReportFile = None, out: Path | None = None) -> int:
    """Talk with the kiosk for hours and say whether memory, descriptors, threads, picture or sound drift.

    Parameters
    ----------
    hours
        How long; the first quarter (ten minutes at most) is not judged.
    json
        Write the report to this file.
    out
        Folder for the kiosk's log and turn records.

    """
    from visavis import soak as long
    from visavis.bench.report import print_table

    result = long.run(hours=hours, out=out, say=_say)
    head = ("process", "MB", "MB at the end", "MB/h", "descriptors", "threads")
    print_table(f"{result['hours']:.2f} h, {result['questions']} questions", head, long.rows(result))
    for name, limit in result["limits"].items():
        print(f"{name} {result[name]} (limit {limit:g})")
    print(f"verdict: {result['verdict']}{': ' if result['failed'] else ''}{', '.join(result['failed'])}")
    _write(result, json)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(result: dict[str, Any], path: Path | None) -> None:
    from visavis.bench._machine import machine

    if path:
        path.write_bytes(msgspec.json.format(msgspec.json.encode({**result, "machine": machine()}), indent=1) + b"\n")
