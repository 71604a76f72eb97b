"""Our own verdict on the turn model's inner layers: a line through what its encoder heard, the melody and the pauses.

turn_head.npz holds it (`inner`: a weight for each of Heard.inner, `seen`: for each of endpoint.observations). Built by
`python -m visavis.bench.turn_fit DATA` from recordings of people only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.voice_activity.endpoint import COEFFICIENTS, calibrated
from engines.voice_activity.smart_turn import INNER

__all__ = ["WEIGHTS", "TurnHead", "tamed"]

WEIGHTS = Path(__file__).with_name("turn_head.npz")
_LOUDEST = 60.0


def tamed(inner: NDArray[np.float32]) -> NDArray[np.float64]:
    """`inner` (…, INNER) as the head sees it: the few units of the encoder that shout are held down."""
    held: NDArray[np.float64] = np.clip(inner, -_LOUDEST, _LOUDEST).astype(np.float64)
    return held


class TurnHead:
    """P(turn complete) of a look."""

    def __init__(self, inner: NDArray[np.float64], seen: NDArray[np.float64]) -> None:
        """Weights of the inner layers (INNER,) and of the observations. Raises ValueError for other shapes or what is no number."""
        if inner.shape != (INNER,) or seen.shape != (len(COEFFICIENTS),) or not (np.isfinite(inner).all() and np.isfinite(seen).all()):
            raise ValueError(f"inner {inner.shape}, seen {seen.shape}, or not all are numbers")
        self._inner, self._seen = inner, seen

    @classmethod
    def load(cls, file: Path = WEIGHTS) -> TurnHead:
        """Raises ModelError, one line, when `file` is missing or holds something else."""
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return cls(arrays["inner"].astype(np.float64), arrays["seen"].astype(np.float64))
        except Exception as error:  # noqa: BLE001  zipfile, numpy and a missing key each raise their own
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{file}: not a usable turn head ({line}): install again, or rebuild with visavis.bench.turn_fit") from None

    def save(self, file: Path = WEIGHTS) -> None:
        """Write the weights to `file` (.npz)."""
        np.savez_compressed(file, inner=self._inner.astype(np.float32), seen=self._seen.astype(np.float32))

    def probability(self, inner: NDArray[np.float32], seen: Sequence[float]) -> float:
        """0..1 for a look's `Heard.inner` (INNER,) and `observations`."""
        return calibrated((1.0, *seen), (float(tamed(inner) @ self._inner), *self._seen))
