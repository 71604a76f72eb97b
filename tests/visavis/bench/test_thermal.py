"""The thermal benchmark: its boxes behave as heat does, its cases are the same for the same seed, and it reports what it promises."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.governor_ladder import LOOP
from visavis.bench import thermal
from visavis.bench.thermal_days import PROFILES
from visavis.bench.thermal_plants import LEVERS, Boxes, Plant, PlantsError, load, sample
from visavis.bench.thermal_policies import POLICIES, Fixed
from visavis.bench.thermal_simulation import batches, simulate

pytestmark = pytest.mark.unit

PLANTS = load(thermal.PLANTS)
NO_SPREAD = np.ones((1, 5))


def settled(boxes: Boxes, levels: list[int], air: float, seconds: int, *, dead: bool = False) -> tuple[float, float, float]:
    """Die temperature, watts and share of frames in time of one box after so long at full demand."""
    state = boxes.start(np.array([air]))
    watts = share = np.zeros(1)
    for _ in range(seconds):
        watts, share = boxes.advance(
            state, np.array([levels]), np.ones(1), np.array([air]), np.zeros(1), np.ones(1), np.array([dead]), np.array([10.0])
        )
    return float(state.die[0]), float(watts[0]), float(share[0])


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_box_settles_where_ohms_law_of_heat_says(plant: Plant) -> None:
    """Air plus watts times resistance, after many time constants, and nothing is late."""
    boxes = Boxes([plant], NO_SPREAD)
    die, watts, share = settled(boxes, [0] * len(LEVERS), 10.0, 6000)
    assert die == pytest.approx(10.0 + watts * (plant.die_c_per_w + plant.sink_c_per_w[0]), abs=0.2)
    assert watts == pytest.approx(plant.base_w + sum(plant.lever[i].watts[0] for i in range(4)))
    assert share == 1.0


def test_boxes_agree_with_their_sources() -> None:
    """With the fan on, die to air is what was measured: 1.4 to 1.75 °C/W on an Orin Nano or NX, 0.6 on an AGX Orin."""
    by_name = {plant.name: plant.die_c_per_w + plant.sink_c_per_w[-1] for plant in PLANTS}
    assert 1.4 <= by_name["orin-nano"] <= 1.75
    assert by_name["agx-orin"] == pytest.approx(0.6, abs=0.1)
    for plant in PLANTS:
        assert plant.sources
        assert plant.assumed
        assert plant.lever[0].levels[-1] == LOOP


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_every_step_down_is_cooler(plant: Plant) -> None:
    """So that a case is feasible exactly if the last rung holds it."""
    boxes, ladder = Boxes([plant], NO_SPREAD), plant.ladder()
    for dead in (False, True):
        temperatures = [settled(boxes, list(levels), 20.0, 200, dead=dead)[0] for levels in ladder.heat.at]
        assert all(b <= a + 1e-9 for a, b in itertools.pairwise(temperatures))


def test_the_hardware_throttles_at_its_trip_and_gives_up_at_critical() -> None:
    """Too hot: frames come late; far too hot: the box is off and comes back when it has cooled."""
    plant = PLANTS[0]
    boxes = Boxes([plant], NO_SPREAD)
    die, _, share = settled(boxes, [0] * len(LEVERS), 62.0, 6000)
    assert plant.trip_c - 1.0 < die < plant.critical_c
    assert share < 1.0
    state = boxes.start(np.array([plant.critical_c + 20.0]))
    hot = (np.array([[0] * len(LEVERS)]), np.ones(1), np.array([40.0]), np.zeros(1), np.ones(1), np.zeros(1, bool), np.array([10.0]))
    boxes.advance(state, *hot)
    drawn = [float(boxes.advance(state, *hot)[0][0]) for _ in range(900)]
    assert drawn[0] == 0.0
    assert drawn[-1] > plant.base_w


def test_boxes_are_drawn_within_thirty_percent() -> None:
    """The kinds in turn, every factor in its range."""
    kinds, spread = sample(PLANTS, 300, np.random.default_rng(5))
    assert {plant.name for plant in kinds} == {plant.name for plant in PLANTS}
    assert spread.min() >= 0.7
    assert spread.max() <= 1.3
    assert spread.std() > 0.1


def test_the_same_seed_is_the_same_heat() -> None:
    """Cases of one seed are alike to the last digit, those of another are not."""

    def hottest(seed: int) -> list[float]:
        (batch,) = batches(PLANTS, 3, 0.2, seed)
        ladders = [plant.ladder() for plant in batch.boxes.plants]
        return [float(c) for c in simulate(batch, Fixed(ladders), np.full(len(ladders), 3)).hottest]

    assert hottest(7) == hottest(7)
    assert hottest(7) != hottest(8)


def test_a_box_that_is_off_or_too_slow_serves_nobody() -> None:
    """Nobody cools a box in hot air: it is counted how long it is off or below 25 frames a second, and how often it went off."""
    (batch,) = batches(PLANTS, 3, 2.0, 7, ("fan_failure", "calm"))
    batch.day.air[:, ::2] = 90.0  # the box of each first day
    ladders = [plant.ladder() for plant in batch.boxes.plants]
    out = simulate(batch, Fixed(ladders), np.full(len(ladders), 3))
    hot = np.array([profile == "fan_failure" for _, _, profile in batch.names])
    assert list(out.shutdowns > 0) == list(out.off) == list(hot)
    assert (out.unserved_s[hot] >= 600 * out.shutdowns[hot]).all()  # it cools for ten minutes each time
    assert (out.unserved_s[hot] < 7200).all()
    assert not out.unserved_s[~hot].any()
    assert (out.min_fps[~hot] >= 25).all()


def test_a_small_run_reports_everything() -> None:
    """All policies on all days, every case by name, and the governor as it should be; it can be written as JSON."""
    found = thermal.run(cases=3, hours=1.0, seed=100)
    assert tuple(found["policies"]) == POLICIES
    for row in found["policies"].values():
        assert {"seconds_above_trip", "min_fps", "changes_per_hour_p95", "mean_quality"} <= set(row)
    assert len(found["cases"]["rows"]) == 3 * len(PROFILES)
    assert found["feasible"] + found["infeasible"]["cases"] == 3 * len(PROFILES)
    assert found["infeasible"]["worse_than_no_policy"] == 0
    assert found["policies"]["governor"]["seconds_above_trip"] == 0
    assert found["policies"]["none"]["seconds_above_trip"] > 0
    assert found["no_heat_problem"] == {"cases": 3, "of_calm_days": 3, "moves": 0, "changes": 0}
    assert msgspec.json.decode(msgspec.json.encode(found))["seed"] == 100


@pytest.mark.parametrize(("cases", "hours"), [(0, 1.0), (1, 0.0), (1, 25.0)])
def test_bad_numbers_are_told(cases: int, hours: float) -> None:
    """One line with what is allowed."""
    with pytest.raises(ValueError, match=r"--cases must be 1 to 10000, --hours 0\.1 to 24"):
        thermal.run(cases=cases, hours=hours)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("trip_c = 99.0", "trip_c = -1.0", r"plants.toml: plant\[orin-nano\]\.trip_c"),
        ("trip_c = 99.0", "tripp_c = 99.0", "did you mean trip_c"),
        ("sink_c_per_w = [2.2, 1.15]", "sink_c_per_w = [2.2]", "sink_c_per_w needs a number for each level of fan"),
        ('{ name = "camera"', '{ name = "kamera"', "the levers must be rung, fps, llm, camera, fan, mode"),
        ("watts = [0.6, 0.2]", "watts = [0.2, 0.6]", "camera: a lower level must not draw more watts"),
    ],
)
def test_a_wrong_data_file_is_told(tmp_path: Path, before: str, after: str, says: str) -> None:
    """File, box, field and what is wrong."""
    text = thermal.PLANTS.read_text(encoding="utf-8")
    assert before in text
    file = tmp_path / "plants.toml"
    file.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(PlantsError, match=says):
        load(file)


def test_pictures_are_small(tmp_path: Path) -> None:
    """Two PNGs, each under 100 kB, where matplotlib is there."""
    pytest.importorskip("matplotlib")
    thermal.run(cases=1, hours=0.1, seed=100, plots=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thermal-days.png", "thermal-policies.png"]
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 100_000
