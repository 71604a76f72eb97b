"""From what the house says to what leaves it: a whitelist. Only names of the catalogue pass, only numbers, flags and names from closed
lists; whatever else stands in health.json or in a message has no way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from runtime.bus import LinkStats, RingStats
from runtime.messages import Activity, Floor
from runtime.telemetry.catalogue import STAGES, Per, Type, instance, metric, valid
from runtime.telemetry.contract import Health
from runtime.telemetry.turns import Figures

__all__ = ["Collector", "House", "NodeView", "Reporter", "Value", "read_house"]

Value = int | float | bool | str

FULL_MS = 10 * 60_000
"""A report of everything at least so often: what was lost with a dropped report is then told again."""
_STALE_NS = 30 * 1_000_000_000


class ProcessView(msgspec.Struct, frozen=True):
    """A process as health saw it."""

    pss_mb: float = 0.0
    cpu_pct: float = -1.0


class StatsView(msgspec.Struct, frozen=True):
    """The statistics of one node."""

    links: dict[str, LinkStats] = {}
    rings: dict[str, RingStats] = {}
    unsent: dict[str, int] = {}
    values: dict[str, Value] = {}


class NodeView(msgspec.Struct, frozen=True):
    """One node in health.json."""

    state: str = ""
    restarts: int = 0
    process: ProcessView | None = None
    stats: StatsView | None = None


class House(msgspec.Struct, frozen=True):
    """health.json; what is not named here is not read."""

    t_ns: int = 0
    nodes: dict[str, NodeView] = {}
    turns: int = 0
    superseded: int = 0
    objectives: dict[str, int] = {}
    recent: Figures = Figures()


def read_house(path: Path, now_ns: int) -> House | None:
    """health.json as health wrote it last; None when it is not there, not whole, or older than half a minute."""
    try:
        house = msgspec.json.decode(path.read_bytes(), type=House)
    except (OSError, msgspec.MsgspecError):
        return None
    return house if now_ns - house.t_ns <= _STALE_NS else None


class Collector:
    """Gathers the values of one report. `nodes` are the names that may appear."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._instances = {Per.NODE: frozenset(nodes), Per.STAGE: frozenset(STAGES)}
        self._visit = -1
        self._visits = 0
        self._session = ""
        self._level_db: float | None = None
        self._frames: tuple[int, int, int] | None = None  # epoch of the ring, frames, when

    def floor(self, floor: Floor) -> None:
        """The conductor's state: how many visits there were, and whether one is on."""
        if floor.visit != self._visit and self._visit >= 0:
            self._visits += 1
        self._visit = floor.visit
        self._session = floor.session.value

    def activity(self, activity: Activity) -> None:
        """The listener's: how loud the voice is."""
        self._level_db = max(activity.level_db, self._level_db if self._level_db is not None else -120.0)

    def figures(self, house: House | None, more: Mapping[str, Value]) -> dict[str, Value]:
        """All values of now, out of the house, what was noted since the last call, and `more`; what may not leave is left out."""
        values: dict[str, Value] = {"visits": self._visits}
        if self._session:
            values["session"] = self._session
        if self._level_db is not None:
            values["mic_level_db"] = round(self._level_db, 1)
            self._level_db = None
        if house is not None:
            values |= self._of_house(house)
        values |= more
        return {name: value for name, value in values.items() if self._may_leave(name, value)}

    def _may_leave(self, name: str, value: object) -> bool:
        row = metric(name)
        return row is not None and valid(row, value) and (row.per is Per.BOX or instance(name) in self._instances[row.per])

    def _of_house(self, house: House) -> dict[str, Value]:
        values: dict[str, Value] = {"turns": house.turns, "turns_superseded": house.superseded, "turns_aborted": house.recent.aborted}
        values["objectives"] = sum(house.objectives.values())  # their names are the pack's own and stay on the box
        for stage, spread in house.recent.stages.items():
            values[f"stage_p50_ms.{stage}"] = spread.p50
            values[f"stage_p95_ms.{stage}"] = spread.p95
        dropped = 0
        for name, node in house.nodes.items():
            values |= _of_node(name, node)
            if node.stats is not None:
                values |= node.stats.values
                # A `latest` link drops by design: who reads it wants the newest only.
                dropped += sum(sum(link.dropped.values()) for link in node.stats.links.values() if link.kind != "latest")
        values["bus_dropped"] = dropped
        return values | self._of_face(house)

    def _of_face(self, house: House) -> dict[str, Value]:
        renderer = house.nodes.get("renderer")
        ring = renderer.stats.rings.get("video") if renderer and renderer.stats else None
        if ring is None:
            return {}
        values: dict[str, Value] = {"frames_skipped": sum(consumer.skipped for consumer in ring.consumers.values())}
        before, self._frames = self._frames, (ring.epoch, ring.sent, house.t_ns)
        if before is not None and before[0] == ring.epoch and house.t_ns > before[2] and ring.sent >= before[1]:
            values["fps"] = round((ring.sent - before[1]) * 1e9 / (house.t_ns - before[2]), 1)
        return values


def _of_node(name: str, node: NodeView) -> dict[str, Value]:
    values: dict[str, Value] = {f"node_restarts.{name}": node.restarts}
    if node.state:
        values[f"node_state.{name}"] = node.state
    if node.process is not None:
        values[f"node_memory.{name}"] = node.process.pss_mb
        if node.process.cpu_pct >= 0:
            values[f"node_cpu.{name}"] = node.process.cpu_pct
    return values


class Reporter:
    """Report by exception: what moved by more than its deadband since it was last told, and everything now and then."""

    def __init__(self) -> None:
        self._told: dict[str, Value] = {}
        self._full_ms = -FULL_MS

    def report(self, values: Mapping[str, Value], now_ms: int) -> Health:
        """The report for now; it may be empty, and then says that nothing moved."""
        full = now_ms - self._full_ms >= FULL_MS
        if full:
            self._full_ms = now_ms
            self._told = {}
        moved = {name: value for name, value in values.items() if self._moved(name, value)}
        self._told |= moved
        return Health(m=moved, full=full)

    def _moved(self, name: str, value: Value) -> bool:
        if name not in self._told:
            return True
        row, before = metric(name), self._told[name]
        if row is None or row.type in (Type.NAME, Type.BOOL) or isinstance(value, str) or isinstance(before, str):
            return value != before
        return value != before and abs(value - before) > row.deadband
