"""The stock face's controls, as its avatar pack names them."""

from __future__ import annotations

import numpy as np
import pytest

from engines.animation import Animator

BOTH = "browDown browInnerUp browOuterUp cheekPuff cheekSquint eyeBlink eyeSquint eyeWide"
MOUTH = (
    "jawForward jawLeft jawOpen jawRight mouthClose mouthDimple_L mouthDimple_R mouthFrown_L mouthFrown_R mouthFunnel mouthLeft "
    "mouthLowerDown_L mouthLowerDown_R mouthPress_L mouthPress_R mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower "
    "mouthShrugUpper mouthSmile_L mouthSmile_R mouthStretch_L mouthStretch_R mouthUpperUp_L mouthUpperUp_R noseSneer_L noseSneer_R tongueUp"
)
ANGLES = {"gazeYaw": 30, "gazePitch": 20, "yaw": 16, "pitch": 10, "roll": 8}
NAMES = [f"{n}_{s}" for n in BOTH.split() for s in "LR"] + MOUTH.split() + list(ANGLES)
RANGES = np.array([[0, 1]] * (len(NAMES) - 5) + [[-a, a] for a in ANGLES.values()], np.float32)
REST = {
    "mouthSmile": 0.26, "mouthDimple": 0.06, "mouthShrugLower": 0.1, "browInnerUp": 0.16, "browOuterUp": 0.06, "cheekSquint": 0.12,
    "eyeSquint": 0.06,
}  # fmt: skip
IDLE = np.array([next((v for k, v in REST.items() if n in {k, f"{k}_L", f"{k}_R"}), 0.0) for n in NAMES], np.float32)
LIPS = [i for i, n in enumerate(NAMES) if n.startswith(("mouth", "jaw", "tongue"))]


@pytest.fixture
def animator() -> Animator:
    """A fresh face."""
    return Animator(NAMES, RANGES, IDLE, seed=3)


@pytest.fixture
def at() -> dict[str, int]:
    """Control name → index."""
    return {n: i for i, n in enumerate(NAMES)}
