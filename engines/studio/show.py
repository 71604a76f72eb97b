"""Look at a pack: a contact sheet of every control, and the frames of a film that sweeps them one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer import Renderer, load_pack, select
from engines.studio.metrics import GREY
from engines.studio.pack import nv12_to_rgb
from engines.studio.sampler import VISEMES

__all__ = ["poses", "sheet", "sweep"]

_TILE, _COLUMNS = 192, 10
_SWEEP_FRAMES = 24  # there and back


def _face(path: Path) -> Renderer:
    face = select(load_pack(path)).engine
    face.set_background((GREY, GREY, GREY))
    return face


def _draw(face: Renderer, pose: NDArray[np.float32], name: str) -> NDArray[np.uint8]:
    """One frame of the best rung with its name on it, RGB."""
    rung = face.rungs[0]
    out = np.empty((rung.height * 3 // 2, rung.width), np.uint8)
    face.draw(pose, out)
    return np.asarray(
        cv2.putText(nv12_to_rgb(out), name, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2, cv2.LINE_AA), np.uint8
    )


def poses(face: Renderer) -> list[tuple[str, NDArray[np.float32]]]:
    """Each control at its end (angles at both, mouthClose on an open jaw), and every viseme, over the pose of rest."""
    named = [("rest", face.idle)]
    for k, name in enumerate(face.controls):
        for end in face.ranges[k]:
            if end == 0:
                continue
            pose = face.idle.copy()
            pose[k] = end
            if name == "mouthClose":
                pose[face.controls.index("jawOpen")] = pose[k] = 0.5
            if name == "tongueUp":
                pose[face.controls.index("jawOpen")] = 0.3
            named.append((f"{name} {end:g}" if face.ranges[k][0] < 0 else name, pose))
    for viseme, recipe in VISEMES.items():
        named.append((f"viseme {viseme}", np.clip(face.idle + recipe, face.ranges[:, 0], face.ranges[:, 1]).astype(np.float32)))
    return named


def sheet(path: Path) -> NDArray[np.uint8]:
    """All of ``poses`` side by side, RGB.

    Raises:
        PackError: the pack cannot be read.

    """
    face = _face(path)
    tiles = [cv2.resize(_draw(face, pose, name), (_TILE, _TILE), interpolation=cv2.INTER_AREA) for name, pose in poses(face)]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    return np.vstack([np.hstack(tiles[k : k + _COLUMNS]) for k in range(0, len(tiles), _COLUMNS)])


def sweep(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames (RGB, best rung) of a film in which each pose of ``poses`` comes and goes, a second each at 24 fps.

    Raises:
        PackError: the pack cannot be read.

    """
    face = _face(path)
    for name, pose in poses(face):
        for k in range(_SWEEP_FRAMES):
            weight = np.float32(0.5 - 0.5 * np.cos(2 * np.pi * k / _SWEEP_FRAMES))
            yield _draw(face, face.idle + (pose - face.idle) * weight, name)
