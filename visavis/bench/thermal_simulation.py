"""The simulation of the thermal benchmark: boxes through their days under one policy, a second at a time, all cases side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.bench import thermal_days as days
from visavis.bench.thermal_plants import Boxes, Floats, Plant, State, sample
from visavis.bench.thermal_policies import Look, Policy

__all__ = ["TRACE_S", "Batch", "Outcome", "batches", "simulate"]

_CHUNK = 40  # boxes at a time: 8 hours of 320 days are 0.5 GB
_MINUTE = 60
_HOUR = 3600
_FRAMES = 30
_FEWEST = 25.0
TRACE_S = 10
"""Seconds between two points of a trace."""


@dataclass
class Batch:
    """Boxes with the day of each: one case per box and profile."""

    names: list[tuple[str, int, str]]  # kind, number, profile
    boxes: Boxes
    day: days.Day


@dataclass
class Outcome:
    """What became of each case; arrays by case. Times in seconds, -1 never."""

    seconds_above_trip: Floats
    unserved_s: Floats  # switched off, or fewer than 25 frames a second in time
    shutdowns: Floats  # how often it switched itself off
    lost_s: Floats  # above the trip or switched off
    hottest: Floats  # above the trip, °C; negative: it stayed so much below
    off: NDArray[np.bool_]  # switched itself off at its critical temperature
    min_fps: Floats
    changes: Floats  # seen, all day
    worst_hour: Floats  # seen
    moves: Floats  # of any lever
    quality: Floats
    tripped_s: Floats
    last_rung_s: Floats
    alarm_s: Floats
    trace: dict[str, NDArray[np.float32]]


def batches(plants: tuple[Plant, ...], cases: int, hours: float, seed: int, profiles: tuple[str, ...] = days.PROFILES) -> Iterator[Batch]:
    """All cases: `cases` boxes × `profiles`, in batches that fit into memory. The same seed gives the same cases."""
    rng = np.random.default_rng(seed)
    kinds, spread = sample(plants, cases, rng)
    for begin in range(0, cases, _CHUNK):
        chosen = [(i, profile) for i in range(begin, min(begin + _CHUNK, cases)) for profile in profiles]
        boxes = Boxes([kinds[i] for i, _ in chosen], spread[[i for i, _ in chosen]])
        watts = np.array([plant.base_w + sum(lever.watts[0] for lever in plant.lever) for plant in boxes.plants])
        names = [(kinds[i].name, i, profile) for i, profile in chosen]
        yield Batch(names, boxes, days.make([profile for _, profile in chosen], watts, hours, np.random.default_rng([seed, begin])))


def simulate(batch: Batch, policy: Policy, last: NDArray[np.int64], *, trace: bool = False) -> Outcome:
    """A day of all cases of a batch under one policy. `last`: the rung level of the idle loop of each case."""
    boxes, day = batch.boxes, batch.day
    seconds, n = day.air.shape
    state = boxes.start(day.air[0].astype(float))
    out = _empty(n)
    hour = np.zeros(n)
    minute, minutes = np.zeros(n), 0
    rows = boxes.rows
    kept = {name: np.zeros((seconds // TRACE_S, n), np.float32) for name in ("margin", "quality", "fps")} if trace else {}
    held, was_off = policy.levels.copy(), np.zeros(n, bool)
    for second in range(seconds):
        watts, share = boxes.advance(
            state, held, day.demand[second].astype(float), day.air[second].astype(float), day.sun[second].astype(float),
            day.dirt[second].astype(float), day.fan_dead[second], day.cap[second].astype(float),
        )  # fmt: skip
        above = state.die > boxes.trip
        fps = boxes.fps[rows, held[:, 1]] * share
        quality = boxes.sharp[rows, held[:, 0]] * fps / _FRAMES
        out.seconds_above_trip += above
        out.tripped_s = np.where(above & (out.tripped_s < 0), second, out.tripped_s)
        out.hottest = np.maximum(out.hottest, state.die - boxes.trip)
        off = state.off_s > 0
        out.shutdowns += off & ~was_off
        was_off = off
        out.off |= off
        out.unserved_s += fps < _FEWEST
        out.lost_s += above | off
        out.quality += quality
        minute += fps
        minutes += 1
        if minutes == _MINUTE:
            out.min_fps = np.minimum(out.min_fps, minute / minutes)
            minute, minutes = np.zeros(n), 0
        if trace and second % TRACE_S == 0 and second // TRACE_S < len(kept["margin"]):
            for name, value in (("margin", boxes.trip - state.die), ("quality", quality), ("fps", fps)):
                kept[name][second // TRACE_S] = value
        policy.look(_look(batch, second, state, share, watts))
        moved = held != policy.levels
        seen = moved[:, :2].any(1)
        out.moves += moved.any(1)
        out.changes += seen
        hour += seen
        held = policy.levels.copy()
        out.last_rung_s = np.where((held[:, 0] == last) & (out.last_rung_s < 0), second, out.last_rung_s)
        out.alarm_s = np.where(policy.alarm & (out.alarm_s < 0), second, out.alarm_s)
        if (second + 1) % _HOUR == 0 or second + 1 == seconds:
            out.worst_hour = np.maximum(out.worst_hour, hour)
            hour = np.zeros(n)
    out.quality = out.quality / seconds
    out.trace = kept
    return out


def _empty(n: int) -> Outcome:
    zeros, never = np.zeros(n), np.full(n, -1.0)
    return Outcome(zeros.copy(), zeros.copy(), zeros.copy(), zeros.copy(), np.full(n, -np.inf), np.zeros(n, bool), np.full(n, np.inf),
                   zeros.copy(), zeros.copy(), zeros.copy(), zeros.copy(), never.copy(), never.copy(), never.copy(), {})  # fmt: skip


def _look(batch: Batch, second: int, state: State, share: Floats, watts: Floats) -> Look:
    boxes, day = batch.boxes, batch.day
    zones = [
        np.where(blind[second], np.nan, boxes.trip - np.rint((state.sensor + noise[second]) / boxes.step_c) * boxes.step_c)
        for noise, blind in zip(day.noise, day.blind, strict=True)
    ]
    late = np.rint((1.0 - share) * _FRAMES).astype(int)
    capped = watts >= day.cap[second] * boxes.full - 1e-6
    return Look(second, (zones[0], zones[1]), state.throttle > 0, capped, late, day.fan_dead[second], day.speaking[second])
