"""Who says whether a turn is complete: the turn model with the melody of the voice, or the melody alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.voice_activity.endpoint import COEFFICIENTS, MELODY_COEFFICIENTS, calibrated, observations
from engines.voice_activity.features import RATE, melody
from engines.voice_activity.smart_turn import SmartTurn
from engines.voice_activity.turn_head import TurnHead

__all__ = ["HeadJudge", "MelodyJudge", "ModelJudge", "TurnJudge"]


class TurnJudge(Protocol):
    """P(turn complete) of an utterance, asked while its speaker is silent."""

    name: str

    def complete(self, audio: NDArray[np.int16], silent_from: int, longest_pause_ms: float) -> float:
        """0..1 for `audio` (16 kHz, ends now); speech ended before sample `silent_from` of it."""


class HeadJudge:
    """Our own head on the inner layers of Smart Turn."""

    name = "turn-head"

    def __init__(self, model: SmartTurn, head: TurnHead) -> None:
        """Raises ModelError when `model` is not the version that the head was trained on."""
        if not model.deep:
            raise ModelError("smart-turn: not the v3.2 that the turn head was trained on: run `visavis models fetch`")
        self._model, self._head = model, head

    def complete(self, audio: NDArray[np.int16], silent_from: int, longest_pause_ms: float) -> float:
        """0..1; takes one encoder pass."""
        heard = self._model.hear(audio, silent_from)
        return self._head.probability(heard.inner, _seen(heard.probability, audio, silent_from, longest_pause_ms))


class ModelJudge:
    """Smart Turn's own verdict, calibrated together with the melody."""

    name = "smart-turn"

    def __init__(self, model: SmartTurn) -> None:
        self._model = model

    def complete(self, audio: NDArray[np.int16], silent_from: int, longest_pause_ms: float) -> float:
        """0..1; takes one encoder pass."""
        return calibrated(_seen(self._model.probability(audio), audio, silent_from, longest_pause_ms), COEFFICIENTS)


class MelodyJudge:
    """Falling energy and pitch, and how long it has been quiet: little, but it needs no file."""

    name = "melody"

    def complete(self, audio: NDArray[np.int16], silent_from: int, longest_pause_ms: float) -> float:
        """0..1."""
        return calibrated(_seen(-1.0, audio, silent_from, longest_pause_ms), MELODY_COEFFICIENTS)


def _seen(raw: float, audio: NDArray[np.int16], silent_from: int, longest_pause_ms: float) -> tuple[float, ...]:
    pause_ms = (len(audio) - silent_from) * 1000.0 / RATE
    return observations(raw, melody(audio[:silent_from]), pause_ms, longest_pause_ms)
