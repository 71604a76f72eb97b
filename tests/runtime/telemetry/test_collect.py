"""What of the house leaves it: names of the catalogue, values in range, what moved."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import runtime.telemetry as t
from runtime.messages import Activity, ActivityKind, Floor, Posture, Session
from runtime.telemetry.collect import FULL_MS, Collector, Reporter, read_house
from runtime.telemetry.machine import Machine

SECOND = 10**9
ROOT = Path(__file__).resolve().parents[3]


def house(tmp_path, now=100 * SECOND, **more):
    """health.json as health writes it."""
    node = {"state": "ready", "restarts": 2, "process": {"pid": 7, "pss_mb": 41.5, "cpu_pct": 3.5}}
    ring = {"name": "video", "role": "writer", "epoch": 1, "depth": 0, "peak": 0, "sent": 3000, "dropped": {}}
    ring["consumers"] = {"stage": {"pinned": 0, "lease_ns": 0, "last_seq": 0, "skipped": 9, "stale": 0, "heartbeat_ns": 0}}
    link = {"name": "words", "kind": "stream", "role": "subscriber", "dropped": {"gap": 4}}
    latest = {"name": "playhead", "kind": "latest", "role": "subscriber", "dropped": {"older": 400}}
    renderer = node | {
        "stats": {"rings": {"video": ring}, "links": {"words": link, "playhead": latest}, "values": {"rung": 2, "secret": 1}}
    }
    state = {
        "t_ns": now,
        "nodes": {"voice": node, "renderer": renderer, "intruder": node},
        "turns": 12,
        "superseded": 3,
        "objectives": {"order": 4, "wifi": 1},
    }
    state["recent"] = {
        "aborted": 1,
        "stages": {"sound_heard": {"p50": 480.0, "p95": 900.0, "n": 10}, "intruder": {"p50": 1.0, "p95": 1.0, "n": 1}},
    }
    path = tmp_path / "health.json"
    path.write_text(json.dumps(state | more))
    return path


def figures(collector, path, now=100 * SECOND, **more):
    return collector.figures(read_house(path, now), more)


def test_the_house_as_metrics(tmp_path):
    """Nodes, turns, stages and drops under their names; unknown nodes, stages and values stay at home."""
    found = figures(Collector(["voice", "renderer"]), house(tmp_path))
    assert found["turns"] == 12
    assert found["turns_aborted"] == 1
    assert found["objectives"] == 5
    assert found["stage_p95_ms.sound_heard"] == 900.0
    assert found["node_state.voice"] == "ready"
    assert found["node_restarts.voice"] == 2
    assert found["node_memory.renderer"] == 41.5
    assert found["rung"] == 2
    assert found["bus_dropped"] == 4
    assert found["frames_skipped"] == 9
    assert not any("intruder" in name or name == "secret" for name in found)
    assert "fps" not in found


def test_frames_a_second_between_two_looks(tmp_path):
    """From the ring's own counter; not across a restart of the renderer."""
    collector = Collector(["renderer"])
    path = house(tmp_path)
    figures(collector, path)
    state = json.loads(path.read_text())
    ring = state["nodes"]["renderer"]["stats"]["rings"]["video"]
    ring["sent"] += 290
    state["t_ns"] += 10 * SECOND
    path.write_text(json.dumps(state))
    assert figures(collector, path, 110 * SECOND)["fps"] == 29.0
    ring["epoch"] += 1
    ring["sent"] = 5
    path.write_text(json.dumps(state))
    assert "fps" not in figures(collector, path, 110 * SECOND)


def test_an_old_or_broken_health_file_is_none(tmp_path):
    """What health has not written for half a minute is not told as if it were now."""
    path = house(tmp_path)
    assert read_house(path, 131 * SECOND) is None
    path.write_text("{")
    assert read_house(path, 0) is None
    assert read_house(tmp_path / "nothing", 0) is None
    assert Collector([]).figures(None, {"uptime": 5}) == {"visits": 0, "uptime": 5}


def test_visits_and_voice():
    """A new visit number is a visit; the level is the loudest since the last look, and then gone."""
    collector = Collector([])
    for visit in (4, 4, 5, 6):
        collector.floor(Floor(1, 1, Posture.IDLE, Session.ENGAGED, visit, 0))
    for level in (-40.0, -18.26, -30.0):
        collector.activity(Activity(1, 1, ActivityKind.LEVEL, 0, 1, level_db=level))
    assert collector.figures(None, {}) == {"visits": 2, "session": "engaged", "mic_level_db": -18.3}
    assert "mic_level_db" not in collector.figures(None, {})


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@given(st.dictionaries(st.sampled_from([row.name for row in t.METRICS]) | st.text(max_size=12), values))
def test_nothing_else_leaves(more):
    """Whatever is offered: what comes out is a row of the catalogue with a value that its row allows."""
    for name, value in Collector(["voice"]).figures(None, more).items():
        row = t.metric(name)
        assert row is not None
        assert t.valid(row, value)


def test_only_what_moved_is_told():
    """A value within its deadband is not repeated; names and flags are when they change; everything every ten minutes."""
    reporter = Reporter()
    first = reporter.report({"fps": 30.0, "session": "attract", "turns": 4}, 0)
    assert first.full
    assert first.m == {"fps": 30.0, "session": "attract", "turns": 4}
    assert reporter.report({"fps": 29.2, "session": "attract", "turns": 5}, 1).m == {"turns": 5}
    assert reporter.report({"fps": 28.9, "session": "engaged", "turns": 5}, 2).m == {"fps": 28.9, "session": "engaged"}
    assert not reporter.report({"fps": 28.9}, FULL_MS - 1).full
    again = reporter.report({"fps": 28.9, "turns": 5}, FULL_MS)
    assert again.full
    assert again.m == {"fps": 28.9, "turns": 5}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_nobody_drifts_away_unseen(series):
    """However slowly a value moves, what was told last is never further away than its deadband."""
    reporter, told = Reporter(), None
    for step, value in enumerate(series):
        told = reporter.report({"fps": value}, step).m.get("fps", told)
        assert abs(told - value) <= t.metric("fps").deadband


def test_the_machine_tells_what_it_can(tmp_path):
    """This very machine: memory, disk, load; what cannot be read is left out, not zero."""
    (tmp_path / "proc").symlink_to("/proc")
    found = Machine(tmp_path / "not" / "yet", tmp_path).figures()
    assert 0 < found["memory_free"] < 1
    assert 0 < found["disk_free"] < 1
    assert found["uptime"] > 0
    assert not {"temperature", "power_watts", "throttled"} & set(found)
    (tmp_path / "proc").unlink()
    assert "memory_free" not in Machine(tmp_path, tmp_path).figures()


def test_the_machine_tells_its_heat(tmp_path):
    """A thermal zone with its own trip point: degrees, and how far they are from it."""
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    for name, text in (("type", "cpu-thermal"), ("temp", "71500"), ("trip_point_0_type", "passive"), ("trip_point_0_temp", "99000")):
        (zone / name).write_text(text + "\n")
    found = Machine(tmp_path, tmp_path).figures()
    assert found["temperature"] == 71.5
    assert found["thermal_margin"] == 27.5


def test_the_catalogue_reads_without_the_kiosk():
    """The contract draws in neither the bus nor the engines: the controller imports it alone."""
    import subprocess
    import sys

    program = "import sys, runtime.telemetry; print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'zmq', 'paho', 'sqlite3')])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
