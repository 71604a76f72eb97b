"""Is the visitor done, and how long to wait before answering: two small functions, fitted on recordings of people.

`calibrated` turns what the turn model and the melody say into a probability; `endpoint_wait_ms` turns that into a wait. Coefficients and
constants come from `python -m visavis.bench.turn_fit`, from speakers that the benchmark (visavis/bench/turns.py) does not score on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from engines.voice_activity.features import Melody

__all__ = ["COEFFICIENTS", "MELODY_COEFFICIENTS", "calibrated", "endpoint_wait_ms", "observations"]

COEFFICIENTS: tuple[float, ...] = (-1.222, 0.457, 0.103, 0.774, 0.369, 1.272, 0.384)
"""Weights of `observations` with the turn model, the constant first."""
MELODY_COEFFICIENTS: tuple[float, ...] = (-0.374, 0.0, 0.278, 0.781, 0.2, 1.619, -0.284)
"""The same without the turn model, whose weight is 0."""

FASTEST_MS, SLOWEST_MS, STEEPNESS = 240.0, 1800.0, 1.3
PATIENCE = 0.05
"""Wait added for each ms of the longest pause so far: chosen, not fitted, as few people in the recordings pause twice."""


def observations(raw: float, melody: Melody, pause_ms: float, longest_pause_ms: float) -> tuple[float, ...]:
    """What the fit sees: the constant, the turn model's log odds (`raw` < 0: there is none), melody, the running and the longest pause.

    Not the length of the speech: it would tell much about sentences that were read aloud, and that a "yes" cannot be an answer.
    """
    certain = min(max(raw, 0.002), 0.998)
    return (
        1.0,
        math.log(certain / (1.0 - certain)) if raw >= 0.0 else 0.0,
        min(max(melody.pitch_fall, -8.0), 12.0) / 4.0,
        min(max(melody.energy_fall, -5.0), 25.0) / 10.0,
        min(melody.voiced_tail, 600.0) / 200.0,
        math.log(max(pause_ms, 50.0) / 100.0),
        min(longest_pause_ms, 1500.0) / 500.0,
    )


def calibrated(seen: Sequence[float], coefficients: Sequence[float]) -> float:
    """P(turn complete), 0..1, of `observations`."""
    score = sum(weight * value for weight, value in zip(coefficients, seen, strict=True))
    return 1.0 / (1.0 + math.exp(-min(max(score, -30.0), 30.0)))


def endpoint_wait_ms(complete: float, speech_ms: float, longest_pause_ms: float) -> float:  # noqa: ARG001  see below
    """Milliseconds after the end of speech at which the turn is taken, given the newest P(complete) (0..1; 0 while not judged).

    `speech_ms` has no say: in recordings a short stretch of speech is the beginning of a sentence, at a counter it may be the answer.
    """
    doubt = 1.0 - min(max(complete, 0.0), 1.0)
    patience = PATIENCE * min(max(longest_pause_ms, 0.0), 1500.0)
    return float(FASTEST_MS + (SLOWEST_MS - FASTEST_MS) * doubt**STEEPNESS + patience)
