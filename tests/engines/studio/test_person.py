"""From a film of a person to data, on films made of the stock face's frames: there the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed (extra: rehearse)")
pytest.importorskip("av", reason="av is not installed (extra: rehearse)")

from engines.studio import dataset, geometry
from engines.studio.dataset import StudioError
from engines.studio.film import Watched, watch
from engines.studio.metrics import over_grey
from engines.studio.person import _brought, prepare
from engines.studio.quality import judge
from engines.studio.rig import CONTROLS, INDEX
from visavis.films import film

pytestmark = pytest.mark.unit
FRAMES = 36


@pytest.fixture(scope="module")
def task(shared: Path) -> Path:
    return shared / "models" / "face-landmarker" / "face_landmarker.task"


@pytest.fixture(scope="module")
def truth(shared: Path) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    """The first frames over grey and their controls."""
    z = np.load(shared / "avatar" / "controls.npz")
    pick = np.flatnonzero(z["rendered"])[:FRAMES]
    frames = [over_grey(dataset.read_frame(shared / "avatar" / "frames" / f"{i:05d}.webp"), 512) for i in pick]
    return frames, z["values"][pick].astype(np.float32)


def _film(path: Path, frames: Sequence[NDArray[np.uint8]], fps: int = 1) -> Path:
    assert film(path, frames, fps) == len(frames)
    return path


@pytest.fixture(scope="module")
def data(truth: tuple[list[NDArray[np.uint8]], NDArray[np.float32]], task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of a film of 36 s at one frame a second."""
    folder = tmp_path_factory.mktemp("person")
    return prepare([_film(folder / "film.mp4", truth[0])], folder / "data", task, anyway=True).data


def test_the_controls_follow_the_truth(data: Path, truth: tuple[list[NDArray[np.uint8]], NDArray[np.float32]]) -> None:
    """Jaw, smile, gaze and head of the film correlate with those that the frames were rendered from, signs included."""
    z = np.load(data / "controls.npz")
    assert [str(n) for n in z["names"]] == list(CONTROLS)
    wanted = truth[1][z["film_frame"]]
    for name in ("jawOpen", "mouthSmile_L", "gazeYaw", "yaw", "pitch", "roll"):
        k = INDEX[name]
        assert np.corrcoef(wanted[:, k], z["values"][:, k])[0, 1] > 0.75, name


def test_the_data_have_the_shape_that_training_takes(data: Path) -> None:
    """Frames load, patches lie on mouth and eyes, the flow's points are the landmarks."""
    place = geometry.load(data)
    frames = dataset.load(data, place, test=False)
    assert frames.rgba.shape[1:] == (512, 512, 4)
    lips = frames.mouth[:, 30:70, 44:100].astype(int)
    assert (lips[..., 0] - lips[..., 1]).mean() > 25  # red
    _, flow = dataset.labels(data)
    assert flow["offsets"].shape[1:] == flow["canon"].shape


def test_a_head_that_hardly_turns_has_its_rest_nearby(shared: Path, task: Path, tmp_path: Path) -> None:
    """Three seconds of a stranger: the face at rest, from which all motion counts, lies where the film shows it, not far outside."""
    data = prepare([shared / "data" / "faces" / "grid" / "bbaf2n.mpg"], tmp_path / "data", task, anyway=True).data
    _, flow = dataset.labels(data)
    face = flow["kind"].astype(int) < 2
    assert np.linalg.norm(flow["offsets"][:, face].astype(np.float32), axis=-1).mean() < 12


def test_a_large_film_is_averaged_down_in_place() -> None:
    """At a quarter of its size the noise of 16 pixels is averaged, and a ramp stays where the map puts it."""
    m = np.array([[0.25, 0.0, -20.0], [0.0, 0.25, 10.0]])
    noise = np.random.default_rng(1).integers(0, 256, (2160, 3840, 3), dtype=np.uint8)
    assert _brought(noise, m)[40:].std() < 0.28 * noise.std()
    ramp = np.broadcast_to((np.arange(3840) // 16).astype(np.uint8)[None, :, None], (2160, 3840, 3)).copy()
    wanted = ((np.arange(512) + 0.5 + 20) / 0.25 - 8) / 16
    assert np.abs(_brought(ramp, m)[200, :, 0] - wanted).max() < 1


def test_a_short_film_is_refused(truth: tuple[list[NDArray[np.uint8]], NDArray[np.float32]], task: Path, tmp_path: Path) -> None:
    """Five seconds do not hold the range of a face."""
    with pytest.raises(StudioError, match=r"short\.mp4: 5 seconds; film the face for two minutes"):
        prepare([_film(tmp_path / "short.mp4", truth[0][:5])], tmp_path / "data", task)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["short.mp4"]


@pytest.mark.parametrize(
    ("kind", "complaint"), [("empty", "no face in 12 of 12"), ("two", "more than one face"), ("turned", "upside down")]
)
def test_a_film_of_something_else_is_refused(
    kind: str, complaint: str, truth: tuple[list[NDArray[np.uint8]], NDArray[np.float32]], task: Path, tmp_path: Path
) -> None:
    """No face, two faces, a face on its head: one line each, and nothing is left behind."""
    frames = truth[0][:12]
    if kind == "empty":
        frames = [np.full_like(p, 90) for p in frames]
    elif kind == "two":
        frames = [np.hstack([p, p]) for p in frames]
    else:
        frames = [np.ascontiguousarray(p[::-1, ::-1]) for p in frames]
    path = _film(tmp_path / "film.mp4", frames)
    with pytest.raises(StudioError, match=complaint) as caught:
        prepare([path], tmp_path / "data", task, anyway=True)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.mp4"]


def test_what_is_no_film_is_refused(task: Path, tmp_path: Path) -> None:
    """A text file and a missing one are named."""
    (tmp_path / "film.mp4").write_text("no film", "utf-8")
    for name in ("film.mp4", "nothing.mp4"):
        with pytest.raises(StudioError, match=f"{name}: cannot be read as a film"):
            watch([tmp_path / name], task)


def test_an_existing_folder_is_not_written_over(task: Path, tmp_path: Path) -> None:
    """Earlier data stay as they are."""
    with pytest.raises(StudioError, match="is there already"):
        prepare([tmp_path / "film.mp4"], tmp_path, task)


def test_a_still_face_lacks_its_range(truth: tuple[list[NDArray[np.uint8]], NDArray[np.float32]], task: Path, tmp_path: Path) -> None:
    """A minute of one pose: what to film again is said, and nothing is written."""
    path = _film(tmp_path / "still.mp4", [truth[0][0]] * 62)
    with pytest.raises(StudioError, match="open the mouth wide") as caught:
        prepare([path], tmp_path / "data", task)
    assert "nod slowly" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["still.mp4"]


def _watched(**changes: float) -> Watched:
    values = {"light": 120.0, "left": 120.0, "right": 110.0, "clipped": 0.0, "sharp": 300.0} | changes
    row = {k: np.full(9, v, np.float32) for k, v in values.items()}
    sides = np.stack([row["left"], row["right"]], 1)
    empty = np.zeros((9, 478, 3), np.float32), np.zeros((9, 52), np.float32)
    return Watched(np.arange(9), *empty, row["light"], sides, row["clipped"], row["sharp"], 0, 120.0)


@pytest.mark.parametrize(
    ("changes", "across", "advice"),
    [
        ({"light": 30}, 250, "more light"),
        ({"light": 230}, 250, "less light"),
        ({"left": 200, "right": 60}, 250, "from both sides"),
        ({"clipped": 0.3}, 250, "softer light"),
        ({"sharp": 10}, 250, "focus"),
        ({}, 90, "come nearer"),
    ],
)
def test_each_fault_of_the_picture_is_told(changes: dict[str, float], across: float, advice: str) -> None:
    """One fault, one piece of advice; a good picture has none of these."""
    controls = np.zeros((9, len(CONTROLS)), np.float32)
    bad = [f.advice for f in judge(_watched(**changes), controls, across)[:5] if not f.good]
    assert len(bad) == 1
    assert advice in bad[0]
    assert not [f for f in judge(_watched(), controls, 250)[:5] if not f.good]
