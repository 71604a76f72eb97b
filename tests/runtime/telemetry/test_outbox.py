"""The outbox: what is kept stays kept, what is acknowledged goes, and space is bounded without lying."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtime.telemetry import Answer, ClockState, EventBody, Health, Outcome, UpKind, encode
from runtime.telemetry.outbox import GROUP_MS, RETRY_MS, Limits, Outbox
from tests.runtime.telemetry.support import RAM, HandTimes


@pytest.fixture
def tmp_path():
    """A folder in memory."""
    with tempfile.TemporaryDirectory(dir=RAM) as folder:
        yield Path(folder)


BOOT = "3f2c0000-0000-4000-8000-000000000001"


def event(number):
    return encode(EventBody(code="node_down", names={"node": "voice"}, numbers={"restarts": number}))


def health(**values):
    return encode(Health(m=values))


def numbers(outbox):
    """The numbers of all events that wait, oldest first."""
    return [msgspec.json.decode(row.body)["numbers"]["restarts"] for row in outbox.events(0, 10_000)]


def values(row):
    return msgspec.json.decode(row.body, type=Health)


class Box:
    """An outbox on a disk, with the means to turn the machine off and on."""

    def __init__(self, tmp_path, limits=None, times=None):
        self.path, self.limits, self.times = tmp_path / "fleet" / "outbox.db", limits, times or HandTimes()
        self.boot = BOOT
        self.outbox = Outbox(self.path, self.times, self.boot, limits)

    def again(self, boot=None):
        """Start the process anew, with `boot` the machine."""
        self.outbox.close()
        self.boot = boot or self.boot
        self.outbox = Outbox(self.path, self.times, self.boot, self.limits)
        return self.outbox


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path)
    yield box
    box.outbox.close()


def test_an_event_is_kept_at_once_and_health_in_groups(box):
    """put() says True when the event is on the disk; health is committed after two seconds, or together with an event."""
    outbox = box.outbox
    assert outbox.put(UpKind.HEALTH, health(turns=1)) is False
    outbox.flush()
    assert outbox.health(0, 10) == []
    box.times.advance(GROUP_MS / 1000)
    outbox.flush()
    assert len(outbox.health(0, 10)) == 1
    outbox.put(UpKind.HEALTH, health(turns=2))
    assert outbox.put(UpKind.EVENT, event(1)) is True
    assert len(outbox.health(0, 10)) == 2
    assert outbox.counts().rows == 3


def test_numbers_grow_within_a_boot_and_are_never_used_twice(box):
    """Removed rows, a new process and a new boot: (boot, seq) stays unique and seq goes on."""
    seen = []
    for boot in (None, None, "other"):
        outbox = box.again(boot)
        for number in range(5):
            outbox.put(UpKind.EVENT, event(number))
        rows = outbox.events(0, 100)
        seen += [(row.boot, row.seq) for row in rows]
        outbox.remove(row.key for row in rows)
    assert len(set(seen)) == len(seen) == 15
    assert [seq for _, seq in seen] == sorted(seq for _, seq in seen)
    assert seen[0][0] == seen[9][0] != seen[10][0]


def test_only_what_is_removed_goes(box):
    """Rows stay over restarts until the controller has them."""
    for number in range(4):
        box.outbox.put(UpKind.EVENT, event(number))
    box.outbox.remove(row.key for row in box.outbox.events(0, 100)[1:3])
    assert numbers(box.outbox) == numbers(box.again("other")) == [0, 3]


def test_a_week_offline(tmp_path):
    """Seven days without a network at a report a minute: every event is there, space is kept to, and no report went uncounted.

    Each is as it was, merged into another, or counted as dropped.
    """
    times = HandTimes()
    box = Box(tmp_path, Limits(max_bytes=1 << 18), times)
    reports = 7 * 1440
    for number in range(reports):
        times.advance(60)
        box.outbox.put(UpKind.HEALTH, health(turns=number, uptime=number * 60))
        if number % 600 == 0:
            assert box.outbox.put(UpKind.EVENT, event(number))
        box.outbox.flush()
        assert box.outbox.counts().bytes <= 1 << 18
    box.outbox.flush(force=True)
    assert numbers(box.outbox) == list(range(0, reports, 600))
    rows = box.outbox.health(0, 100_000)
    counts = box.outbox.counts()
    assert sum(row.n for row in rows) + counts.evicted == reports
    assert sum(row.n - 1 for row in rows) == counts.merged > 0
    assert counts.evicted == 0
    assert rows[-1].n == 1
    assert values(rows[-1]).m["turns"] == reports - 1
    assert [row.mono for row in rows] == sorted(row.mono for row in rows)
    box.outbox.close()
    assert sum(path.stat().st_size for path in box.path.parent.iterdir()) < 1 << 20


def test_a_merged_report_has_the_newest_of_everything(tmp_path):
    """Merging keeps the last value of each metric, says for how many reports it stands, and gets a number of its own."""
    box = Box(tmp_path, Limits(max_bytes=24_000))
    for number in range(40):
        box.outbox.put(UpKind.HEALTH, health(**({"turns": number} | ({"visits": 7} if number == 1 else {}))))
    before = {(row.boot, row.seq) for row in box.outbox.health(0, 100)}
    for number in range(40, 250):
        box.outbox.put(UpKind.HEALTH, health(turns=number))
        box.outbox.flush(force=True)
    first = box.outbox.health(0, 1)[0]
    assert first.n > 1
    assert values(first).n == first.n
    assert values(first).m["visits"] == 7
    assert values(first).m["turns"] == first.n - 1
    assert (first.boot, first.seq) not in before
    assert box.outbox.counts().bytes <= 24_000


def test_answers_are_never_dropped(tmp_path):
    """With health and events gone and the space full of answers, no answer is dropped; no more commands are to be taken."""
    box = Box(tmp_path, Limits(max_bytes=40_000))
    for number in range(250):
        box.outbox.put(UpKind.HEALTH, health(turns=number))
        box.outbox.put(UpKind.EVENT, event(number))
    assert box.outbox.counts().evicted > 0
    assert box.outbox.room_for_answers
    answers = [f"c{number}" for number in range(200)]
    for name in answers:
        box.outbox.put(UpKind.JOB, encode(Answer(id=name, name="ping", outcome=Outcome.DONE, reason="x" * 150)))
    assert not box.outbox.room_for_answers
    kept = [row for row in box.outbox.events(0, 10_000) if row.kind == "job"]
    assert [msgspec.json.decode(row.body)["id"] for row in kept] == answers
    assert box.outbox.health(0, 10) == []


def test_what_is_too_old_goes_and_is_counted(tmp_path):
    """Health after its days, events after theirs."""
    times = HandTimes()
    box = Box(tmp_path, Limits(health_days=1, event_days=3), times)
    box.outbox.put(UpKind.HEALTH, health(turns=1))
    box.outbox.put(UpKind.EVENT, event(1))
    times.advance(2 * 86400)
    box.outbox.flush()
    assert (box.outbox.health(0, 9), numbers(box.outbox), box.outbox.counts().evicted) == ([], [1], 1)
    outbox = box.again("other")
    times.mono = 700_000
    times.wall += 2 * 86400_000
    outbox.flush()
    assert numbers(outbox) == []
    assert outbox.counts().evicted == 1


def test_a_clock_in_1970(tmp_path):
    """Rows written before the clock was set are not "56 years old" when it is; sent in the same boot, their time is put right."""
    times = HandTimes(wall_ms=5_000, synced=False)
    box = Box(tmp_path, Limits(health_days=1, event_days=1), times)
    box.outbox.put(UpKind.EVENT, event(1))
    box.again("second")
    times.mono = 100_000
    box.outbox.put(UpKind.EVENT, event(2))
    times.advance(100)
    times.wall, times.is_synced = 1_790_000_000_000, True
    times.advance(200)
    box.outbox.flush()
    first, second = box.outbox.events(0, 10)
    assert box.outbox.stamp(first) == (5_000, ClockState.UNSYNCED)
    assert box.outbox.stamp(second) == (1_790_000_000_000 - 100_000, ClockState.CORRECTED)


def test_how_old_a_row_is(box):
    """Known within a start of the machine, over restarts of the process too; unknown after a reboot."""
    box.outbox.put(UpKind.EVENT, event(1))
    box.times.advance(5)
    (row,) = box.again().events(0, 9)
    assert box.outbox.age_ms(row) == 5000
    assert box.again("other").age_ms(row) is None


def test_a_clock_that_was_right(box):
    """A time written with a clock that was set is sent as it is, whatever the clock does later."""
    box.outbox.put(UpKind.EVENT, event(1))
    box.times.wall += 999_999
    (row,) = box.outbox.events(0, 10)
    assert box.outbox.stamp(row) == (1_790_000_000_000, ClockState.SYNCED)


@pytest.mark.parametrize("damage", ["header", "middle", "random", "empty_schema", "truncated", "other_schema"])
def test_a_damaged_file_is_moved_aside(tmp_path, damage):
    """The kiosk goes on with a new file and new numbers, the old one stays beside it for whoever looks, and it is counted."""
    box = Box(tmp_path)
    for number in range(120):
        box.outbox.put(UpKind.EVENT, event(number))
    old = {(row.boot, row.seq) for row in box.outbox.events(0, 1000)}
    box.outbox.close()
    content = bytearray(box.path.read_bytes())
    if damage == "header":
        content[:16] = b"not a database.."
    elif damage == "middle":
        content[4096:] = bytes(len(content) - 4096)
    elif damage == "random":
        content = bytearray(random.Random(7).randbytes(len(content)))
    elif damage == "truncated":
        del content[5000:]
    else:
        box.path.unlink()
        with sqlite3.connect(box.path) as other:
            other.execute("CREATE TABLE meta(x)" if damage == "empty_schema" else "CREATE TABLE meta(key, value)")
        other.close()
        content = bytearray(box.path.read_bytes())
    box.path.write_bytes(content)
    outbox = box.again()
    assert outbox.put(UpKind.EVENT, event(1))
    assert outbox.counts().corrupt == 1
    assert outbox.trouble == ""
    aside = (box.path.parent / "outbox.db.damaged").read_bytes()
    assert aside == content if "schema" not in damage else aside  # SQLite marks what it could open
    assert not {(row.boot, row.seq) for row in outbox.events(0, 10)} & old
    outbox.close()


def test_damage_under_a_running_kiosk(box):
    """A page that goes bad while we run is noticed at its use; what is put then is kept in the new file."""
    for number in range(3000):
        box.outbox.put(UpKind.HEALTH, health(**{f"node_cpu.{name}": number for name in range(100)}))
    box.again()
    size = box.path.stat().st_size
    with box.path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (size - 8192))
    for number in range(5):
        box.outbox.remove(row.key for row in box.outbox.health(0, 3000))
        box.outbox.put(UpKind.EVENT, event(number))
    assert box.outbox.counts().corrupt == 1
    box.times.advance(RETRY_MS / 1000)
    box.outbox.flush()
    assert numbers(box.again()) == [0, 1, 2, 3, 4]


def test_a_place_that_cannot_be_written(tmp_path):
    """Without a directory the fleet is still told, out of memory; once there is one, everything goes to the disk with its numbers."""
    (tmp_path / "fleet").write_text("in the way")
    box = Box(tmp_path)
    assert box.outbox.put(UpKind.EVENT, event(1)) is False
    assert box.outbox.begin("c1") is False
    assert box.outbox.trouble
    (row,) = box.outbox.events(0, 10)
    (tmp_path / "fleet").unlink()
    box.times.advance(RETRY_MS / 1000)
    box.outbox.flush()
    assert box.outbox.trouble == ""
    assert box.outbox.put(UpKind.EVENT, event(2)) is True
    first, second = box.again().events(0, 10)
    assert (first.boot, first.seq) == (row.boot, row.seq)
    assert first.boot != second.boot
    assert numbers(box.outbox) == [1, 2]


def test_commands_are_remembered(box):
    """Begun, then finished with the answer in one step; what was only begun is known after a restart."""
    outbox = box.outbox
    assert outbox.command("c1") == (False, None)
    assert outbox.begin("c1") is True
    assert outbox.begin("c2") is True
    answer = encode(Answer(id="c1", name="ping", outcome=Outcome.DONE))
    assert outbox.put(UpKind.JOB, answer, b"corr") is True
    outbox = box.again("other")
    assert outbox.command("c1") == (True, answer)
    assert outbox.command("c2") == (True, None)
    assert outbox.interrupted() == ["c2"]
    assert outbox.events(0, 10)[0].corr == b"corr"


def test_settings_stay(box):
    """A kept setting is there after a restart."""
    box.outbox.keep("shadow", "7")
    assert box.again("other").setting("shadow") == "7"
    assert box.outbox.setting("other") == ""


class Machine(RuleBasedStateMachine):
    """Any order of keeping, acknowledging, restarting and rebooting: events that were not removed are there, in order, once."""

    @initialize(root=st.randoms())
    def begin(self, root):  # noqa: ARG002
        self.folder = tempfile.TemporaryDirectory(dir=RAM)
        self.box = Box(Path(self.folder.name))
        self.expected: list[int] = []
        self.seen: set[tuple[str, int]] = set()
        self.number = 0

    @rule(count=st.integers(0, 5))
    def keep(self, count):
        for _ in range(count):
            self.number += 1
            self.box.outbox.put(UpKind.HEALTH, health(turns=self.number))
        self.number += 1
        assert self.box.outbox.put(UpKind.EVENT, event(self.number))
        self.expected.append(self.number)
        row = self.box.outbox.events(0, 10_000)[-1]
        assert (row.boot, row.seq) not in self.seen
        self.seen.add((row.boot, row.seq))

    @rule(data=st.data())
    def acknowledge(self, data):
        rows = self.box.outbox.events(0, 10_000)
        chosen = data.draw(st.sets(st.sampled_from(rows)) if rows else st.just(set()))
        self.box.outbox.remove([row.key for row in chosen])
        gone = {msgspec.json.decode(row.body)["numbers"]["restarts"] for row in chosen}
        self.expected = [number for number in self.expected if number not in gone]

    @rule(seconds=st.integers(1, 3000))
    def wait(self, seconds):
        self.box.times.advance(seconds)
        self.box.outbox.flush()

    @rule(reboot=st.booleans())
    def restart(self, reboot):
        self.box.again(f"boot-{self.number}" if reboot else None)

    @invariant()
    def all_there(self):
        if hasattr(self, "box"):
            assert numbers(self.box.outbox) == self.expected

    def teardown(self):
        if hasattr(self, "box"):
            self.box.outbox.close()
            self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
