"""What a box could have to say: values for every metric of the catalogue that behave like those of a shop's day, and rare events.

Invented, and the same again for the same seed. Reports are by exception through the real `Reporter`, so their number and size are those
of values that move like these.
"""

from __future__ import annotations

import math
from random import Random

from runtime import topology
from runtime.telemetry.catalogue import STAGES

__all__ = ["Machine", "Value"]

Value = int | float | bool | str
NODES = tuple(row.name for row in topology.NODES if not row.external)
_STAGE_MS = {
    "silence": 120, "judged": 260, "transcript": 300, "asked": 310, "reply_first": 380, "granted": 400, "speech_first": 470,
    "sound_sent": 490, "sound_heard": 560, "frame_first": 570,
}  # fmt: skip
"""Around these the medians move; no measurement, an order of magnitude."""
_HOUR_S = 3600.0


class Machine:
    """The machine below one simulated box. `hot`: one of those that a technician should look at."""

    def __init__(self, rng: Random, *, hot: bool) -> None:
        self._rng, self._hot = rng, hot
        self._phase, self._base = rng.random(), (84.0 if hot else rng.uniform(48, 66))
        self._last_s = 0.0
        self._counts: dict[str, float] = dict.fromkeys(
            ("visits", "turns", "aborted", "superseded", "objectives", "beats", "skipped", "underruns"), 0.0
        )
        self._stages: dict[str, Value] = {}
        self._cpu = {node: rng.uniform(2, 30) for node in NODES}
        self._restarts = dict.fromkeys(NODES, 0)
        self._disk = rng.uniform(0.3, 0.8)
        self._visitors_per_h = rng.uniform(4, 30)
        self._visit_until_s = 0.0

    def node_restarted(self, node: str) -> int:
        """Another restart of a node; how many there were."""
        self._restarts[node] += 1
        return self._restarts[node]

    def values(self, at_s: float, uptime_s: float) -> dict[str, Value]:
        """All values at `at_s` (seconds of this box's life; only differences count)."""
        rng, passed = self._rng, max(0.0, at_s - self._last_s)
        self._last_s = at_s
        busy = 0.5 + 0.5 * math.sin(2 * math.pi * (at_s / (4 * _HOUR_S) + self._phase))
        # Visitors come by chance and stay a minute or two.
        if at_s >= self._visit_until_s and rng.random() < 1 - math.exp(-busy * self._visitors_per_h * passed / _HOUR_S):
            self._visit_until_s = at_s + rng.uniform(30, 150)
            self._counts["visits"] += 1
        visiting = at_s < self._visit_until_s
        self._live(passed, visiting=visiting)
        temperature = round(self._base + 9 * busy + rng.gauss(0, 0.5), 1)
        rung = (3 if temperature > 90 else 2) if self._hot else 0
        counts = {name: int(value) for name, value in self._counts.items()}
        found: dict[str, Value] = {
            "visits": counts["visits"],
            "turns": counts["turns"],
            "turns_aborted": counts["aborted"],
            "turns_superseded": counts["superseded"],
            "objectives": counts["objectives"],
            "session": "engaged" if visiting else "attract",
            "fps": round(rng.gauss(29.6, 0.3), 1),
            "frames_skipped": counts["skipped"],
            "page_fps": round(rng.gauss(29.4, 0.4), 1),
            "page_beats": counts["beats"],
            "page_underruns": counts["underruns"],
            "rung": rung,
            "rung_reason": "heat" if rung else "best",
            "mic_level_db": round(rng.uniform(-30, -16) if visiting else rng.gauss(-62, 1), 1),
            "mic_live": True,
            "temperature": temperature,
            "thermal_margin": round(98 - temperature, 1),
            "throttled": temperature > 95,
            "heat_steps": rung,
            "heat_alarm": False,
            "power_watts": round(9 + 8 * busy + rng.gauss(0, 0.4), 1),
            "gpu_load": round(min(1.0, 0.3 + (0.3 if visiting else 0) + rng.random() * 0.05), 2),
            "uptime": int(uptime_s),
            "load": round(0.4 + 0.3 * busy + rng.random() * 0.1, 2),
            "memory_free": round(0.45 - 0.05 * busy, 3),
            "disk_free": round(self._disk, 4),
            "bus_dropped": 0,
        }
        return found | self._of_nodes(visiting=visiting) | self._stages

    def _of_nodes(self, *, visiting: bool) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for node in NODES:
            found[f"node_state.{node}"] = "ready"
            found[f"node_restarts.{node}"] = self._restarts[node]
            found[f"node_cpu.{node}"] = round(self._cpu[node] * (1.4 if visiting else 1.0) + self._rng.random(), 1)
            found[f"node_memory.{node}"] = round(60 + self._cpu[node], 1)
        return found

    def _live(self, passed_s: float, *, visiting: bool) -> None:
        counts, rng = self._counts, self._rng
        counts["beats"] += passed_s
        if not visiting:
            return
        counts["turns"] += passed_s / 12
        counts["aborted"] += passed_s / 400
        counts["superseded"] += passed_s / 200
        counts["objectives"] += passed_s / 120
        counts["skipped"] += rng.random() < 0.05
        for stage in STAGES:
            middle = _STAGE_MS[stage] * rng.uniform(0.9, 1.15)
            self._stages[f"stage_p50_ms.{stage}"] = round(middle, 1)
            self._stages[f"stage_p95_ms.{stage}"] = round(middle * rng.uniform(1.3, 1.7), 1)
