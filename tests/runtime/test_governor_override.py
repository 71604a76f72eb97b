"""What the fleet asks of the picture, on top of the governor: less always, more while nothing speaks against it, and never for longer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.governor import Decision, Readings, Rules, State, begin, decide
from runtime.governor_ladder import LOOP, Lever, Profile, build
from runtime.governor_override import Hold, Overruled, Reins, overrule, rung_at

pytestmark = pytest.mark.unit

S = 1_000_000_000
RULES = Rules()
LADDER = build(
    Profile(
        levers=(
            Lever(name="fps", levels=(30, 26), watts=(0.3, 0.0), miss=(0, 8)),
            Lever(name="rung", levels=("512", "384", "256", LOOP), watts=(2.4, 1.5, 0.9, 0.1), miss=(0, 6, 16, 100)),
            Lever(name="llm", levels=(17, 10, 5, 0), watts=(7.9, 4.6, 2.3, 0.0), miss=(0, 1, 4, 40)),
            Lever(name="fan", levels=(0.4, 1.0), watts=(0.0, -6.0), miss=(0, 2)),
        ),
        base_w=8.0,
        sustained_w=10.0,
        c_per_w=2.5,
    )
)
AT = rung_at(LADDER)
NAMES = LADDER.profile.levers[AT].levels
COOL = Readings({"tj": 40.0}, throttled=False, frames=30, late=0)
FIRST_SEEN = next(i for i, step in enumerate(LADDER.heat.steps) if step.name == "rung")


class Look(NamedTuple):
    """One second: what the governor alone decides, and what is in force."""

    decision: Decision
    over: Overruled

    @property
    def rung(self) -> int:
        return NAMES.index(self.over.setting.rung or "")

    @property
    def own(self) -> int:
        return self.decision.state.levels[AT]


def margin(c: float, **more: object) -> Readings:
    """So much margin."""
    return msgspec.structs.replace(COOL, margins={"tj": c}, **more)


def play(looks: Iterable[Readings], reins: Reins, state: State | None = None, every_s: float = 1.0) -> Iterator[Look]:
    """Looks a second apart, from second 2 on."""
    state, now = state or begin(LADDER, RULES), S
    for readings in looks:
        now += round(every_s * S)
        decision = decide(LADDER, RULES, state, readings, now)
        state = decision.state
        over = overrule(LADDER, RULES, reins, decision, readings, now)
        reins = over.reins
        yield Look(decision, over)


def standing(steps: int) -> State:
    """A box that has stood so many steps down for heat for a long time."""
    state = begin(LADDER, RULES)
    levels = LADDER.heat.at[steps]
    heat = msgspec.structs.replace(state.heat, steps=steps, age_s=3600.0)
    return msgspec.structs.replace(state, heat=heat, levels=levels, setting=LADDER.setting(levels))


def holding(rung: int, seconds: float = 3600.0) -> Reins:
    """A hold until so many seconds after the first look of `play`."""
    return Reins(hold=Hold(rung, round((2 + seconds) * S)))


WARM = standing(FIRST_SEEN + 1)
"""A box that the governor keeps at 384 by itself."""


def test_less_is_held_and_given_back_when_the_time_is_over() -> None:
    """A cool box at 256 for five minutes, and at its best in the second after; the sentence says who wants it and for how long."""
    looks = list(play([COOL] * 400, holding(2, 300)))
    assert [look.rung for look in looks] == [2] * 300 + [0] * 100
    assert looks[0].over.why == "the fleet holds 256 for another 5 min; by itself: everything at its best"
    assert looks[299].over.why.startswith("the fleet holds 256 for another 1 min;")
    assert looks[300].over == (Reins(), looks[300].decision.setting, "everything at its best")


def test_only_the_picture_is_held() -> None:
    """Model and frame rate stay what the governor says."""
    *_, look = play([margin(4.2)] * 60, holding(2), standing(3))
    assert msgspec.structs.replace(look.over.setting, rung=None) == msgspec.structs.replace(look.decision.setting, rung=None)
    assert look.rung == 2


def test_more_is_held_while_nothing_speaks_against_it() -> None:
    """Warm, but more than the last two degrees, and it does not melt: the better rung stays for as long as it was asked for."""
    looks = list(play([margin(4.2)] * 700, holding(0, 600), WARM))
    assert {look.own for look in looks} == {1}
    assert [look.rung for look in looks] == [0] * 600 + [1] * 100


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (margin(4.2, throttled=True), "the hardware throttles"),
        (margin(1.0), "°C are left"),
        (Readings({"tj": None}, frames=30, late=0), "no temperature can be read"),
        (margin(4.2, fan_rpm=0.0), "the fan stands still"),
        (margin(4.2, late=20), "frames were late"),
    ],
)
def test_the_box_protects_itself_and_says_both(trouble: Readings, says: str) -> None:
    """Throttling, the last degrees, blindness, a dead fan, late frames: a hold for more yields in the same second, even in mid-sentence."""
    trouble = msgspec.structs.replace(trouble, speaking=True)
    looks = list(play([*[margin(4.2)] * 30, *[trouble] * 30], holding(0), WARM))
    assert looks[29].rung == 0
    yielded = next(look for look in looks if look.over.reins.yields)
    assert "the fleet wants 512 for another" in yielded.over.why
    assert says in yielded.over.why
    assert "; by itself: " in yielded.over.why
    assert all(look.rung == look.own >= 1 for look in looks[looks.index(yielded) :])


def test_a_margin_that_melts_fast_is_not_waited_for() -> None:
    """Still above the last two degrees, but not for two minutes more."""
    looks = list(play([margin(9.0 - i / 30) for i in range(150)], holding(0), WARM))
    yielded = next(look for look in looks if look.over.reins.yields)
    assert "too little will be left in 120 s" in yielded.over.why
    assert yielded.decision.state.signal.forecast(RULES.ahead_s) > RULES.urgent_c


def test_a_hold_that_was_too_much_does_not_come_back_before_the_governor_does() -> None:
    """One second of throttling: no second try, until the governor has gone up to that rung by itself; then what it takes again is held."""
    looks = list(play([*[margin(4.2)] * 10, margin(4.2, throttled=True), *[margin(4.2)] * 300, *[COOL] * 3000], holding(0, 4000), WARM))
    after = looks[10:]
    assert all(look.rung == look.own for look in after)
    assert after[-1].own == 0
    assert not after[-1].over.reins.yields
    assert "but it was too much; by itself:" in after[100].over.why


def test_a_cap_lasts_and_a_better_rung_than_it_is_not_held() -> None:
    """No better than 384, all day; worse is the governor's to choose; a hold below it holds, one above it does not."""
    assert {look.rung for look in play([COOL] * 3600, Reins(cap=1))} == {1}
    *_, look = play([COOL] * 10, Reins(cap=1))
    assert look.over.why == "the fleet wants no better than 384; by itself: everything at its best"
    *_, low = play([margin(4.2)] * 10, Reins(cap=1), standing(len(LADDER.heat.steps)))
    assert low.rung == low.own == 3
    assert {look.rung for look in play([COOL] * 10, Reins(1, Hold(2, 3600 * S)))} == {2}
    assert {look.rung for look in play([COOL] * 10, Reins(1, Hold(0, 3600 * S)))} == {1}


def test_a_rung_that_this_face_does_not_have_is_its_last_drawn_one() -> None:
    """The fleet's rungs are numbers, faces have different ones; the idle loop is not for the fleet to choose."""
    for reins in (Reins(cap=32), holding(32)):
        assert {look.rung for look in play([COOL] * 5, reins)} == {2}


def test_what_the_fleet_changes_waits_for_a_pause_in_speech() -> None:
    """The picture does not change in a word, neither when a hold begins nor when it ends; an avatar that never stops gets it after 20 s."""
    talk, pause = margin(40.0, speaking=True), margin(40.0, speaking=False)
    begins = list(play([*[talk] * 5, pause, pause], holding(2)))
    assert [look.rung for look in begins] == [0] * 5 + [2] * 2
    assert begins[0].over.why.startswith("a change that is seen waits for a pause in speech; the fleet holds 256")
    ends = list(play([*[pause] * 3, *[talk] * 40], holding(2, 10)))
    assert [look.rung for look in ends] == [2] * 30 + [0] * 13


def test_what_the_governor_changes_does_not_wait_a_second_time() -> None:
    """Out of the heat the governor has waited its 20 s for an avatar that never stops: a cap below that rung adds nothing to them."""
    heat, talk = margin(0.0), margin(20.0, speaking=True)
    looks = list(play([*[heat] * 60, *[talk] * 400], Reins(cap=1)))
    assert {look.own for look in looks} >= {0, 3}
    assert all(look.rung == max(look.own, 1) for look in looks[20:])


# --- what always holds

number = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(-5, 20)
readings_of = st.builds(
    Readings,
    margins=st.dictionaries(st.sampled_from(["tj", "gpu"]), number, max_size=2),
    throttled=st.none() | st.sampled_from([False, False, False, True]),
    capped=st.none() | st.booleans(),
    memory_mb=number,
    fan_rpm=st.none() | st.sampled_from([0.0, 900.0, math.nan]),
    frames=st.none() | st.integers(-5, 60),
    late=st.none() | st.integers(-5, 60),
    speaking=st.none() | st.booleans(),
)
stretches = st.lists(st.tuples(readings_of, st.integers(1, 200), st.sampled_from([1.0, 1.0, 2.0, 0.0, 3600.0])), min_size=1, max_size=10)
wishes = st.builds(
    Reins, cap=st.sampled_from([0, 0, 1, 2, 9]), hold=st.none() | st.builds(Hold, st.integers(0, 9), st.integers(0, 3000 * S))
)


def emergency(decision: Decision, readings: Readings) -> bool:
    """What the governor itself calls urgent, in its own words."""
    signal = decision.state.signal
    hot = signal.margin is not None and signal.forecast(RULES.ahead_s) < RULES.urgent_c
    return bool(readings.throttled) or hot or signal.blind_s >= RULES.blind_s or decision.state.fan_still_s >= RULES.fan_s


@settings(max_examples=150, deadline=None)
@given(stretches, wishes)
def test_invariants(story: list[tuple[Readings, int, float]], reins: Reins) -> None:
    """Whatever is read and wished: an emergency is never answered with less than the governor's answer, and every hold ends."""
    state, alone, now, wish = begin(LADDER, RULES), begin(LADDER, RULES), S, reins
    over_ns = reins.hold.until_ns if reins.hold else 0
    since_s = 0.0
    for readings, count, every_s in story:
        for _ in range(count):
            now += round(every_s * S)
            decision = decide(LADDER, RULES, state, readings, now)
            state = decision.state
            alone = decide(LADDER, RULES, alone, readings, now).state
            assert alone == state  # the governor itself is not moved by what the fleet wants
            reins, setting, why = overrule(LADDER, RULES, reins, decision, readings, now)
            rung, own = NAMES.index(setting.rung or ""), state.levels[AT]
            assert why
            assert msgspec.structs.replace(setting, rung=None) == msgspec.structs.replace(decision.setting, rung=None)
            frames, memory = LADDER.frames.at[state.frames.steps][AT], LADDER.memory.at[state.memory.steps][AT]
            assert rung >= max(frames, memory)
            if emergency(decision, readings) or state.frames.steps:
                assert rung >= own
            if rung < own:
                assert wish.hold is not None
                assert now < over_ns
                assert wish.hold.rung < own
            # Over, and a pause's wait after it: nothing of the hold is left.
            since_s = since_s + state.signal.dt_s if now >= over_ns else 0.0
            if now >= over_ns:
                assert reins.hold is None
                assert rung >= own
                assert since_s <= RULES.pause_s + 5 or rung == max(own, min(wish.cap, 2))
            if not wish.cap and wish.hold is None:
                assert (setting, why) == (decision.setting, decision.why)
