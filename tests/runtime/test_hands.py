"""Fan and power mode in the governor's hands: what fails once is neither lost nor left as we set it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware._modes import NvpModel
from firmware.power import Levers
from runtime.hands import LOOK_AGAIN_NS, RESTORE_AGAIN_NS, Hands, Wish
from tests.firmware import trees
from tests.firmware.test_power import CONFIG, NVPMODEL
from tests.support.harness import LIMIT_S

FULL: Wish = (1.0, None)


class Box:
    """A Thor whose fan is under automatic control at 128 of 255, with a power mode of MAXN; its time is ours."""

    def __init__(self, root: Path) -> None:
        trees.thor(root)
        folder = root / "sys/class/hwmon/hwmon0"
        self.pwm, self.enable = folder / "pwm1", folder / "pwm1_enable"
        self.enable.write_text("2\n")
        self.mode = trees.write(root / "mode", "MAXN")
        self.modes = root / "nvpmodel.conf"
        self.record = root / "levers.json"
        program = root / "nvpmodel"
        program.write_text(NVPMODEL.format(state=self.mode))
        program.chmod(0o755)
        self.modes.write_text(CONFIG)
        self._levers = Levers(self.record, root, modes=NvpModel((str(program),), self.modes))
        self.now = 10**15
        self.hands: Hands

    def open(self) -> Box:
        """The governor starts."""
        self.hands = Hands(self._levers)
        self._settled()
        return self

    def want(self, wish: Wish | None, after_ns: int = 1) -> list[str]:
        """Ask for it, that much later; what did not work."""
        self.now += after_ns
        self.hands.want(wish, self.now)
        self._settled()
        return self.hands.troubles()

    def _settled(self) -> None:
        deadline = time.monotonic() + LIMIT_S
        while self.hands.busy:
            assert time.monotonic() < deadline
            time.sleep(0)  # the thread's turn: what it does ends with no event that the owner could wait for

    def fan(self) -> tuple[str, str]:
        """(duty, mode of control)."""
        return self.pwm.read_text().strip(), self.enable.read_text().strip()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box that nobody governs yet."""
    made = Box(tmp_path)
    yield made
    made.hands.close()


def test_what_could_not_be_put_back_is_tried_again(box: Box) -> None:
    """Once a minute, said once; what is as it was is left alone, for the box drives it itself by then."""
    box.open()
    assert box.want(FULL) == []
    assert box.fan() == ("255", "1")
    box.enable.unlink()
    box.enable.mkdir()
    (trouble,) = box.want(None)
    assert "pwm1_enable" in trouble
    assert box.want(None, RESTORE_AGAIN_NS) == []
    box.enable.rmdir()
    box.enable.write_text("1\n")
    box.pwm.write_text("90\n")
    assert box.want(None, RESTORE_AGAIN_NS - 1) == []
    assert box.fan() == ("90", "1")
    assert box.want(None) == []
    assert box.fan() == ("90", "2")
    assert not box.record.exists()


def test_a_fan_that_is_wanted_before_all_is_put_back_keeps_its_way_home(box: Box) -> None:
    """Its own control is what was found at first, not what we left it with."""
    box.open()
    box.want(FULL)
    box.enable.unlink()
    box.enable.mkdir()
    assert box.want(None)
    box.enable.rmdir()
    box.enable.write_text("1\n")
    assert box.want(FULL) == []
    assert box.fan() == ("255", "1")
    assert box.want(None) == []
    assert box.fan() == ("128", "2")


def test_what_a_crash_left_is_put_back_later_too(box: Box) -> None:
    """Not possible when the governor starts: a minute later it is, and until then the mode of before is the usual one."""
    box.record.write_text('{"power_mode": "MAXN"}')
    box.mode.write_text("15W\n")
    program = box.mode.with_name("nvpmodel")
    content = program.read_text()
    program.write_text(content.replace("echo MAXN", "true"))
    box.open()
    assert box.hands.modes[0] == "MAXN"
    program.write_text(content)
    box.want(None, RESTORE_AGAIN_NS)
    assert box.mode.read_text().strip() == "MAXN"


def test_a_fan_that_failed_is_found_again(box: Box) -> None:
    """For minutes it is no lever; then it is looked for, and drives on."""
    box.open()
    kept = box.pwm.read_text()
    box.pwm.unlink()
    box.pwm.symlink_to("/dev/null")
    (trouble,) = box.want(FULL)
    assert "something else drives this fan" in trouble
    assert not box.hands.fan
    assert box.hands.modes
    box.pwm.unlink()
    box.pwm.write_text(kept)
    box.want(None)
    box.want(None, LOOK_AGAIN_NS - 2)
    assert not box.hands.fan
    box.want(None, 2)
    assert box.hands.fan
    assert box.want(FULL) == []
    assert box.fan()[0] == "255"


def test_power_modes_that_failed_are_found_again_and_the_usual_one_stays(box: Box) -> None:
    """A list that could not be read, or a switch that failed: the mode of before us is the first of them all the same."""
    box.modes.rename(box.modes.with_name("away"))
    box.open()
    assert box.hands.modes == ()
    box.modes.with_name("away").rename(box.modes)
    box.want(None, LOOK_AGAIN_NS)
    assert box.hands.modes == ("MAXN", "15W", "7W")
    assert box.want((None, "15W")) == []
    assert "wants a restart" in box.want((None, "7W"))[0]
    assert box.hands.modes == ()
    box.want((None, "7W"), LOOK_AGAIN_NS)
    assert box.hands.modes == ("MAXN", "15W", "7W")
    assert box.mode.read_text().strip() == "15W"
