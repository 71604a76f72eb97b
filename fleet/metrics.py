"""The fleet for Prometheus: counts by state, condition, site, model and release, and what the controller itself did.

No label names a box: a chain of ten thousand must not make ten thousand series here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet.database import Database
from fleet.refusals import Kind

__all__ = ["exposition"]


class _Fleet(Collector):
    def __init__(self, db: Database, counts: Mapping[str, int], refused: Mapping[Kind, int], restarts: int) -> None:
        self._db, self._counts, self._refused, self._restarts = db, counts, refused, restarts

    def collect(self) -> Iterator[Metric]:
        """All families."""
        labels = ["state", "condition", "site", "model", "release"]
        boxes = GaugeMetricFamily("visavis_fleet_devices", "Boxes", labels=labels)
        columns = "state, state_of_health, site, model, release"
        for *values, count in self._db.read(f"SELECT {columns}, count(*) FROM device GROUP BY {columns} LIMIT 5000"):  # noqa: S608 - ours
            boxes.add_metric([str(value) for value in values], count)
        yield boxes
        commands = GaugeMetricFamily("visavis_fleet_commands", "Commands by state", labels=["state"])
        for state, count in self._db.read("SELECT state, count(*) FROM command GROUP BY state"):
            commands.add_metric([state], count)
        yield commands
        alerts = GaugeMetricFamily("visavis_fleet_alerts", "Alerts that fire", labels=["rule", "severity", "acknowledged"])
        cared = "CASE WHEN acknowledged > 0 THEN 'yes' ELSE 'no' END"
        sql = f"SELECT rule, severity, {cared}, count(*) FROM alert WHERE resolved = 0 GROUP BY rule, severity, {cared}"  # noqa: S608 - ours
        for rule, severity, acknowledged, count in self._db.read(sql):
            alerts.add_metric([rule, severity, acknowledged], count)
        yield alerts
        messages = CounterMetricFamily("visavis_fleet_messages", "Messages from boxes, by what became of them", labels=["what"])
        for what in ("received", "committed", "duplicates"):
            messages.add_metric([what], self._counts.get(what, 0))
        yield messages
        strange = CounterMetricFamily("visavis_fleet_strange_messages", "Messages that could not be used, by cause", labels=["cause"])
        for name, count in sorted(self._counts.items()):
            if name.startswith("strange_"):
                strange.add_metric([name.removeprefix("strange_")], count)
        yield strange
        refused = CounterMetricFamily(
            "visavis_fleet_single_sign_ons_refused", "Single sign-ons that were refused, by cause", labels=["cause"]
        )
        for kind in Kind:
            refused.add_metric([kind.value], self._refused.get(kind, 0))
        yield refused
        yield CounterMetricFamily("visavis_fleet_broker_restarts", "Times the broker died and was started again", value=self._restarts)


def exposition(db: Database, counts: Mapping[str, int], refused: Mapping[Kind, int], restarts: int) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry()
    registry.register(_Fleet(db, counts, refused, restarts))
    return generate_latest(registry)
