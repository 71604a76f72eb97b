"""Every metric of every box for Prometheus: names, units and values by its conventions, read by its own parser."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.projections.prometheus import exposition, family_name
from runtime.telemetry import METRICS
from tests.fleet.projections.test_sparkplug import NOW, box

pytestmark = pytest.mark.unit

HEALTH = {
    "temperature": 61.5, "turns": 7, "mic_live": True, "session": "engaged", "stage_p95_ms.sound_heard": 900.0,
    "node_memory.voice": 80.0, "node_cpu.voice": 25.0, "node_state.voice": "ready", "mic_level_db": -30.0, "power_watts": 14.0,
    "uptime": 60,
}  # fmt: skip
UNITS = ("seconds", "bytes", "celsius", "ratio", "watts", "hertz", "dbfs")


def parse(boxes):
    families = {family.name: family for family in text_string_to_metric_families(exposition(boxes).decode())}
    samples = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for f in families.values() for sample in f.samples}
    return families, samples


def test_values_in_base_units():
    """Milliseconds are seconds, megabytes bytes, per cent a ratio; a name out of a list is a set of states."""
    families, samples = parse([box(told=NOW, **HEALTH)])
    one = ("box", "box-1")
    assert samples[("visavis_box_temperature_celsius", (one,))] == 61.5
    assert samples[("visavis_box_turns_total", (one,))] == 7
    assert families["visavis_box_turns"].type == "counter"
    assert samples[("visavis_box_mic_live", (one,))] == 1
    assert samples[("visavis_box_stage_p95_seconds", (one, ("stage", "sound_heard")))] == pytest.approx(0.9)
    assert samples[("visavis_box_node_memory_bytes", (one, ("node", "voice")))] == 80e6
    assert samples[("visavis_box_node_cpu_ratio", (one, ("node", "voice")))] == 0.25
    assert samples[("visavis_box_session", (one, ("session", "engaged")))] == 1
    assert samples[("visavis_box_session", (one, ("session", "attract")))] == 0
    assert samples[("visavis_box_node_state", (one, ("node", "voice"), ("node_state", "ready")))] == 1
    assert samples[("visavis_box_mic_level_dbfs", (one,))] == -30
    assert samples[("visavis_box_power_watts", (one,))] == 14
    assert samples[("visavis_box_uptime_seconds", (one,))] == 60
    assert samples[("visavis_box_told_timestamp_seconds", (one,))] == NOW / 1000
    assert samples[("visavis_box_info", (one, ("model", "Orin"), ("release", "1.2"), ("site", "Store 12")))] == 1


def test_names_follow_the_conventions():
    """One family for each metric, no name twice, snake case, the unit last where there is one, no unit that is no base unit."""
    names = [family_name(row) for row in METRICS]
    assert len(set(names)) == len(names)
    for row, name in zip(METRICS, names, strict=True):
        assert re.fullmatch(r"visavis_box_[a-z][a-z0-9_]*[a-z0-9]", name), name
        assert not name.endswith(("_total", "_ms", "_megabytes", "_percent", "_db")), name
        assert not row.unit or name.endswith(UNITS), name


def test_only_what_holds_is_told():
    """Of a box that is away only that it is not up; of a revoked one nothing."""
    families, samples = parse([box(state="lost", **HEALTH), box("box-2", gone=True, **HEALTH), box("box-3", **HEALTH)])
    assert {labels: value for (name, labels), value in samples.items() if name == "visavis_box_up"} == {
        (("box", "box-1"),): 0,
        (("box", "box-3"),): 1,
    }
    assert {labels for (name, labels) in samples if name == "visavis_box_temperature_celsius"} == {(("box", "box-3"),)}
    assert families["visavis_box_up"].type == "gauge"
