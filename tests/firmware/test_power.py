"""Fan, power mode and clocks: taken, never worse than before, and put back whatever happens."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware._files import write_record
from firmware._modes import NvpModel
from firmware.errors import LeverError
from firmware.power import Levers
from tests.firmware import trees

ROOT = Path(__file__).resolve().parent.parent.parent
NVPMODEL = """#!/bin/sh
state={state}
case "$1" in
-q) echo "NV Power Mode: $(cat $state)"; echo 0 ;;
-m) case "$2" in
    0) echo MAXN > $state ;;
    3) echo 15W > $state ;;
    5) read answer || answer=no
       echo "NVPM WARN: Reboot required for changing to this power mode: 7W"
       [ "$answer" != yes ] || echo 7W > $state ;;
    esac ;;
esac
"""
CONFIG = "# comment\n< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=3 NAME=15W >\n< POWER_MODEL ID=5 NAME=7W >\n"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A Thor's tree with its fan under automatic control, in the boot `one`."""
    trees.thor(tmp_path)
    fan(tmp_path, "pwm1_enable").write_text("2\n")
    trees.write(tmp_path / "proc/sys/kernel/random/boot_id", "one")
    return tmp_path


@pytest.fixture
def modes(tmp_path: Path) -> NvpModel:
    """An nvpmodel in MAXN whose mode 7W wants a restart."""
    program = tmp_path / "nvpmodel"
    program.write_text(NVPMODEL.format(state=trees.write(tmp_path / "mode", "MAXN")))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return NvpModel((str(program),), trees.write(tmp_path / "nvpmodel.conf", CONFIG))


@pytest.fixture
def jtop(box: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-in for jetson-stats, its service up; gives its state file."""
    state = trees.write(box / "jtop.json", json.dumps({"mode": "MAXN", "pwmfan profile": "quiet", "pwmfan speed": 30.0, "clocks": True}))
    trees.write(box / "run/jtop.sock", "")
    monkeypatch.setenv("FAKE_JTOP_STATE", str(state))
    monkeypatch.syspath_prepend(Path(__file__).parent / "jtop_fake")
    yield state
    sys.modules.pop("jtop", None)


def fan(root: Path, attribute: str = "pwm1") -> Path:
    """An attribute of the fan."""
    return root / "sys/class/hwmon/hwmon0" / attribute


def fan_is(root: Path) -> tuple[str, str]:
    """(pwm, enable) now."""
    return fan(root).read_text().strip(), fan(root, "pwm1_enable").read_text().strip()


def test_the_fan_is_driven_and_given_back(box: Path) -> None:
    """Manual control and the duty asked for while open; the old duty and automatic control after."""
    with Levers(box / "state/levers.json", box) as levers:
        assert levers.set_fan(0.8) == pytest.approx(0.8)
        assert fan_is(box) == ("204", "1")
        assert levers.set_fan(1.0) == 1.0
    assert fan_is(box) == ("128", "2")
    assert not (box / "state/levers.json").exists()


def test_the_fan_never_turns_slower_than_the_box_had_it(box: Path) -> None:
    """A governor that asks for less than the automatic control gave gets what that gave."""
    with Levers(box / "levers.json", box) as levers:
        assert levers.set_fan(0.1) == pytest.approx(128 / 255)
        assert levers.set_fan(-3.0) == pytest.approx(128 / 255)


@pytest.mark.system
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_ends_leaves_the_fan_as_it_was(box: Path, how: signal.Signals) -> None:
    """SIGTERM gives the fan back at once; after SIGKILL the next start does, from the record."""
    program = (
        "import sys, signal\nfrom pathlib import Path\nfrom firmware.power import Levers\nroot = Path(sys.argv[1])\n"
        "with Levers(root / 'levers.json', root) as levers:\n    levers.set_fan(1.0)\n    print('set', flush=True)\n    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(box)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"set\n"
        assert fan_is(box) == ("255", "1")
        process.send_signal(how)
        status = process.wait(10)
    if how is signal.SIGTERM:
        assert status == 128 + signal.SIGTERM
    else:
        assert fan_is(box) == ("255", "1")
        with Levers(box / "levers.json", box):
            pass
    assert fan_is(box) == ("128", "2")
    assert not (box / "levers.json").exists()


def test_a_record_of_an_earlier_boot_does_not_touch_the_fan(box: Path) -> None:
    """After a restart the path may be another device's: only what outlives a boot is put back."""
    levers = Levers(box / "levers.json", box)
    levers.__enter__()
    levers.set_fan(1.0)
    trees.write(box / "proc/sys/kernel/random/boot_id", "two")
    fan(box).write_text("77\n")
    levers.__exit__(None, None, None)
    assert fan_is(box)[0] == "77"
    assert not (box / "levers.json").exists()


def test_nvfancontrol_keeps_its_fan(box: Path) -> None:
    """While NVIDIA's service runs the fan is not ours, and the line says what to do."""
    (box / "sys/fs/cgroup/system.slice/nvfancontrol.service").mkdir(parents=True)
    with Levers(box / "levers.json", box) as levers:
        assert levers.fans == ()
        with pytest.raises(LeverError, match="pwmfan pwm1: nvfancontrol drives it: systemctl disable --now nvfancontrol"):
            levers.set_fan(1.0)
    assert fan_is(box) == ("128", "2")


def test_somebody_else_drives_the_fan(box: Path) -> None:
    """A duty that does not stay (here: a device that swallows it) is told, not believed."""
    fan(box).unlink()
    fan(box).symlink_to("/dev/null")
    fan(box, "pwm1_enable").unlink()
    with Levers(box / "levers.json", box) as levers, pytest.raises(LeverError, match="something else drives this fan"):
        levers.set_fan(1.0)


def test_a_fan_that_vanishes_is_one_line(box: Path) -> None:
    """The device goes away while it is ours: a LeverError at the next set, one line in the log at the end."""
    with Levers(box / "levers.json", box) as levers:
        levers.set_fan(0.9)
        fan(box).rename(box / "gone")
        with pytest.raises(LeverError, match=r"pwm1: no such file or directory"):
            levers.set_fan(1.0)
        (troubles,) = levers.restore()
        assert troubles.endswith("pwm1: no such file or directory")
        (box / "gone").rename(fan(box))
    assert fan_is(box) == ("128", "2")


def test_a_board_chip_is_ours_only_when_named(tmp_path: Path) -> None:
    """A PC's fans are left alone until their driver is named."""
    trees.pc(tmp_path)
    with Levers(tmp_path / "levers.json", tmp_path) as levers:
        assert levers.fans == ()
        assert levers.why_not["fan"] == "no fan of the driver pwmfan"
    with Levers(tmp_path / "levers.json", tmp_path, fans=("nct6775",)) as levers:
        assert levers.fans == ("nct6775 pwm1", "nct6775 pwm2")
        levers.set_fan(0.5)


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without permissions")
def test_no_permission_is_one_line() -> None:
    """Without the right to write the pwm file the lever is not there, and the line says who gives it."""
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom firmware.power import Levers\nroot = Path(sys.argv[1])\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "with Levers(root / 'levers.json', root) as levers:\n    print(levers.fans, levers.why_not)\n"
    )
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        box = Path(place)
        box.chmod(0o755)
        trees.thor(box)
        done = subprocess.run([sys.executable, "-c", program, place], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("() {'pwmfan pwm1': \"no permission to write")
    assert "jtop's service is not running" in done.stdout


def test_without_a_record_nothing_is_changed(box: Path) -> None:
    """A record that cannot be written (a file where its folder should be): the lever refuses, the fan stays automatic."""
    trees.write(box / "state", "a file")
    with Levers(box / "state/levers.json", box) as levers, pytest.raises(LeverError, match="so nothing is changed"):
        levers.set_fan(1.0)
    assert fan_is(box) == ("128", "2")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'{"files": {"/etc/passwd": 3}}'])
def test_a_broken_record_is_told_once(box: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A half-written or foreign record is one warning, and gone."""
    (box / "levers.json").write_bytes(content)
    with Levers(box / "levers.json", box):
        pass
    assert len(caplog.records) == 1
    assert "cannot be read" in caplog.text
    assert not (box / "levers.json").exists()


def test_a_record_moves_fans_and_nothing_else(box: Path) -> None:
    """Whoever can write the record may be less than who reads it: only numbers, and only into the fan's own attributes."""
    other = trees.write(box / "etc/shadow", "secret")
    around = fan(box).parent / ".." / "hwmon0" / "pwm1"
    files = {str(other): "root::", str(fan(box)): "200; rm", str(around): "9", str(fan(box).with_name("name")): "7",
             str(fan(box, "pwm1_enable")): "1"}  # fmt: skip
    record = {"boot_id": "one", "files": files}
    (box / "levers.json").write_text(json.dumps(record))
    lines = Levers(box / "levers.json", box).restore()
    assert [line.endswith("is no fan's setting, left as it is") for line in lines] == [True] * 4
    assert other.read_text() == "secret\n"
    assert fan_is(box) == ("128", "1")
    assert not (box / "levers.json").exists()


def test_a_record_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A link in the temporary file's place is replaced, and what it names stays as it is."""
    other = trees.write(tmp_path / "etc/shadow", "secret")
    (tmp_path / ".levers.json.new").symlink_to(other)
    write_record(tmp_path / "levers.json", b"{}")
    assert other.read_text() == "secret\n"
    assert (tmp_path / "levers.json").read_bytes() == b"{}"
    assert not (tmp_path / "levers.json").is_symlink()


@pytest.mark.parametrize("prefixed", [True, False])
def test_modes_may_have_a_prefix(tmp_path: Path, prefixed: bool) -> None:
    """Some boards say MODE_15W, in their list or in their answer: it is one mode by one name."""
    program = tmp_path / "nvpmodel"
    state = trees.write(tmp_path / "mode", "MODE_MAXN")
    program.write_text(NVPMODEL.format(state=state).replace("echo 15W", "echo MODE_15W").replace("echo MAXN", "echo MODE_MAXN"))
    program.chmod(0o755)
    config = CONFIG.replace("NAME=", "NAME=MODE_") if prefixed else CONFIG
    modes = NvpModel((str(program),), trees.write(tmp_path / "nvpmodel.conf", config))
    assert modes.names() == ("MAXN", "15W", "7W")
    assert modes.current() == "MAXN"
    modes.set("15W")
    assert modes.current() == "15W"


def test_power_mode_by_name_and_back(box: Path, modes: NvpModel) -> None:
    """A mode is set by its name, whatever its number here, and the old one comes back."""
    with Levers(box / "levers.json", box, modes=modes) as levers:
        assert levers.modes == ("MAXN", "15W", "7W")
        levers.set_power_mode("15W")
        assert modes.current() == levers.power_mode() == "15W"
        with pytest.raises(LeverError, match=r"power mode 30W: this board has MAXN, 15W, 7W"):
            levers.set_power_mode("30W")
    assert modes.current() == "MAXN"


def test_a_mode_that_wants_a_restart_is_refused(box: Path, modes: NvpModel) -> None:
    """Nobody answers the question whether to restart; the mode stays, and the line says why."""
    with Levers(box / "levers.json", box, modes=modes) as levers, pytest.raises(LeverError, match="wants a restart of the box; still MAXN"):
        levers.set_power_mode("7W")


def test_the_power_mode_comes_back_in_the_next_boot(box: Path, modes: NvpModel) -> None:
    """The mode outlives a restart of the box, so the record of it does, too."""
    crashed = Levers(box / "levers.json", box, modes=modes)
    crashed.__enter__()
    crashed.set_power_mode("15W")
    trees.write(box / "proc/sys/kernel/random/boot_id", "two")
    with Levers(box / "levers.json", box, modes=modes):
        assert modes.current() == "MAXN"


def test_a_box_without_modes_says_so(box: Path) -> None:
    """No nvpmodel: one line, and the other levers work."""
    with Levers(box / "levers.json", box, modes=NvpModel(("no-such-program",), box / "none.conf")) as levers:
        with pytest.raises(LeverError, match=r"power mode: .*none.conf: No such file or directory: no power modes on this box"):
            levers.set_power_mode("15W")
        levers.set_fan(1.0)


def test_jtop_takes_the_fan_from_nvfancontrol_and_gives_it_back(box: Path, jtop: Path) -> None:
    """With jtop the fan is ours even beside nvfancontrol: manual while driven, never slower than found, the old profile after."""
    (box / "sys/fs/cgroup/system.slice/nvfancontrol.service").mkdir(parents=True)
    with Levers(box / "levers.json", box) as levers:
        assert levers.fans == ("pwmfan",)
        assert levers.set_fan(0.1) == pytest.approx(0.3)
        assert levers.set_fan(0.9) == pytest.approx(0.9)
        assert json.loads(jtop.read_text())["pwmfan profile"] == "manual"
        assert json.loads(jtop.read_text())["pwmfan speed"] == pytest.approx(90)
    assert json.loads(jtop.read_text())["pwmfan profile"] == "quiet"


def test_jtop_switches_modes_and_clocks(box: Path, jtop: Path) -> None:
    """Mode by name and unpinned clocks while open; both as before after. A mode that does not come is told."""
    from firmware._modes import Jtop

    with Levers(box / "levers.json", box, modes=Jtop(box / "run/jtop.sock")) as levers:
        levers.set_power_mode("15W")
        levers.free_clocks()
        state = json.loads(jtop.read_text())
        assert (state["mode"], state["clocks"]) == ("15W", False)
        with pytest.raises(LeverError, match="power mode 7W: jtop did not switch; still 15W"):
            levers.set_power_mode("7W")
        with pytest.raises(LeverError, match="jtop: NV Power Model 30W does not exists"):
            levers.set_power_mode("30W")
    state = json.loads(jtop.read_text())
    assert (state["mode"], state["clocks"]) == ("MAXN", True)


def test_jtop_that_is_down_is_one_line(box: Path, jtop: Path) -> None:
    """Its two-line message becomes one."""
    from firmware._modes import Jtop

    jtop.write_text(json.dumps({"down": True}))
    with pytest.raises(LeverError) as caught:
        Jtop(box / "run/jtop.sock").current()
    assert str(caught.value) == "jtop: The jtop.service is not active. Please run: sudo jtop --install-service"
