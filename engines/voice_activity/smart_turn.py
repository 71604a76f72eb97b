"""Smart Turn v3: a Whisper-tiny encoder that hears whether a sentence sounds finished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.voice_activity.features import log_mel
from engines.voice_activity.silero import one_thread_session

__all__ = ["SmartTurn"]


class SmartTurn:
    """P(turn complete) of what was said in the last 8 s. One thread at a time; ONNX Runtime releases the GIL meanwhile."""

    def __init__(self, model: Path) -> None:
        self._session = one_thread_session(model)
        names = {node.name for node in self._session.get_inputs()}
        if names != {"input_features"}:
            raise ModelError(f"{model}: not a Smart Turn model (inputs {sorted(names)}): run `visavis models fetch`")

    def probability(self, audio: NDArray[np.int16]) -> float:
        """P(complete) of `audio`, 16 kHz, which ends now, running silence included."""
        (found,) = self._session.run(None, {"input_features": log_mel(audio)[None]})
        return float(np.clip(found.reshape(-1)[0], 0.0, 1.0))  # the model's output is a probability already
