"""Between the governor and a box: what the sensors say as readings, what the box can move as a ladder, and one ladder after another."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from firmware.readings import CapKind, Snapshot, State
from runtime.config import Language
from runtime.governor import Readings
from runtime.governor import State as Governed
from runtime.governor_ladder import Ladder, Lane, Setting, build
from runtime.governor_profiles import BOXES, box_of, profile_for
from runtime.messages import RungSize

__all__ = [
    "Reach",
    "carried",
    "cooler_modes",
    "has_no_thermometer",
    "in_words",
    "kind_of",
    "ladder_of",
    "memory_mb",
    "model_is_here",
    "model_share",
    "readings_of",
]

_SLOW_FAN = 0.4
"""Share of full speed that a box drives its fan with while it tells none; it only sizes the step up."""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What can be moved on this box; another reach is another ladder."""

    kind: str
    rungs: tuple[RungSize, ...]
    fps: float
    fan: bool = False
    modes: tuple[str, ...] = ()  # power modes, the usual one first, then cooler ones
    model: bool = False  # the language model runs on this box


def kind_of(root: Path, snapshot: Snapshot) -> str:
    """Which of the governor's boxes this is, by the names of the board and of its NVIDIA cards."""
    try:
        board = (root / "proc/device-tree/model").read_text(errors="replace").strip("\0\n")
    except OSError:
        board = ""
    cards = [sensor.name for sensor in snapshot.temperatures if sensor.source == "nvml"]
    return box_of(" ".join((board, *cards)))


def has_no_thermometer(kind: str, snapshot: Snapshot) -> bool:
    """Whether this is a machine whose sensors tell no limit, or without any, such as a virtual one. A known box that is silent is not."""
    return kind == "pc" and all(sensor.margin_c is None and sensor.state is not State.UNREADABLE for sensor in snapshot.temperatures)


def readings_of(
    snapshot: Snapshot, *, memory: float | None = None, frames: int | None = None, late: int | None = None, speaking: bool | None = None
) -> Readings:
    """One look, as the governor wants it."""
    told = bool(snapshot.throttles or snapshot.events)
    return Readings(
        margins={sensor.name: sensor.margin_c for sensor in snapshot.temperatures},
        throttled=snapshot.capped(CapKind.HEAT) or snapshot.capped(CapKind.EMERGENCY) or bool(snapshot.alarms) if told else None,
        capped=snapshot.capped(CapKind.POWER) if snapshot.throttles else None,
        power_w=max((rail.watts for rail in snapshot.rails), default=None),
        memory_mb=memory,
        fan_rpm=min((fan.rpm for fan in snapshot.fans if fan.rpm is not None), default=None),
        frames=frames,
        late=late,
        speaking=speaking,
    )


def memory_mb(root: Path) -> float | None:
    """Memory that programs can still have, MB; None where it is not told."""
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def cooler_modes(now: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The power mode that is on and, best first, those of fewer watts; nvpmodel names them so: MAXN, 30W, MODE_15W."""
    limit = _watts(now)
    below = {name: watts for name in names if (watts := _watts(name)) is not None and (limit is None or watts < limit)}
    if limit is None and not now.upper().startswith("MAXN"):
        return ()
    return (now, *sorted(below, key=lambda name: -below[name]))


def _watts(mode: str) -> float | None:
    found = re.search(r"(\d+(?:\.\d+)?)W", mode, re.IGNORECASE)
    return float(found[1]) if found else None


def ladder_of(reach: Reach, snapshot: Snapshot) -> Ladder:
    """The ladder of a box with this reach. What is no lever here is reckoned to draw its watts all the same: a camera, which nothing sets
    the rate of, and a model, if ours is elsewhere, for other programs may have one.
    """
    duties = [fan.duty for fan in snapshot.fans if fan.duty is not None]
    fan = min(max(min(duties, default=_SLOW_FAN), 0.1), 0.95) if reach.fan else 0.0
    rungs = [(rung.name, rung.width * rung.height) for rung in reach.rungs]
    box = BOXES[reach.kind]
    others_w = box.camera_w + (0.0 if reach.model or reach.kind == "pc" else box.token_j * box.tokens_s)
    box = msgspec.structs.replace(box, base_w=box.base_w + others_w)
    tokens_s = box.tokens_s if reach.model else 0.0
    return build(profile_for(box, rungs, fps=reach.fps, tokens_s=tokens_s, fan=fan, modes=reach.modes))


def model_share(ladder: Ladder, setting: Setting) -> float:
    """What the language model may make of its tokens; 1.0 on a box where it is no lever."""
    full = next((float(lever.levels[0]) for lever in ladder.profile.levers if lever.name == "llm"), 0.0)
    return setting.llm / full if full and setting.llm is not None else 1.0


def model_is_here(language: Language) -> bool:
    """Whether a language model is configured, and its server runs on this machine: one elsewhere heats another."""
    try:
        host = urlsplit(language.base_url).hostname or ""
    except ValueError:
        return False
    if language.engine == "grounded":
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def carried(old: Ladder, state: Governed, new: Ladder) -> Governed:
    """The state on another ladder, because a lever came or went: each lane takes the fewest steps that leave none better than it was."""
    lanes = ((old.heat, new.heat, state.heat), (old.frames, new.frames, state.frames), (old.memory, new.memory, state.memory))
    queues = [
        msgspec.structs.replace(queue, steps=_steps(old, before.at[min(queue.steps, len(before.steps))], new, lane))
        for before, lane, queue in lanes
    ]
    levels = tuple(map(max, *(lane.at[queue.steps] for (_, lane, _), queue in zip(lanes, queues, strict=True))))
    return msgspec.structs.replace(
        state,
        heat=queues[0],
        frames=queues[1],
        memory=queues[2],
        levels=levels,
        setting=new.setting(levels, state.setting.alarm),
        before_blind=min(state.before_blind, queues[0].steps),
    )


def _steps(old: Ladder, levels: tuple[int, ...], new: Ladder, lane: Lane) -> int:
    stood = {lever.name: lever.levels[level] for lever, level in zip(old.profile.levers, levels, strict=True) if level}
    least = [
        lever.levels.index(stood[lever.name]) if lever.name in stood and stood[lever.name] in lever.levels else 0
        for lever in new.profile.levers
    ]
    fits = (steps for steps, at in enumerate(lane.at) if all(level >= low for level, low in zip(at, least, strict=True)))
    return next(fits, len(lane.steps))


def in_words(setting: Setting) -> str:
    """A setting for health.json, e.g. "384, 30 fps, model 10.2 tokens/s, fan 40%"."""
    parts = [setting.rung, None if setting.fps is None else f"{setting.fps:g} fps"]
    parts += [None if setting.llm is None else f"model {setting.llm:g} tokens/s"]
    parts += [None if setting.fan is None else f"fan {setting.fan:.0%}", setting.mode]
    return ", ".join(part for part in parts if part)
