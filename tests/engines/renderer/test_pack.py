"""A pack is checked when it is loaded: every mistake gives one line naming the file and the key."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.renderer import AvatarPack, IdleLoop, PackError, _select, load_pack, open_face, select
from engines.renderer.tensorrt_relay import Relay
from tests.support.harness import LIMIT_S

pytestmark = pytest.mark.unit


@pytest.fixture
def copy(stock: Path, tmp_path: Path) -> Path:
    """A copy of the stock pack that may be broken."""
    return Path(shutil.copytree(stock, tmp_path / "pack"))


def _edit(pack: Path, old: str, new: str) -> None:
    text = (pack / "avatar.toml").read_text("utf-8")
    assert old in text
    (pack / "avatar.toml").write_text(text.replace(old, new, 1), "utf-8")


def test_the_stock_pack_has_the_51_controls(pack: AvatarPack) -> None:
    """45 weights, tongueUp, gaze and head, with the limits and the rest pose of the rig."""
    assert len(pack.controls) == len(set(pack.controls)) == 51
    assert pack.controls[45:] == ("tongueUp", "gazeYaw", "gazePitch", "yaw", "pitch", "roll")
    assert pack.ranges.shape == (51, 2)
    assert (pack.idle >= pack.ranges[:, 0]).all()
    assert (pack.idle <= pack.ranges[:, 1]).all()
    assert pack.idle[pack.controls.index("jawOpen")] == 0
    assert pack.idle[pack.controls.index("mouthShrugLower")] > 0


def test_the_stock_pack_is_small_and_carries_its_licence(stock: Path) -> None:
    """At most 12 MB in the repository, with the rig's licence text and an evaluation card."""
    assert sum(f.stat().st_size for f in stock.iterdir()) < 12e6
    assert "Institute for Creative Technologies" in (stock / "LICENSE-ICT-FaceKit.txt").read_text("utf-8")
    assert (stock / "card.md").is_file()


@pytest.mark.parametrize("name", ["face-256.onnx", "plate.png", "hair.png", "idle.webp", "thumbnail.webp"])
def test_a_damaged_file_is_named(copy: Path, name: str) -> None:
    """One flipped byte in any file of the pack is found."""
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(bytes(data))
    if name == "idle.webp":
        with pytest.raises(PackError, match=rf"{name}: damaged"):
            IdleLoop(copy)
    else:
        with pytest.raises(PackError, match=rf"{name}: damaged"):
            load_pack(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    """A file that is gone is named together with the table that wants it."""
    (copy / "plate.png").unlink()
    with pytest.raises(PackError, match=r"plate\.png: cannot be read .*avatar\.toml"):
        load_pack(copy)


def test_a_folder_without_a_pack_is_named(tmp_path: Path) -> None:
    """No manifest, no pack."""
    with pytest.raises(PackError, match=r"avatar\.toml: cannot be read"):
        load_pack(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("format = 1", "format = 2", "key format is 2"),
        ("format = 1", "format = ", "no TOML"),
        ('name = "stock"', "name = 5", "key name is 5"),
        ("licence =", "license =", "key licence missing"),
        ("[[0, 1],", "[[0, 1, 2],", r"key controls\.ranges must be numbers of shape \(51, 2\)"),
        ("[[0, 1],", "[[0, nan],", r"key controls\.ranges"),
        ("idle = [0,", "idle = [", r"key controls\.idle must be numbers of shape \(51,\)"),
        ("width = 512", "width = 510", "key rungs"),
        ("width = 512", 'width = "wide"', r"key rungs\.width is 'wide'"),
        ('network = "face-256.onnx"', 'network = "other.onnx"', r"key sha256\.other\.onnx missing"),
        ('network = "face-256.onnx"', 'nothing = "x"', r"key files\.network missing"),
        ("hair_scale =", "hair_size =", r"key files\.hair_scale missing"),
    ],
)
def test_a_wrong_key_is_named(copy: Path, old: str, new: str, complaint: str) -> None:
    """The key's full name and what is wrong with it stand in the one line."""
    _edit(copy, old, new)
    with pytest.raises(PackError, match=complaint) as caught:
        load_pack(copy)
    assert "\n" not in str(caught.value)
    assert str(copy / "avatar.toml") in str(caught.value)


def test_a_hair_picture_of_another_size_is_named(copy: Path) -> None:
    """The hair and its six shades, or nothing."""
    file = copy / "hair.png"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    cv2.imwrite(str(file), picture[:376])
    _edit(copy, before, hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(PackError, match=r"hair\.png: 320 x 376 pixels, it must hold 7 of 320 x 376"):
        load_pack(copy)


def test_a_pack_without_hair_is_one_too(copy: Path) -> None:
    """A face whose plate carries everything loads and draws."""
    text = (copy / "avatar.toml").read_text("utf-8")
    lines = [line for line in text.splitlines() if "hair" not in line]
    (copy / "avatar.toml").write_text("\n".join(lines) + "\n", "utf-8")
    pack = load_pack(copy)
    assert pack.hair is None
    out = np.zeros((384, 256), np.uint8)
    select(pack).engine.draw(pack.idle, out, rung=2)
    assert out[:256].std() > 20


def test_a_damaged_network_leaves_a_face_that_moves(copy: Path) -> None:
    """Law 1: with the network destroyed the idle loop serves, and the reason is told."""
    (copy / "face-256.onnx").write_bytes(b"not a network")
    chosen = open_face(copy)
    assert chosen.name == "idle"
    assert "face-256.onnx: damaged" in chosen.why_not["onnxruntime"]
    frames = []
    for _ in range(2):
        out = np.zeros((384, 256), np.uint8)
        chosen.engine.draw(chosen.engine.idle, out, rung=2)
        frames.append(out)
    assert not np.array_equal(frames[0], frames[1])


def test_a_network_that_does_not_run_leaves_a_face_that_moves(copy: Path, pack: AvatarPack) -> None:
    """Also when the checksum is right and the runtime refuses the file."""
    broken = copy / "face-256.onnx"
    broken.write_bytes(b"\x00\x01")
    changed = AvatarPack(**{**vars(pack), "network": broken, "path": copy})
    chosen = select(changed)
    assert chosen.name == "idle"
    assert str(broken) in chosen.why_not["onnxruntime"]


def test_no_face_waits_for_a_gpu(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU is looked for in a thread, from the first frame on; that frame is drawn although the driver hangs."""
    asked, go = threading.Event(), threading.Event()

    def hanging() -> tuple[None, dict[str, str]]:
        asked.set()
        go.wait(LIMIT_S)
        return None, {"tensorrt": "no driver"}

    monkeypatch.setattr(_select, "find_gpu", hanging)
    chosen = open_face(copy)
    assert not asked.is_set()
    assert isinstance(chosen.engine, Relay)
    out = np.zeros((384, 256), np.uint8)
    chosen.engine.draw(chosen.engine.idle, out, rung=2)
    assert out[:256].std() > 20
    go.set()
    assert chosen.engine.wait(LIMIT_S)
    assert chosen.engine.state == "the CPU draws: tensorrt: no driver"


def test_nothing_left_to_show_is_an_error(tmp_path: Path) -> None:
    """Without even a manifest there is no face, and the first complaint is the one told."""
    with pytest.raises(PackError, match=r"avatar\.toml"):
        open_face(tmp_path)
