"""FaceLandmarker on rendered frames, whose true mouth opening the rig knows, and on real portraits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import ModelError
from engines.vision.landmarks import BLENDSHAPES, FaceLandmarker, mouth_opening

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed (extra: rehearse)")
pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def landmarker(shared: Path) -> FaceLandmarker:
    return FaceLandmarker(shared / "models" / "face-landmarker" / "face_landmarker.task")


def _frame(shared: Path, index: int) -> np.ndarray:
    image = cv2.imread(str(shared / "avatar" / "frames" / f"{index:05d}.webp"), cv2.IMREAD_UNCHANGED)
    alpha = image[..., 3:] / 255
    return (image[..., 2::-1] * alpha + 150 * (1 - alpha)).astype(np.uint8)


def _inner_gap(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """Indices of rendered frames and the gap between the inner lips, pixels of 512, from the rig's landmarks."""
    z = np.load(shared / "avatar" / "controls.npz")
    p = z["landmarks"]
    gap = np.mean([np.linalg.norm(p[:, a] - p[:, b], axis=1) for a, b in ((61, 67), (62, 66), (63, 65))], axis=0)
    rendered = np.flatnonzero(z["rendered"])
    return rendered, gap[rendered]


def test_separates_open_from_closed_mouths(shared: Path, landmarker: FaceLandmarker) -> None:
    """Every clearly open rendered mouth measures wider than every closed one."""
    index, gap = _inner_gap(shared)
    closed = [landmarker.mouth_opening(_frame(shared, i)) for i in index[gap < 1.6][:12]]
    opened = [landmarker.mouth_opening(_frame(shared, i)) for i in index[gap > 8][:12]]
    assert len(closed) == len(opened) == 12
    assert max(closed) < 0.02 < min(opened)


def test_landmarks_lie_where_the_rig_puts_them(shared: Path, landmarker: FaceLandmarker) -> None:
    """The chin is found within a few pixels of the rendered one."""
    z = np.load(shared / "avatar" / "controls.npz")
    for i in np.flatnonzero(z["rendered"])[:4]:
        face = landmarker.detect(_frame(shared, i))
        assert face is not None
        assert face.landmarks.shape == (478, 3)
        assert np.linalg.norm(face.landmarks[152, :2] - z["landmarks"][i, 8]) < 8


def test_blendshapes_have_names(shared: Path, landmarker: FaceLandmarker) -> None:
    """52 named weights between 0 and 1; a shut eye weighs more than an open one."""
    z = np.load(shared / "avatar" / "controls.npz")
    blink = z["values"][:, [str(n) for n in z["names"]].index("eyeBlink_L")]
    rendered = z["rendered"].astype(bool)
    shut = landmarker.detect(_frame(shared, int(np.flatnonzero(rendered & (blink > 0.95))[0])))
    wide = landmarker.detect(_frame(shared, int(np.flatnonzero(rendered & (blink == 0))[0])))
    assert shut is not None
    assert wide is not None
    assert tuple(shut.blendshapes) == BLENDSHAPES
    assert all(-1e-3 <= v <= 1.001 for v in shut.blendshapes.values())
    assert shut.blendshapes["eyeBlinkLeft"] > wide.blendshapes["eyeBlinkLeft"] + 0.2


def test_finds_a_face_in_a_wide_photograph_and_none_in_a_landscape(shared: Path, landmarker: FaceLandmarker) -> None:
    """Pictures that are not square are boxed, not squeezed; a picture without a face gives None."""
    folder = shared / "data" / "faces" / "portraits"
    background = cv2.imread(str(folder / "background.jpg"))[..., ::-1]
    assert landmarker.detect(np.ascontiguousarray(background)) is None
    assert np.isnan(landmarker.mouth_opening(np.ascontiguousarray(background)))
    square = _frame(shared, 1)
    wide = np.full((512, 900, 3), 150, np.uint8)
    wide[:, 300:812] = square
    face, moved = landmarker.detect(square), landmarker.detect(wide)
    assert face is not None
    assert moved is not None
    assert np.abs(moved.landmarks[:, :2] - [300, 0] - face.landmarks[:, :2]).max() < 6
    assert mouth_opening(moved) == pytest.approx(mouth_opening(face), abs=0.01)


def test_a_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    """A missing or foreign file gives one line with its path."""
    with pytest.raises(ModelError, match=r"nothing\.task: no FaceLandmarker bundle"):
        FaceLandmarker(tmp_path / "nothing.task")
    (tmp_path / "text.task").write_text("not a zip")
    with pytest.raises(ModelError, match=r"fetch face_landmarker\.task again"):
        FaceLandmarker(tmp_path / "text.task")
