"""Who says whether a turn is complete: the turn model with the melody of the voice, or the melody alone."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines.voice_activity.endpoint import COEFFICIENTS, MELODY_COEFFICIENTS, calibrated, observations
from engines.voice_activity.features import RATE, melody
from engines.voice_activity.smart_turn import SmartTurn

__all__ = ["MelodyJudge", "ModelJudge", "TurnJudge"]


class TurnJudge(Protocol):
    """P(turn complete) of an utterance, asked while its speaker is silent."""

    name: str

    def complete(self, audio: NDArray[np.int16], silent_from: int, longest_pause_ms: float) -> float:
        """0..1 for `audio` (16 kHz, ends now); speech ended before sample `silent_from` of it."""


class ModelJudge:
    """Smart Turn, calibrated together with the melody."""

    name = "smart-turn"

    def __init__(self, model: Path) -> None:
        self._model = SmartTurn(model)

    def complete(self, audio: NDArray[np.int16], silent_from: int, longest_pause_ms: float) -> float:
        """0..1; takes one encoder pass."""
        return _complete(self._model.probability(audio), audio, silent_from, longest_pause_ms)


class MelodyJudge:
    """Falling energy and pitch, and how long it has been quiet: little, but it needs no file."""

    name = "melody"

    def complete(self, audio: NDArray[np.int16], silent_from: int, longest_pause_ms: float) -> float:
        """0..1."""
        return _complete(-1.0, audio, silent_from, longest_pause_ms)


def _complete(raw: float, audio: NDArray[np.int16], silent_from: int, longest_pause_ms: float) -> float:
    pause_ms = (len(audio) - silent_from) * 1000.0 / RATE
    seen = observations(raw, melody(audio[:silent_from]), pause_ms, longest_pause_ms)
    return calibrated(seen, MELODY_COEFFICIENTS if raw < 0.0 else COEFFICIENTS)
