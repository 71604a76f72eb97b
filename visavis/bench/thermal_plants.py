"""The boxes of the thermal benchmark: die and heatsink, a fan, a lagging coarse thermometer, and a hardware that throttles at its trip.

    C_die dT/dt  = P − (T − S)/R_die          P: watts of the die            S: heatsink
    C_sink dS/dt = (T − S)/R_die + sun − (S − air)/R_sink(fan)

Two masses are what Linux' power allocator and most heatsink data sheets reckon with. All cases run side by side in numpy, 1 s a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from runtime._strict import Mistakes, build, read_toml
from runtime.governor_ladder import LOOP, Ladder, Lever, Profile, ProfileError
from runtime.governor_ladder import build as build_ladder

__all__ = ["LEVERS", "Boxes", "Floats", "Plant", "PlantsError", "State", "load", "sample"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Positive = Annotated[float, Meta(gt=0)]
LEVERS = ("rung", "fps", "llm", "camera", "fan", "mode")
SPREAD = 0.3
_OFF_S = 600.0  # a box that switched itself off at its critical temperature cools so long before it is on again
_BUSY = 0.9  # of the box's compute at the best setting while the model answers: some is left, or 30 fps would not be held


class PlantsError(ValueError):
    """The data file of boxes is wrong; one line per mistake."""


class Plant(msgspec.Struct, frozen=True, kw_only=True):
    """One box; units in plants.toml. `sink_c_per_w` and `mode_scale` (of watts and speed) go with the levels of `fan` and `mode`."""

    name: str
    title: str
    sources: tuple[str, ...]
    assumed: str
    trip_c: Positive
    critical_c: Positive
    die_c_per_w: Positive
    die_tau_s: Positive
    sink_c_per_w: tuple[Positive, ...]
    still_c_per_w: Positive
    sink_j_per_c: Positive
    lag_s: Positive
    sensor_step_c: Positive
    base_w: Positive
    mode_scale: tuple[Positive, ...]
    throttled_share: Positive
    sustained_w: Positive
    lever: tuple[Lever, ...]

    def profile(self) -> Profile:
        """What a governor is told of the box: its nominal figures."""
        c_per_w = self.die_c_per_w + self.sink_c_per_w[0]
        return Profile(levers=self.lever, base_w=self.base_w, sustained_w=self.sustained_w, c_per_w=c_per_w)

    def ladder(self) -> Ladder:
        """The ladder of the box. Raises ProfileError."""
        return build_ladder(self.profile())


class _File(msgspec.Struct, frozen=True, kw_only=True):
    plant: tuple[Plant, ...]


def load(path: Path) -> tuple[Plant, ...]:
    """The boxes of a data file. Raises PlantsError."""
    mistakes = Mistakes()
    tables = read_toml(path, mistakes)
    file = build(_File, tables, path.name, mistakes) if tables is not None else None
    for plant in file.plant if file else ():
        levels = {lever.name: len(lever.levels) for lever in plant.lever}
        if tuple(levels) != LEVERS:
            mistakes.add(path.name, f"plant[{plant.name}].lever", f"the levers must be {', '.join(LEVERS)}, in this order")
        elif len(plant.sink_c_per_w) != levels["fan"] or len(plant.mode_scale) != levels["mode"]:
            mistakes.add(path.name, f"plant[{plant.name}]", "sink_c_per_w needs a number for each level of fan, mode_scale of mode")
        else:
            try:
                plant.ladder()
            except ProfileError as error:
                mistakes.add(path.name, f"plant[{plant.name}].lever", str(error))
    if mistakes or file is None:
        raise PlantsError(str(mistakes))
    if not file.plant:
        raise PlantsError(f"{path.name}: plant: there is none")
    return file.plant


def _padded(rows: list[tuple[float, ...]]) -> Floats:
    """Rows of unlike length as one array; the last number of a row goes on."""
    width = max(map(len, rows))
    return np.array([(*row, *[row[-1]] * (width - len(row))) for row in rows], float)


@dataclass
class State:
    """Where each case stands: temperatures (°C), the thermometer, how far the hardware throttles (0..1), and how long it stays off (s)."""

    die: Floats
    sink: Floats
    sensor: Floats
    throttle: Floats
    off_s: Floats


class Boxes:
    """Many boxes side by side; arrays have one entry per case, levels are (case, lever)."""

    def __init__(self, plants: list[Plant], spread: Floats) -> None:
        """`spread`: (case, 5) factors on resistance of die and of sink, capacity, watts, lag."""
        self.plants = plants
        n = len(plants)
        self.rows = np.arange(n)
        die, sink, capacity, watts, lag = spread.T
        self.trip = np.array([p.trip_c for p in plants])
        self.critical = np.array([p.critical_c for p in plants])
        self.r_die = np.array([p.die_c_per_w for p in plants]) * die
        self.c_die = np.array([p.die_tau_s / p.die_c_per_w for p in plants]) * capacity
        self.r_sink = _padded([p.sink_c_per_w for p in plants]) * sink[:, None]
        self.r_still = np.array([p.still_c_per_w for p in plants]) * sink
        self.c_sink = np.array([p.sink_j_per_c for p in plants]) * capacity
        self.lag = np.array([p.lag_s for p in plants]) * lag
        self.step_c = np.array([p.sensor_step_c for p in plants])
        self.base = np.array([p.base_w for p in plants]) * watts
        self.watts = [_padded([p.lever[i].watts for p in plants]) * watts[:, None] for i in range(len(LEVERS))]
        self.scale = _padded([p.mode_scale for p in plants])
        self.floor = np.array([p.throttled_share for p in plants])
        self.fps = _padded([tuple(map(float, p.lever[1].levels)) for p in plants])
        heights = [tuple(0.0 if name == LOOP else float(name) for name in p.lever[0].levels) for p in plants]
        self.sharp = _padded([tuple(height / row[0] for height in row) for row in heights])
        self.full = self.base + self.dynamic(np.zeros((n, len(LEVERS)), int), np.ones(n))
        self.decay = np.exp(-1.0 / (self.r_die * self.c_die))

    def start(self, air: Floats) -> State:
        """A box that was off over night."""
        return State(air.copy(), air.copy(), air.copy(), np.zeros(len(air)), np.zeros(len(air)))

    def dynamic(self, levels: Ints, demand: Floats) -> Floats:
        """Watts above the idle box, before any throttling. `demand`: how much of the time the model answers, 0..1."""
        rung, fps, llm, camera, _, mode = levels.T
        rows, watts = self.rows, self.watts
        picture = watts[0][rows, rung] + watts[1][rows, fps]
        return np.asarray((picture + watts[2][rows, llm] * demand + watts[3][rows, camera]) * self.scale[rows, mode])

    def advance(self, state: State, levels: Ints, demand: Floats, air: Floats, sun: Floats, dirt: Floats, dead: NDArray[np.bool_],
                cap: Floats) -> tuple[Floats, Floats]:  # fmt: skip
        """One second. Returns the watts drawn and the share of frames that came in time.

        `dirt` multiplies the sink's resistance, `dead` is a fan that stands, `cap` limits the watts to that share of the full draw.
        """
        rows = self.rows
        wanted = self.dynamic(levels, demand)
        full = self.full - self.base
        speed = (1.0 - state.throttle * (1.0 - self.floor)) * self.scale[rows, levels[:, 5]]
        needed = np.maximum(_BUSY * wanted / self.scale[rows, levels[:, 5]] / full, 1e-6)
        allowed = np.maximum(cap * self.full - self.base, 0.05 * full)
        share = np.minimum(1.0, np.minimum(speed / needed, allowed / np.maximum(wanted, 1e-6)))
        on = state.off_s <= 0
        share = np.where(on, share, 0.0)
        watts = np.where(on, self.base + wanted * share, 0.0)
        fan = self.r_sink[rows, levels[:, 4]]
        r_sink = np.where(dead, self.r_still, fan) * dirt
        flow = (state.die - state.sink) / self.r_die
        # The die is faster than a step where it is light: exactly towards where it is going.
        state.die = (state.sink + watts * self.r_die) + (state.die - state.sink - watts * self.r_die) * self.decay
        state.sink = state.sink + (flow + sun - (state.sink - air) / r_sink) / self.c_sink
        state.sensor = state.sensor + (state.die - state.sensor) / (1.0 + self.lag)
        over = state.die > self.trip
        state.off_s = np.where(state.die > self.critical, _OFF_S, state.off_s - 1.0)
        state.throttle = np.clip(state.throttle + np.where(over, 0.1, -0.05), 0.0, 1.0)
        return watts, share


def sample(plants: tuple[Plant, ...], count: int, rng: np.random.Generator) -> tuple[list[Plant], Floats]:
    """`count` boxes, the kinds in turn, each with its own factors within ±30 %."""
    return [plants[i % len(plants)] for i in range(count)], 1.0 + rng.uniform(-SPREAD, SPREAD, (count, 5))
