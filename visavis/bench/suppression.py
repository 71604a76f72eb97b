"""GTCRN in front of the recogniser: does removing the noise help it?

The streaming network takes one frame of 512 samples at a time, every 256, windowed by the root of a Hann window before and after
(Rong et al., GTCRN, 2024).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.voice_activity.silero import one_thread_session

__all__ = ["Suppressor"]

_SIZE, _HOP = 512, 256
_CACHES = {"conv_cache": (2, 1, 16, 16, 33), "tra_cache": (2, 3, 1, 1, 16), "inter_cache": (2, 1, 33, 16)}


class Suppressor:
    """Takes the noise out of whole recordings."""

    def __init__(self, model: Path) -> None:
        """`model`: gtcrn_simple.onnx. Raises EngineMissing, ModelError."""
        self._session = one_thread_session(model)
        taken = [node.name for node in self._session.get_inputs()]
        if taken != ["mix", *_CACHES]:
            raise ModelError(f"{model}: no streaming GTCRN: it takes {', '.join(taken)}")
        self._window = np.sqrt(np.hanning(_SIZE + 1)[:-1])

    def __call__(self, sound: NDArray[np.float64]) -> NDArray[np.float64]:
        """`sound`, 16 kHz and -1 to 1, without its noise; as long, and in the same place."""
        padded = np.pad(sound, (_HOP, 2 * _SIZE))
        caches = [np.zeros(shape, np.float32) for shape in _CACHES.values()]
        out = np.zeros_like(padded)
        for at in range(0, len(sound) + _HOP, _HOP):
            spectrum = np.fft.rfft(padded[at : at + _SIZE] * self._window)
            mix = np.stack((spectrum.real, spectrum.imag), axis=-1).astype(np.float32)[None, :, None]
            found, *caches = self._session.run(None, {"mix": mix, **dict(zip(_CACHES, caches, strict=True))})
            clean = np.fft.irfft(found[0, :, 0, 0] + 1j * found[0, :, 0, 1])
            out[at : at + _SIZE] += clean * self._window
        return out[_HOP : _HOP + len(sound)]
