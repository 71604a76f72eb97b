"""What the governor can move: the box's levers, and the ladder made of them, from everything at its best to the prepared idle loop.

A step is one lever going one level down. The steps are taken in the order of what a visitor misses per watt saved, so that the fan and
the language model come before the picture on a box where they cost more watts than it does. Ears and voice are no levers at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import msgspec

__all__ = ["LOOP", "Ladder", "Lane", "Levels", "Lever", "Profile", "ProfileError", "Setting", "Step", "build"]

LOOP = "loop"
"""The last level of the lever `rung`: a prepared loop moves instead of a drawn face."""

_NAMES = ("rung", "fps", "llm", "camera", "fan", "mode")
_VISIBLE = frozenset({"rung", "fps"})
_EASES_FRAMES = frozenset({"rung", "fps", "llm", "camera"})


class ProfileError(ValueError):
    """The profile of a box makes no sense; the text says which lever and why."""


class Lever(msgspec.Struct, frozen=True, kw_only=True):
    """One lever, best level first. `watts`: what it makes the box draw at each level; for the fan, minus the watts its cooling is worth.
    `miss`: how much a visitor misses at each level, on a scale of one's own, rising.

    Names and levels: `rung` (names, the last is "loop"), `fps`, `llm` (tokens per second, 0: answers without the model), `camera` (Hz),
    `fan` (share 0..1 of full speed, rising), `mode` (names of the board's power modes). `frees`: a lower level gives memory back.
    """

    name: str
    levels: tuple[str | float, ...]
    watts: tuple[float, ...]
    miss: tuple[float, ...]
    frees: bool = False


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What the governor knows of its box beforehand. Estimates will do: what is wrong is corrected by what the thermometer says.

    `c_per_w`: °C of the hottest part per watt of the box after an hour, fan slow. `sustained_w`: what it can shed with no thermometer to
    look at, in the hottest air it was designed for. `base_w`: drawn whatever the levers do.
    """

    levers: tuple[Lever, ...]
    base_w: float
    sustained_w: float
    c_per_w: float


class Setting(msgspec.Struct, frozen=True):
    """Where all levers stand. None: the box has no such lever. `alarm` is "" or a sentence for the technician."""

    rung: str | None = None
    fps: float | None = None
    llm: float | None = None
    camera: float | None = None
    fan: float | None = None
    mode: str | None = None
    alarm: str = ""

    @property
    def loop(self) -> bool:
        """Whether the prepared idle loop moves instead of a drawn face."""
        return self.rung == LOOP


@dataclass(frozen=True, slots=True)
class Step:
    """One lever one level down."""

    lever: int
    name: str
    level: int  # reached by it
    watts: float  # saved by it
    visible: bool
    says: str


Levels = tuple[int, ...]
"""The level of each lever, in the order of the profile."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The steps that help against one trouble, in order; `at[n]` are the levels after n of them."""

    steps: tuple[Step, ...]
    at: tuple[Levels, ...]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The steps of a box against heat, late frames and want of memory.

    `safe`: how many of them a box without a thermometer takes; `unseen`: how many come before the first that a visitor sees.
    """

    profile: Profile
    heat: Lane
    frames: Lane
    memory: Lane
    safe: int
    unseen: int
    rises: tuple[float, ...]  # °C that taking back step n brings after an hour, by the profile

    def setting(self, levels: Levels, alarm: str = "") -> Setting:
        """The levels by name."""
        values = {lever.name: lever.levels[level] for lever, level in zip(self.profile.levers, levels, strict=True)}
        return msgspec.convert(values | {"alarm": alarm}, Setting)


def build(profile: Profile) -> Ladder:
    """The ladder of a box. Raises ProfileError."""
    _check(profile)
    steps = _ordered(profile.levers)
    heat = _lane(profile.levers, steps)
    full_w = profile.base_w + sum(lever.watts[0] for lever in profile.levers)
    left_w = full_w
    safe = 0
    for step in heat.steps[:-1] if _has_loop(profile.levers) else heat.steps:
        if left_w <= profile.sustained_w:
            break
        left_w -= step.watts
        safe += 1
    return Ladder(
        profile,
        heat,
        _lane(profile.levers, [step for step in steps if step.name in _EASES_FRAMES and not _is_loop(profile.levers, step)]),
        _lane(profile.levers, [step for step in steps if profile.levers[step.lever].frees]),
        safe,
        next((i for i, step in enumerate(steps) if step.visible), len(steps)),
        tuple(step.watts * profile.c_per_w for step in steps),
    )


def _check(profile: Profile) -> None:
    names = [lever.name for lever in profile.levers]
    if len(set(names)) != len(names) or not set(names) <= set(_NAMES):
        raise ProfileError(f"levers {names}: each of {', '.join(_NAMES)} at most once")
    for lever in profile.levers:
        if not len(lever.levels) == len(lever.watts) == len(lever.miss) or not lever.levels:
            raise ProfileError(f"{lever.name}: levels, watts and miss must be equally many")
        if any(after > before for before, after in pairwise(lever.watts)):
            raise ProfileError(f"{lever.name}: a lower level must not draw more watts")
        if any(after < before for before, after in pairwise(lever.miss)):
            raise ProfileError(f"{lever.name}: a lower level must not be missed less")
        if any(isinstance(level, str) is not (lever.name in ("rung", "mode")) for level in lever.levels):
            raise ProfileError(f"{lever.name}: levels are {'names' if lever.name in ('rung', 'mode') else 'numbers'}")


def _ordered(levers: tuple[Lever, ...]) -> list[Step]:
    at = [0] * len(levers)
    steps: list[Step] = []
    while True:
        open_steps = [step for i, lever in enumerate(levers) if (step := _next(i, lever, at[i]))]
        if not open_steps:
            return steps
        best = min(open_steps, key=lambda step: (_is_loop(levers, step), _price(levers[step.lever], step)))
        at[best.lever] = best.level
        steps.append(best)


def _next(index: int, lever: Lever, level: int) -> Step | None:
    if level + 1 >= len(lever.levels):
        return None
    watts = lever.watts[level] - lever.watts[level + 1]
    return Step(index, lever.name, level + 1, watts, lever.name in _VISIBLE, _says(lever, level))


def _price(lever: Lever, step: Step) -> float:
    missed = lever.miss[step.level] - lever.miss[step.level - 1]
    return missed / step.watts if step.watts > 0 else float("inf")


def _says(lever: Lever, level: int) -> str:
    before, after = lever.levels[level], lever.levels[level + 1]
    if lever.name == "llm":
        return f"model {before:g} → {after:g} tokens/s" if after else "answers without the model"
    if lever.name == "rung":
        return f"picture {before} → {after}" if after != LOOP else "prepared idle loop"
    if lever.name == "fan":
        return f"fan {float(before):.0%} → {float(after):.0%}"
    return (
        f"{lever.name} {before:g} → {after:g}"
        if isinstance(before, float) and isinstance(after, float)
        else f"{lever.name} {before} → {after}"
    )


def _has_loop(levers: tuple[Lever, ...]) -> bool:
    return any(LOOP in lever.levels for lever in levers)


def _is_loop(levers: tuple[Lever, ...], step: Step) -> bool:
    return levers[step.lever].levels[step.level] == LOOP


def _lane(levers: tuple[Lever, ...], steps: Iterable[Step]) -> Lane:
    at = [0] * len(levers)
    taken, positions = [], [tuple(at)]
    for step in steps:
        taken.append(step)
        at[step.lever] = step.level
        positions.append(tuple(at))
    return Lane(tuple(taken), tuple(positions))
