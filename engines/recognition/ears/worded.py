"""Is somebody saying words here? A line through what the encoder heard so far, before any word is understood.

Hums of agreement, coughs, laughter, knocks, noises and voices from afar are speech to a voice activity network, too, and take as long as a
word; the layers that give the phones tell them apart a quarter of a second earlier than the words do. worded.npz holds the line (`mean`,
`weight`: one for each of SEEN, `bias`). Built by `python -m visavis.bench.interruption_fit DATA` from recordings and sounds that the
benchmark of interruptions does not report.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.recognition.ears.encoder import WIDTH

__all__ = ["LEAD", "NEWEST", "SEEN", "WEIGHTS", "Worded", "seen"]

WEIGHTS = Path(__file__).with_name("worded.npz")
LEAD = 13
"""Frames of an utterance that are before its onset: the recogniser node feeds 300 ms of those, the onset's own place is not so sure."""
NEWEST = 8
"""Frames that are looked at by themselves, beside all since the onset: 160 ms."""
_LOUDEST = 60.0  # the few units of the encoder that shout are held down
SEEN = 2 * WIDTH


def seen(layers: NDArray[np.float32]) -> NDArray[np.float32]:
    """(SEEN,) of one look: `layers` (more than LEAD frames, WIDTH) from the utterance's first frame on."""
    held = np.clip(layers[LEAD:], -_LOUDEST, _LOUDEST)
    return np.concatenate((held.mean(axis=0), held[-NEWEST:].mean(axis=0))).astype(np.float32)


class Worded:
    """Log odds of a look that words are said. One look is jumpy: the recogniser averages them."""

    def __init__(self, mean: NDArray[np.float64], weight: NDArray[np.float64], bias: float) -> None:
        """`mean` and `weight` (SEEN,). Raises ValueError for other shapes or what is no number."""
        if (
            mean.shape != (SEEN,)
            or weight.shape != (SEEN,)
            or not (np.isfinite(mean).all() and np.isfinite(weight).all() and np.isfinite(bias))
        ):
            raise ValueError(f"mean {mean.shape}, weight {weight.shape}, or not all are numbers")
        self._mean, self._weight, self._bias = mean, weight, bias

    @classmethod
    def load(cls, file: Path = WEIGHTS) -> Worded:
        """Raises ModelError, one line, when `file` is missing or holds something else."""
        try:
            with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:  # numpy leaves a broken file open
                return cls(arrays["mean"].astype(np.float64), arrays["weight"].astype(np.float64), float(arrays["bias"]))
        except Exception as error:  # noqa: BLE001  zipfile, numpy and a missing key each raise their own
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{file}: not usable ({line}): install again, or rebuild with visavis.bench.interruption_fit") from None

    def save(self, file: Path = WEIGHTS) -> None:
        """Write the weights to `file` (.npz)."""
        np.savez_compressed(file, mean=self._mean.astype(np.float32), weight=self._weight.astype(np.float32), bias=np.float32(self._bias))

    def odds(self, layers: NDArray[np.float32]) -> float:
        """For an utterance's `layers` (more than LEAD frames, WIDTH) from its first frame on."""
        return float((seen(layers) - self._mean) @ self._weight) + self._bias
