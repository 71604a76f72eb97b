"""Training, quantisation and evaluation on the real frames, a few seconds of each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: studio)")

from engines.renderer import load_pack, select  # noqa: E402 - after the skip
from engines.studio import dataset, motion, stillness  # noqa: E402
from engines.studio import train as training  # noqa: E402
from engines.studio.card import card  # noqa: E402
from engines.studio.evaluate import evaluate  # noqa: E402
from engines.studio.geometry import fit  # noqa: E402
from engines.studio.losses import unlike  # noqa: E402
from engines.studio.metrics import ssim_map  # noqa: E402
from engines.studio.network import VisavisFace  # noqa: E402
from engines.studio.pack import pack  # noqa: E402
from engines.studio.quantize import OUTPUTS, export_float, quantize_model  # noqa: E402
from engines.studio.rig import RANGES, Rig  # noqa: E402
from engines.studio.sampler import IDLE  # noqa: E402
from engines.studio.train import load_checkpoint, train  # noqa: E402

pytestmark = pytest.mark.unit
FRAMES, ROWS = 12, 60


@pytest.fixture(scope="module")
def data(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of the rendered set, as a data folder of its own."""
    source, folder = shared / "avatar", tmp_path_factory.mktemp("data")
    (folder / "frames").mkdir()
    (folder / "rig").symlink_to(source / "rig")
    z, flow = dict(np.load(source / "controls.npz")), dict(np.load(source / "flow.npz"))
    total = len(z["values"])
    for table in (z, flow):
        table.update({k: v[:ROWS] for k, v in table.items() if v.shape[:1] == (total,)})
    pick = np.flatnonzero(z["rendered"])[:FRAMES]
    for i in pick:
        (folder / "frames" / f"{i:05d}.webp").symlink_to(source / "frames" / f"{i:05d}.webp")
    z["rendered"] = np.isin(np.arange(ROWS), pick)
    np.savez(folder / "controls.npz", **z)
    np.savez(folder / "flow.npz", **flow)
    return folder


def _ticks(step: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += step


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of a dozen steps by a clock that runs fast."""
    ticks = _ticks(0.1)
    return train(data, tmp_path_factory.mktemp("run"), minutes=1.2 / 60, seed=3, clock=lambda: next(ticks))


def test_training_learns_the_pose_and_keeps_its_averages(checkpoint: Path) -> None:
    """After a few steps the checkpoint loads, its plate is a picture and the mean patches are faces."""
    face = load_checkpoint(checkpoint)
    assert face.plate.shape == (1, 4, 512, 512)
    assert 0.2 < float(face.plate[0, 3].mean()) < 0.8
    assert 0.1 < float(face.network.mouth_mean.detach().mean()) < 0.9


def test_training_resumes_where_it_stopped(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    """A finished run does nothing more; a longer budget goes on from the step it reached."""
    copy = tmp_path / "checkpoint.pt"
    shutil.copyfile(checkpoint, copy)
    before = torch.load(copy, weights_only=True)
    ticks = _ticks(0.1)
    train(data, tmp_path, minutes=(before["elapsed"] + 0.3) / 60, seed=3, resume=True, clock=lambda: next(ticks))
    after = torch.load(copy, weights_only=True)
    assert 0 < after["step"] - before["step"] <= 4


def test_a_killed_training_ends_as_one_never_stopped(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torn away between two checkpoints and resumed, it goes through the same steps to the same weights, from flow-only steps on."""
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.2)
    minutes, ticks = 1.125 / 60, _ticks(0.125)  # nine steps, the first two flow only

    def torn() -> float:
        now = next(dying)
        if now > 0.5:
            raise KeyboardInterrupt
        return now

    whole = torch.load(train(data, tmp_path / "whole", minutes=minutes, seed=3, clock=lambda: next(ticks)), weights_only=True)
    dying, again = _ticks(0.125), _ticks(0.125)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "torn", minutes=minutes, seed=3, clock=torn)
    left = torch.load(tmp_path / "torn" / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < left < whole["step"]
    train(data, tmp_path / "torn", minutes=minutes, seed=3, resume=True, clock=lambda: next(again))
    after = torch.load(tmp_path / "torn" / "checkpoint.pt", weights_only=True)
    assert (after["step"], after["rng"]) == (whole["step"], whole["rng"])
    for name, value in whole["ema"].items():
        assert torch.equal(value, after["ema"][name]), name


def test_a_resumed_start_does_not_begin_again(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    """A training that began with another's weights has no flow-only steps, resumed without naming that start either."""
    ticks = _ticks(0.1)
    train(data, tmp_path, minutes=0.3 / 60, seed=3, start=checkpoint, clock=lambda: next(ticks))
    before = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    far = _ticks(20.0)
    train(data, tmp_path, minutes=0.5, seed=3, resume=True, clock=lambda: next(far))
    after = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert after["warm"] == 0
    assert not torch.equal(after["net"]["mouth.out.weight"], before["net"]["mouth.out.weight"])


def test_only_512_is_trained(data: Path, tmp_path: Path) -> None:
    """Rungs are cut by the renderer: another size is refused in one line."""
    with pytest.raises(dataset.StudioError, match="size 256"):
        train(data, tmp_path, minutes=1, seed=1, size=256)


def test_test_frames_stay_out_of_training(data: Path, shared: Path) -> None:
    """Train and test frames share no index, and patches lie where the head is."""
    geometry = fit(Rig(str(shared / "avatar" / "rig" / "ict_facekit_rig.npz")))
    train_set, test_set = (dataset.load(data, geometry, test=t) for t in (False, True))
    assert not set(train_set.index) & set(test_set.index)
    assert len(train_set.index) + len(test_set.index) == FRAMES
    for frames in (train_set, test_set):
        lips = frames.mouth[:, 30:60, 50:94].astype(int)
        assert (lips[..., 0] - lips[..., 1]).mean() > 25  # red
    for values, where in zip(test_set.controls, test_set.boxes, strict=True):
        place = dataset.place_of(geometry, values)[0]
        centre = place[:, :2] @ [72, 44] + place[:, 2]
        assert np.linalg.norm(centre - (where[0, :2] + where[0, 2:]) / 2) < 30


def test_export_is_the_network(checkpoint: Path, data: Path) -> None:
    """ONNX Runtime's float results equal torch's; the quantised graph is near and passes the checker."""
    import onnxruntime as ort

    network: VisavisFace = load_checkpoint(checkpoint).network
    model = export_float(network)
    controls = np.load(data / "controls.npz")["values"][:6].astype(np.float32)
    with torch.no_grad():
        wanted = [t.numpy() for t in network(torch.from_numpy(controls[:1]))]
    made = ort.InferenceSession(model.SerializeToString()).run(OUTPUTS, {"controls": controls[:1]})
    for a, b in zip(wanted, made, strict=True):
        assert np.abs(a - b).max() < 1e-3 * max(1.0, np.abs(a).max())
    int8 = quantize_model(model, controls)
    onnx.checker.check_model(int8, full_check=True)
    near = ort.InferenceSession(int8.SerializeToString()).run(OUTPUTS, {"controls": controls[:1]})
    for name, a, b in zip(OUTPUTS, made, near, strict=True):
        assert np.abs(a - b).max() < (0.6 if name == "flow" else 0.1 if name != "places" else 0.3), name


def test_controls_are_clamped_inside_the_network(checkpoint: Path) -> None:
    """A vector beyond its ranges draws what the end of the range draws."""
    network = load_checkpoint(checkpoint).network
    high = torch.from_numpy(RANGES[:, 1][None].copy())
    with torch.no_grad():
        for a, b in zip(network(high), network(high * 3), strict=True):
            assert torch.equal(a, b)


def test_a_pack_is_made_and_evaluated(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    """From a checkpoint to a folder that loads and draws, with a card of measured figures."""
    out = pack(checkpoint, data, tmp_path / "pack", name="trial", samples=12, work=tmp_path / "work")
    assert not (out / ".work").exists()
    face = select(load_pack(out)).engine
    frame = np.empty((384, 256), np.uint8)
    face.draw(face.idle, frame, rung=2)
    assert frame[:256].std() > 20
    report = evaluate(out, data, float_model=tmp_path / "work" / "face-float.onnx")
    card(report, out, data)
    assert report["frames"] == len([i for i in range(FRAMES) if i % 20 == 0])
    assert set(report["rungs"]) == {"512", "384", "256"}
    for figures in report["rungs"].values():
        assert 15 < figures["psnr_whole_db"] < 45
        assert 0 < figures["ssim_face"] < 1
        assert figures["baseline_face_db"] > 5
        assert abs(figures["int8_loss_db"]) < 3
        still = figures["stillness"]
        assert still["held_mean"] <= still["mean"]
        assert 1 < still["truth_held_p999"] < still["truth_p999"] < 60
        assert still["truth_mean"] < 1
    page = (out / "card.md").read_text("utf-8")
    assert "| mouth |" in page
    assert "asked 29" in page
    assert (out / "card-worst.webp").is_file()


def test_a_face_has_its_hair_before_it(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    """The frame is parted: hair above the brow is in the hair's picture, skin in the plate, and the pack carries both."""
    face = load_checkpoint(checkpoint)
    plate, hair = face.plate[0].numpy(), np.zeros((4, 512, 512), np.float32)
    hair[:, 24:400, 96:416] = face.hair[0].numpy()
    crown, cheek = (slice(60, 75), slice(240, 272)), (slice(240, 260), slice(180, 200))
    assert hair[3][crown].mean() > 0.9
    assert hair[3][cheek].mean() < 0.2
    assert plate[3][cheek].mean() > 0.9
    loaded = load_pack(pack(checkpoint, data, tmp_path / "pack", name="trial", samples=4))
    assert loaded.hair is not None
    assert loaded.hair.picture.shape == (376, 320, 4)
    assert loaded.hair.shades.shape == (6, 376, 320, 4)


def test_a_turned_frame_is_brought_to_rest(shared: Path) -> None:
    """Where no frame shows the head at rest, the plate begins with one that the labels bring there."""
    source = shared / "avatar"
    z, flow = dataset.labels(source)
    values, use = z["values"].astype(np.float32), z["rendered"].astype(bool)
    turned = int(np.flatnonzero(use & (np.abs(values[:, -3]) > 5) & (values[:, 18] < 0.05))[0])
    still = int(np.flatnonzero(use & (np.abs(values[:, -3:]).max(1) == 0))[0])
    frame, rest = (dataset.read_frame(source / "frames" / f"{i:05d}.webp") for i in (turned, still))
    seen = np.unpackbits(flow["visible"][turned])[: len(flow["kind"])].astype(bool) & np.isin(flow["kind"], (0, 1, 7))
    at, offsets = flow["canon"][seen].astype(np.float32), flow["offsets"][turned][seen].astype(np.float32)
    brought = motion.moved(frame, motion.spread(at), -offsets)
    cheeks = np.s_[230:300, 180:332, :3]
    before, after = (np.abs(p[cheeks].astype(int) - rest[cheeks]).mean() for p in (frame, brought))
    assert after < before / 2


def test_data_with_other_or_broken_controls_are_refused(data: Path, tmp_path: Path) -> None:
    """Data whose names are not the pack's, or whose vectors hold NaN, are named in one line."""
    for key, change, complaint in (("names", "smirk", "names are not the rig's"), ("values", np.nan, "frame 3 are no numbers")):
        broken = tmp_path / key
        shutil.copytree(data, broken, symlinks=True)
        z = dict(np.load(data / "controls.npz"))
        z[key] = z[key].astype(object if key == "names" else np.float32)
        z[key][3] = change
        z[key] = z[key].astype(str) if key == "names" else z[key]
        np.savez(broken / "controls.npz", **z)
        with pytest.raises(dataset.StudioError, match=complaint):
            train(broken, tmp_path / "run", minutes=1)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_rig_that_does_not_tremble_is_still(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise the true picture does not move at all; without a rig nothing is said."""
    monkeypatch.setattr(stillness, "NOISE", 0.0)
    monkeypatch.setattr(stillness, "DRAWS", 2)
    rest = np.array(IDLE, np.float32)
    for figures in stillness.true_stillness(data, rest, [512, 256]).values():
        assert set(figures.values()) == {0.0}
    assert stillness.true_stillness(data / "frames", rest, [512]) == {}


def test_likeness_is_what_the_evaluation_measures() -> None:
    """The training's 1 - SSIM, at full size, equals the evaluation's map; equal pictures cost nothing."""
    rng = np.random.default_rng(2)
    a = cv2.GaussianBlur(rng.integers(0, 255, (64, 64), dtype=np.uint8), (0, 0), 2)
    b = np.clip(a + rng.normal(0, 12, a.shape), 0, 255).astype(np.uint8)
    one = torch.ones(1, 1, 64, 64)
    x, y = (torch.from_numpy(p).float()[None, None].expand(1, 3, 64, 64) / 255 for p in (a, b))
    halves = [cv2.resize(p.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA) for p in (a, b)]
    wanted = sum(1 - ssim_map(*pair)[5:-5, 5:-5].mean() for pair in ((a, b), halves))
    assert float(unlike(x, y, one)) == pytest.approx(wanted, abs=1e-3)
    assert float(unlike(x, x, one)) == pytest.approx(0, abs=1e-5)
    clear = torch.cat([torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)], 1)
    assert float(unlike(clear, torch.full((1, 3, 64, 64), 0.5), one)) == pytest.approx(0, abs=1e-5)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    """No checkpoint: one line with the path."""
    with pytest.raises(dataset.StudioError, match=r"checkpoint\.pt: no checkpoint"):
        load_checkpoint(tmp_path / "checkpoint.pt")
