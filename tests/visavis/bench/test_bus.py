"""The bus benchmark measures what it says, and says what it could not measure. No figure is judged here except the counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from visavis.bench import bus
from visavis.bench._machine import machine

pytestmark = pytest.mark.system


def test_figures_of_each_transport(tmp_path: Path) -> None:
    """Every transport brings whole frames; nothing torn passes; the file holds what is returned; peers' pattern shows its age."""
    file = tmp_path / "bus.json"
    found = bus.run(seconds=1, seed=1, json_file=file, transports=("ring_in_place", "zmq_copy", "named_shared_memory"))
    assert json.loads(file.read_text()) == found
    for name, row in found["transports"].items():
        assert row["available"], f"{name}: {row}"
        for size in ("1280x720", "1920x1080"):
            assert row[size]["wrong"] == 0
            latency = row[size]["latency_us"]
            assert latency["n"] + row[size]["missed"] == found["rounds"] * found["frames_per_slice"]
            assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
            assert row[size]["cpu_us_per_frame"] > 0
    assert found["transports"]["zmq_copy"]["stall_age_ms"] > found["transports"]["ring_in_place"]["stall_age_ms"]
    assert found["speedup_1080p_vs_zmq_copy"] > 0
    assert found["torn_undetected"] == 0
    assert found["hammer"]["reads"] >= 20_000
    assert not [name for name in Path("/dev/shm").iterdir() if name.name.startswith("visavis-bench")]


def test_missing_peer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that cannot run here is in the report with its reason."""
    monkeypatch.setitem(sys.modules, "iceoryx2", None)
    found = bus.run(seconds=0.1, seed=1, json_file=None, transports=("iceoryx2_copy_in",))
    row = found["transports"]["iceoryx2_copy_in"]
    assert row["available"] is False
    assert "iceoryx2" in row["reason"]
    assert found["speedup_1080p_vs_zmq_copy"] is None


def test_unknown_transport() -> None:
    """A wrong name is told with the right ones."""
    with pytest.raises(ValueError, match="ring_in_place"):
        bus.run(seconds=1, seed=1, json_file=None, transports=("carrier_pigeon",))


def test_machine_is_described() -> None:
    """What a figure needs beside it is there, and can be written as JSON."""
    found = machine()
    assert found["cores"] >= 1
    assert found["cpu"]
    assert found["versions"]["libzmq"]
    assert json.loads(json.dumps(found)) == found
