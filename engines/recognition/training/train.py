"""Train the phone head on what `encode` wrote: CTC, AdamW with one cycle of the rate, one thread, seeded; goes on where it was stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.recognition.training.encode import read_index
from engines.recognition.training.network import Head

__all__ = ["Example", "Settings", "examples", "train"]


@dataclass(frozen=True)
class Settings:
    """How to train. `passes`: how often each recording is heard, each time in a copy drawn anew; `batch`: frames in a step."""

    passes: int = 24
    rate: float = 2.5e-3
    batch: int = 9000
    seed: int = 0


class Example(NamedTuple):
    """One copy of a recording: its frames in the mapped file, and its phones."""

    name: str
    layers: NDArray[np.float16]
    start: int
    end: int
    phones: list[int]


def examples(copies: Sequence[Path], leave_out: frozenset[str] = frozenset()) -> dict[str, list[Example]]:
    """All copies of each recording in the files `copies` (without suffix), by name."""
    found: dict[str, list[Example]] = {}
    for path in copies:
        layers = np.load(path.with_suffix(".npy"))  # not mapped: in random order a disk is too slow
        at = 0
        for frames, phones, name in read_index(path):
            if name not in leave_out:
                found.setdefault(name, []).append(Example(name, layers, at, at + frames, phones))
            at += frames
    return found


def train(
    sets: dict[str, list[Example]],
    out: Path,
    settings: Settings,
    *,
    begin: Path | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Train a Head on `sets` and write its weights to `out` (a PyTorch state); `begin`: weights to begin with.

    After each pass all that is needed to go on is kept in `out`.resume; a run with other settings, recordings or weights to begin with
    begins anew.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    model = Head()
    if begin is not None:
        model.load_state_dict(torch.load(begin, weights_only=True))
    steps = [len(list(_batches(sets, settings, number))) for number in range(settings.passes)]
    optimizer = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, total_steps=sum(steps), pct_start=0.15)
    resume, done = out.with_suffix(".resume"), 0
    about = {
        "settings": asdict(settings),
        "examples": sum(map(len, sets.values())),
        "begin": "" if begin is None else hashlib.sha256(begin.read_bytes()).hexdigest(),
    }
    if resume.is_file():
        kept = torch.load(resume, weights_only=True)
        if kept.get("about") == about:
            done = kept["done"]
            model.load_state_dict(kept["model"])
            optimizer.load_state_dict(kept["optimizer"])
            schedule.load_state_dict(kept["schedule"])
    for number in range(done, settings.passes):
        torch.manual_seed(settings.seed + 1 + number)
        rng = np.random.default_rng([settings.seed, number, 1])
        model.train()
        losses = []
        for group in _batches(sets, settings, number):
            losses.append(_step(model, group, rng, optimizer))
            schedule.step()
        tell(f"pass {number + 1} of {settings.passes}: loss {np.mean(losses):.3f}")
        state = {"about": about, "done": number + 1, "model": model.state_dict()}
        _save(model.state_dict(), out)  # before what says that the pass is done
        _save({**state, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, resume)


def _save(what: object, path: Path) -> None:
    """Write `path` whole or not at all: training is stopped at any moment."""
    half = path.with_name(f"{path.name}.half")
    torch.save(what, half)
    half.replace(path)


def _batches(sets: dict[str, list[Example]], settings: Settings, number: int) -> Iterator[list[Example]]:
    """One pass over all recordings: a copy of each, those of like length together, in an order of the pass."""
    rng = np.random.default_rng([settings.seed, number, 0])
    chosen = [copies[int(rng.integers(len(copies)))] for _, copies in sorted(sets.items())]
    chosen.sort(key=lambda one: (one.end - one.start) * (1 + 0.1 * rng.random()))
    groups, group, longest = [], list[Example](), 0
    for one in chosen:
        longest = max(longest, one.end - one.start)
        if group and longest * (len(group) + 1) > settings.batch:
            groups.append(group)
            group, longest = [], one.end - one.start
        group.append(one)
    groups.append(group)
    for index in rng.permutation(len(groups)):
        yield groups[int(index)]


def _step(model: nn.Module, group: list[Example], rng: np.random.Generator, optimizer: torch.optim.Optimizer) -> float:
    parts = [torch.from_numpy(np.array(one.layers[one.start : one.end])).bfloat16() for one in group]
    for part in parts:  # masks over time
        for _ in range(len(part) // 60 + 1 if len(part) > 40 else 0):
            at = int(rng.integers(0, len(part) - 15))
            part[at : at + int(rng.integers(0, 12))] = 0
    labels = [torch.tensor(one.phones) for one in group]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(nn.utils.rnn.pad_sequence(parts, batch_first=True))
    loss = nn.functional.ctc_loss(
        found.transpose(0, 1),
        torch.cat(labels),
        torch.tensor([len(part) for part in parts]),
        torch.tensor([len(label) for label in labels]),
        zero_infinity=True,
    )
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return float(loss.item())
