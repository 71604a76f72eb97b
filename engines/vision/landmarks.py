"""MediaPipe's FaceLandmarker without MediaPipe: 478 landmarks and 52 blendshapes from one RGB picture.

The bundle ``face_landmarker.task`` is a zip of three TFLite models; ``ai-edge-litert`` runs them. Used to measure what the
avatar's mouth really does in drawn frames, and as the watcher's expression reader. Detector anchors, crop and the subset
of landmarks that the blendshape model reads follow MediaPipe's published graphs (Apache-2.0).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineMissing, ModelError

__all__ = ["BLENDSHAPES", "Face", "FaceLandmarker", "mouth_opening"]

BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
# The landmarks that the blendshape model reads, in its order (face_blendshapes_graph.cc).
_SUBSET = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81, 82, 84, 87,
    88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160,
    161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284,
    285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362,
    365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454,
    466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip
_DETECTOR, _MESH = 128, 256  # input sizes of the first two models
_MIN_SCORE = 0.5
_CROP = 1.5  # the landmark crop is this much larger than the detected box
_INNER_LIPS = ((13, 14), (82, 87), (312, 317))  # upper, lower
_CROWN, _CHIN = 10, 152


@dataclass(frozen=True)
class Face:
    """One face. ``landmarks`` (478, 3): x, y in pixels of the picture, z in the same scale; ``blendshapes`` by name, 0..1."""

    landmarks: NDArray[np.float32]
    blendshapes: dict[str, float]
    score: float


def mouth_opening(face: Face) -> float:
    """Gap between the inner lips as a share of the face's height (forehead to chin); about 0 when closed."""
    p = face.landmarks[:, :2]
    height = float(np.linalg.norm(p[_CHIN] - p[_CROWN]))
    return float(np.mean([np.linalg.norm(p[u] - p[d]) for u, d in _INNER_LIPS])) / max(height, 1e-6)


def _anchors() -> NDArray[np.float32]:
    """Centres (896, 2) of the short-range detector: 16 x 16 cells with two anchors, 8 x 8 with six."""
    rows = []
    for cells, count in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / cells
        rows.append(np.repeat(centres, count, axis=0))
    return np.concatenate(rows).astype(np.float32)


class _Model:
    """One TFLite model on one thread."""

    def __init__(self, data: bytes, threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise EngineMissing("face landmarks need ai-edge-litert: pip install ai-edge-litert") from None
        self.interpreter: Any = Interpreter(model_content=data, num_threads=threads)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.outputs = [d["index"] for d in self.interpreter.get_output_details()]

    def __call__(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self.interpreter.set_tensor(self.input, np.ascontiguousarray(x, np.float32))
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(i) for i in self.outputs]


class FaceLandmarker:
    """Finds the most certain face of a picture. Not thread-safe.

    Raises:
        ModelError: the bundle is missing or is not one.
        EngineMissing: ai-edge-litert is not installed.

    """

    def __init__(self, task: Path, *, threads: int = 1) -> None:
        try:
            with zipfile.ZipFile(task) as bundle:
                parts = [bundle.read(f"{n}.tflite") for n in ("face_detector", "face_landmarks_detector", "face_blendshapes")]
        except (OSError, KeyError, zipfile.BadZipFile) as e:
            raise ModelError(f"{task}: no FaceLandmarker bundle ({e}); fetch face_landmarker.task again") from None
        self._detector, self._mesh, self._shapes = (_Model(data, threads) for data in parts)
        self._anchors = _anchors()

    def detect(self, rgb: NDArray[np.uint8]) -> Face | None:
        """The face in ``rgb`` (h, w, 3) uint8, or None."""
        found = self._locate(rgb)
        if found is None:
            return None
        centre, side, angle, score = found
        points = self._landmarks(rgb, centre, side, angle)
        weights = self._shapes(points[None, _SUBSET, :2])[0].ravel()
        return Face(points, dict(zip(BLENDSHAPES, (float(w) for w in weights), strict=True)), score)

    def mouth_opening(self, rgb: NDArray[np.uint8]) -> float:
        """``mouth_opening`` of the face in a picture; NaN without one."""
        face = self.detect(rgb)
        return float("nan") if face is None else mouth_opening(face)

    def _locate(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float, float, float] | None:
        """Centre (2,) and side of the landmark crop in pixels, its angle in radians, and the score."""
        h, w = rgb.shape[:2]
        longest = max(h, w)
        scale = _DETECTOR / longest
        offset = np.array([(longest - w) / 2, (longest - h) / 2], np.float32)
        m = np.array([[scale, 0, offset[0] * scale], [0, scale, offset[1] * scale]])
        shrunk = cv2.warpAffine(rgb, m, (_DETECTOR, _DETECTOR), flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        regressors, logits = self._detector(shrunk[None].astype(np.float32) / 127.5 - 1)
        scores = 1 / (1 + np.exp(-np.clip(logits.ravel(), -60, 60)))
        best = int(scores.argmax())
        if scores[best] < _MIN_SCORE:
            return None
        near = regressors[0]
        boxes = near[:, :2] / _DETECTOR + self._anchors
        # Weighted non-maximum suppression: neighbours of the best anchor vote by score.
        same = (scores > _MIN_SCORE) & (np.linalg.norm(boxes - boxes[best], axis=1) < 0.5 * near[best, 2] / _DETECTOR)
        vote = (scores * same / (scores * same).sum())[:, None]
        eyes = near[:, 4:8].reshape(-1, 2, 2) / _DETECTOR + self._anchors[:, None]
        right, left = (vote[:, :, None] * eyes).sum(0) * longest - offset
        centre = (vote * boxes).sum(0) * longest - offset
        side = float((vote * near[:, 2:4]).sum(0).max()) / _DETECTOR * longest * _CROP
        return centre.astype(np.float32), side, float(np.arctan2(left[1] - right[1], left[0] - right[0])), float(scores[best])

    def _landmarks(self, rgb: NDArray[np.uint8], centre: NDArray[np.float32], side: float, angle: float) -> NDArray[np.float32]:
        """Landmarks (478, 3) in pixels of the picture."""
        k = side / _MESH
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * k
        shift = centre - turn @ [_MESH / 2, _MESH / 2]
        m = np.concatenate([turn, shift[:, None]], 1)
        crop = cv2.warpAffine(rgb, m, (_MESH, _MESH), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
        points = self._mesh(crop[None].astype(np.float32) / 255)[0].reshape(478, 3)
        return np.concatenate([points[:, :2] @ turn.T + shift, points[:, 2:] * k], 1).astype(np.float32)
