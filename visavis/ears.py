"""`visavis ears`: train the phone head, judge it, pack it. What is slow is kept in a work folder and not done again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from engines.models import locate
from engines.recognition.ears import WEIGHTS

__all__ = ["FOLDS", "WEIGHTS", "evaluate", "pack", "talk", "train"]

FOLDS = 3
"""Parts of the order recordings; each is scored by weights that were trained with the other parts only."""
_SHARDS = 2
_FINE_PASSES, _FINE_RATE = 6, 6e-4
_BASE_SHARE = 5  # one in so many of the other recordings is heard beside the orders, so that nothing is forgotten


def train(data: Path, work: Path, *, copies: int = 4, passes: int = 20, tell: Callable[[str], None] = print) -> None:
    """Train `work`/base.pt on the corpora, then ears.pt (base and all orders) and fold-N.pt (base and the orders of the other parts).

    Interrupted, it goes on where it was. Two cores: about two hours. Raises ModelError without the turn model, OSError without recordings.
    """
    from engines.recognition.training.corpora import clips
    from engines.recognition.training.orders import fold_of, order_clips
    from engines.recognition.training.train import Settings, examples
    from engines.recognition.training.train import train as learn

    work.mkdir(parents=True, exist_ok=True)
    people = list(clips(data, "train"))
    base = [work / f"train-{copy}-{shard}" for copy in range(copies) for shard in range(_SHARDS)]
    _encode([(people[shard::_SHARDS], data, copy, work / f"train-{copy}-{shard}") for copy in range(copies) for shard in range(_SHARDS)])
    orders = order_clips(data, work / "orders.json")
    _encode([(orders, data, copy, work / f"orders-{copy}") for copy in range(copies)])
    if not _finished(work / "base.pt", passes):
        tell("base: speechocean and Kathleen")
        learn(examples(base), work / "base.pt", Settings(passes=passes), tell=tell)
    spoken = examples([work / f"orders-{copy}" for copy in range(copies)])
    some = dict(sorted(examples(base[: 2 * _SHARDS]).items())[::_BASE_SHARE])
    for fold in (None, *range(FOLDS)):
        name = "ears" if fold is None else f"fold-{fold}"
        tell(f"{name}: with orders{'' if fold is None else f' but those of part {fold}'}")
        kept = {key: value for key, value in spoken.items() if fold is None or fold_of(key.rpartition("/")[2], FOLDS) != fold}
        settings = Settings(passes=_FINE_PASSES, rate=_FINE_RATE)
        learn(
            {**some, **{f"{key} {n}": value for key, value in kept.items() for n in range(2)}},
            work / f"{name}.pt",
            settings,
            begin=work / "base.pt",
            tell=tell,
        )
    folds = {one.path.stem: f"fold-{fold_of(one.path.stem, FOLDS)}.onnx" for one in orders}
    (work / "folds.json").write_text(json.dumps(folds, indent=0), encoding="utf-8")


def _finished(weights: Path, passes: int) -> bool:
    """Whether `weights` had all their passes, so that their examples need not be read."""
    resume = weights.with_suffix(".resume")
    if not (weights.is_file() and resume.is_file()):
        return False
    import torch

    return int(torch.load(resume, weights_only=True)["done"]) == passes


def _encode(jobs: Sequence[tuple[Sequence[Any], Path, int, Path]]) -> None:
    """Make the copies that are missing, one process each, as many at a time as there are cores."""
    from engines.recognition.training.encode import encode

    missing = [job for job in jobs if not job[3].with_suffix(".json").is_file()]
    if not missing:
        return
    turn_model = locate("smart-turn")
    with ProcessPoolExecutor(max_workers=min(_SHARDS, os.cpu_count() or 1)) as pool:
        for running in [pool.submit(encode, *job, turn_model) for job in missing]:
            running.result()


def evaluate(data: Path, weights: Path = WEIGHTS, limit: int | None = None) -> dict[str, Any]:
    """Greedy phone error rate of packed `weights` on the recordings held out for reporting, by group of people."""
    from engines.recognition.ears.hearing import Phones
    from engines.recognition.training.evaluate import phone_errors

    return phone_errors(Phones(locate("smart-turn"), weights), data, "test", limit)


def pack(work: Path, out: Path = WEIGHTS, name: str = "ears") -> int:
    """Write `work`/`name`.pt as ONNX with 8-bit matrices to `out`; returns its size in bytes."""
    from engines.recognition.training.pack import write_head

    write_head(work / f"{name}.pt", out)
    return out.stat().st_size


def talk(out: Path | None = None) -> int:
    """Write the general English that ships, from the pocketsphinx wheel, to `out`; returns its size in bytes. Raises ModelError."""
    from engines.recognition.ears.talk import TALK
    from engines.recognition.training.talk import write_talk

    return write_talk(out or TALK)
