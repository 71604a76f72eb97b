"""Voice activity from loudness alone: serves where the network's file is missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Energy"]


class Energy:
    """Speech is what stands well above the floor of the room, which is followed slowly upwards and at once downwards."""

    name = "energy"
    _MIDDLE_DB = 12.0  # above the floor: as likely speech as not
    _SOFTNESS_DB = 2.5
    _QUIETEST_DB = -65.0  # a microphone's own noise: below this nothing is speech

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the room."""
        self._floor: float | None = None

    def probability(self, frame: NDArray[np.int16]) -> float:
        """P(speech) in `frame`, 512 samples of 16 kHz that follow the frame before."""
        sound = frame.astype(np.float32)
        sound -= sound.mean()
        level = float(10.0 * np.log10(np.square(sound).mean() / 32768.0**2 + 1e-10))
        if self._floor is None:
            self._floor = min(level, -45.0)  # who speaks from the first frame on must not become the floor
        self._floor = max(self._QUIETEST_DB, min(level, self._floor + 0.05))
        above = level - self._floor - self._MIDDLE_DB
        return float(1.0 / (1.0 + np.exp(-above / self._SOFTNESS_DB)))
