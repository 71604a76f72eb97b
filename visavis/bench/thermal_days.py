"""The days of the thermal benchmark: air and sun, fan, dirt, power, thermometers, and visitors who come and talk.

Every case draws its own day of a profile, from opening. `air` is that inside the kiosk's housing, which is warmer than the shop's: the
ranges are wide on purpose, so that about half of the days are too hot for a box that does nothing, and some for any setting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.bench.thermal_plants import Floats

__all__ = ["CALM", "PROFILES", "Day", "make"]

Bools = NDArray[np.bool_]

CALM = "calm"
"""The profile without a heat problem."""
PROFILES = ("summer", "blocked", "fan_failure", "sun", "power_cap", "dropout", "noise", CALM)
_HOUR = 3600
_DAY_H = 8.0


@dataclass
class Day:
    """Arrays of (second, case). `noise` is added to what each of the two zones shows, where it can be read at all."""

    air: NDArray[np.float32]
    sun: NDArray[np.float32]
    dirt: NDArray[np.float32]
    cap: NDArray[np.float32]
    demand: NDArray[np.float32]
    noise: tuple[NDArray[np.float32], NDArray[np.float32]]
    fan_dead: Bools
    blind: tuple[Bools, Bools]
    speaking: Bools


def make(profiles: list[str], watts: Floats, hours: float, rng: np.random.Generator) -> Day:
    """The days of cases with these profiles. `watts`: full draw of each box's nominal kind, what the sun is measured against."""
    seconds, n = round(hours * _HOUR), len(profiles)
    hour = np.arange(seconds) / _HOUR
    demand, speaking = _visits(seconds, n, rng)
    day = Day(
        air=np.empty((seconds, n), np.float32),
        sun=np.zeros((seconds, n), np.float32),
        dirt=np.ones((seconds, n), np.float32),
        cap=np.full((seconds, n), 10.0, np.float32),
        demand=demand,
        noise=(_gauss(rng, seconds, n), _gauss(rng, seconds, n)),
        fan_dead=np.zeros((seconds, n), bool),
        blind=(np.zeros((seconds, n), bool), np.zeros((seconds, n), bool)),
        speaking=speaking,
    )
    for case, profile in enumerate(profiles):
        _shape(day, case, profile, hour, watts[case], rng)
    return day


def _gauss(rng: np.random.Generator, seconds: int, n: int) -> NDArray[np.float32]:
    return 0.2 * rng.standard_normal((seconds, n), dtype=np.float32)


def _shape(day: Day, case: int, profile: str, hour: Floats, watts: float, rng: np.random.Generator) -> None:
    """Write one case's day."""
    arch = np.sin(np.pi * np.clip(hour / _DAY_H, 0, 1)) ** 1.5  # the sun's way over the day
    drift = 1.0 * np.sin(2 * np.pi * (hour / 1.3 + rng.uniform()))  # doors, an air conditioner
    cool, peak = rng.uniform(28, 36), rng.uniform(46, 84)
    if profile == "summer":
        day.air[:, case] = cool + (peak - cool) * arch + drift
    elif profile == "blocked":
        begin, worst = rng.uniform(0.5, 3), rng.uniform(1.5, 5.0)
        day.air[:, case] = rng.uniform(30, 46) + drift
        day.dirt[:, case] = 1.0 + (worst - 1.0) * np.clip((hour - begin) / 1.0, 0, 1)
    elif profile == "fan_failure":
        begin = rng.uniform(0.5, 4)
        end = begin + rng.uniform(1, 3) if rng.random() < 0.5 else 99.0
        day.air[:, case] = rng.uniform(30, 60) + drift
        day.fan_dead[:, case] = (hour >= begin) & (hour < end)
    elif profile == "sun":
        shining = _telegraph(len(hour), 900.0, 600.0, rng) & (hour > 1) & (hour < 6)
        strength = _lowpass(shining.astype(np.float64), 300.0)
        day.air[:, case] = cool + 6 * arch + rng.uniform(10, 32) * strength + drift
        day.sun[:, case] = rng.uniform(0.1, 0.7) * watts * strength
    elif profile == "power_cap":
        capped = _telegraph(len(hour), 2400.0, 2400.0, rng)
        day.air[:, case] = cool + drift
        day.cap[:, case] = np.where(capped, rng.uniform(0.5, 0.85), 10.0)
    elif profile == "dropout":
        day.air[:, case] = cool + 0.75 * (peak - cool) * arch + drift
        day.blind[0][:, case] = _telegraph(len(hour), 150.0, 2100.0, rng)
        gated = _telegraph(len(hour), 900.0, 300.0, rng)  # a zone whose part is switched off cannot be read
        day.blind[1][:, case] = day.blind[0][:, case] | gated
    elif profile == "noise":
        day.air[:, case] = cool + 0.75 * (peak - cool) * arch + drift
        for zone in day.noise:
            zone[:, case] *= rng.uniform(4, 8)
            zone[:, case] += np.where(rng.random(len(hour)) < 0.01, rng.choice([-8.0, 8.0], len(hour)), 0.0)
    else:
        day.air[:, case] = rng.uniform(20, 24) + drift


def _telegraph(seconds: int, on_s: float, off_s: float, rng: np.random.Generator) -> Bools:
    """On and off in turn, lengths drawn exponentially around the means; begins off."""
    state, at, out = False, 0.0, np.zeros(seconds, bool)
    while at < seconds:
        length = rng.exponential(on_s if state else off_s)
        out[int(at) : int(at + length)] = state
        state, at = not state, at + length
    return out


def _lowpass(values: Floats, tau_s: float) -> Floats:
    out, last = np.empty_like(values), 0.0
    for i, value in enumerate(values):
        last += (value - last) / tau_s
        out[i] = last
    return out


def _visits(seconds: int, n: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], Bools]:
    """How hard the model is wanted (1 while it thinks, 0.7 while the answer is spoken, 0.3 while it guesses ahead), and who speaks.

    A busy kiosk: visits of about four minutes, two minutes between them; in a visit about six seconds of listening, two of thinking,
    eight of speaking.
    """
    nobody, listens, _thinks, speaks = range(4)
    leave = np.array([1 / 120, 1 / 6, 1 / 2, 1 / 8])
    state = np.zeros(n, np.int8)
    states = np.empty((seconds, n), np.int8)
    for second in range(seconds):
        leaves = rng.random(n) < leave[state]
        ends = rng.random(n) < 1 / 15  # turns in a visit
        after = np.where(state == speaks, np.where(ends, nobody, listens), state + 1)
        state = np.where(leaves, after, state).astype(np.int8)
        states[second] = state
    return np.array([0.0, 0.3, 1.0, 0.7], np.float32)[states], states == speaks
