"""The shipped face against rendered frames, read by a landmark model that knows neither."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed (extra: rehearse)")

from engines.renderer import OnnxRuntimeRenderer, load_pack
from engines.studio.dataset import StudioError
from engines.studio.expression import evaluate_expression, evaluate_switch
from engines.studio.pack import nv12_to_rgb
from engines.vision.landmarks import FaceLandmarker

pytestmark = pytest.mark.unit
STOCK = Path(__file__).resolve().parents[3] / "engines" / "avatars" / "stock"
TASK = Path("models") / "face-landmarker" / "face_landmarker.task"


def test_the_mouth_is_shut_at_rest_and_opens_with_the_jaw(shared: Path) -> None:
    """At IDLE the inner lips are as near as in the renders; the opening grows with jawOpen."""
    landmarker, face = FaceLandmarker(shared / TASK), OnnxRuntimeRenderer(load_pack(STOCK))
    openings = []
    for jaw in (0.0, 0.2, 0.4, 0.7):
        pose = face.idle.copy()
        pose[face.controls.index("jawOpen")] = jaw
        out = np.empty((384, 256), np.uint8)
        face.draw(pose, out, rung=2)
        openings.append(landmarker.mouth_opening(nv12_to_rgb(out)))
    assert openings[0] < 0.006
    assert openings == sorted(openings)
    assert openings[3] > 0.1


def test_drawn_frames_say_what_rendered_frames_say(shared: Path) -> None:
    """Mouth, blink, gaze and smile of held-out frames correlate with the renders'."""
    report = evaluate_expression(STOCK, shared / "avatar", shared / TASK)
    assert report["frames"] >= 50
    for name in ("mouth_opening", "blink", "gaze", "smile"):
        assert report[name]["correlation"] > 0.95, (name, report[name])


def test_data_without_a_face_is_told(shared: Path, tmp_path: Path) -> None:
    """Test frames that show nothing give one line, no traceback."""
    z = dict(np.load(shared / "avatar" / "controls.npz"))
    one = np.flatnonzero(z["rendered"].astype(bool) & (z["split"] == 1))[:1]
    z["rendered"] = np.isin(np.arange(len(z["split"])), one)
    np.savez(tmp_path / "controls.npz", **z)
    shutil.copy(shared / "avatar" / "flow.npz", tmp_path)
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / f"{one[0]:05d}.webp"), np.full((512, 512, 4), 128, np.uint8))
    with pytest.raises(StudioError, match="no test frame of"):
        evaluate_expression(STOCK, tmp_path, shared / TASK)


def test_a_switch_of_rung_changes_sharpness_only(shared: Path) -> None:
    """Colours stay within a step of a byte, landmarks within a pixel of 512 beyond what the landmark model itself moves."""
    for figures in evaluate_switch(STOCK, shared / "avatar", shared / TASK, limit=6).values():
        assert figures["colour"] <= 1
        assert figures["landmarks_px"] - figures["render_px"] <= 1
