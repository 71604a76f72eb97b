"""The contract of the renderer: control vector in, NV12 picture out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError

__all__ = ["PackError", "Renderer", "RendererError", "Rung", "Selection"]

Colour = tuple[int, int, int]


class PackError(EngineError):
    """An avatar pack is missing, incomplete or damaged; the text names the file and the key."""


class RendererError(EngineError):
    """A renderer was asked for something it cannot draw."""


class Rung(NamedTuple):
    """One size that the face can be drawn at. Stepping down loses sharpness and nothing else."""

    name: str
    width: int
    height: int


class Renderer(Protocol):
    """Draws the face. Not thread-safe; one process owns it. Equal controls give equal pictures.

    ``controls`` names the vector's n entries in order, ``ranges`` (n, 2) their limits, ``idle`` (n,) float32 the pose of
    rest; ``rungs`` are the sizes, best first.
    """

    controls: tuple[str, ...]
    ranges: NDArray[np.float32]
    idle: NDArray[np.float32]
    rungs: tuple[Rung, ...]

    def draw(self, controls: NDArray[np.float32], out: NDArray[np.uint8], *, rung: int = 0) -> None:
        """Draw one frame as full-range BT.709 NV12 into ``out`` (height * 3 // 2, width), over the background.

        Values outside their range are clamped, NaN counts as the rest pose.

        Raises:
            RendererError: ``controls`` or ``out`` has the wrong shape, or there is no such rung.

        """

    def set_background(self, rgb: NDArray[np.uint8] | Colour) -> None:
        """Compose over a picture (h, w, 3) uint8, stretched to the frame, or over one colour.

        Raises:
            RendererError: neither a picture nor a colour.

        """


@dataclass(frozen=True)
class Selection:
    """The renderer that serves, its name, and why each better or other one does not."""

    engine: Renderer
    name: str
    why_not: dict[str, str] = field(default_factory=dict)
