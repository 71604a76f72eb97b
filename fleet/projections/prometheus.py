"""Every metric of every box for Prometheus, in base units and under the names that Prometheus' conventions ask for.

Apart from `/metrics`, because a chain of ten thousand makes half a million series here: who scrapes it chooses which boxes.
Names: prometheus.io/docs/practices/naming. A name out of a list is a state set: 1 for the one that holds, 0 for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from fleet.projections.source import Box, values
from runtime.telemetry import METRICS, Metric, Per, Type, instance

__all__ = ["exposition", "family_name"]

_UNITS: dict[str, tuple[str, float]] = {
    "ms": ("seconds", 1e-3),
    "megabytes": ("bytes", 1e6),
    "percent": ("ratio", 1e-2),
    "dBFS": ("dbfs", 1.0),
}
"""Units of the catalogue that are no base units: what to call them, and the factor."""
_TAILS = ("_ms", "_db", "_watts")
"""Ends of the catalogue's names that say the unit already."""
_PREFIX = "visavis_box"


def family_name(row: Metric) -> str:
    """The metric's name there; a counter's gets `_total` by itself."""
    name = row.name
    for tail in _TAILS:
        name = name.removesuffix(tail)
    unit = _UNITS.get(row.unit, (row.unit, 1.0))[0]
    return "_".join(part for part in (_PREFIX, name, unit) if part)


def exposition(boxes: Iterable[Box], names: Collection[str] = ()) -> bytes:
    """The text that Prometheus scrapes, of these metrics of the catalogue or all. Only what a box that is online has told; of the others,
    that they are not up.
    """
    registry = CollectorRegistry()
    registry.register(_Boxes(list(boxes), names))
    return generate_latest(registry)


class _Boxes(Collector):
    def __init__(self, boxes: list[Box], names: Collection[str]) -> None:
        self._boxes, self._names = boxes, names

    def collect(self) -> Iterator[Family]:
        """All families; those without a sample are left out."""
        up = GaugeMetricFamily(f"{_PREFIX}_up", "Whether the box is connected and reports", labels=["box"])
        info = GaugeMetricFamily(f"{_PREFIX}_info", "What the box is; always 1", labels=["box", "site", "model", "release"])
        told = GaugeMetricFamily(f"{_PREFIX}_told_timestamp_seconds", "When the box last told its health", labels=["box"])
        families: dict[str, Family] = {}
        for box in self._boxes:
            if box.gone:
                continue
            up.add_metric([box.name], float(box.online))
            info.add_metric([box.name, box.site, box.model, box.release], 1.0)
            if box.told:
                told.add_metric([box.name], box.told / 1000)
            if box.online:
                _add(families, box, self._names)
        yield from (up, info, told)
        for row in METRICS:
            if row.name in families:
                yield families[row.name]


def _add(families: dict[str, Family], box: Box, names: Collection[str]) -> None:
    for name, row, value in values(box):
        if names and row.name not in names:
            continue
        labels = [box.name] if row.per is Per.BOX else [box.name, instance(name)]
        family = families.setdefault(row.name, _family(row))
        if row.type is Type.NAME:
            for one in row.values:
                family.add_sample(family.name, dict(zip(_labels(row), [*labels, one], strict=True)), float(one == value))
        else:
            sample = f"{family.name}_total" if row.type is Type.COUNT else family.name
            family.add_sample(sample, dict(zip(_labels(row), labels, strict=True)), _number(row, value))


def _family(row: Metric) -> Family:
    kind = CounterMetricFamily if row.type is Type.COUNT else GaugeMetricFamily
    return kind(family_name(row), row.title, labels=_labels(row))


def _labels(row: Metric) -> list[str]:
    part = {Per.BOX: [], Per.NODE: ["node"], Per.STAGE: ["stage"]}[row.per]
    return ["box", *part, *([row.name] if row.type is Type.NAME else [])]


def _number(row: Metric, value: Any) -> float:
    return float(value) * _UNITS.get(row.unit, ("", 1.0))[1]
