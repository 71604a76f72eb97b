"""The governor as a story: readings and a clock in, settings out. No time passes in these tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.governor import Decision, Readings, Rules, State, begin, decide
from runtime.governor_ladder import LOOP, Ladder, Lever, Profile, ProfileError, Setting, build

pytestmark = pytest.mark.unit

S = 1_000_000_000
RULES = Rules()
LEVERS = (
    Lever(name="rung", levels=("512", "384", "256", LOOP), watts=(2.4, 1.5, 0.9, 0.1), miss=(0, 6, 16, 100)),
    Lever(name="fps", levels=(30, 26), watts=(0.3, 0.0), miss=(0, 8)),
    Lever(name="llm", levels=(17, 10, 5, 0), watts=(7.9, 4.6, 2.3, 0.0), miss=(0, 1, 4, 40), frees=True),
    Lever(name="camera", levels=(15, 5), watts=(0.6, 0.2), miss=(0, 1)),
    Lever(name="fan", levels=(0.4, 1.0), watts=(0.0, -6.0), miss=(0, 2)),
    Lever(name="mode", levels=("25W", "15W"), watts=(1.0, 0.0), miss=(0, 4)),
)
LADDER = build(Profile(levers=LEVERS, base_w=8.0, sustained_w=13.0, c_per_w=2.5))
BEST = LADDER.setting(LADDER.heat.at[0])
COOL = Readings({"tj": 40.0, "gpu": 42.0}, throttled=False, frames=30, late=0)
ORDER = [(step.name, step.level) for step in LADDER.heat.steps]
FIRST_SEEN = next(i for i, step in enumerate(LADDER.heat.steps) if step.visible)


def margin(c: float, **more: object) -> Readings:
    """The same margin on both zones."""
    return msgspec.structs.replace(COOL, margins={"tj": c, "gpu": c + 1}, **more)


def play(looks: Iterable[Readings], state: State | None = None, ladder: Ladder = LADDER, every_s: float = 1.0) -> Iterator[Decision]:
    """Decisions on looks a second apart."""
    state = state or begin(ladder, RULES)
    now = state.signal.now_ns or S
    for readings in looks:
        now += round(every_s * S)
        decision = decide(ladder, RULES, state, readings, now)
        state = decision.state
        yield decision


def after(looks: Iterable[Readings], state: State | None = None, ladder: Ladder = LADDER) -> Decision:
    """The last of them."""
    *_, last = play(looks, state, ladder)
    return last


def standing(steps: int, ladder: Ladder = LADDER) -> State:
    """A box that stands `steps` down the ladder for heat, for a long time, with an hour since anything was seen."""
    state = begin(ladder, RULES)
    levels = ladder.heat.at[steps]
    heat = msgspec.structs.replace(state.heat, steps=steps, age_s=3600.0)
    return msgspec.structs.replace(state, heat=heat, levels=levels, setting=ladder.setting(levels))


# --- heat


def test_a_cool_box_is_left_alone_all_day() -> None:
    """No heat problem, no change, for eight hours of readings that wander as they do."""
    looks = [margin(25.0 + 5.0 * math.sin(i / 900) + (i % 3) * 0.5) for i in range(8 * 3600)]
    decisions = list(play(looks))
    assert {decision.setting for decision in decisions} == {BEST}
    assert decisions[-1].why == "everything at its best"


def test_steps_down_one_at_a_time_before_the_trip() -> None:
    """A margin that melts takes the cheapest levers first, each for itself, and says why."""
    state = begin(LADDER, RULES)
    taken: list[Decision] = []
    for i, decision in enumerate(play([margin(12.0 - 0.05 * i) for i in range(200)], state)):
        if decision.state.heat.steps > len(taken):
            assert decision.state.heat.steps == len(taken) + 1
            assert 12.0 - 0.05 * i > 0.0
            taken.append(decision)
    assert len(taken) >= 3
    assert taken[0].setting.llm == 10
    assert taken[0].setting.rung == "512"
    assert "to the trip in 10 s: model 17 → 10 tokens/s" in taken[0].why


def test_the_faster_it_heats_the_less_a_step_is_waited_for() -> None:
    """A slow drift gives each step two minutes to show; a dead fan does not."""
    slow = after([margin(3.3 - 0.001 * i) for i in range(500)]).state.heat.steps
    fast = after([margin(12.0 - 0.05 * i) for i in range(240)]).state.heat.steps
    assert 1 <= slow <= 3 < fast


def test_a_small_margin_that_stays_is_left_alone() -> None:
    """Four degrees that do not melt mean that the last steps were enough."""
    assert after([margin(4.0)] * 3600, standing(2)).state.heat.steps == 2
    assert after([margin(2.8)] * 100, standing(2)).state.heat.steps == 3


def test_two_steps_on_a_throttle_flag() -> None:
    """The hardware throttles: two steps at once, whatever the thermometer says, and an alarm."""
    decision = after([*[COOL] * 10, margin(40.0, throttled=True)])
    assert decision.state.heat.steps == 2
    assert decision.setting.alarm == "the hardware throttles"
    assert decision.why.startswith("the hardware throttles: ")


def test_up_after_a_long_calm_one_step_at_a_time() -> None:
    """Each step up needs its own calm; what was dearest comes back first."""
    steps = [decision.state.heat.steps for decision in play([margin(45.0)] * 3000, standing(len(ORDER)))]
    ups = [i for i, (a, b) in enumerate(itertools.pairwise(steps)) if b != a]
    assert all(steps[i + 1] == steps[i] - 1 for i in ups)
    assert all(b - a >= RULES.calm_s for a, b in itertools.pairwise(ups))
    assert steps[-1] == 0


def test_a_step_up_that_would_cost_the_margin_is_not_taken() -> None:
    """What a step up will cost in °C, by the profile, has to be there before it."""
    state = standing(FIRST_SEEN + 1)
    needed = RULES.down_c + RULES.up_c + LADDER.rises[FIRST_SEEN]
    assert after([margin(needed - 0.5)] * 3600, state).state.heat.steps == FIRST_SEEN + 1
    assert after([margin(needed + 0.5)] * 3600, state).state.heat.steps <= FIRST_SEEN


def test_a_step_up_that_was_wrong_doubles_the_wait() -> None:
    """Taken back within ten minutes, it is tried again only after twice the calm, and that never above half an hour."""
    state = standing(1)
    waits: list[float] = []
    for _ in range(8):
        climbed = after([margin(45.0)] * 2000, state)
        assert climbed.state.heat.steps == 0
        state = after([margin(1.0)] * 30, climbed.state if not waits else _just_raised(climbed.state)).state
        waits.append(state.heat.wait_s)
        state = _at(state, 1)
    assert waits[-1] == RULES.calm_most_s
    assert all(b >= a for a, b in itertools.pairwise(waits))


def _just_raised(state: State) -> State:
    return msgspec.structs.replace(state, heat=msgspec.structs.replace(state.heat, raised_s=30.0))


def _at(state: State, steps: int) -> State:
    levels = LADDER.heat.at[steps]
    return msgspec.structs.replace(
        state, heat=msgspec.structs.replace(state.heat, steps=steps), levels=levels, setting=LADDER.setting(levels)
    )


def test_the_last_rung_is_the_loop_and_calls_somebody() -> None:
    """Heat that nothing helps against ends at the prepared loop, at 26 frames, with an alarm; the answers go on without the model."""
    decision = after([margin(8.0 - 0.05 * i) for i in range(300)])
    assert decision.setting.loop
    assert decision.setting.fps == 26
    assert decision.setting.llm == 0
    assert decision.setting.alarm == "too hot: the last rung is reached"
    assert decision.why == "at the last rung"


def test_one_wrong_reading_moves_nothing() -> None:
    """A spike of one second, a zone that is off, and numbers that are none are not believed."""
    nan = float("nan")
    looks = [margin(30.0)] * 60 + [margin(-5.0)] + [margin(30.0)] * 60
    looks += [Readings({"tj": 30.0, "gpu": 355.0, "cv": nan, "soc": None, "odd": math.inf, "low": -math.inf})] * 60
    assert after(looks).setting == BEST


# --- what is seen


def test_a_visible_step_waits_for_a_pause_in_speech() -> None:
    """The avatar speaks: the step comes with the pause."""
    spoken = after([margin(2.8, speaking=True)] * 15, standing(FIRST_SEEN))
    assert spoken.setting.rung == "512"
    assert "waits for a pause" in spoken.why
    assert after([margin(2.8, speaking=False)], spoken.state).setting.rung == "384"


def test_the_wait_for_a_pause_has_an_end() -> None:
    """An avatar that never stops speaking gets its step after 20 s."""
    decisions = list(play([margin(2.8, speaking=True)] * 40, standing(FIRST_SEEN)))
    first = next(i for i, decision in enumerate(decisions) if decision.setting.rung == "384")
    assert first <= RULES.pause_s + 2


def test_one_visible_change_in_two_minutes() -> None:
    """Where there is room, the second change that is seen waits for the two minutes; without room it does not."""
    state = standing(FIRST_SEEN)
    levels = [decision.setting.rung for decision in play([margin(2.9 - 0.001 * i) for i in range(400)], state)]
    first, second = levels.index("384"), levels.index("256") if "256" in levels else len(levels)
    assert second - first >= RULES.visible_s
    rushed = [decision.setting.rung for decision in play([margin(1.0)] * 60, state)]
    assert {"384", "256"} <= set(rushed)


def test_two_minutes_are_not_waited_for_where_the_margin_would_not_last_them() -> None:
    """Two degrees a minute for minutes: the change comes early. A thermometer that jumps once by a degree is no such ramp."""

    def waited(looks: list[Readings], state: State) -> int:
        """Seconds until the next change that is seen, just after one."""
        state = msgspec.structs.replace(state, seen_s=0.0)
        return next(i for i, decision in enumerate(play(looks, state)) if decision.setting.rung == "384")

    melting = after([margin(9.0 - i / 30) for i in range(105)], standing(FIRST_SEEN)).state
    assert waited([margin(5.5 - i / 30) for i in range(150)], melting) < RULES.visible_s - 20
    still = after([margin(3.9)] * 300, standing(FIRST_SEEN)).state
    assert waited([margin(2.9)] * 150, still) >= RULES.visible_s - 2


# --- the other lanes


def test_late_frames_have_a_fast_lane_of_their_own() -> None:
    """Three of thirty late for two seconds: the model slows down, then the picture; the fan and the heat lane have no part in it."""
    decisions = list(play([margin(40.0, late=4)] * 60))
    assert decisions[0].setting == BEST
    assert decisions[3].setting.llm == 10
    assert decisions[-1].state.heat.steps == 0
    assert decisions[-1].setting.fan == 0.4
    assert decisions[-1].setting.rung == "384"
    assert "4 of 30 frames late" in next(d.why for d in decisions if d.setting.llm == 10)


def test_a_few_late_frames_are_nothing() -> None:
    """Two of thirty, now and then all of them for one second."""
    assert after([margin(40.0, late=30 if i % 40 == 0 else 2) for i in range(1200)]).setting == BEST


def test_frames_in_time_bring_it_back_but_not_under_a_power_limit() -> None:
    """While the limit still holds, the next step up would be late again."""
    low = after([margin(40.0, late=10)] * 20).state
    assert low.frames.steps > 2
    assert after([margin(40.0, capped=True)] * 7200, low).state.frames.steps == low.frames.steps
    assert after([margin(40.0)] * 7200, low).setting == BEST


def test_the_power_limit_is_named() -> None:
    """Late frames under a limit: the sentence says so, with the watts."""
    whys = [decision.why for decision in play([margin(40.0, late=10, capped=True, power_w=15.2)] * 9)]
    assert any("10 of 30 frames late, the power limit holds at 15 W: model 17 → 10 tokens/s" in why for why in whys)


def test_want_of_memory_takes_the_model() -> None:
    """Little memory free for ten seconds: the model's share shrinks, nothing else."""
    decision = after([margin(40.0, memory_mb=120.0)] * 120)
    assert decision.setting.llm == 0
    assert decision.setting.rung == "512"
    assert after([margin(40.0, memory_mb=4000.0)] * 3600, decision.state).setting == BEST


# --- trouble with the instruments


def test_without_any_thermometer_a_setting_that_lasts() -> None:
    """Ten seconds blind: the sustainable setting in one change and an alarm; sight brings back what was."""
    blind = after([*[COOL] * 60, *[Readings({"tj": None, "gpu": None})] * 30])
    assert blind.state.heat.steps == LADDER.safe > 0
    assert blind.setting.alarm == "no temperature can be read"
    seeing = after([COOL] * 60, blind.state)
    assert seeing.setting == BEST


def test_a_thermometer_that_comes_and_goes_does_not_make_the_box_flap() -> None:
    """Blind again within ten minutes, it climbs back slowly instead of jumping."""
    looks = [*[COOL] * 60, *([Readings()] * 30 + [COOL] * 60) * 40]
    decisions = list(play(looks))
    changes = sum(a.setting.llm != b.setting.llm for a, b in itertools.pairwise(decisions))
    assert changes <= 6


def test_a_box_that_never_sees_is_safe_from_the_start() -> None:
    """No sensor at all, e.g. an unknown board."""
    decision = after([Readings()] * 20)
    assert decision.state.heat.steps == LADDER.safe
    assert decision.setting.alarm


def test_a_fan_that_stands_still() -> None:
    """An alarm; with little room, all that is not seen is given up for it at once, and kept so until it turns again."""
    dead = after([margin(40.0, fan_rpm=0.0)] * 20)
    assert dead.setting.alarm == "the fan stands still"
    with_a_model = after([margin(24.0, fan_rpm=0.0)] * 20)
    assert with_a_model.state.heat.steps == LADDER.unseen == FIRST_SEEN
    assert with_a_model.setting.rung == "512"
    assert after([margin(24.0, fan_rpm=0.0)] * 3600, with_a_model.state).state.heat.steps == LADDER.unseen
    assert after([margin(45.0, fan_rpm=900.0)] * 3600, with_a_model.state).setting == BEST


def test_without_its_fan_a_box_acts_earlier() -> None:
    """It will get hotter for half an hour whatever is done now: the picture goes while there is still room."""
    looks = [margin(30.0 - 0.03 * i) for i in range(750)]
    slow = [msgspec.structs.replace(look, fan_rpm=0.0) for look in looks]
    assert after(slow).setting.rung != "512"
    assert after(looks).setting.rung == "512"


# --- the ladder


def test_the_order_is_what_a_visitor_misses_per_watt() -> None:
    """On a Jetson the model goes first and the picture late; the loop is the end of it."""
    assert [name for name, _ in ORDER][:3] == ["llm", "fan", "llm"]
    assert ORDER[-1] == ("rung", 3)
    assert LADDER.heat.at[-1] == tuple(len(lever.levels) - 1 for lever in LEVERS)
    assert {step.name for step in LADDER.memory.steps} == {"llm"}
    assert not {"fan", "mode"} & {step.name for step in LADDER.frames.steps}


def test_a_box_without_fan_model_and_modes() -> None:
    """Levers that a box does not have are None in its setting, and missed nowhere."""
    ladder = build(Profile(levers=LEVERS[:2], base_w=30.0, sustained_w=31.0, c_per_w=0.5))
    decision = after([margin(-1.0)] * 60, begin(ladder, RULES), ladder)
    assert decision.setting == Setting(rung=LOOP, fps=26, alarm="too hot: the last rung is reached")
    assert after([margin(40.0, memory_mb=1.0)] * 60, begin(ladder, RULES), ladder).setting.rung == "512"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"watts": (1.0, 2.0)}, "must not draw more"),
        ({"miss": (3.0, 0.0)}, "must not be missed less"),
        ({"watts": (1.0,)}, "equally many"),
        ({"levels": ("30", "25")}, "levels are numbers"),
        ({"name": "speech"}, "each of rung, fps, llm, camera, fan, mode at most once"),
    ],
)
def test_a_profile_that_makes_no_sense_is_told(change: dict[str, object], says: str) -> None:
    """One line: which lever, and why."""
    lever = msgspec.structs.replace(LEVERS[1], **change)
    with pytest.raises(ProfileError, match=says):
        build(Profile(levers=(LEVERS[0], lever), base_w=8.0, sustained_w=9.0, c_per_w=1.0))


# --- what always holds

number = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(-5, 20)
flag = st.none() | st.booleans()
readings_of = st.builds(
    Readings,
    margins=st.dictionaries(st.sampled_from(["tj", "gpu", "cpu"]), number, max_size=3),
    throttled=st.none() | st.sampled_from([False, False, False, True]),
    capped=flag,
    power_w=number,
    memory_mb=number,
    fan_rpm=st.none() | st.sampled_from([0.0, 900.0, math.nan]),
    frames=st.none() | st.integers(-5, 60),
    late=st.none() | st.integers(-5, 60),
    speaking=flag,
)
stretches = st.lists(
    st.tuples(readings_of, st.integers(1, 200), st.sampled_from([1.0, 1.0, 2.0, 0.0, -30.0, 3600.0])), min_size=1, max_size=12
)


@settings(max_examples=150, deadline=None)
@given(stretches)
def test_invariants(story: list[tuple[Readings, int, float]]) -> None:
    """Whatever is read and however the clock jumps: see the assertions."""
    state, now, clock = begin(LADDER, RULES), S, 0.0
    seen_at, stepped_at = -math.inf, -math.inf
    for readings, count, every_s in story:
        for _ in range(count):
            now = max(1, now + round(every_s * S))
            before = state
            state, setting, why = decide(LADDER, RULES, state, readings, now)
            signal = state.signal
            clock += signal.dt_s
            assert 0.0 <= signal.dt_s <= 5.0
            assert why
            # Never off the ladder, and of each lever the lowest that a lane asks for.
            lanes = [(LADDER.heat, state.heat), (LADDER.frames, state.frames), (LADDER.memory, state.memory)]
            assert all(0 <= queue.steps <= len(lane.steps) for lane, queue in lanes)
            assert state.levels == tuple(max(parts) for parts in zip(*(lane.at[queue.steps] for lane, queue in lanes), strict=True))
            assert setting == LADDER.setting(state.levels, setting.alarm)
            # A miss never raises, nor does heat.
            late = readings.frames and readings.frames > 0 and readings.late is not None and readings.late / readings.frames >= RULES.late
            assert not late or state.frames.steps >= before.frames.steps
            hot = bool(readings.throttled) or (signal.margin is not None and signal.forecast(RULES.ahead_s) < RULES.down_c)
            assert not hot or state.heat.steps >= before.heat.steps
            # One step at a time; two on a throttle flag or past a dead fan; all at once only out of blindness and back.
            down = state.heat.steps - before.heat.steps
            blind = signal.blind_s >= RULES.blind_s
            # and, where the fan stands still, for all that is not seen.
            fanless = state.fan_still_s >= RULES.fan_s and state.heat.steps == LADDER.unseen
            assert blind or fanless or before.before_blind >= 0 or -1 <= down <= 2
            if down > 0 and not blind and not fanless:
                assert clock - stepped_at >= RULES.hurry_s - 1e-6
            if down > 0:
                stepped_at = clock
            # What is seen changes once in two minutes, save emergencies.
            if (setting.rung, setting.fps) != (before.setting.rung, before.setting.fps):
                very_late = late and readings.late / readings.frames >= RULES.very_late  # type: ignore[operator]
                urgent = blind or readings.throttled or very_late or signal.forecast(RULES.ahead_s) < RULES.urgent_c
                left_s = RULES.visible_s - (clock - seen_at)
                lasts = signal.margin is None or signal.margin - left_s * signal.melts >= RULES.urgent_c
                assert urgent or not lasts or clock - seen_at >= RULES.visible_s - 1e-6
                seen_at = clock


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(20.0, 80.0), min_size=50, max_size=400), st.lists(st.integers(0, 2), min_size=1, max_size=20))
def test_no_change_without_a_problem(margins: list[float], late: list[int]) -> None:
    """Margins from 20 to 80 °C, a cold box's, however they jump about, and a late frame here and there, change nothing at all."""
    story = [margin(c, late=late[i % len(late)], memory_mb=2000.0, fan_rpm=1500.0) for i, c in enumerate(margins)]
    assert {decision.setting for decision in play(story)} == {BEST}
