"""The moved rig still makes the stored labels, and the plan of the training set is the one that was rendered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.studio import sampler
from engines.studio.points import Points
from engines.studio.rig import CONTROLS, RANGES, Rig, vector

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def rig(shared: Path) -> Rig:
    return Rig(str(shared / "avatar" / "rig" / "ict_facekit_rig.npz"))


def test_landmarks_and_boxes_are_the_stored_ones(shared: Path, rig: Rig) -> None:
    """Posing a stored control vector gives the stored pixels."""
    z = np.load(shared / "avatar" / "controls.npz")
    assert [str(n) for n in z["names"]] == list(CONTROLS)
    for i in (0, 40, 81, 2999):
        pose = rig.pose(z["values"][i])
        assert np.abs(rig.landmarks68(pose) - z["landmarks"][i]).max() < 1e-3
        assert np.abs(rig.boxes(pose) - z["boxes"][i]).max() < 1e-3


def test_flow_labels_are_the_stored_ones(shared: Path, rig: Rig) -> None:
    """Projected points and their visibility can be computed again."""
    z, flow = np.load(shared / "avatar" / "controls.npz"), np.load(shared / "avatar" / "flow.npz")
    points = Points(rig, str(shared / "avatar" / "rig" / "points.npz"))
    pixels, seen = points.label(rig.pose(z["values"][5]))
    assert np.abs(pixels - points.canon - flow["offsets"][5]).max() < 0.05
    assert (seen == np.unpackbits(flow["visible"][5])[: len(seen)]).mean() > 0.999


def test_the_plan_is_the_rendered_one(shared: Path) -> None:
    """The same count and seed draw the same vectors, inside their ranges, every 20th a test."""
    z = np.load(shared / "avatar" / "controls.npz")
    plan = sampler.plan(3000, 7)
    assert np.abs(plan.controls - z["values"]).max() < 1e-5
    assert np.array_equal(plan.test, z["split"] == 1)
    assert (plan.controls >= RANGES[:, 0]).all()
    assert (plan.controls <= RANGES[:, 1]).all()


def test_idle_closes_the_lips(rig: Rig) -> None:
    """The rest shape leaves a gap that IDLE closes."""

    def gap(controls: np.ndarray) -> float:
        p = rig.landmarks68(rig.pose(controls))
        return float(np.linalg.norm(p[62] - p[66]))

    assert gap(np.asarray(sampler.IDLE)) < 0.9 * gap(vector())


def test_a_name_without_a_side_sets_both() -> None:
    """``vector`` spreads paired names and leaves the rest at zero."""
    v = vector(mouthSmile=0.5, yaw=3)
    assert {n: x for n, x in zip(CONTROLS, v.tolist(), strict=True) if x} == {"mouthSmile_L": 0.5, "mouthSmile_R": 0.5, "yaw": 3.0}
