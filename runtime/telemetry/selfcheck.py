"""The test a kiosk can make of itself while visitors use it: nothing is moved, played or drawn for it. A pure function of what is known.

What needs the kiosk closed (tones, fan, engines) is the technician's acceptance, not this.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtime.messages import NodeState
from runtime.telemetry.catalogue import METRICS
from runtime.telemetry.collect import House, Value

__all__ = ["self_check"]

_FRESH_NS = 10 * 1_000_000_000
_LIMITS = ("memory_free", "disk_free", "temperature", "thermal_margin", "load")


def self_check(house: House | None, figures: Mapping[str, Value], *, disk_takes: bool, now_ns: int) -> dict[str, bool]:
    """Each check by name and whether it passed; what cannot be known here is left out.

    The limits are those of the catalogue at which an admin has to act (`bad`).
    """
    checks = {"health_told": house is not None, "outbox_on_disk": disk_takes}
    for row in METRICS:
        value = figures.get(row.name)
        if row.name in _LIMITS and row.bad is not None and isinstance(value, (int, float)):
            checks[row.name] = value > row.bad if row.falling else value < row.bad
    if "clock_synced" in figures:
        checks["clock_synced"] = bool(figures["clock_synced"])
    if "throttled" in figures:
        checks["not_throttled"] = not figures["throttled"]
    if house is None:
        return checks
    states = [node.state for node in house.nodes.values() if node.state]
    checks["nodes_ready"] = bool(states) and all(state == NodeState.READY.value for state in states)
    renderer, stage = house.nodes.get("renderer"), house.nodes.get("stage")
    ring = renderer.stats.rings.get("video") if renderer and renderer.stats else None
    checks["face_drawn"] = ring is not None and now_ns - ring.heartbeat_ns < _FRESH_NS
    if stage is not None and stage.stats is not None:
        fps = stage.stats.values.get("page_fps")
        checks["page_draws"] = isinstance(fps, (int, float)) and fps > 0
    return checks
