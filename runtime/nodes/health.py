"""Health: makes turn records of the marks, and keeps what every node says of itself. Counts and times only, never a word of a visit."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from runtime import topology
from runtime.context import Context
from runtime.messages import Floor, Mark, NodeEvent, NodeStats
from runtime.telemetry.turns import Recent

__all__ = ["Health", "Processes", "Records", "main"]

MS = 1_000_000
_HEARING = ("speech_end", "silence", "judged", "transcript")
_OBJECTIVE = "objective:"
_FLUSH_NS = 30_000 * MS
_HEARING_NS = 15_000 * MS  # a speech end that lies further before the grant belongs to something else
_EVERY_NS = 5_000 * MS
_PSS_NS = 30_000 * MS  # the system adds it up page by page: 1 to 4 ms a process, half a percent of a core if it were done each time


@dataclass(slots=True)
class _Turn:
    visit: int
    last_ns: int
    stages: dict[str, int] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)


class Records:
    """Marks in, turn records out.

    Hearing happens before there is a turn: the listener knows only the epoch in which somebody spoke, and a reply prepared on speculation
    has a later one. So the marks of hearing are kept apart, and a granted turn is given the last ones before its grant. What a visit has
    reached is known at its end, long after its last turn was written: it belongs to no record and is counted.
    """

    def __init__(self) -> None:
        self.superseded = 0
        self.late = 0
        self.objectives: dict[str, int] = {}  # visits that reached it, by the name it has in the pack
        self._turns: dict[int, _Turn] = {}
        self._hearing: deque[tuple[str, int, float]] = deque(maxlen=512)
        self._done = 0  # newest turn that was written
        self._granted_ns = 0  # of that turn

    def mark(self, mark: Mark, visit: int, now_ns: int) -> list[dict[str, Any]]:
        """Take one mark; returns the records that are complete now."""
        if mark.stage in _HEARING:
            self._hearing.append((mark.stage, mark.t_ns, mark.value))
            return []
        if mark.stage.startswith(_OBJECTIVE):
            name = mark.stage.removeprefix(_OBJECTIVE)
            self.objectives[name] = self.objectives.get(name, 0) + 1
            return []
        if mark.turn <= self._done:
            self.late += 1
            return []
        turn = self._turns.setdefault(mark.turn, _Turn(visit, now_ns))
        turn.last_ns = now_ns
        turn.stages.setdefault(mark.stage, mark.t_ns)
        if mark.value:
            turn.values.setdefault(mark.stage, mark.value)
        if mark.stage != "sound_heard":
            return []
        return self._take([number for number in sorted(self._turns) if number < mark.turn])

    def expire(self, now_ns: int) -> list[dict[str, Any]]:
        """The records of turns that nothing was heard of for 30 s."""
        return self._take([number for number in sorted(self._turns) if now_ns - self._turns[number].last_ns >= _FLUSH_NS])

    def rest(self) -> list[dict[str, Any]]:
        """All that is left; the kiosk ends."""
        return self._take(sorted(self._turns))

    def _take(self, numbers: list[int]) -> list[dict[str, Any]]:
        records = []
        for number in numbers:
            turn = self._turns.pop(number)
            self._done = max(self._done, number)
            if "granted" not in turn.stages and "sound_heard" not in turn.stages:
                self.superseded += 1
                continue
            records.append(self._record(number, turn))
        return records

    def _record(self, number: int, turn: _Turn) -> dict[str, Any]:
        granted = turn.stages.get("granted", 0)
        stages, values = dict(turn.stages), dict(turn.values)
        near = [entry for entry in self._hearing if max(self._granted_ns, granted - _HEARING_NS) < entry[1] <= granted]
        ends = [t_ns for stage, t_ns, _ in near if stage == "speech_end"]
        for stage, t_ns, value in near if ends else ():
            if t_ns < ends[-1]:
                continue
            if stage != "silence" or "silence" not in stages:  # the first notice of the silence, the last verdict on it
                stages[stage] = t_ns
                if value:
                    values[stage] = value
        self._granted_ns = max(self._granted_ns, granted)
        record: dict[str, Any] = {"turn": number, "visit": turn.visit, "stages": dict(sorted(stages.items(), key=lambda item: item[1]))}
        if values:
            record["values"] = values
        if "speech_end" in stages:
            end = stages["speech_end"]
            record["after_speech_end_ms"] = {name: round((t_ns - end) / MS, 1) for name, t_ns in record["stages"].items()}
        return record


class Processes:
    """Memory (PSS) and CPU of the kiosk's processes, out of /proc: the supervisor and its children, which are called vv-NODE."""

    def __init__(self, supervisor: int, proc: Path = Path("/proc")) -> None:
        # Not pathlib, which interns each part of a path: every 5 s, and the interpreter doubles that table once it is full of what is gone.
        self._supervisor, self._proc = supervisor, str(proc)
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        self._cpu: dict[int, tuple[float, int]] = {}
        self._pss: dict[int, tuple[int, int]] = {}  # kB, and when

    def look(self, now_ns: int) -> dict[str, dict[str, float]]:
        """By node: pid, pss_mb (of the last 30 s), cpu_pct of one core since the last look (-1: first look)."""
        found: dict[str, dict[str, float]] = {}
        alive, weighed = {}, {}
        for pid in self._children():
            try:
                stat = self._read(f"{pid}/stat")
                name = stat[stat.index("(") + 1 : stat.rindex(")")]
                if pid != self._supervisor and not name.startswith("vv-"):
                    continue
                times = stat[stat.rindex(")") + 2 :].split()
                cpu_s = (int(times[11]) + int(times[12])) * self._tick_s
                pss = self._pss.get(pid)
                if pss is None or now_ns - pss[1] >= _PSS_NS:
                    pss = self._pss_kb(pid), now_ns
            except (OSError, ValueError, IndexError):  # it ended while we looked
                continue
            before = self._cpu.get(pid)
            pct = 100.0 * (cpu_s - before[0]) * 1e9 / max(1, now_ns - before[1]) if before else -1.0
            alive[pid], weighed[pid] = (cpu_s, now_ns), pss
            node = "supervisor" if pid == self._supervisor else name[3:]
            found[node] = {"pid": pid, "pss_mb": round(pss[0] / 1024, 1), "cpu_pct": round(pct, 1)}
        self._cpu, self._pss = alive, weighed
        return found

    def _children(self) -> list[int]:
        try:
            text = self._read(f"{self._supervisor}/task/{self._supervisor}/children")
        except OSError:
            return []
        return [self._supervisor, *(int(pid) for pid in text.split())]

    def _read(self, name: str) -> str:
        with open(f"{self._proc}/{name}", encoding="utf-8") as file:  # noqa: PTH123 - see __init__
            return file.read()

    def _pss_kb(self, pid: int) -> int:
        for line in self._read(f"{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        return 0


class Health:
    """Collects, and writes `timeline` (a line per turn) and `run_dir`/health.json (every 5 s)."""

    def __init__(self, ctx: Context, processes: Processes) -> None:
        self._ctx, self._processes = ctx, processes
        self._records, self._recent = Records(), Recent()
        self._timeline = Path(ctx.boot.timeline) if ctx.boot.timeline else None
        self._file = Path(ctx.boot.run_dir) / "health.json"
        self._fresh = self._file.with_suffix(".new")
        self._nodes: dict[str, dict[str, Any]] = {row.name: {} for row in topology.NODES}
        self._visit = 0
        self._turns = self._unwritten = 0
        self._due_ns = 0
        self._failing: set[Path] = set()

    def handle(self, message: Any) -> None:
        """Take one message of any link."""
        now = self._ctx.clock.monotonic_ns()
        if isinstance(message, Mark):
            self._write(self._records.mark(message, self._visit, now))
        elif isinstance(message, Floor):
            self._visit = message.visit
        elif isinstance(message, NodeEvent):
            self._nodes.setdefault(message.node, {}).update(state=message.state.value, restarts=message.restarts)
        elif isinstance(message, NodeStats):
            self._nodes.setdefault(message.node, {})["stats"] = msgspec.Raw(message.body)

    def tick(self) -> None:
        """Let time pass."""
        now = self._ctx.clock.monotonic_ns()
        if now < self._due_ns:
            return
        self._due_ns = now + _EVERY_NS
        self._write(self._records.expire(now))
        for name, process in self._processes.look(now).items():
            self._nodes.setdefault(name, {})["process"] = process
        self._save(now)

    def close(self) -> None:
        """Write what is left."""
        self._write(self._records.rest())

    def _write(self, records: list[dict[str, Any]]) -> None:
        if not records:
            return
        self._turns += len(records)
        now = self._ctx.clock.monotonic_ns()
        for record in records:
            self._recent.add(record, now)
        if self._timeline is None:
            return
        try:
            with self._timeline.open("ab") as lines:
                lines.write(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
        except OSError as error:
            self._failed(error, self._timeline, len(records))
        else:
            self._worked(self._timeline)

    def _save(self, now: int) -> None:
        state = {
            "t_ns": now,
            "nodes": self._nodes,
            "turns": self._turns,
            "recent": self._recent.figures(now),
            "superseded": self._records.superseded,
            "late_marks": self._records.late,
            "objectives": self._records.objectives,
            "unwritten": self._unwritten,
        }
        try:
            self._fresh.write_bytes(msgspec.json.encode(state))
            self._fresh.replace(self._file)
        except OSError as error:
            self._failed(error, self._file, 0)
        else:
            self._worked(self._file)

    def _failed(self, error: OSError, path: Path, records: int) -> None:
        self._unwritten += records
        if not self._failing:
            self._ctx.notice("disk", f"cannot write {path} ({error.strerror}): turn records are lost, the kiosk goes on")
        self._failing.add(path)

    def _worked(self, path: Path) -> None:
        if path in self._failing:
            self._failing.discard(path)
            if not self._failing:
                self._ctx.notice("disk", "")


def main(ctx: Context) -> None:
    """Run health until it is told to stop."""
    health = Health(ctx, Processes(os.getppid()))
    ctx.ready()
    while not ctx.stopping:
        for _, message in ctx.receive(0.5):
            health.handle(message)
        health.tick()
        ctx.beat()
    for _, message in ctx.receive(0):
        health.handle(message)
    health.close()
