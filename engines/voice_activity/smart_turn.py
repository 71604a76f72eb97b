"""Smart Turn v3: a Whisper-tiny encoder that hears whether a sentence sounds finished, and what it heard on the way there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.voice_activity.features import RATE, log_mel
from engines.voice_activity.silero import one_thread_session

__all__ = ["INNER", "Heard", "SmartTurn"]

_TENSORS = ("sum_1", "layer_norm_8", "add_390")
"""Names in v3.2's graph: what enters its classifier (1, 384), and the frames after its last and its third block (1, 400, 384)."""
_FRAME = RATE // 50
INNER = 3 * 384
"""Length of Heard.inner."""


class Heard(NamedTuple):
    """One look at an utterance."""

    probability: float
    """P(turn complete), 0..1, by the published classifier."""
    inner: NDArray[np.float32]
    """(INNER,) the pooled utterance, then the mean of the running silence after the last and the third block; (0,) of another version."""


class SmartTurn:
    """What was said in the last 8 s, finished or not. One thread at a time; ONNX Runtime releases the GIL meanwhile."""

    def __init__(self, model: Path) -> None:
        """Raises ModelError when the file in `model` is none or another model, EngineMissing without onnxruntime."""
        self.deep = True  # whether `hear` gives the inner layers too
        try:
            self._session = one_thread_session(model, _TENSORS)
        except ModelError:
            self._session = one_thread_session(model)
            self.deep = False
        names = {node.name for node in self._session.get_inputs()}
        if names != {"input_features"}:
            raise ModelError(f"{model}: not a Smart Turn model (inputs {sorted(names)}): run `visavis models fetch`")

    def probability(self, audio: NDArray[np.int16]) -> float:
        """P(complete) of `audio`, 16 kHz, which ends now, running silence included."""
        return self.hear(audio, len(audio)).probability

    def hear(self, audio: NDArray[np.int16], silent_from: int) -> Heard:
        """All there is to know about `audio`, 16 kHz, which ends now; speech ended before sample `silent_from` of it."""
        found, *tensors = self._session.run(None, {"input_features": log_mel(audio)[None]})
        inner = np.zeros(0, np.float32)
        if self.deep:
            pooled, last, third = (tensor[0] for tensor in tensors)
            silent = min(max((len(audio) - silent_from) // _FRAME, 1), len(last))
            inner = np.concatenate((pooled, last[-silent:].mean(axis=0), third[-silent:].mean(axis=0)))
        return Heard(float(np.clip(found.reshape(-1)[0], 0.0, 1.0)), inner)  # the model's output is a probability already
