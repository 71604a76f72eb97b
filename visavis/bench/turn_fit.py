"""Fits the end of turn on the speakers that the benchmark does not score: writes the turn head's weights, prints the constants to paste.

python -m visavis.bench.turn_fit DATA [recordings of each corpus, default 560]

About ten minutes of one core, nearly all of it the turn model's. Width and ridge of the head are chosen by cross-validation over speakers,
and the wait is fitted to the judgements that each speaker got from a head trained without them.
"""

from __future__ import annotations

import itertools
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.voice_activity import INNER, TurnHead, tamed
from engines.voice_activity.endpoint import ENDS, PATIENCE, SLOWEST_MS
from visavis.bench.turn_data import Pause, Turn
from visavis.bench.turns import Probability, Wait, collect, score, seen

__all__ = ["Looks", "choose", "fit", "fit_ends", "fit_head", "fit_wait", "looks", "main", "out_of_fold"]

FALSE_CUTOFFS = 0.03
"""Of people unlike those that were fitted, 5 % at most."""
FOLDS = 4
GRID = ((48, 30.0), (96, 30.0), (96, 100.0), (160, 100.0))
"""(components of each inner layer, ridge) to choose from."""
_LAYERS = np.split(np.arange(INNER), 3)
Floats = NDArray[np.float64]


class Looks(NamedTuple):
    """Every look at every pause: what was heard, whether the turn was over, how much it weighs."""

    pauses: list[tuple[Pause, int]]  # with the look's index
    inner: Floats  # (n, INNER); (n, 0) for turns without
    seen: Floats  # (n, observations)
    over: Floats  # (n,) 0 or 1
    weight: Floats  # (n,) every corpus weighs the same, so that the largest does not decide what an end sounds like
    fold: NDArray[np.int64]  # (n,) by speaker


def looks(turns: Sequence[Turn], *, model: bool = True) -> Looks:
    """All looks of `turns`; without `model` as if there were no turn model."""
    sizes = Counter(turn.corpus for turn in turns)
    each = [(turn, pause, index) for turn in turns for pause in turn.pauses for index in range(len(pause.raw))]
    return Looks(
        [(pause, index) for _, pause, index in each],
        np.array([tamed(pause.inner[index]) if pause.inner else () for _, pause, index in each], np.float64),
        np.array([seen(pause if model else _deaf(pause), index) for _, pause, index in each]),
        np.array([float(pause.ends_turn) for _, pause, _ in each]),
        np.array([len(turns) / len(sizes) / sizes[turn.corpus] for turn, _, _ in each]),
        np.array([zlib.crc32(f"fold/{turn.corpus}/{turn.speaker}".encode()) % FOLDS for turn, _, _ in each]),
    )


def fit(turns: Sequence[Turn], *, model: bool = True, ridge: float = 1.0) -> Floats:
    """Logistic regression of "the turn is over" on `observations` (without the turn model: its weight stays 0)."""
    found = looks(turns, model=model)
    return _logistic(found.seen, found.over, found.weight, ridge)


def fit_head(found: Looks, components: int, ridge: float) -> TurnHead:
    """Logistic regression on the `components` strongest directions of each inner layer and on the observations, folded to a line."""
    columns, back = [], []
    for layer in _LAYERS:
        centred = found.inner[:, layer] - found.inner[:, layer].mean(axis=0)
        power, directions = np.linalg.eigh(centred.T @ centred / len(centred))
        power, directions = power[::-1][:components], directions[:, ::-1][:, :components]
        back.append(directions / np.sqrt(power + 1e-3 * power[0]))
        columns.append(centred @ back[-1])
    told = found.seen[:, 1:]
    spread = told.std(axis=0) + 1e-9
    x = np.hstack([np.ones((len(told), 1)), *columns, (told - told.mean(axis=0)) / spread])
    constant, *rest = _logistic(x, found.over, found.weight, ridge)
    parts = np.split(np.array(rest), np.cumsum([part.shape[1] for part in columns]))
    inner = np.concatenate([directions @ part for directions, part in zip(back, parts[:3], strict=True)])
    plain = parts[3] / spread
    constant -= float(found.inner.mean(axis=0) @ inner + told.mean(axis=0) @ plain)
    return TurnHead(inner, np.array([constant, *plain]))


def out_of_fold(found: Looks, components: int, ridge: float) -> Floats:
    """P(complete) of each look by a head that was fitted without its speaker."""
    judged = np.zeros(len(found.over))
    for fold in range(FOLDS):
        chosen = found.fold != fold
        rest = Looks([], found.inner[chosen], found.seen[chosen], found.over[chosen], found.weight[chosen], found.fold[chosen])
        head = fit_head(rest, components, ridge)
        for index in np.flatnonzero(~chosen):
            judged[index] = head.probability(found.inner[index].astype(np.float32), list(found.seen[index]))
    return judged


def choose(found: Looks) -> tuple[tuple[int, float], Floats, float]:
    """The (components, ridge) of GRID with the least out-of-fold log loss, its judgements, and that loss."""
    tried = []
    for knobs in GRID:
        judged = out_of_fold(found, *knobs)
        hit = np.clip(np.where(found.over > 0.5, judged, 1.0 - judged), 1e-6, 1.0)
        tried.append((float(np.average(-np.log(hit), weights=found.weight)), knobs, judged))
    loss, knobs, judged = min(tried, key=lambda entry: entry[0])
    return knobs, judged, loss


def fit_ends(turns: Sequence[Turn], probability: Probability, ridge: float = 1.0) -> tuple[float, float]:
    """`endpoint.ENDS`: the chance under which words hold a turn open, as it stands there, and what they add to the judgement's log odds.

    `probability` gives that judgement. Only pauses whose words are known count. Raises ValueError where there are none.
    """
    seldom = ENDS[0]
    sizes = Counter(turn.corpus for turn in turns)
    rows = [
        (float(pause.ends <= seldom), _log_odds(probability(pause, index)), float(pause.ends_turn), 1.0 / sizes[turn.corpus])
        for turn in turns
        for pause in turn.pauses
        for index in range(len(pause.raw))
        if pause.ends >= 0.0
    ]
    if not rows:
        raise ValueError("no pause whose words are known")
    hanging, sound, over, weight = np.array(rows).T
    (less,) = _logistic(hanging[:, None], over, weight * len(rows) / weight.sum(), ridge, sound)
    return seldom, float(less)


def fit_wait(turns: Sequence[Turn], probability: Probability) -> tuple[tuple[float, float], dict[str, float]]:
    """(FASTEST_MS, STEEPNESS) that keep to FALSE_CUTOFFS with the least mean delay, and how they do on `turns`.

    SLOWEST_MS is not fitted: people hesitate longer at a counter than in recordings.
    """

    def wait(low_ms: float, steep: float) -> Wait:
        return lambda pause, p: low_ms + (SLOWEST_MS - low_ms) * (1.0 - p) ** steep + PATIENCE * min(pause.longest_ms, 1500.0)

    grid = itertools.product((190.0, 220.0, 250.0, 280.0), (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0))
    tried = [(knobs, score(turns, probability, wait(*knobs))) for knobs in grid]
    allowed = [entry for entry in tried if entry[1]["false_cutoffs"] <= FALSE_CUTOFFS] or tried
    return min(allowed, key=lambda entry: entry[1]["mean_delay_ms"])


def main(data: Path, limit: int = 560) -> None:
    """Write the head, print the constants."""
    turns = collect(data, limit=limit, held_out=False)
    for name, model in (("COEFFICIENTS", True), ("MELODY_COEFFICIENTS", False)):
        print(name, "=", tuple(round(float(value), 3) for value in fit(turns, model=model)))
    found = looks(turns)
    knobs, judged, loss = choose(found)
    print(f"head: {len(turns)} recordings, {len(judged)} looks; {knobs[0]} components, ridge {knobs[1]:g}: log loss {loss:.4f}")
    fit_head(found, *knobs).save()
    by_look = {(id(pause), index): float(p) for (pause, index), p in zip(found.pauses, judged, strict=True)}
    print("wait:", *fit_wait(turns, lambda pause, index: by_look[id(pause), index]))


def _deaf(pause: Pause) -> Pause:
    return Pause(pause.start_ms, pause.length_ms, pause.speech_ms, pause.longest_ms, (-1.0,) * len(pause.raw), pause.melody)


def _log_odds(probability: float) -> float:
    certain = min(max(probability, 0.002), 0.998)
    return float(np.log(certain / (1.0 - certain)))


def _logistic(x: Floats, y: Floats, weight: Floats, ridge: float, given: Floats | float = 0.0) -> Floats:
    """Weights of the columns of `x`, the constant first, on top of the log odds `given`, by Newton's method."""
    penalty = np.full(x.shape[1], ridge)
    penalty[0] = 1e-6
    found = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ found + given, -30.0, 30.0)))
        slope = x.T @ (weight * (p - y)) + penalty * found
        curvature = (x * (weight * p * (1.0 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        found -= step
        if np.abs(step).max() < 1e-9:
            break
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
