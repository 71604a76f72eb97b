"""The governor's node: a box that gets hot step by step, on a fake sysfs and a clock turned by hand; its fan, its alarms, its next life."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from firmware.power import Levers
from firmware.sensors import Sensors
from runtime.clock import ManualClock
from runtime.context import Context
from runtime.governor_ladder import LOOP
from runtime.hands import Hands
from runtime.messages import Drawn, Effort, Floor, Held, Hold, NodeStats, Notice, Posture, RungSize, Session
from runtime.nodes.governor import Governor, main, open_hands
from tests.firmware import trees
from tests.support.harness import LIMIT_S, Bench

NS = 1_000_000_000
RUNGS = (RungSize("512", 512, 512), RungSize("384", 384, 384), RungSize("256", 256, 256))


class Box:
    """A governor on a real bus, over a sysfs tree of an Orin whose heat the test sets; `look` lets a second pass."""

    def __init__(self, bench: Bench, root: Path, hands: Hands | None = None) -> None:
        self.clock = ManualClock(1000 * NS)
        self.bench, self.root, self.hands = bench, root, hands
        self.ctx = bench.context("governor", self.clock)
        self.renderer, self.health, self.stage = (bench.context(name) for name in ("renderer", "health", "stage"))
        self.frames = self.late = 0
        self.rungs: tuple[RungSize, ...] = RUNGS
        self.posture = Posture.IDLE
        self.governor = self._governor(self.ctx)

    def _governor(self, ctx: Context) -> Governor:
        return Governor(ctx, Sensors(self.root, nvml=False), self.hands, self.root)

    def die(self) -> None:
        """The next life of the node, in a process of its own as it were."""
        self.ctx = self.bench.context("governor", self.clock)
        self.governor = self._governor(self.ctx)

    def heat(self, celsius: float) -> None:
        """Every zone at this temperature; its passive trip is at 99."""
        for zone in self.root.glob("sys/class/thermal/thermal_zone*"):
            trees.write(zone / "temp", round(celsius * 1000))

    def warm(self, start: int, end: int, seconds: int = 5) -> None:
        """As a heatsink warms: a degree in so many seconds."""
        for celsius in range(start, end + 1):
            self.heat(celsius)
            self.look(seconds)

    def look(self, seconds: int = 1, *, late: int = 0) -> list[str]:
        """Let so many seconds pass, `late` of the 30 frames of each left out; the settings that were in force, in words."""
        said = []
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.frames, self.late = self.frames + 30, self.late + late
            self.governor.handle(Drawn(0, 0, self.frames, self.late, 0, self.rungs))
            self.governor.handle(Floor(1, 0, self.posture, Session.ENGAGED, 1, 1))
            self.governor.tick()
            self.ctx.beat()
            said.append(self.rung)
        return said

    @property
    def rung(self) -> str:
        """The rung in force."""
        assert self.governor.setting is not None
        return self.governor.setting.rung or ""

    def until(self, wanted: str, limit_s: int, celsius: float) -> int:
        """Hold this temperature until the rung is `wanted`; the seconds that took."""
        self.heat(celsius)
        for seconds in range(1, limit_s + 1):
            self.look()
            if self.rung == wanted:
                return seconds
        raise AssertionError(f"still {self.rung} after {limit_s} s at {celsius} °C")

    def told(self) -> dict[str, object]:
        """The newest figures that health has heard."""
        found: dict[str, object] = {}

        def last(message: object) -> bool:
            nonlocal found
            if isinstance(message, NodeStats) and message.t_ns == self.clock.now_ns:
                found = json.loads(message.body)["values"]
            return bool(found)

        self._again(self.health, "stats", last)
        return found

    def notice(self, wanted: Callable[[Notice], bool]) -> Notice:
        """The next notice at the stage that is `wanted`."""
        found: Notice = self._again(self.stage, "notice", wanted)
        return found

    def _again(self, ctx: Context, link: str, wanted: Callable[[Notice], bool]) -> Notice:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for name, message in ctx.receive(0.05):
                if name == link and wanted(message):
                    return message  # type: ignore[no-any-return]
            self.ctx._stats_due = 0
            self.ctx.beat()
        raise AssertionError(f"{ctx.name} never saw that on {link}")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """An Orin that is cool; its fan is not ours."""
    with Bench() as bench:
        yield Box(bench, trees.orin(tmp_path))


def test_a_cool_box_is_left_alone(box: Box) -> None:
    """Ten minutes without a change, at the best rung and rate, and the reason says so."""
    assert set(box.look(600)) == {"512"}
    told = box.told()
    assert (told["setting"], told["rung_reason"], told["heat_steps"]) == ("512, 30 fps", "best", 0)
    assert told["why"] == "everything at its best"


def test_heat_takes_one_step_and_calm_gives_it_back(box: Box) -> None:
    """A margin that gets small costs one rung, not two; cool again, it comes back only after minutes."""
    box.look(200)
    box.warm(54, 85)
    box.warm(86, 94, 40)  # 40 °C within three minutes up to here would be an emergency
    box.until("384", 60, 95.5)
    assert box.told()["rung_reason"] == "heat"
    box.heat(94.0)  # the step has helped
    assert set(box.look(30)) == {"384"}
    assert box.until("512", 600, 60.0) > 120


def test_a_change_that_is_seen_waits_for_a_pause_in_speech(box: Box) -> None:
    """While it speaks, or is about to, the picture stays; the look after the pause changes it."""
    box.look(200)
    box.warm(54, 93)
    box.posture = Posture.SPEAKING
    celsius = 93.0
    while "waits for a pause" not in str(box.told()["why"]):
        assert box.rung == "512"
        assert celsius < 96.5
        celsius += 0.05
        box.heat(celsius)
        box.look()
    box.posture = Posture.THINKING
    assert box.look(5) == ["512"] * 5
    box.posture = Posture.LISTENING
    assert box.look() == ["384"]


def test_throttling_takes_two_steps_at_once_and_speech_does_not_stop_it(box: Box) -> None:
    """What the hardware says counts at once; the end is the idle loop, an alarm is shown, and taken back a minute after."""
    box.look(10)
    box.posture = Posture.SPEAKING
    trees.write(box.root / "sys/class/thermal/cooling_device1/cur_state", 1)
    assert box.look() == ["256"]
    assert box.look(12)[-1] == LOOP
    shown = box.notice(lambda notice: notice.code == "heat")
    assert shown.text.startswith("the hardware throttles: ")
    told = box.told()
    assert (told["heat_alarm"], told["rung_reason"]) == (True, "throttle")
    trees.write(box.root / "sys/class/thermal/cooling_device1/cur_state", 0)
    box.heat(45)
    box.look(30)
    assert box.told()["heat_alarm"] is True
    box.look(240)
    assert box.told()["heat_alarm"] is False
    assert box.notice(lambda notice: notice.code == "heat" and not notice.text)


def test_late_frames_are_answered_and_what_one_life_counted_is_not_held_against_the_next(box: Box) -> None:
    """A fifth of the frames late for some seconds costs rungs; a renderer that begins to count anew does not."""
    box.look(5)
    box.frames, box.late = 3, 3
    assert box.look(3) == ["512"] * 3
    box.look(12, late=6)
    assert box.rung in ("384", "256")
    assert box.told()["rung_reason"] == "late_frames"


def test_the_next_life_goes_on_where_the_last_one_stood(box: Box) -> None:
    """Killed at a low rung: the renderer is asked for the same at once, before anything else is known; it comes up as late as without."""
    box.look(10)
    trees.write(box.root / "sys/class/thermal/cooling_device1/cur_state", 1)
    box.look(12)
    assert box.rung == LOOP
    trees.write(box.root / "sys/class/thermal/cooling_device1/cur_state", 0)
    box.heat(45)
    box.look(60)
    before = box.governor.setting
    box.die()
    assert box.governor.setting == before
    asked: list[Effort] = []
    deadline = time.monotonic() + LIMIT_S
    while not asked and time.monotonic() < deadline:  # the renderer's end has to find the new one
        box.clock.advance(1.0)
        box.governor.tick()
        asked = [message for link, message in box.renderer.receive(0.05) if link == "effort"]
    assert asked[0].rung == LOOP
    assert set(box.look(30)) == {LOOP}
    box.until("512", 3000, 45.0)


def test_a_checkpoint_that_cannot_be_read_is_a_new_beginning(box: Box) -> None:
    """Bytes of another version, or of nobody."""
    for damaged in (b"", b"\x00garbage", msgspec.msgpack.encode({"reach": 1})):
        box.ctx.checkpoint.save(damaged)
        box.die()
        assert box.governor.setting is None
        assert box.look() == ["512"]


def test_another_face_gets_another_ladder_and_nothing_jumps_up(box: Box) -> None:
    """The renderer comes back with fewer rungs: what was given up stays given up."""
    box.look(10)
    trees.write(box.root / "sys/class/thermal/cooling_device1/cur_state", 1)
    box.look()
    assert box.rung == "256"
    trees.write(box.root / "sys/class/thermal/cooling_device1/cur_state", 0)
    box.rungs = RUNGS[1:]
    assert box.look(2) == ["256"] * 2
    box.rungs = (RungSize("card", 384, 384),)
    assert box.look(2) == ["card"] * 2


def test_a_known_box_that_falls_silent_raises_an_alarm(box: Box) -> None:
    """All thermometers gone: told within a quarter of a minute, and the kiosk goes on."""
    box.look(10)
    for zone in box.root.glob("sys/class/thermal/thermal_zone*/temp"):
        trees.write(zone, "broken")
    box.look(15)
    assert box.notice(lambda notice: notice.code == "heat").text.startswith("no temperature can be read: ")


def test_a_machine_without_thermometers_is_told_once_and_left_in_peace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A developer's virtual machine: a line in the log, no alarm, no step."""
    caplog.set_level("INFO")
    with Bench() as bench:
        box = Box(bench, tmp_path)
        assert set(box.look(300)) == {"512"}
        told = box.told()
        assert (told["heat_alarm"], told["why"]) == (False, "everything at its best")
        box.look(12, late=6)
        assert box.rung in ("384", "256")  # late frames are answered all the same
    assert [record.message for record in caplog.records if "temperature" in record.message] == [
        "this machine tells no temperature: only late frames are answered, heat is left to its hardware"
    ]


# --- what the fleet wants of the picture


def told_fleet(box: Box) -> Held:
    """What the uplink hears of it."""

    def look() -> None:
        box.look()

    held: Held = box.bench.repeat_until(look, box.bench.context("uplink"), "held")
    return held


def test_a_rung_is_held_for_its_minutes_and_no_longer(box: Box) -> None:
    """What the renderer is asked for, why, and for how long; no network has a part in its end."""
    box.look(10)
    held = told_fleet(box)
    assert (held.rungs, held.cap, held.rung, held.left_s) == (("512", "384", "256"), 0, -1, 0)
    box.governor.handle(Hold(0, 77, 2, 3))
    assert set(box.look(179)) == {"256"}
    assert set(box.look(60)) == {"512"}
    assert told_fleet(box).rung == -1
    box.governor.handle(Hold(0, 78, 1, 3))
    box.look(60)
    told = box.told()
    assert (told["rung_reason"], told["setting"]) == ("override", "384, 30 fps")
    assert told["why"] == "the fleet holds 384 for another 2 min; by itself: everything at its best"
    box.governor.handle(Hold(0, 79, 2, 600))  # a new one takes its place
    held = told_fleet(box)
    assert (held.rung, held.taken_ns) == (2, 79)
    assert 300 * 60 < held.left_s < 600 * 60
    box.governor.handle(Hold(0, 80, 0, 1))
    assert set(box.look(300)) == {"512"}


def test_heat_goes_before_what_is_held(box: Box) -> None:
    """The hardware throttles while the best rung is held: down at once, and the reason is heat's."""
    box.look(10)
    box.governor.handle(Hold(0, 1, 0, 600))
    assert set(box.look(30)) == {"512"}
    trees.write(box.root / "sys/class/thermal/cooling_device1/cur_state", 1)
    assert box.look() == ["256"]
    told = box.told()
    assert told["rung_reason"] == "throttle"
    assert str(told["why"]).startswith("the fleet wants 512 for another 600 min, but the hardware throttles; by itself: ")


def test_a_hold_survives_the_node_and_ends_when_it_should_have(box: Box) -> None:
    """Killed in the middle: its next life goes on with it, and the time that passed meanwhile has passed."""
    box.look(10)
    box.governor.handle(Hold(0, 1, 1, 0))  # no better than 384
    box.governor.handle(Hold(0, 2, 2, 5))
    assert set(box.look(60)) == {"256"}
    box.die()
    assert box.rung == "256"
    box.clock.advance(200.0)
    assert set(box.look(39)) == {"256"}
    assert set(box.look(60)) == {"384"}
    box.governor.handle(Hold(0, 3, 0, 0))
    assert set(box.look(60)) == {"512"}


def test_another_face_has_the_rung_that_is_held_or_its_last(box: Box) -> None:
    """The renderer comes back with two rungs while the third is held."""
    box.look(10)
    box.governor.handle(Hold(0, 1, 2, 10))
    assert box.look() == ["256"]
    box.rungs = RUNGS[:2]
    assert set(box.look(10)) == {"384"}


# --- the language model


def test_a_model_on_this_box_makes_shorter_answers_before_the_picture_gets_less_sharp(tmp_path: Path) -> None:
    """What the governor tells the dialogue with every look, and the renderer with it."""
    config = tmp_path / "kiosk.toml"
    config.write_text('[language]\nbase_url = "http://127.0.0.1:8080/v1"\n')
    with Bench(config=config) as bench:
        box = Box(bench, trees.orin(tmp_path / "root"))
        dialogue = bench.context("dialogue")

        def look() -> None:
            box.look()

        def told() -> tuple[float, str]:
            effort = bench.repeat_until(look, dialogue, "effort")
            return effort.model, effort.rung

        box.look(200)
        assert told() == (1.0, "512")
        box.warm(54, 85)
        box.warm(86, 94, 40)
        box.heat(95.5)
        seen = [told() for _ in range(200)]
        less = next(i for i, (model, _) in enumerate(seen) if model < 1)
        assert seen[less] == (0.6, "512")
        assert all(rung == "512" for model, rung in seen if model > 0.5)
        assert "tokens/s" in str(box.told()["setting"])


# --- fan and power mode


def settled(box: Box) -> None:
    """Wait until the hands have nothing to do."""
    assert box.hands is not None
    deadline = time.monotonic() + LIMIT_S
    while box.hands.busy:
        assert time.monotonic() < deadline
        time.sleep(0)


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[Box]:
    """An Orin whose fan is ours."""
    root = trees.orin(tmp_path)
    trees.write(root / "sys/class/hwmon/hwmon3/pwm1_enable", 2)
    (root / "var/lib/visavis").mkdir(parents=True)
    hands = open_hands(root)
    assert hands is not None
    with Bench() as bench:
        box = Box(bench, root, hands)
        settled(box)
        yield box
    hands.close()


def fan_of(box: Box) -> tuple[str, str]:
    """(duty, mode of control) of the box's fan."""
    folder = box.root / "sys/class/hwmon/hwmon3"
    return (folder / "pwm1").read_text().strip(), (folder / "pwm1_enable").read_text().strip()


def test_the_fan_comes_before_the_picture(owned: Box) -> None:
    """Heat drives the fan to its full speed first; when the box is cool again, its own control has the fan back."""
    owned.look(200)
    assert fan_of(owned) == ("64", "2")
    owned.heat(96.3)
    for _ in range(60):
        owned.look()
        settled(owned)
        if fan_of(owned) == ("255", "1"):
            break
    assert fan_of(owned) == ("255", "1")
    assert owned.rung == "512"
    owned.heat(50)
    owned.look(400)
    settled(owned)
    assert fan_of(owned) == ("64", "2")


def test_a_fan_that_something_else_drives_is_no_lever_any_more(owned: Box, caplog: pytest.LogCaptureFixture) -> None:
    """One line says so; the picture answers the heat instead."""
    owned.look(200)
    pwm = owned.root / "sys/class/hwmon/hwmon3/pwm1"
    pwm.unlink()
    pwm.symlink_to("/dev/null")  # takes every value, and shows none
    owned.heat(96.3)
    for _ in range(300):
        owned.look()
        settled(owned)
        if owned.rung != "512":
            break
    assert owned.rung == "384"
    assert len([record for record in caplog.records if "something else drives this fan" in record.message]) == 1


def test_the_fan_is_given_back_when_the_node_ends(tmp_path: Path) -> None:
    """`main` leaves the box as it found it; a place for the record decides whether the fan is ours at all."""
    root = trees.orin(tmp_path)
    trees.write(root / "sys/class/hwmon/hwmon3/pwm1_enable", 2)
    assert open_hands(root) is None
    (root / "var/lib/visavis").mkdir(parents=True)
    with Levers(root / "var/lib/visavis/levers.json", root) as left:
        left.set_fan(1.0)
        record = (root / "var/lib/visavis/levers.json").read_bytes()
    (root / "var/lib/visavis/levers.json").write_bytes(record)  # as if it had been killed
    trees.write(root / "sys/class/hwmon/hwmon3/pwm1", 255)
    config = tmp_path / "kiosk.toml"
    config.write_text(f'[firmware]\nroot = "{root}"\n')
    with Bench(config=config) as bench:
        ctx = bench.context("governor")
        ctx.stop()
        main(ctx)
    assert (root / "sys/class/hwmon/hwmon3/pwm1").read_text().strip() == "64"
    assert not (root / "var/lib/visavis/levers.json").exists()
