"""Is the visitor done, and how long to wait before answering: small functions, fitted on recordings of people.

`calibrated` turns what the turn model and the melody say into a probability (engines.voice_activity.turn_head does it better, with what
the encoder heard), `conclude` adds what the words say, `endpoint_wait_ms` turns the result into a wait. Coefficients and constants come
from `python -m visavis.bench.turn_fit`, from speakers that the benchmark (visavis/bench/turns.py) does not score on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from engines.voice_activity.features import Melody

__all__ = ["COEFFICIENTS", "ENDS", "MELODY_COEFFICIENTS", "Judgement", "calibrated", "conclude", "endpoint_wait_ms", "observations"]

COEFFICIENTS: tuple[float, ...] = (-1.087, 0.475, 0.17, 1.021, 0.212, 1.196, -0.038)
"""Weights of `observations` with the turn model, the constant first."""
MELODY_COEFFICIENTS: tuple[float, ...] = (-0.261, 0.0, 0.321, 0.958, 0.046, 1.512, -0.628)
"""The same without the turn model, whose weight is 0."""

FASTEST_MS, SLOWEST_MS, STEEPNESS = 190.0, 1800.0, 1.1
PATIENCE = 0.05
"""Wait added for each ms of the longest pause so far: chosen, not fitted, as few people in the recordings pause twice."""


def observations(raw: float, melody: Melody, pause_ms: float, longest_pause_ms: float) -> tuple[float, ...]:
    """What the fit sees: the constant, the turn model's log odds (`raw` < 0: there is none), melody, the running and the longest pause.

    Not the length of the speech: it would tell much about sentences that were read aloud, and that a "yes" cannot be an answer.
    """
    return (
        1.0,
        _log_odds(raw) if raw >= 0.0 else 0.0,
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


class Judgement(NamedTuple):
    """What sound and words say together."""

    complete: float
    """P(turn complete), 0..1."""
    label: Literal["finished", "unfinished", "wait"]
    """wait: the visitor asked for time ("hold on"), whatever it sounded like."""


ENDS: tuple[float, float] = (0.01, -1.0)
"""Words of the pack after which a sentence ends more seldom than this, and what they add to the log odds.

On recorded orders 5 of 46 pauses inside and 1 of 85 ends come after such words (log odds -1.4); beside what the head has heard a fit gives
-0.64. Above it words tell next to nothing: the slope over their log odds is 0.14.
"""


def conclude(
    turn: float, ends: float = -1.0, confidence: float = 1.0, *, asked_for_time: bool = False, weights: tuple[float, float] = ENDS
) -> Judgement:
    """The last word on a silence: `turn` is the judge's P(complete), `ends` P(a sentence can end here | words), both 0..1.

    `ends` of -1 (words that the pack does not know) and a `confidence` (0..1) of 0 in the words leave `turn` as it is.
    """
    if asked_for_time:
        return Judgement(0.0, "wait")
    score = _log_odds(turn)
    if ends >= 0.0:
        seldom, less = weights
        score += less * min(max(confidence, 0.0), 1.0) if ends <= seldom else 0.0
    complete = 1.0 / (1.0 + math.exp(-score))
    return Judgement(complete, "finished" if complete >= 0.5 else "unfinished")


def _log_odds(probability: float) -> float:
    certain = min(max(probability, 0.002), 0.998)
    return math.log(certain / (1.0 - certain))


def endpoint_wait_ms(complete: float, speech_ms: float, longest_pause_ms: float) -> float:  # noqa: ARG001  see below
    """Milliseconds after the end of speech at which the turn is taken, given the newest P(complete) (0..1; 0 while not judged).

    `speech_ms` has no say: in recordings a short stretch of speech is the beginning of a sentence, at a counter it may be the answer.
    """
    doubt = 1.0 - min(max(complete, 0.0), 1.0)
    patience = PATIENCE * min(max(longest_pause_ms, 0.0), 1500.0)
    return float(FASTEST_MS + (SLOWEST_MS - FASTEST_MS) * doubt**STEEPNESS + patience)
