"""What the fleet may ask of the picture's rung, and how far the governor goes along with it.

    overrule(ladder, rules, reins, decision, readings, now_ns) → (reins, setting, why)      pure; once a second, after `decide`

There are a *cap* (no better than this rung, until told otherwise) and a *hold* (this rung, until a moment of CLOCK_MONOTONIC). Only the
rung is meant: fan, model, frame rate and power mode stay the governor's. The governor decides as ever, on what it reads; then

- less than it would show is always given;
- more is given as long as nothing speaks against it: no throttle flag, thermometers that can be read, a fan that turns, more than
  `Rules.urgent_c` of margin (and as much in two minutes, at the pace it melts), no late frames. The first time something does, the hold
  yields at once, and asks for no more than the governor shows until the governor has come back to that rung by itself;
- what the fleet changes waits for a pause in speech, 20 s at most; what safety demands does not wait, and what the governor changes has
  waited already.

Without cap and hold the decision goes through untouched.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from runtime.governor import Decision, Readings, Rules
from runtime.governor_ladder import LOOP, Ladder, Setting

__all__ = ["Hold", "Overruled", "Reins", "overrule", "rung_at"]

_MINUTE_NS = 60_000_000_000


class Hold(msgspec.Struct, frozen=True, gc=False):
    """A rung, 0 the best, until a moment of CLOCK_MONOTONIC."""

    rung: int
    until_ns: int


class Reins(msgspec.Struct, frozen=True, gc=False):
    """What the fleet holds the picture by. `cap`: the best rung that may be drawn, 0 any. `yields`: the hold was too much, see above.
    `shown`: the level in force after the last look, None while it is the governor's own; `own`: the governor's then; `waiting_s`: for a
    pause in speech.
    """

    cap: int = 0
    hold: Hold | None = None
    yields: bool = False
    shown: int | None = None
    own: int | None = None
    waiting_s: float = 0.0


class Overruled(NamedTuple):
    """What comes out: the reins to give back next time, the setting to execute, and one sentence of why."""

    reins: Reins
    setting: Setting
    why: str


def rung_at(ladder: Ladder) -> int:
    """Where the lever `rung` stands among the levers; a box without it cannot be: every ladder is built with one."""
    return next(i for i, lever in enumerate(ladder.profile.levers) if lever.name == "rung")


def overrule(ladder: Ladder, rules: Rules, reins: Reins, decision: Decision, readings: Readings, now_ns: int) -> Overruled:
    """The setting in force. `now_ns`: CLOCK_MONOTONIC, as `decide` got it; `readings` likewise. Never raises for what is in `readings`."""
    hold = reins.hold if reins.hold is not None and now_ns < reins.hold.until_ns else None
    if hold is None and not reins.cap and reins.shown is None:
        return Overruled(Reins(), decision.setting, decision.why)
    at = rung_at(ladder)
    levels = ladder.profile.levers[at].levels
    worst = len(levels) - 1 - (levels[-1] == LOOP)  # the loop is no rung that anybody can want
    own, cap = decision.state.levels[at], min(reins.cap, worst)
    wish = min(hold.rung, worst) if hold is not None else 0
    against = _against(rules, decision, readings) if hold is not None and wish < own else ""
    yields = hold is not None and wish < own and (reins.yields or bool(against))
    # The best that may be shown: the governor's own, but for a hold that asks for more and may have it.
    best = own if hold is None or wish >= own or yields else _others(ladder, decision, at)
    wanted = max(best, wish, cap)
    shown = own if reins.shown is None else reins.shown
    moved = shown == reins.own != own  # from what it showed by itself, at a moment that it chose
    waits = shown >= best and wanted != shown and not moved and bool(readings.speaking) and reins.waiting_s < rules.pause_s
    waiting_s = reins.waiting_s + decision.state.signal.dt_s if waits else 0.0
    shown = shown if waits else wanted
    free = hold is None and not cap and shown == own
    setting = decision.setting if shown == own else msgspec.structs.replace(decision.setting, rung=str(levels[shown]))
    why = decision.why
    if hold is not None:
        minutes = -((now_ns - hold.until_ns) // _MINUTE_NS)
        why = f"{_of_hold(str(levels[wish]), minutes, against, yields=yields)}; by itself: {why}"
    elif own < cap:
        why = f"the fleet wants no better than {levels[cap]}; by itself: {why}"
    if waits:
        why = f"a change that is seen waits for a pause in speech; {why}"
    return Overruled(Reins(reins.cap, hold, yields, None if free else shown, None if free else own, waiting_s), setting, why)


def _against(rules: Rules, decision: Decision, readings: Readings) -> str:
    """Why nothing better than the governor's own rung may be shown; "" if nothing speaks against it."""
    state = decision.state
    signal = state.signal
    if signal.blind_s >= rules.blind_s:
        return "no temperature can be read"
    if readings.throttled:
        return "the hardware throttles"
    if state.fan_still_s >= rules.fan_s:
        return "the fan stands still"
    if signal.margin is not None:
        forecast = signal.forecast(rules.ahead_s)
        if forecast < rules.urgent_c:
            return f"only {forecast:.1f} °C are left"
        if signal.margin - rules.visible_s * signal.melts < rules.urgent_c:
            return f"of {signal.margin:.1f} °C too little will be left in {rules.visible_s:g} s"
    return "frames were late" if state.frames.steps else ""


def _others(ladder: Ladder, decision: Decision, at: int) -> int:
    """The level that late frames and want of memory ask for."""
    state = decision.state
    return max(ladder.frames.at[state.frames.steps][at], ladder.memory.at[state.memory.steps][at])


def _of_hold(rung: str, minutes: int, against: str, *, yields: bool) -> str:
    if yields:
        return f"the fleet wants {rung} for another {minutes} min, but {against or 'it was too much'}"
    return f"the fleet holds {rung} for another {minutes} min"
