"""The governor: how hard the box may work, so that it never gets hot enough to be throttled, and the visitor notices as little as can be.

    decide(box, state, readings, now) → (state, setting, why)      pure; once a second

Three lanes stand on the box's ladder (governor_ladder.py), and of each lever the lowest level that one of them asks for holds:

- `heat` steps down when the margin that is forecast gets small; the smaller, the less it waits for the last step to show.
- `frames` steps down when frames are late, whatever the reason (a power limit, another program). It is quick.
- `memory` steps down when little of it is free.

All of them go up one step at a time after a long calm. A step up that has to be taken back doubles the wait for the next one. What a
visitor sees changes at most once in two minutes and in a pause of the avatar's speech, unless the box is about to be throttled.
Without any thermometer the box goes to a setting that it can sustain. The steps end at a prepared idle loop; ears and voice go on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from runtime.governor_ladder import Ladder, Lane, Levels, Setting
from runtime.governor_signal import Readings, Signal, follow

__all__ = ["Decision", "Queue", "Readings", "Rules", "State", "begin", "decide"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters. °C are of margin to the trip, times in seconds. Chosen on the simulator: docs/decisions."""

    ahead_s: float = 10.0
    down_c: float = 4.5  # below it, what melts is answered
    least_c: float = 3.0  # below it, everything is
    urgent_c: float = 2.0  # below it, nothing else matters
    settle_s: float = 120.0  # at most between two steps
    hurry_s: float = 5.0  # at least
    share: float = 0.2  # of the time until `urgent_c` that a step is given to show
    up_c: float = 1.0  # to spare above `down_c`, besides what the step up will cost
    rising: float = -0.02  # °C/s: a margin that shrinks faster is no calm
    calm_s: float = 120.0
    calm_visible: float = 1.5  # times that, for a step that is seen
    calm_most_s: float = 1800.0
    reversed_s: float = 600.0
    visible_s: float = 120.0
    pause_s: float = 20.0
    blind_s: float = 10.0
    seeing_s: float = 30.0
    late: float = 0.1  # share of frames: 3 of 30
    very_late: float = 1 / 6  # fewer than 25 of 30 come in time
    far_too_late: float = 1 / 3  # two steps at a time
    late_s: float = 2.0
    frames_settle_s: float = 2.0
    memory_mb: float = 400.0
    memory_s: float = 10.0
    fan_s: float = 10.0
    fan_c: float = 10.0  # of the margin is not counted while the fan stands still
    fan_room_c: float = 25.0  # with less, all that is not seen is given up at once for it


class Queue(msgspec.Struct, frozen=True, gc=False):
    """Where one lane stands: steps taken, and what it remembers, in seconds."""

    steps: int = 0
    age_s: float = 0.0  # since the last step
    calm_s: float = 0.0
    trouble_s: float = 0.0
    wait_s: float = 0.0  # of calm before the next step up
    raised_s: float = math.inf  # since the last step up that may yet turn out wrong


class State(msgspec.Struct, frozen=True, gc=False):
    """All that the governor remembers. Times are sums of what passed between looks, so no clock can shake them."""

    signal: Signal
    heat: Queue
    frames: Queue
    memory: Queue
    levels: Levels
    setting: Setting
    seen_s: float = math.inf  # since what the visitor sees changed
    waiting_s: float = 0.0  # for a pause in speech
    before_blind: int = -1  # steps of heat when the last thermometer fell silent
    fan_still_s: float = 0.0


class Decision(NamedTuple):
    """What comes out: the state to give back next time, the setting to execute, and one sentence of why."""

    state: State
    setting: Setting
    why: str


def begin(ladder: Ladder, rules: Rules) -> State:
    """The state of a box that has just been switched on: everything at its best."""
    queue = Queue(wait_s=rules.calm_s)
    levels = ladder.heat.at[0]
    return State(Signal(), queue, queue, queue, levels, ladder.setting(levels))


def decide(ladder: Ladder, rules: Rules, state: State, readings: Readings, now_ns: int) -> Decision:
    """The next state, the setting, and why. `now_ns`: CLOCK_MONOTONIC. Never raises for what is in `readings`."""
    signal = follow(state.signal, readings.margins, now_ns)
    dt = signal.dt_s
    still_s = state.fan_still_s + dt if readings.fan_rpm == 0 and state.setting.fan else 0.0
    before_blind = state.before_blind
    if signal.blind_s >= rules.blind_s:
        before_blind = state.heat.steps if before_blind < 0 else before_blind
        heat = _blind(ladder, rules, state.heat, readings, dt)
    elif before_blind >= 0 and signal.margin is not None:
        heat, before_blind = _sees_again(ladder, rules, state, readings, signal)
    else:
        heat = _heat(ladder, rules, state.heat, readings, signal, fan_dead=still_s >= rules.fan_s)
    frames = _frames(ladder, rules, state.frames, readings, dt)
    memory = _memory(ladder, rules, state.memory, readings, dt)
    wanted = State(signal, heat, frames, memory, state.levels, state.setting, state.seen_s + dt, 0.0, before_blind, still_s)
    alarm = _alarm(ladder, rules, wanted, readings)
    if heat.steps == state.heat.steps and frames.steps == state.frames.steps and memory.steps == state.memory.steps:
        if alarm == state.setting.alarm:
            return Decision(wanted, wanted.setting, _resting(ladder, rules, wanted))
        setting = ladder.setting(state.levels, alarm)
        return Decision(msgspec.structs.replace(wanted, setting=setting), setting, alarm or "the alarm is over")
    return _move(ladder, rules, state, wanted, readings, alarm)


# --- the lanes


def _heat(ladder: Ladder, rules: Rules, queue: Queue, readings: Readings, signal: Signal, *, fan_dead: bool) -> Queue:
    if signal.margin is None:
        return queue
    lane = ladder.heat
    # Without its fan a box gets hotter for half an hour whatever is done now: what is done has to be done early.
    forecast = signal.forecast(rules.ahead_s) - (rules.fan_c if fan_dead else 0.0)
    if readings.throttled:
        return _down(rules, lane, queue, signal.dt_s, 2, rules.hurry_s)
    if fan_dead and queue.steps < ladder.unseen and forecast < rules.fan_room_c:
        return _down(rules, lane, queue, signal.dt_s, ladder.unseen - queue.steps, 0.0)
    if _presses(rules, forecast, signal.slope):
        return _down(rules, lane, queue, signal.dt_s, 1, _gap_s(rules, forecast, signal.slope))
    needed = rules.down_c + rules.up_c + (ladder.rises[queue.steps - 1] if queue.steps else 0.0)
    kept = fan_dead and queue.steps <= ladder.unseen and forecast < 2 * rules.fan_room_c
    calm = forecast > needed and signal.slope > rules.rising and signal.blind_s == 0.0 and not kept
    return _calm(rules, lane, queue, signal.dt_s, calm=calm)


def _presses(rules: Rules, forecast: float, slope: float) -> bool:
    """Whether the margin is too small, or small and melting. A small one that stays is left alone: the last steps were enough."""
    return forecast < rules.least_c or (forecast < rules.down_c and forecast + rules.settle_s * slope < rules.least_c)


def _gap_s(rules: Rules, forecast: float, slope: float) -> float:
    """How long the last step may take to show: a share of the time that is left at this slope, for the heatsink answers in minutes."""
    if slope >= 0.0 and forecast >= rules.urgent_c:
        return rules.settle_s
    return min(rules.settle_s, max(rules.hurry_s, rules.share * (forecast - rules.urgent_c) / max(-slope, 1e-6)))


def _blind(ladder: Ladder, rules: Rules, queue: Queue, readings: Readings, dt: float) -> Queue:
    if readings.throttled:
        return _down(rules, ladder.heat, queue, dt, max(2, ladder.safe - queue.steps), rules.hurry_s)
    if queue.steps >= ladder.safe:
        return _calm(rules, ladder.heat, queue, dt, calm=False)
    return _down(rules, ladder.heat, queue, dt, ladder.safe - queue.steps, 0.0)


def _sees_again(ladder: Ladder, rules: Rules, state: State, readings: Readings, signal: Signal) -> tuple[Queue, int]:
    """A thermometer is back: where it says that all is well, back to where the box was, in one step. Not twice in ten minutes."""
    queue, before = state.heat, state.before_blind
    well = not readings.throttled and signal.forecast(rules.ahead_s) >= rules.down_c + rules.up_c
    if queue.steps <= before or not well or queue.wait_s > rules.calm_s:
        return _heat(ladder, rules, queue, readings, signal, fan_dead=False), -1
    if queue.calm_s + signal.dt_s < rules.seeing_s:
        return _calm(rules, ladder.heat, queue, signal.dt_s, calm=True), before
    return Queue(before, 0.0, 0.0, 0.0, queue.wait_s, 0.0), before


def _frames(ladder: Ladder, rules: Rules, queue: Queue, readings: Readings, dt: float) -> Queue:
    if not readings.frames or readings.late is None or readings.frames < 0:
        return queue
    share = readings.late / readings.frames
    if not share >= rules.late:  # also for what is no number
        if not queue.steps and not queue.trouble_s and queue.raised_s == math.inf:
            return queue
        return _calm(rules, ladder.frames, queue, dt, calm=not readings.capped)
    return _trouble(rules, ladder.frames, queue, dt, rules.late_s, rules.frames_settle_s, 2 if share >= rules.far_too_late else 1)


def _memory(ladder: Ladder, rules: Rules, queue: Queue, readings: Readings, dt: float) -> Queue:
    free_mb = readings.memory_mb
    if free_mb is None or math.isnan(free_mb):
        return queue
    if free_mb >= rules.memory_mb:
        if not queue.steps and not queue.trouble_s and queue.raised_s == math.inf:
            return queue
        return _calm(rules, ladder.memory, queue, dt, calm=free_mb > 2 * rules.memory_mb)
    return _trouble(rules, ladder.memory, queue, dt, rules.memory_s, rules.memory_s, 1)


def _trouble(rules: Rules, lane: Lane, queue: Queue, dt: float, after_s: float, gap_s: float, by: int) -> Queue:
    trouble_s = queue.trouble_s + dt
    if trouble_s < after_s:
        return Queue(queue.steps, queue.age_s + dt, 0.0, trouble_s, queue.wait_s, queue.raised_s + dt)
    return _down(rules, lane, queue, dt, by, gap_s)


def _down(rules: Rules, lane: Lane, queue: Queue, dt: float, by: int, gap_s: float) -> Queue:
    """So many steps down, if the last one was `gap_s` ago."""
    age_s, raised_s = queue.age_s + dt, queue.raised_s + dt
    if queue.steps >= len(lane.steps) or age_s < gap_s:
        return Queue(queue.steps, age_s, 0.0, queue.trouble_s + dt, queue.wait_s, raised_s)
    wait_s = min(2 * queue.wait_s, rules.calm_most_s) if raised_s < rules.reversed_s else queue.wait_s
    return Queue(min(queue.steps + by, len(lane.steps)), 0.0, 0.0, 0.0, wait_s, math.inf)


def _calm(rules: Rules, lane: Lane, queue: Queue, dt: float, *, calm: bool) -> Queue:
    """Nothing presses; one step up after enough of it."""
    age_s, raised_s = queue.age_s + dt, queue.raised_s + dt
    calm_s = queue.calm_s + dt if calm else 0.0
    if not queue.steps or calm_s < queue.wait_s * (rules.calm_visible if lane.steps[queue.steps - 1].visible else 1.0):
        return Queue(queue.steps, age_s, calm_s, 0.0, queue.wait_s, raised_s)
    # A step up that has stood makes the next one easier again.
    wait_s = max(rules.calm_s, queue.wait_s / 2) if rules.reversed_s <= raised_s < math.inf else queue.wait_s
    return Queue(queue.steps - 1, 0.0, 0.0, 0.0, wait_s, 0.0)


# --- from what the lanes want to what is done


def _move(ladder: Ladder, rules: Rules, state: State, wanted: State, readings: Readings, alarm: str) -> Decision:
    """Each lane that wants to move may, unless it would be seen at a bad moment; then it stays where it is and asks again."""
    lanes = (ladder.heat, ladder.frames, ladder.memory)
    queues = [wanted.heat, wanted.frames, wanted.memory]
    before = (state.heat, state.frames, state.memory)
    levels, done, waits = state.levels, [], False
    for i, lane in enumerate(lanes):
        if queues[i].steps == before[i].steps:
            continue
        at = [lane.at[queue.steps] for lane, queue in zip(lanes, [*queues[: i + 1], *before[i + 1 :]], strict=True)]
        next_levels = tuple(map(max, *at))
        seen = _seen(ladder, levels, next_levels)
        if not seen or _urgent(rules, wanted, readings, frames=i == 1) or _good_moment(rules, state, wanted, readings):
            levels = next_levels
            done.append(_says(lane, before[i].steps, queues[i].steps))
        else:
            queues[i] = _held(before[i], queues[i], wanted.signal.dt_s)
            waits = True
    seen = _seen(ladder, state.levels, levels)
    setting = state.setting if levels == state.levels and alarm == state.setting.alarm else ladder.setting(levels, alarm)
    state = State(
        wanted.signal, queues[0], queues[1], queues[2], levels, setting, 0.0 if seen else wanted.seen_s,
        state.waiting_s + wanted.signal.dt_s if waits and not seen else 0.0, wanted.before_blind, wanted.fan_still_s,
    )  # fmt: skip
    why = f"{_reason(rules, wanted, readings)}: {'; '.join(done)}" if done else "a change that is seen waits for a pause in speech"
    return Decision(state, setting, why)


def _held(before: Queue, wanted: Queue, dt: float) -> Queue:
    """The lane as it was, older, and as calm as it was: it will ask again at the next look."""
    up = wanted.steps < before.steps
    return Queue(before.steps, before.age_s + dt, before.calm_s if up else 0.0, before.trouble_s, before.wait_s, before.raised_s + dt)


def _seen(ladder: Ladder, before: Levels, after: Levels) -> bool:
    return any(a != b and lever.name in ("rung", "fps") for a, b, lever in zip(before, after, ladder.profile.levers, strict=True))


def _urgent(rules: Rules, state: State, readings: Readings, *, frames: bool) -> bool:
    if frames:
        return bool(readings.frames and readings.late and readings.late / readings.frames >= rules.very_late)
    signal = state.signal
    if readings.throttled or signal.blind_s >= rules.blind_s or signal.forecast(rules.ahead_s) < rules.urgent_c:
        return True
    # The pause between two changes that are seen is kept only where it ends before it would be urgent anyway.
    held_s = max(0.0, rules.visible_s - state.seen_s)
    return signal.margin is not None and signal.margin - held_s * signal.melts < rules.urgent_c


def _good_moment(rules: Rules, state: State, wanted: State, readings: Readings) -> bool:
    return wanted.seen_s >= rules.visible_s and (not readings.speaking or state.waiting_s >= rules.pause_s)


# --- in words


def _says(lane: Lane, before: int, after: int) -> str:
    if after > before:
        return ", ".join(step.says for step in lane.steps[before:after])
    return "back up: " + ", ".join(step.says for step in reversed(lane.steps[after:before]))


def _reason(rules: Rules, state: State, readings: Readings) -> str:
    signal = state.signal
    if signal.blind_s >= rules.blind_s:
        return "no temperature can be read"
    if readings.throttled:
        return "the hardware throttles"
    heat = "" if signal.margin is None else f"{signal.forecast(rules.ahead_s):.1f} °C to the trip in {rules.ahead_s:g} s"
    late = f"{readings.late} of {readings.frames} frames late" if readings.late else ""
    limit = "the power limit holds" if readings.capped else ""
    if limit and readings.power_w is not None:
        limit += f" at {readings.power_w:.0f} W"
    return ", ".join(part for part in (heat, late, limit) if part) or "a look at the box"


def _resting(ladder: Ladder, rules: Rules, state: State) -> str:
    """Why nothing moves; fixed sentences, for this is said every second."""
    if state.signal.blind_s >= rules.blind_s:
        return "no temperature can be read: a setting that lasts"
    if not (state.heat.steps or state.frames.steps or state.memory.steps):
        return "everything at its best"
    if state.heat.steps == len(ladder.heat.steps):
        return "at the last rung"
    return "waits for a longer calm"


def _alarm(ladder: Ladder, rules: Rules, state: State, readings: Readings) -> str:
    if state.signal.blind_s >= rules.blind_s:
        return "no temperature can be read"
    if readings.throttled:
        return "the hardware throttles"
    if state.heat.steps and state.heat.steps == len(ladder.heat.steps):
        return "too hot: the last rung is reached"
    if state.fan_still_s >= rules.fan_s:
        return "the fan stands still"
    return ""
