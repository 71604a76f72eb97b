"""Who decides in the thermal benchmark: the governor, and what others do, all on the same ladder of settings.

- `none`: everything at its best; the hardware throttles at its trip.
- `two_threshold`: every 10 s a step down below 8 °C of margin, a step up above 15 °C.
- `openpilot`: hardwared's bands (green, yellow, red, danger) with its filter of 5 s and its hysteresis, moved so that danger begins at
  the box's own trip; green is the best setting, yellow and red a third and two thirds of the way, danger the last rung.
- `pid`: Linux' power allocator: a PID on the temperature gives a budget of watts, the best setting that fits it is taken each second. Set
  point 5 °C under the trip; gains as the kernel derives them (k_po, k_pu = 2 k_po, k_i = k_pu / 10), the sustainable power being nominal.

The peers go by the last reading while there is none, as their models do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.governor import Rules, State, begin, decide
from runtime.governor_ladder import Ladder
from runtime.governor_signal import Readings
from visavis.bench.thermal_plants import Floats, Ints

__all__ = ["POLICIES", "Fixed", "Governor", "Look", "Policy", "make"]

POLICIES = ("governor", "none", "two_threshold", "openpilot", "pid")
_NS = 1_000_000_000


class Look:
    """What a policy may know in one second; arrays by case. A margin that cannot be read is NaN."""

    def __init__(self, second: int, zones: tuple[Floats, Floats], throttled: NDArray[np.bool_], capped: NDArray[np.bool_],
                 late: Ints, fan_dead: NDArray[np.bool_], speaking: NDArray[np.bool_]) -> None:  # fmt: skip
        self.second, self.zones, self.throttled, self.capped = second, zones, throttled, capped
        self.late, self.fan_dead, self.speaking = late, fan_dead, speaking

    def margin(self) -> Floats:
        """The smaller of the zones that can be read, NaN if none can."""
        first, second = self.zones
        return np.fmin(first, second)


class Policy(Protocol):
    """One policy for all cases. `levels` (case, lever) is what holds now; `alarm` whether somebody was called."""

    levels: Ints
    alarm: NDArray[np.bool_]

    def look(self, look: Look) -> None:
        """Take one second's readings."""


class _Table:
    """Positions on the ladders of all cases, and the levels they mean."""

    def __init__(self, ladders: list[Ladder]) -> None:
        self.last = np.array([len(ladder.heat.steps) for ladder in ladders])
        width = int(self.last.max()) + 1
        self.table = np.array([[ladder.heat.at[min(i, len(ladder.heat.at) - 1)] for i in range(width)] for ladder in ladders])
        self.rows = np.arange(len(ladders))
        self.position = np.zeros(len(ladders), int)
        self.levels: Ints = self.table[self.rows, self.position]
        self.alarm = np.zeros(len(ladders), bool)

    def go(self, position: Ints) -> None:
        self.position = np.clip(position, 0, self.last)
        self.levels = self.table[self.rows, self.position]


class Fixed(_Table):
    """One setting for ever: position `position` on the ladder, or the best."""

    def __init__(self, ladders: list[Ladder], position: Ints | None = None) -> None:
        super().__init__(ladders)
        if position is not None:
            self.go(position)

    def look(self, look: Look) -> None:
        """Nothing."""


class TwoThresholds(_Table):
    """Down below one margin, up above another, every 10 s."""

    DOWN_C, UP_C, EVERY_S = 8.0, 15.0, 10

    def __init__(self, ladders: list[Ladder]) -> None:
        super().__init__(ladders)
        self.margin = np.full(len(ladders), 50.0)

    def look(self, look: Look) -> None:
        """A step where it is time."""
        self.margin = np.where(np.isnan(look.margin()), self.margin, look.margin())
        if look.second % self.EVERY_S == 0:
            self.go(self.position + (self.margin < self.DOWN_C) - (self.margin > self.UP_C))


class Bands(_Table):
    """openpilot's hardwared."""

    UP_C = np.array([80.0, 96.0, 107.0])  # into the next band above this
    BACK_C = np.array([75.0, 88.0, 94.0])  # and back below that
    FILTER_S = 5.0

    def __init__(self, ladders: list[Ladder]) -> None:
        super().__init__(ladders)
        self.margin = np.full(len(ladders), 50.0)
        self.raw = self.margin.copy()
        self.band = np.ones(len(ladders), int)  # it starts in yellow

    def look(self, look: Look) -> None:
        """One band at most at a time."""
        self.raw = np.where(np.isnan(look.margin()), self.raw, look.margin())
        self.margin = self.margin + (self.raw - self.margin) / (self.FILTER_S + 1)
        temperature = self.UP_C[-1] - self.margin
        hotter = (self.band < 3) & (temperature > self.UP_C[np.minimum(self.band, 2)])
        cooler = (self.band > 0) & (temperature < self.BACK_C[np.maximum(self.band - 1, 0)])
        self.band = self.band + hotter - (cooler & ~hotter)
        self.go(np.rint(self.last * self.band / 3).astype(int))


class PowerAllocator(_Table):
    """Linux' drivers/thermal/gov_power_allocator.c, on the ladder."""

    UNDER_C, SWITCH_ON_C = 5.0, 20.0

    def __init__(self, ladders: list[Ladder]) -> None:
        super().__init__(ladders)
        self.error = np.full(len(ladders), 40.0)
        self.integral = np.zeros(len(ladders))
        profiles = [ladder.profile for ladder in ladders]
        full = np.array([p.base_w + sum(lever.watts[0] for lever in p.levers) for p in profiles])
        saved = np.zeros(self.table.shape[:2])
        for row, ladder in enumerate(ladders):
            sums = np.cumsum([0.0, *(step.watts for step in ladder.heat.steps)])
            saved[row] = np.append(sums, np.full(self.table.shape[1] - len(sums), sums[-1]))
        self.watts = full[:, None] - saved
        self.sustainable = np.array([p.sustained_w for p in profiles])
        self.k_po = self.sustainable / (self.SWITCH_ON_C - self.UNDER_C)
        self.k_pu = 2 * self.k_po
        self.k_i = self.k_pu / 10

    def look(self, look: Look) -> None:
        """The budget, and the best setting within it."""
        margin = look.margin()
        error = np.where(np.isnan(margin), self.error, margin - self.UNDER_C)
        self.error = error
        on = error < self.SWITCH_ON_C - self.UNDER_C
        # The integral is kept only near the set point and within what the budget can be, or it would wind up all day.
        self.integral = np.where(on, np.clip(self.integral + self.k_i * error, -self.watts[:, 0], self.watts[:, 0]), 0.0)
        budget = self.sustainable + self.integral + np.where(error < 0, self.k_po, self.k_pu) * error
        fits = self.watts <= budget[:, None]
        position = np.where(fits.any(1), fits.argmax(1), self.last)
        self.go(np.where(on, position, 0))


class Governor:
    """runtime.governor, case by case, exactly as a node calls it."""

    FRAMES = 30

    def __init__(self, ladders: list[Ladder], rules: Rules) -> None:
        self.rules = rules
        self.ladders = ladders
        self.states: list[State] = [begin(ladder, rules) for ladder in ladders]
        self.levels: Ints = np.array([state.levels for state in self.states])
        self.alarm = np.zeros(len(ladders), bool)
        self.whys: list[tuple[int, int, str]] = []
        self.cpu_s, self.calls = 0.0, 0

    def look(self, look: Look) -> None:
        """One decision for each case."""
        now = (look.second + 1) * _NS
        columns = (*look.zones, look.throttled, look.capped, look.late, look.fan_dead, look.speaking)
        rows: Any = zip(*(column.tolist() for column in columns), strict=True)
        states, rules, frames = self.states, self.rules, self.FRAMES
        began = time.process_time()
        for case, (first, second, throttled, capped, late, dead, speaking) in enumerate(rows):
            before = states[case]
            fan_rpm = 0.0 if dead else 2000.0
            readings = Readings({"tj": first, "gpu": second}, throttled, capped, None, None, fan_rpm, frames, late, speaking)
            state, setting, why = decide(self.ladders[case], rules, before, readings, now)
            states[case] = state
            if setting is not before.setting:
                self.levels[case] = state.levels
                self.alarm[case] = bool(setting.alarm)
                self.whys.append((look.second, case, why))
        self.cpu_s += time.process_time() - began
        self.calls += len(states)


def make(name: str, ladders: list[Ladder], rules: Rules) -> Policy:
    """The policy of that name; KeyError if there is none."""
    kinds: dict[str, Callable[[list[Ladder]], Policy]] = {
        "none": Fixed,
        "two_threshold": TwoThresholds,
        "openpilot": Bands,
        "pid": PowerAllocator,
    }
    return Governor(ladders, rules) if name == "governor" else kinds[name](ladders)
