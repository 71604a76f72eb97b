"""Read a film of a person: one face in every frame, its landmarks and blendshapes; what is no such film is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.studio.dataset import StudioError
from engines.vision.landmarks import BLENDSHAPES, Face, FaceLandmarker

__all__ = ["MIN_SECONDS", "Watched", "frames_of", "watch"]

MIN_SECONDS = 60.0
"""A shorter film does not hold the range of a face; two minutes are asked for."""
_SECOND_FACE = 0.4  # of the first one's width: smaller ones are people far behind
_MOST_LOST = 0.2  # of the frames may show no face (a hand, a look away)
_LOOKS = 12  # frames that are looked at for a second face or a wrong way up


@dataclass(frozen=True)
class Watched:
    """What was seen: n frames with a face.

    ``number`` (n,) counts through all films together · ``landmarks`` (n, 478, 3) pixels of the film · ``shapes`` (n, 52) as in
    ``BLENDSHAPES`` · ``light`` (n,) mean luma of the face, ``sides`` (n, 2) of its halves, ``clipped`` (n,) share of its pixels at the
    ends, ``sharp`` (n,) variance of the Laplacian of the face at 128 pixels' width · ``lost`` frames without a face · ``seconds`` of film.
    """

    number: NDArray[np.int64]
    landmarks: NDArray[np.float32]
    shapes: NDArray[np.float32]
    light: NDArray[np.float32]
    sides: NDArray[np.float32]
    clipped: NDArray[np.float32]
    sharp: NDArray[np.float32]
    lost: int
    seconds: float


def frames_of(films: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    """All frames (h, w, 3) RGB of the films, one after the other.

    Raises:
        StudioError: a file is no film.

    """
    import av

    for path in films:
        try:
            with av.open(str(path)) as film:
                if not film.streams.video:
                    raise StudioError(f"{path}: has no picture; give a film (MP4) of the person's face")
                for frame in film.decode(video=0):
                    yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        except (OSError, av.error.FFmpegError) as e:
            raise StudioError(f"{path}: cannot be read as a film ({str(e).splitlines()[0]}); give an MP4") from None


def _length(films: Sequence[Path]) -> tuple[float, int]:
    """Seconds and, about, frames of all films together."""
    import av

    seconds, frames = 0.0, 0
    for path in films:
        try:
            with av.open(str(path)) as film:
                own = float(film.duration or 0) / av.time_base
                rate = float(film.streams.video[0].average_rate or 25) if film.streams.video else 0.0
        except (OSError, av.error.FFmpegError) as e:
            raise StudioError(f"{path}: cannot be read as a film ({str(e).splitlines()[0]}); give an MP4") from None
        seconds, frames = seconds + own, frames + round(own * rate)
    return seconds, frames


def watch(films: Sequence[Path], task: Path, *, shortest: float = MIN_SECONDS) -> Watched:
    """Find the face in every frame; ``task`` is face_landmarker.task.

    Raises:
        StudioError: too short, no face, two faces, upside down.
        ModelError: the landmark model cannot be read.

    """
    names = ", ".join(p.name for p in films)
    seconds, expected = _length(films)
    if seconds < shortest:
        raise StudioError(f"{names}: {seconds:.0f} seconds; film the face for two minutes, at least {shortest:.0f} seconds")
    landmarker = FaceLandmarker(task)
    rows: list[tuple[int, Face, tuple[float, ...]]] = []
    lost, count, votes = 0, 0, []
    every = max(1, expected // _LOOKS)
    for number, rgb in enumerate(frames_of(films)):
        count += 1
        face = landmarker.detect(rgb)
        if number % every == every // 2:
            votes.append(_turned(rgb, face, landmarker))
            _alone(names, rgb, face, landmarker)
        if face is None:
            lost += 1
        else:
            rows.append((number, face, _pixels(rgb, face.landmarks)))
    if sum(votes) > len(votes) / 2:
        raise StudioError(f"{names}: the picture is upside down or lies on its side; turn the film and try again")
    if not rows or lost > _MOST_LOST * count:
        raise StudioError(f"{names}: no face in {lost} of {count} frames; film one face from the front, large and well lit")
    values = np.array([r[2] for r in rows], np.float32)
    return Watched(
        np.array([r[0] for r in rows]),
        np.stack([r[1].landmarks for r in rows]),
        np.array([[r[1].blendshapes[n] for n in BLENDSHAPES] for r in rows], np.float32),
        values[:, 0],
        values[:, 1:3],
        values[:, 3],
        values[:, 4],
        lost,
        seconds,
    )


def _box(landmarks: NDArray[np.float32], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    x0, y0 = np.maximum(low, 0).astype(int)
    x1, y1 = np.minimum(high, [shape[1], shape[0]]).astype(int)
    return int(x0), int(y0), int(max(x1, x0 + 1)), int(max(y1, y0 + 1))


def _turned(rgb: NDArray[np.uint8], face: Face | None, landmarker: FaceLandmarker) -> bool:
    """Whether a picture stands on its head or lies on its side.

    The detector finds a face in a picture upside down as well and fits it upright; it is only surer of it the right way up.
    """
    if face is not None:
        across = face.landmarks[263, :2] - face.landmarks[33, :2]  # the outer corners of the eyes
        if abs(np.degrees(np.arctan2(across[1], across[0]))) > 60:
            return True
    other = landmarker.detect(np.ascontiguousarray(rgb[::-1, ::-1]))
    return other is not None and (face is None or other.score > face.score)


def _alone(names: str, rgb: NDArray[np.uint8], face: Face | None, landmarker: FaceLandmarker) -> None:
    """Refuse a picture with another face beside the first."""
    if face is None:
        return
    x0, y0, x1, y1 = _box(face.landmarks, rgb.shape)
    hidden = rgb.copy()
    grow = (x1 - x0) // 3
    hidden[max(y0 - grow, 0) : y1 + grow, max(x0 - grow, 0) : x1 + grow] = 128
    other = landmarker.detect(hidden)
    if other is not None and np.ptp(other.landmarks[:, 0]) > _SECOND_FACE * (x1 - x0):
        raise StudioError(f"{names}: more than one face; film one person alone")


def _pixels(rgb: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> tuple[float, ...]:
    """Mean luma, luma of both halves, clipped share and sharpness of a face."""
    x0, y0, x1, y1 = _box(landmarks, rgb.shape)
    grey: Any = cv2.cvtColor(rgb[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY)
    height = max(1, round(128 * grey.shape[0] / grey.shape[1]))
    small = cv2.resize(grey, (128, height), interpolation=cv2.INTER_AREA)
    clipped = float(((grey > 252) | (grey < 4)).mean())
    return (
        float(grey.mean()),
        float(small[:, :64].mean()),
        float(small[:, 64:].mean()),
        clipped,
        float(cv2.Laplacian(small, cv2.CV_64F).var()),
    )
