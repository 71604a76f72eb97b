"""Turn records, and what health writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import ManualClock
from runtime.messages import Floor, Mark, NodeEvent, NodeState, NodeStats, Posture, Session
from runtime.nodes.health import Health, Processes, Records, main
from tests.support.harness import LIMIT_S, Bench

MS = 1_000_000


def marks(records, *entries):
    """Feed (turn, stage, ms) and return what became complete."""
    return [record for turn, stage, ms in entries for record in records.mark(Mark(turn, ms * MS, stage), 1, ms * MS)]


def test_a_turn_from_speech_to_sound():
    """A granted turn gets the marks of hearing before its grant, though those carry an older epoch; times count from the speech's end."""
    records = Records()
    assert not marks(
        records,
        (4, "speech_end", 1000),
        (4, "silence", 1120),
        (4, "judged", 1180),
        (4, "judged", 1280),
        (4, "transcript", 1200),
        (5, "asked", 1201),
        (5, "granted", 1300),
        (5, "sound_heard", 1450),
    )
    (record,) = marks(records, (6, "granted", 9000), (6, "sound_heard", 9100))
    assert (record["turn"], record["visit"]) == (5, 1)
    after = {"speech_end": 0, "silence": 120, "judged": 280, "transcript": 200, "asked": 201, "granted": 300, "sound_heard": 450}
    assert record["after_speech_end_ms"] == after
    assert list(record["stages"]) == ["speech_end", "silence", "transcript", "asked", "judged", "granted", "sound_heard"]


def test_who_went_on_is_timed_from_the_last_end():
    """After a false end and a resumption, the turn counts from the end that was answered."""
    records = Records()
    marks(records, (4, "speech_end", 1000), (4, "silence", 1100), (5, "asked", 1150), (6, "speech_end", 3000), (6, "silence", 3110))
    marks(records, (7, "asked", 3200), (7, "granted", 3300), (7, "sound_heard", 3400))
    (record,) = records.rest()
    assert record["turn"] == 7
    assert record["after_speech_end_ms"]["silence"] == 110
    assert records.superseded == 1


def test_typed_turns_have_no_speech():
    """An answer to typed words does not borrow the speech of the turn before."""
    records = Records()
    marks(records, (4, "speech_end", 1000), (5, "granted", 1300), (5, "sound_heard", 1400), (6, "granted", 5000), (6, "sound_heard", 5100))
    (record,) = records.rest()
    assert record["turn"] == 6
    assert "after_speech_end_ms" not in record


def test_a_turn_that_is_never_heard_is_written_after_a_while():
    """Without a newer turn the record comes after thirty seconds, once; later marks of it are counted."""
    records = Records()
    marks(records, (5, "granted", 0), (5, "sound_heard", 100))
    assert records.expire(29_000 * MS) == []
    assert [record["turn"] for record in records.expire(31_000 * MS)] == [5]
    marks(records, (5, "silent", 32_000))
    assert records.late == 1


def test_what_a_visit_reached_is_counted_whenever_it_is_told():
    """The end of a visit comes when its last turn was written long ago, or before, or without any turn: counted by name, never late."""
    records = Records()
    marks(records, (5, "granted", 0), (5, "sound_heard", 100), (5, "objective:order", 200), (0, "objective:wifi", 210))
    (record,) = records.expire(31_000 * MS)
    assert list(record["stages"]) == ["granted", "sound_heard"]
    marks(records, (5, "objective:order", 60_000))
    assert records.objectives == {"order": 2, "wifi": 1}
    assert (records.late, records.rest()) == (0, [])


stages = st.sampled_from(["speech_end", "silence", "judged", "asked", "granted", "sound_heard", "silent"])


@given(st.lists(st.tuples(st.integers(0, 12), stages, st.integers(0, 60_000))))
def test_each_turn_is_written_once_in_order(entries):
    """Whatever order marks come in, no turn has two records, and none is made of a turn that was never granted or heard."""
    records = Records()
    found = marks(records, *entries) + records.rest()
    turns = [record["turn"] for record in found]
    assert turns == sorted(set(turns))
    assert all("granted" in record["stages"] or "sound_heard" in record["stages"] for record in found)


class Told:
    """A Health in a real context, with its notices."""

    def __init__(self, bench):
        self.clock = ManualClock(10**12)
        self.ctx = bench.context("health", self.clock)
        self.stage = bench.context("stage")
        self.health = Health(self.ctx, Processes(os.getpid()))

    def turn(self, number):
        """A whole turn's marks."""
        now = self.clock.now_ns
        for stage, turn, ms in (("speech_end", number - 1, 0), ("granted", number, 300), ("sound_heard", number, 420)):
            self.health.handle(Mark(turn, now + ms * MS, stage))
        self.clock.advance(10)
        self.health.tick()

    def state(self):
        return json.loads((self.health._file).read_text())


def test_timeline_and_state(tmp_path):
    """A line per turn goes to the timeline, and the state of all nodes to health.json; nothing of what was said is in either."""
    with Bench(timeline=tmp_path / "timeline.jsonl") as bench:
        told = Told(bench)
        told.health.handle(Floor(0, 0, Posture.IDLE, Session.ATTRACT, 3, 0))
        told.health.handle(NodeEvent(0, 0, "voice", NodeState.READY, 2, "crashed"))
        told.health.handle(NodeStats(0, 0, "voice", msgspec.json.encode({"links": {"speech": {"sent": 4}}})))
        told.turn(5)
        told.turn(7)
        told.health.handle(Mark(5, 0, "objective:order"))
        told.clock.advance(10)
        told.health.tick()
        told.health.close()
        lines = [json.loads(line) for line in (tmp_path / "timeline.jsonl").read_text().splitlines()]
        assert [(line["turn"], line["visit"], line["after_speech_end_ms"]["granted"]) for line in lines] == [
            (5, 3, 300.0),
            (7, 3, 300.0),
        ]
        state = told.state()
        assert state["nodes"]["voice"]["restarts"] == 2
        assert state["nodes"]["voice"]["stats"]["links"]["speech"]["sent"] == 4
        assert state["nodes"]["supervisor"]["process"]["pss_mb"] > 1
        assert state["turns"] == 1
        assert state["objectives"] == {"order": 1}


def test_a_disk_that_takes_nothing(tmp_path):
    """A timeline that cannot be written is counted and told once; when the disk is back, it is taken back and lines come again."""
    path = tmp_path / "gone/timeline.jsonl"
    with Bench(timeline=path) as bench:
        told = Told(bench)
        for number in (5, 7, 9):
            told.turn(number)
        first = bench.wait_for(told.stage, "notice")
        assert "cannot write" in first.text
        assert told.state()["unwritten"] == 2
        path.parent.mkdir()
        told.turn(11)
        assert bench.wait_for(told.stage, "notice").text == ""
        assert json.loads(path.read_text())["turn"] == 9


def test_processes_are_found_by_their_names():
    """Children called vv-NODE are found with memory and CPU; others are not."""
    program = "import ctypes, sys; ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0); print('up', flush=True); sys.stdin.read()"
    nodes = [
        subprocess.Popen([sys.executable, "-c", program, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in ("vv-voice", "other")
    ]
    try:
        for node in nodes:
            assert node.stdout.readline() == b"up\n"
        processes = Processes(os.getpid())
        first = processes.look(0)
        second = processes.look(1_000_000_000)
        assert set(second) == {"supervisor", "voice"}
        assert first["voice"]["cpu_pct"] == -1.0
        assert second["voice"]["cpu_pct"] >= 0.0
        assert second["voice"]["pid"] == nodes[0].pid
        assert second["voice"]["pss_mb"] > 1
    finally:
        for node in nodes:
            node.communicate()
    assert set(processes.look(2_000_000_000)) == {"supervisor"}


def test_memory_is_weighed_every_half_minute(tmp_path):
    """PSS costs the system milliseconds, so it is asked for again only after 30 s; CPU each time."""

    def process(pid, name, pss_kb, ticks):
        folder = tmp_path / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        (folder / "task" / str(pid) / "children").write_text("8" if pid == 7 else "")
        (folder / "stat").write_text(f"{pid} ({name}) S " + " ".join(["0"] * 10 + [str(ticks), "0"]))
        (folder / "smaps_rollup").write_text(f"Rss: 1 kB\nPss: {pss_kb} kB\n")

    processes, second = Processes(7, tmp_path), 1_000_000_000
    process(7, "visavis", 1024, 0)
    process(8, "vv-voice", 2048, 0)
    assert processes.look(0)["voice"]["pss_mb"] == 2.0
    process(8, "vv-voice", 4096, 100)
    soon = processes.look(29 * second)["voice"]
    assert soon["pss_mb"] == 2.0
    assert soon["cpu_pct"] > 0
    assert processes.look(30 * second)["voice"]["pss_mb"] == 4.0


def test_the_node_writes_what_is_left_when_it_ends(tmp_path):
    """main() takes marks from the bus and, told to end, writes the turns it still holds."""
    path = tmp_path / "timeline.jsonl"
    with Bench(timeline=path) as bench:
        stage, node = bench.context("stage"), bench.context("health")
        stage.mark("granted", 5, 10**9)
        stage.mark("sound_heard", 5, 2 * 10**9)
        thread = threading.Thread(target=main, args=(node,))
        thread.start()
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and not list(bench.run_dir.glob("health.json")):
            threading.Event().wait(0.01)
        node.stop()
        thread.join()
        assert json.loads(path.read_text())["turn"] == 5
