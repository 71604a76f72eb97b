"""End of turn, measured on recorded people in virtual time: how often is somebody cut off, and how long do they wait for it?

The method is livekit/eot-bench's: each recording is a turn, each silence of 100 ms and more in it a decision, all inside are holds. A
policy says after how much silence it would take the turn; taken before a hold is over, it is a false cut-off. Swept are the policies of

- `vad`: a fixed wait;
- `smart_turn`: the turn model alone with threshold, action delay and timeout;
- `calibrated`: the turn model with the melody, which serves without our own head;
- `ours`: our head on the turn model's inner layers (and the words, where `ends` tells), with the family of waits that `endpoint_wait_ms`
  is one of;
- `shipped`: `endpoint_wait_ms` and `turn.min_wait_ms` as the kiosk uses them (one point); `by_min_wait`: other settings of the
  latter; `shipped_without_head`: what is left of it where the head's weights are missing.

Delays count from the end of speech in the recording, the listener's own lag and the judge's time included. Every corpus has the same
weight. Only speakers that the fit did not see are scored. Read sentences are easier to end than talk: compare rows, not with elsewhere.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.models import locate
from engines.voice_activity import COEFFICIENTS, SmartTurn, TurnHead, calibrated, conclude, endpoint_wait_ms, observations
from runtime.config import Config, TurnTaking
from runtime.conversation.domain import speech_domain
from runtime.messages import MIC_RATE, SURE
from runtime.packs import load as load_pack
from visavis.bench.turn_data import OFFSETS_MS, Ends, Pause, Recording, Turn, listen, recordings

__all__ = ["LAG_MS", "Probability", "Wait", "by_head", "by_words", "collect", "run", "score", "seen", "taken_ms"]

LAG_MS = 90.0
"""From the silence that a judge is asked about to its verdict: the listener notices on 32 ms frames, the turn model takes its time."""

MIN_WAITS_MS = (190, 220, 250, 280, 310, 340, 375, 420)

Wait = Callable[[Pause, float], float]
"""(pause, newest probability) → ms of silence after which the turn is taken."""
Probability = Callable[[Pause, int], float]
"""(pause, index into OFFSETS_MS) → P(complete)."""


def collect(data: Path, seed: int = 0, limit: int = 150, *, held_out: bool = True, ends: Ends | None = None) -> list[Turn]:
    """Up to `limit` recordings of each corpus under `data`, of the speakers that score (or fit), heard by the turn model (and by `ends`).

    Raises ModelError when the turn model is not in the store, OSError or soundfile's error for a broken recording.
    """
    judge = SmartTurn(locate("smart-turn"))
    by_corpus = defaultdict(list)
    for recording in recordings(data):
        if recording.held_out is held_out:
            by_corpus[recording.corpus].append(recording)
    turns = []
    for corpus, found in sorted(by_corpus.items()):
        random.Random(f"{seed}/{corpus}").shuffle(found)
        turns += [turn for recording in found[:limit] if (turn := listen(recording, judge.hear, seed, ends))]
    return turns


def taken_ms(pause: Pause, probability: Probability, wait: Wait) -> float:
    """After how much silence the turn is taken, whatever comes: the newest verdict counts, each arrives LAG_MS late."""
    verdicts = range(len(pause.raw))
    for index in verdicts:
        begin = OFFSETS_MS[index] + LAG_MS
        end = OFFSETS_MS[index + 1] + LAG_MS if index + 1 in verdicts else float("inf")
        at = max(begin, wait(pause, probability(pause, index)))
        if at < end:
            return at
    return float("inf")


def score(turns: Sequence[Turn], probability: Probability, wait: Wait) -> dict[str, float]:
    """Share of turns cut off, and delays of the others' ends in ms; each corpus weighs the same."""
    cut: dict[str, list[bool]] = defaultdict(list)
    delay: dict[str, list[float]] = defaultdict(list)
    for turn in turns:
        taken = [taken_ms(pause, probability, wait) for pause in turn.pauses]
        cut[turn.corpus].append(any(at < pause.length_ms for at, pause in zip(taken[:-1], turn.pauses[:-1], strict=True)))
        delay[turn.corpus].append(taken[-1])
    everyone = np.concatenate([np.asarray(values) for values in delay.values()])
    weights = np.concatenate([np.full(len(values), 1 / len(values)) for values in delay.values()])
    order = np.argsort(everyone)
    reached = np.cumsum(weights[order]) / weights.sum()
    return {
        "false_cutoffs": float(np.mean([np.mean(values) for values in cut.values()])),
        "mean_delay_ms": float(np.mean([np.mean(values) for values in delay.values()])),
        "p50_delay_ms": float(everyone[order][np.searchsorted(reached, 0.5)]),
        "p95_delay_ms": float(everyone[order][np.searchsorted(reached, 0.95)]),
    }


def _raw(pause: Pause, index: int) -> float:
    return pause.raw[index]


def seen(pause: Pause, index: int) -> tuple[float, ...]:
    """`observations` of `pause` at its look `index`."""
    return observations(pause.raw[index], pause.melody, OFFSETS_MS[index], pause.longest_ms)


def _calibrated(pause: Pause, index: int) -> float:
    return calibrated(seen(pause, index), COEFFICIENTS)


def by_head(head: TurnHead) -> Probability:
    """The judgement of `head`, with what the words say where that is known; each look is judged once, however many policies ask."""
    judged: dict[tuple[int, int], tuple[Pause, float]] = {}

    def probability(pause: Pause, index: int) -> float:
        key = id(pause), index
        if key not in judged:  # the pause is kept with it, so that its id stays its own
            judged[key] = pause, conclude(head.probability(pause.inner[index], seen(pause, index)), pause.ends).complete
        return judged[key][1]

    return probability


def shipped(min_wait_ms: float) -> Wait:
    """The kiosk's own wait with that `turn.min_wait_ms`."""
    most_ms = TurnTaking().max_wait_ms
    return lambda pause, complete: min(max(endpoint_wait_ms(complete, pause.speech_ms, pause.longest_ms), min_wait_ms), most_ms)


def policies(ours: Probability) -> dict[str, tuple[Probability, list[Wait]]]:
    """What is swept, by name."""

    def fixed(wait_ms: float) -> Wait:
        return lambda _pause, _p: wait_ms

    def gated(threshold: float, action_ms: float, timeout_ms: float) -> Wait:
        return lambda _pause, p: action_ms if p >= threshold else timeout_ms

    def graded(low_ms: float, high_ms: float, steep: float) -> Wait:
        return lambda _pause, p: low_ms + (high_ms - low_ms) * (1.0 - p) ** steep

    thresholds, actions, timeouts = (
        (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97),
        (190, 250, 300, 400, 500),
        (500, 600, 800, 1000, 1300, 1600, 2000),
    )
    lows, highs, steeps = (190, 220, 250, 300), (600, 800, 1000, 1300, 1600, 2000), (0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
    return {
        "vad": (_raw, [fixed(wait) for wait in range(190, 2000, 20)]),
        "smart_turn": (_raw, [gated(*knobs) for knobs in itertools.product(thresholds, actions, timeouts) if knobs[1] < knobs[2]]),
        "calibrated": (_calibrated, [graded(*knobs) for knobs in itertools.product(lows, highs, steeps)]),
        "ours": (ours, [graded(*knobs) for knobs in itertools.product(lows, highs, steeps)]),
    }


def operating_points(points: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The benchmark's figures out of all points of a sweep; None where no policy reaches the budget."""

    def fewest(budget_ms: float) -> float | None:
        return min((point["false_cutoffs"] for point in points if point["mean_delay_ms"] <= budget_ms), default=None)

    def fastest(budget: float) -> float | None:
        return min((point["mean_delay_ms"] for point in points if point["false_cutoffs"] <= budget), default=None)

    curve, best = [], 2.0
    for point in sorted(points, key=lambda point: (point["mean_delay_ms"], point["false_cutoffs"])):
        if point["false_cutoffs"] < best:
            best = point["false_cutoffs"]
            curve.append([round(point["mean_delay_ms"], 1), round(best, 4)])
    return {
        "false_cutoffs_at_300ms": fewest(300),
        "false_cutoffs_at_600ms": fewest(600),
        "delay_at_5pct_ms": fastest(0.05),
        "delay_at_10pct_ms": fastest(0.10),
        "curve": curve,
    }


def by_words(weights: Path | None = None) -> Ends | None:
    """Whether a sentence can end after the words so far, as the ears tell the floor in the kiosk; None where they do not work.

    `weights`: a phone head that never heard the orders, say. Words of which the ears are not sure count as unknown.
    """
    try:
        from engines.recognition.ears import EarsRecogniser

        ears = EarsRecogniser(weights=weights)
    except EngineError:
        return None
    ears.prepare(speech_domain(load_pack(Config().pack_path)))
    before = np.zeros(3 * MIC_RATE // 10, np.int16)

    def ends(_recording: Recording, sound: NDArray[np.int16]) -> float:
        ears.begin()
        ears.feed(before)
        ears.feed(sound)
        found = ears.finish()
        return found.ends if found.confidence >= SURE else -1.0

    return ends


def run(
    data: Path, json_file: Path | None = None, seed: int = 0, limit: int = 150, ends: Ends | None = None, weights: Path | None = None
) -> dict[str, Any]:
    """Measure; the figures of `ours` also stand at the top. `ends`: what the words say, by default as the ears with `weights` hear them.

    Raises ModelError without the turn model or its head, ValueError without recordings.
    """
    ours = by_head(TurnHead.load())
    ends = ends or by_words(weights)
    turns = collect(data, seed, limit, ends=ends)
    if not turns:
        raise ValueError(f"{data}: no recordings of people under speech/")
    report: dict[str, Any] = {
        "turns": len(turns),
        "holds": sum(len(turn.pauses) - 1 for turn in turns),
        "words_known": sum(pause.ends >= 0.0 for turn in turns for pause in turn.pauses),
        "seed": seed,
        "per_corpus": {},
    }
    swept = policies(ours)
    for name, (probability, waits) in swept.items():
        report[name] = operating_points([score(turns, probability, wait) for wait in waits])
    kiosk = shipped(TurnTaking().min_wait_ms)
    report["shipped"] = {"min_wait_ms": TurnTaking().min_wait_ms, **score(turns, ours, kiosk)}
    report["shipped_without_head"] = score(turns, _calibrated, kiosk)
    report["by_min_wait"] = {str(least): score(turns, ours, shipped(least)) for least in MIN_WAITS_MS}
    for corpus in sorted({turn.corpus for turn in turns}):
        of_corpus = [turn for turn in turns if turn.corpus == corpus]
        at_300ms = {
            name: operating_points([score(of_corpus, probability, wait) for wait in waits])["false_cutoffs_at_300ms"]
            for name, (probability, waits) in swept.items()
        }
        report["per_corpus"][corpus] = {"turns": len(of_corpus), **score(of_corpus, ours, kiosk), "false_cutoffs_at_300ms": at_300ms}
    report |= report["ours"]
    if json_file:
        json_file.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report
