"""Fits the constants of engines/voice_activity/endpoint.py on the speakers that the benchmark does not score: run it, paste what it says.

python -m visavis.bench.turn_fit DATA
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.voice_activity import calibrated, observations
from engines.voice_activity.endpoint import PATIENCE
from visavis.bench.turn_data import OFFSETS_MS, Pause, Turn
from visavis.bench.turns import Wait, collect, score

__all__ = ["fit", "fit_wait", "main"]

FALSE_CUTOFFS = 0.05
Knobs = tuple[float, float, float]


def fit(turns: Sequence[Turn], *, model: bool = True, ridge: float = 1.0) -> NDArray[np.float64]:
    """Logistic regression of "the turn is over" on `observations` (without the turn model: its weight stays 0), by Newton's method.

    Every corpus weighs the same, so that the largest does not decide what an end sounds like.
    """
    seen, ends, weights = [], [], []
    sizes = Counter(turn.corpus for turn in turns)
    for turn in turns:
        for pause in turn.pauses:
            for offset, raw in zip(OFFSETS_MS, pause.raw, strict=False):
                seen.append(observations(raw if model else -1.0, pause.melody, offset, pause.longest_ms))
                ends.append(float(pause.ends_turn))
                weights.append(len(turns) / len(sizes) / sizes[turn.corpus])
    x, y, weight = np.array(seen), np.array(ends), np.array(weights)
    penalty = np.full(x.shape[1], ridge)
    penalty[0] = 1e-6
    found = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-x @ found))
        slope = x.T @ (weight * (p - y)) + penalty * found
        curvature = (x * (weight * p * (1.0 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        found -= step
        if np.abs(step).max() < 1e-9:
            break
    return found


def fit_wait(turns: Sequence[Turn], coefficients: Sequence[float], *, model: bool = True) -> tuple[Knobs, dict[str, float]]:
    """(fastest ms, slowest ms, steepness) that keep to FALSE_CUTOFFS with the least mean delay, and how they do on `turns`.

    Of those within 5 ms of the best, the one with the longest wait for the unfinished: hesitation is rarer in recordings than at a counter.
    """

    def probability(pause: Pause, index: int) -> float:
        raw = pause.raw[index] if model else -1.0
        return calibrated(observations(raw, pause.melody, OFFSETS_MS[index], pause.longest_ms), coefficients)

    def wait(low_ms: float, high_ms: float, steep: float) -> Wait:
        return lambda pause, p: low_ms + (high_ms - low_ms) * (1.0 - p) ** steep + PATIENCE * min(pause.longest_ms, 1500.0)

    grid = itertools.product((190, 220, 240, 280), (600, 800, 1000, 1200, 1500, 1800), (0.5, 0.7, 1.0, 1.3, 2.0))
    tried = [(knobs, score(turns, probability, wait(*knobs))) for knobs in grid]
    allowed = [entry for entry in tried if entry[1]["false_cutoffs"] <= FALSE_CUTOFFS] or tried
    best_ms = min(entry[1]["mean_delay_ms"] for entry in allowed)
    return max((entry for entry in allowed if entry[1]["mean_delay_ms"] <= best_ms + 5.0), key=lambda entry: entry[0][1])


def main(data: Path) -> None:
    """Print the constants."""
    turns = collect(data, limit=300, held_out=False)
    for name, model in (("COEFFICIENTS", True), ("MELODY_COEFFICIENTS", False)):
        coefficients = fit(turns, model=model)
        print(name, "=", tuple(round(float(value), 3) for value in coefficients))
        print("  wait:", *fit_wait(turns, list(coefficients), model=model))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
