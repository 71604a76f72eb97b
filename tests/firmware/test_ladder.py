"""Escalation: enough, in the right order, and never a reboot loop."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware import ladder as rules
from firmware.errors import FirmwareError, LadderError
from firmware.health import Watch
from firmware.ladder import CALM_NS, MAX_BOOTS, MAX_REBOOTS, MAX_ROLLBACKS, MINUTE, SECOND, Record, Step, Verdict, load, save

ROOT = Path(__file__).resolve().parent.parent.parent
DOWN = (Step.REBOOT, Step.PREVIOUS_RELEASE)


class FakeBox:
    """A box whose kiosk is as told, and which writes down what is done to it."""

    def __init__(self, verdict: Verdict = Verdict.WELL, *, previous: bool = False, refuses: bool = False) -> None:
        self.verdict, self.previous, self.refuses = verdict, previous, refuses
        self.taken: list[Step] = []
        self.asks: list[Step] = []

    def asked(self) -> tuple[Step, ...]:
        """As told; once."""
        asks, self.asks = tuple(self.asks), []
        return asks

    def look(self) -> Verdict:
        """As told."""
        return self.verdict

    def has_previous(self) -> bool:
        """As told; once."""
        return self.previous

    def release(self) -> str:
        """The release that is on."""
        return "2.0"

    def take(self, step: Step) -> None:
        """Note it, or fail."""
        if self.refuses:
            raise FirmwareError("systemctl: no")
        self.taken.append(step)
        if step is Step.PREVIOUS_RELEASE:
            self.previous = False


class Life:
    """Boot after boot of one box with one disk; time begins at zero at each."""

    def __init__(self, path: Path, box: FakeBox) -> None:
        self.path, self.box = path, box
        self.boots = 0
        self.boot()

    def boot(self) -> None:
        """The box starts."""
        self.boots += 1
        self.now = 0
        self.watch = Watch(self.box, self.path, f"boot-{self.boots}", 0)

    def pass_by(self, duration_ns: int, step_ns: int = 5 * SECOND) -> list[Step]:
        """Look every `step_ns`; a step that restarts the box does."""
        taken = []
        end = self.now + duration_ns
        left = duration_ns
        while self.now < end and left > 0:
            self.now += step_ns
            left -= step_ns
            step = self.watch.look(self.now)
            if step is not None:
                taken.append(step)
            if step in DOWN and not self.box.refuses:
                self.boot()
                end = self.now + left
        return taken


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A record as `visavis firmware install` makes it."""
    path = tmp_path / "ladder.json"
    save(path, Record(boot_id="boot-1"))
    return path


def test_a_working_kiosk_is_left_alone(record: Path) -> None:
    """A day of a working kiosk: nothing is done."""
    life = Life(record, FakeBox())
    assert life.pass_by(24 * 60 * MINUTE, MINUTE) == []


def test_the_whole_climb_of_a_hopeless_box(record: Path) -> None:
    """Nothing helps: each step in its order, two restarts, one rollback, the safe screen, and then hourly tries without a restart."""
    life = Life(record, FakeBox(Verdict.NO_KIOSK, previous=True))
    low = [Step.NODE, Step.SERVICE, Step.DISPLAY]
    assert life.pass_by(50 * MINUTE) == [*low, Step.REBOOT, *low, Step.REBOOT, *low, Step.PREVIOUS_RELEASE, *low, Step.SAFE_SCREEN]
    assert life.pass_by(10 * 60 * MINUTE).count(Step.SAFE_SCREEN) >= 8
    assert life.boots == 1 + MAX_REBOOTS + MAX_ROLLBACKS
    assert load(record) == Record(boot_id="boot-4", boots=3, reboots=2, rollbacks=1, rolled_back="2.0")


def test_without_a_page_the_display_comes_first(record: Path) -> None:
    """The stage answers and nobody shows its page: that is the display's trouble."""
    life = Life(record, FakeBox(Verdict.NO_PAGE))
    assert life.pass_by(7 * MINUTE)[:3] == [Step.NODE, Step.DISPLAY, Step.SERVICE]


def test_a_step_that_helped_ends_the_climb(record: Path) -> None:
    """After a recovery the next trouble begins at the lowest step."""
    box = FakeBox(Verdict.NO_KIOSK)
    life = Life(record, box)
    assert life.pass_by(4 * MINUTE) == [Step.NODE, Step.SERVICE]
    box.verdict = Verdict.WELL
    assert life.pass_by(2 * MINUTE) == []
    box.verdict = Verdict.NO_KIOSK
    assert life.pass_by(MINUTE // 2) == [Step.NODE]


def test_calm_forgives_and_keeps_the_bad_release(record: Path) -> None:
    """Half an hour of a working kiosk sets the counts back; which release failed stays known."""
    save(record, Record(boot_id="boot-1", boots=3, reboots=2, rollbacks=1, rolled_back="2.0"))
    life = Life(record, FakeBox())
    life.pass_by(CALM_NS - MINUTE)
    assert load(record) == Record(boot_id="boot-1", boots=3, reboots=2, rollbacks=1, rolled_back="2.0")
    life.pass_by(2 * MINUTE)
    assert load(record) == Record(boot_id="boot-1", rolled_back="2.0")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"\x00" * 64,
        b"[]",
        b'{"boot_id": "boot-1", "reboots": -1}',
        b'{"boot_id": "boot-1", "boots": 1e99}',
        b'{"boot_id": 7}',
    ],
)
def test_without_a_sound_record_the_box_never_restarts_itself(tmp_path: Path, content: bytes | None) -> None:
    """Missing, cut, zeroed, absurd: no restart and no rollback; the safe screen at the end."""
    path = tmp_path / "ladder.json"
    if content is not None:
        path.write_bytes(content)
    life = Life(path, FakeBox(Verdict.NO_KIOSK, previous=True))
    taken = life.pass_by(30 * MINUTE)
    assert not set(taken) & set(DOWN)
    assert Step.SAFE_SCREEN in taken


def test_calm_makes_a_new_record(tmp_path: Path) -> None:
    """A box whose record was broken earns its restarts back by working."""
    path = tmp_path / "ladder.json"
    path.write_bytes(b"broken")
    box = FakeBox()
    life = Life(path, box)
    life.pass_by(CALM_NS + MINUTE)
    box.verdict = Verdict.NO_KIOSK
    assert Step.REBOOT in life.pass_by(10 * MINUTE)


def test_a_count_that_cannot_be_written_forbids_the_step(tmp_path: Path) -> None:
    """The disk is gone under us: the restart is not taken, the safe screen is."""
    folder = tmp_path / "state"
    folder.mkdir()
    save(folder / "ladder.json", Record(boot_id="boot-1"))
    life = Life(folder / "ladder.json", FakeBox(Verdict.NO_KIOSK, previous=True))
    (folder / "ladder.json").unlink()
    folder.rmdir()
    taken = life.pass_by(20 * MINUTE)
    assert taken[:4] == [Step.NODE, Step.SERVICE, Step.DISPLAY, Step.SAFE_SCREEN]
    with pytest.raises(LadderError, match="will not restart itself"):
        save(folder / "ladder.json", Record(boot_id="x"))


def test_a_step_that_fails_does_not_end_the_watch(record: Path) -> None:
    """The service manager refuses everything: the climb goes on to the safe screen, and restarts are counted though they did not happen."""
    life = Life(record, FakeBox(Verdict.NO_KIOSK, previous=True, refuses=True))
    taken = life.pass_by(30 * MINUTE)
    assert taken[3:6] == [Step.REBOOT, Step.PREVIOUS_RELEASE, Step.SAFE_SCREEN]


def test_boots_that_we_did_not_cause_count_too(record: Path) -> None:
    """A hardware watchdog that keeps resetting the box: after so many boots without calm we add none of our own."""
    life = Life(record, FakeBox(Verdict.NO_KIOSK, previous=True))
    for _ in range(MAX_BOOTS):
        life.pass_by(MINUTE)
        life.boot()
    assert not set(life.pass_by(60 * MINUTE)) & set(DOWN)


def test_what_the_fleet_asks_for_is_done(record: Path) -> None:
    """A restart that somebody asks for is taken at once, beside the ladder."""
    box = FakeBox()
    life = Life(record, box)
    box.asks = [Step.DISPLAY, Step.REBOOT]
    assert life.pass_by(5 * SECOND) == []
    assert box.taken == [Step.DISPLAY, Step.REBOOT]


def test_asking_again_and_again_is_no_reboot_loop(record: Path) -> None:
    """A fleet (or a kiosk gone mad) that asks for a restart at every start: after some starts without calm it is refused."""
    box = FakeBox()
    life = Life(record, box)
    for _ in range(20):
        box.asks = [Step.REBOOT]
        before = len(box.taken)
        life.pass_by(5 * SECOND)
        if len(box.taken) > before:
            life.boot()
    assert len(box.taken) == MAX_BOOTS


@pytest.mark.system
def test_the_clock_may_say_1970(record: Path) -> None:
    """The record is written and read in a process whose files bear the year 1970, and in one of this year: no difference."""
    program = """
import sys
from pathlib import Path
from firmware.ladder import begin, load, save
save(Path(sys.argv[1]), begin(load(Path(sys.argv[1])), "boot-9", 0).record)
"""
    os.utime(record, (0, 0))
    subprocess.run([sys.executable, "-c", program, str(record)], cwd=ROOT, check=True)
    assert load(record) == Record(boot_id="boot-9", boots=1)
    os.utime(record, (4e9, 4e9))
    assert rules.begin(load(record), "boot-9", 0).trusted


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from(list(Verdict)), st.integers(1, 40)),
        st.tuples(st.sampled_from(["boot", "corrupt", "delete", "readonly", "writable", "update"]), st.none(), st.none()),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_never_a_reboot_loop(events: list[tuple[str, Verdict | None, int | None]]) -> None:
    """Whatever happens to kiosk, plug and disk: between two calms the box restarts itself at most so often, each time counted first."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "state" / "ladder.json"
        path.parent.mkdir()
        save(path, Record(boot_id="boot-1"))
        box = FakeBox(previous=True)
        life = Life(path, box)
        since_calm = 0
        for what, verdict, minutes in events:
            if what == "pass":
                assert verdict is not None
                assert minutes is not None
                box.verdict = verdict
                for _ in range(4 * minutes):
                    before = life.watch.ladder.record
                    for step in life.pass_by(15 * SECOND, 15 * SECOND):
                        if step in DOWN:
                            since_calm += 1
                            after = load(path)
                            assert after is not None
                            assert after.reboots + after.rollbacks == before.reboots + before.rollbacks + 1
                    if box.verdict is Verdict.WELL and life.watch.ladder.record.reboots + life.watch.ladder.record.rollbacks == 0:
                        since_calm = 0 if _calm(life) else since_calm
                assert since_calm <= MAX_REBOOTS + MAX_ROLLBACKS
            else:
                _happen(what, life, path)


def _calm(life: Life) -> bool:
    well = life.watch.ladder.well_ns
    return well is not None and life.now - well >= CALM_NS


def _happen(what: str, life: Life, path: Path) -> None:
    if what == "boot":
        life.boot()
    elif what == "corrupt" and path.exists():
        path.write_bytes(b"\x00garbage")
    elif what == "delete":
        path.unlink(missing_ok=True)
    elif what == "readonly" and path.parent.is_dir():
        path.parent.rename(path.parent.with_name("gone"))
    elif what == "writable" and not path.parent.exists():
        path.parent.with_name("gone").rename(path.parent)
    elif what == "update":
        life.box.previous = True


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([Verdict.NO_KIOSK, Verdict.NO_PAGE]), min_size=1, max_size=8), st.booleans())
def test_a_hopeless_box_ends_on_the_safe_screen(verdicts: list[Verdict], previous: bool) -> None:
    """Whatever the trouble alternates between, the safe screen is there within an hour."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "ladder.json"
        save(path, Record(boot_id="boot-1"))
        box = FakeBox(previous=previous)
        life = Life(path, box)
        taken: list[Step] = []
        for minute in range(60):
            box.verdict = verdicts[minute % len(verdicts)]
            taken += life.pass_by(MINUTE)
        assert Step.SAFE_SCREEN in taken


def test_what_is_asked_for_again_and_again_is_done_once(record: Path) -> None:
    """A kiosk that asks all day gets one restart of its service in five minutes; another step is another matter."""
    life = Life(record, FakeBox())
    for _ in range(10):
        life.box.asks = [Step.SERVICE]
        life.pass_by(10 * SECOND)
    assert life.box.taken == [Step.SERVICE]
    life.box.asks = [Step.DISPLAY]
    life.pass_by(5 * MINUTE)
    life.box.asks = [Step.SERVICE]
    life.pass_by(10 * SECOND)
    assert life.box.taken == [Step.SERVICE, Step.DISPLAY, Step.SERVICE]


def test_restarts_of_the_box_that_are_asked_for_are_counted_first(record: Path) -> None:
    """The count is on the disk before systemd is asked: one that fails, or comes late, counts too."""
    life = Life(record, FakeBox(refuses=True))
    for done in range(1, 3):
        life.box.asks = [Step.REBOOT]
        life.pass_by(5 * SECOND)
        kept = load(record)
        assert kept is not None
        assert kept.reboots == done
        life.boot()


def test_what_was_asked_before_the_watch_began_is_forgotten(record: Path) -> None:
    """An ask that nobody did in time is not done hours later."""
    box = FakeBox()
    box.asks = [Step.REBOOT, Step.SERVICE]
    Life(record, box).pass_by(MINUTE)
    assert box.taken == []
