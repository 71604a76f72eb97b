"""A rung held from the fleet, on the simulated boxes and days of the thermal benchmark."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.governor import Readings, Rules, begin, decide
from runtime.governor_ladder import Ladder
from runtime.governor_override import Hold, Reins, overrule, rung_at
from visavis.bench import thermal
from visavis.bench.thermal_plants import load
from visavis.bench.thermal_policies import Fixed, Look
from visavis.bench.thermal_simulation import batches, simulate

pytestmark = pytest.mark.unit

NS = 1_000_000_000
PLANTS = load(thermal.PLANTS)


class Held:
    """The governor, and a fleet that holds a rung anew every hour for so many seconds."""

    def __init__(self, ladders: list[Ladder], rung: int, seconds: int) -> None:
        self.ladders, self.rung, self.seconds = ladders, rung, seconds
        self.states = [begin(ladder, Rules()) for ladder in ladders]
        self.reins = [Reins() for _ in ladders]
        self.levels = np.array([state.levels for state in self.states])
        self.alarm = np.zeros(len(ladders), bool)
        self.better_s = self.lower_s = 0

    def look(self, look: Look) -> None:
        """One decision for each case, and what the fleet makes of it."""
        now = (look.second + 1) * NS
        columns = (*look.zones, look.throttled, look.capped, look.late, look.fan_dead, look.speaking)
        for case, (first, second, throttled, capped, late, dead, speaking) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            readings = Readings({"tj": first, "gpu": second}, throttled, capped, None, None, 0.0 if dead else 2000.0, 30, late, speaking)
            decision = decide(self.ladders[case], Rules(), self.states[case], readings, now)
            reins = self.reins[case]
            if look.second % 3600 == 0:
                reins = Reins(hold=Hold(self.rung, now + self.seconds * NS), shown=reins.shown, own=reins.own)
            reins, setting, _ = overrule(self.ladders[case], Rules(), reins, decision, readings, now)
            self.states[case], self.reins[case] = decision.state, reins
            at = rung_at(self.ladders[case])
            levels = list(decision.state.levels)
            if reins.shown is not None:
                self.better_s += reins.shown < levels[at]
                self.lower_s += reins.shown > levels[at]
            levels[at] = levels[at] if reins.shown is None else reins.shown
            self.levels[case], self.alarm[case] = levels, bool(setting.alarm)


@pytest.mark.parametrize(("rung", "seconds"), [(0, 3600), (9, 1800)], ids=["the best all day", "the lowest every other half hour"])
def test_no_box_is_throttled_for_what_the_fleet_holds(rung: int, seconds: int) -> None:
    """What some setting keeps below the trip stays below it, whatever is held; and it was held."""
    (batch,) = batches(PLANTS, 3, 6.0, 7, ("fan_failure", "sun"))
    ladders = [plant.ladder() for plant in batch.boxes.plants]
    loop = np.full(len(ladders), 3)
    ends = np.array([len(ladder.heat.steps) for ladder in ladders])
    feasible = simulate(batch, Fixed(ladders, ends), loop).hottest <= 0
    assert feasible.sum() > 3
    policy = Held(ladders, rung, seconds)
    out = simulate(batch, policy, loop)
    assert not out.seconds_above_trip[feasible].any()
    assert (policy.lower_s if rung else policy.better_s) > 600
