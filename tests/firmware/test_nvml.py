"""The NVML reader with the real nvidia-ml-py on a library that answers as a test tells it. Each test runs in a process of its own:
a loaded libnvidia-ml cannot be taken back, and on a developer's machine it may be the real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from firmware.readings import CapKind, Snapshot, State

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SCRIPT = """
import ctypes, sys
lib = ctypes.CDLL("libnvidia-ml.so.1")
UNSET = 0x7FFFFFFF
class Card(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int) for n in "celsius margin slowdown fan watts_m limit_m lost".split()] + [("reasons", ctypes.c_ulonglong)]
cards = (Card * 2).in_dll(lib, "cards")
for card in cards:
    card.celsius, card.margin, card.slowdown, card.fan, card.watts_m, card.limit_m = 61, 22, UNSET, 40, 48000, 70000
exec(sys.argv[1])
from pathlib import Path
import msgspec
from firmware.sensors import Sensors
sensors = Sensors(Path("/nowhere"))
sys.stderr.write("".join(sensors.missing))
sys.stdout.buffer.write(msgspec.json.encode(sensors.read()))
sensors.close()
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the fake libnvidia-ml.so.1."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: scripts/system.sh installs gcc")
    out = tmp_path_factory.mktemp("nvml")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o", out / "libnvidia-ml.so.1", HERE / "fake_nvml.c"], check=True
    )
    return out


def read(library: Path, setting: str) -> tuple[Snapshot, str]:
    """(what the sensors say, what is missing) with the cards set by `setting`."""
    environment = os.environ | {"LD_LIBRARY_PATH": str(library)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, setting], cwd=ROOT, env=environment, capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Snapshot), done.stderr.decode()


@pytest.mark.system
def test_the_margin_that_the_card_tells_counts(library: Path) -> None:
    """Margin, fan, power and limit come through; the margin is the card's own."""
    snapshot, _ = read(library, "")
    (card,) = snapshot.temperatures
    assert (card.name, card.celsius, card.margin_c) == ("NVIDIA RTX 4000 SFF Ada", 61.0, 22.0)
    assert snapshot.fans[0].duty == 0.4
    assert (snapshot.rails[0].watts, snapshot.rails[0].limit_w) == (48.0, 70.0)
    assert not any(throttle.active for throttle in snapshot.throttles)


@pytest.mark.system
def test_without_a_margin_the_threshold_serves(library: Path) -> None:
    """A card that tells no margin but its slowdown temperature: the difference is the margin."""
    snapshot, _ = read(library, "cards[0].margin = UNSET; cards[0].slowdown = 90")
    assert snapshot.margin_c == 29.0


@pytest.mark.system
def test_every_call_may_be_unsupported(library: Path) -> None:
    """A card that tells nothing but its temperature gives that, and no margin."""
    snapshot, _ = read(library, "c = cards[0]; c.margin = c.slowdown = c.fan = c.watts_m = c.limit_m = UNSET")
    assert [t.celsius for t in snapshot.temperatures] == [61.0]
    assert (snapshot.margin_c, snapshot.fans, snapshot.rails) == (None, (), ())


@pytest.mark.system
@pytest.mark.parametrize(
    ("bits", "kind"),
    [(0x4, CapKind.POWER), (0x20, CapKind.HEAT), (0x40, CapKind.HEAT), (0x8, CapKind.EMERGENCY), (0x80, CapKind.EMERGENCY)],
)
def test_reasons_are_told_apart(library: Path, bits: int, kind: CapKind) -> None:
    """A power cap is no heat, and a slowdown by the hardware is an emergency; idle clocks (bit 0) are nothing."""
    snapshot, _ = read(library, f"cards[0].reasons = {bits | 1}")
    assert [k for k in CapKind if snapshot.capped(k)] == [kind]


@pytest.mark.system
def test_a_lost_card_is_unreadable_and_the_other_one_tells(library: Path) -> None:
    """A card that fell off the bus does not silence the second one of the same name."""
    snapshot, _ = read(library, "ctypes.c_int.in_dll(lib, 'fake_count').value = 2; cards[0].lost = 1; cards[1].margin = 9")
    lost, other = snapshot.temperatures
    assert lost.state is State.UNREADABLE
    assert lost.trouble
    assert other.name.endswith("#2")
    assert snapshot.margin_c == 9.0


@pytest.mark.system
@pytest.mark.parametrize("celsius", [-300, 255])
def test_an_absurd_card_is_unreadable(library: Path, celsius: int) -> None:
    """A temperature that cannot be is none, and its margin is not believed."""
    snapshot, _ = read(library, f"cards[0].celsius = {celsius}")
    assert snapshot.temperatures[0].state is State.UNREADABLE
    assert snapshot.margin_c is None


@pytest.mark.system
def test_a_driver_that_is_not_loaded_is_one_line(library: Path) -> None:
    """NVML without a driver: no cards, and one line that says so."""
    snapshot, missing = read(library, "ctypes.c_int.in_dll(lib, 'fake_init_result').value = 9")
    assert snapshot.temperatures == ()
    assert missing == "NVML: Driver Not Loaded"
