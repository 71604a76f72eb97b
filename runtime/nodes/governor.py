"""The governor in the kiosk: looks at the box once a second, and sets what renderer, language model, fan and power mode may do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from firmware.power import Levers
from firmware.readings import Snapshot
from firmware.sensors import Sensors
from runtime.context import Context
from runtime.governor import Readings, Rules, State, begin, decide
from runtime.governor_box import (
    Reach,
    carried,
    has_no_thermometer,
    in_words,
    kind_of,
    ladder_of,
    memory_mb,
    model_is_here,
    model_share,
    readings_of,
)
from runtime.governor_ladder import LOOP, Ladder, Profile, Setting, build
from runtime.governor_override import Hold, Reins, overrule, rung_at
from runtime.hands import Hands
from runtime.messages import Drawn, Effort, Floor, Held, Posture
from runtime.messages import Hold as HoldMessage

__all__ = ["Governor", "main", "open_hands"]

NS = 1_000_000_000
STALE_NS = 5 * NS
"""The floor is told once a second; what is older says nothing of now."""
QUIET_NS = 60 * NS
"""An alarm is taken back when it was silent for so long: a box at its limit would show and hide it all day."""
_RECORD = "var/lib/visavis/levers.json"


class Kept(msgspec.Struct, frozen=True):
    """What outlives a crash of the node."""

    reach: Reach
    profile: Profile
    state: State
    alarm: str = ""
    reins: Reins = Reins()


class Governor:
    """The node's logic: messages in; once a second a look at the box, a decision, and its execution. `root` stands in for / in tests."""

    def __init__(self, ctx: Context, sensors: Sensors, hands: Hands | None, root: Path = Path("/")) -> None:
        self._ctx, self._sensors, self._hands, self._root = ctx, sensors, hands, root
        self._rules = Rules()
        snapshot = sensors.read()
        self._kind = kind_of(root, snapshot)
        if has_no_thermometer(self._kind, snapshot):
            ctx.log.info("this machine tells no temperature: only late frames are answered, heat is left to its hardware")
        self._drawn: Drawn | None = None
        self._counted: Drawn | None = None  # up to the last look
        self._speaking: tuple[int, bool] | None = None
        self._due_ns = 0
        self._alarm, self._alarm_ns = "", 0
        self._reach: Reach | None = None
        self._ladder: Ladder | None = None
        self._state: State | None = None
        self._reins, self._taken_ns = Reins(), 0
        self._setting: Setting | None = None
        self._resume()

    def _resume(self) -> None:
        """Go on where the life before stood: nothing gets better because a process died."""
        try:
            kept = msgspec.msgpack.decode(self._ctx.checkpoint.load() or b"", type=Kept)
        except msgspec.DecodeError:
            return
        self._reach, self._ladder, self._state, self._reins = kept.reach, build(kept.profile), kept.state, kept.reins
        levers = self._ladder.profile.levers
        shown = {} if kept.reins.shown is None else {"rung": levers[rung_at(self._ladder)].levels[kept.reins.shown]}
        self._setting = msgspec.structs.replace(kept.state.setting, **shown)
        self._raise_alarm(kept.alarm, self._ctx.clock.monotonic_ns())

    @property
    def setting(self) -> Setting | None:
        """Where the levers stand; None as long as there is nothing to set."""
        return self._setting

    def handle(self, message: Any) -> None:
        """Take one message of any link."""
        if isinstance(message, Drawn):
            self._drawn = message
        elif isinstance(message, Floor):
            # While it thinks it will speak in a moment: no time for a change either.
            speaking = message.posture in (Posture.SPEAKING, Posture.THINKING)
            self._speaking = self._ctx.clock.monotonic_ns(), speaking
        elif isinstance(message, HoldMessage):
            self._taken_ns = message.t_ns
            if not message.minutes:
                self._reins = msgspec.structs.replace(self._reins, cap=message.rung)
            else:
                hold = Hold(message.rung, self._ctx.clock.monotonic_ns() + message.minutes * 60 * NS)
                self._reins = msgspec.structs.replace(self._reins, hold=hold, yields=False)

    @property
    def wait_s(self) -> float:
        """Until the next look."""
        return max(0.0, (self._due_ns - self._ctx.clock.monotonic_ns()) / NS)

    def tick(self) -> None:
        """Look, decide and act, if a second has passed."""
        now = self._ctx.clock.monotonic_ns()
        if now < self._due_ns:
            return
        self._due_ns = max(self._due_ns + NS, now + NS // 2)
        snapshot = self._sensors.read()
        self._see_reach(snapshot)
        if self._ladder is None or self._state is None or self._reach is None:
            self._tell_fleet(now)
            return
        state = self._state
        if state.signal.margin is None and has_no_thermometer(self._kind, snapshot):  # not blind: there is nothing to see
            state = msgspec.structs.replace(state, signal=msgspec.structs.replace(state.signal, blind_s=0.0))
        before, readings = in_words(self._setting or state.setting), self._readings(snapshot, now)
        decision = decide(self._ladder, self._rules, state, readings, now)
        self._state = decision.state
        self._reins, setting, why = overrule(self._ladder, self._rules, self._reins, decision, readings, now)
        self._setting = setting
        if in_words(setting) != before:
            self._ctx.log.info("%s (%s)", why, in_words(setting))
        self._act(setting, now)
        self._raise_alarm(setting.alarm, now)
        self._ctx.checkpoint.save(msgspec.msgpack.encode(Kept(self._reach, self._ladder.profile, self._state, self._alarm, self._reins)))
        self._tell(setting, why, self._state)
        self._tell_fleet(now)

    def _see_reach(self, snapshot: Snapshot) -> None:
        """Build the ladder when it is known what this box can move, and another one when that changes."""
        if self._drawn is None or (self._hands is not None and self._hands.busy):
            return
        fan, modes = (self._hands.fan, self._hands.modes) if self._hands else (False, ())
        config = self._ctx.config
        reach = Reach(
            kind=self._kind, rungs=self._drawn.rungs, fps=config.video.fps, fan=fan, modes=modes, model=model_is_here(config.language)
        )
        if reach == self._reach:
            return
        ladder = ladder_of(reach, snapshot)
        self._state = carried(self._ladder, self._state, ladder) if self._ladder and self._state else begin(ladder, self._rules)
        self._reach, self._ladder = reach, ladder
        self._reins = msgspec.structs.replace(self._reins, shown=None)  # a level of the ladder before
        self._ctx.log.info("%s: %s", self._kind, ", then ".join(step.says for step in ladder.heat.steps))

    def _readings(self, snapshot: Snapshot, now: int) -> Readings:
        frames = late = None
        drawn, before = self._drawn, self._counted
        if drawn is not None and drawn is not before:
            if before is not None and drawn.frames >= before.frames:  # fewer: another life of the renderer
                frames, late = drawn.frames - before.frames, max(0, drawn.late - before.late)
            self._counted = drawn
        fresh = self._speaking is not None and now - self._speaking[0] < STALE_NS
        speaking = self._speaking[1] if self._speaking is not None and fresh else None
        return readings_of(snapshot, memory=memory_mb(self._root), frames=frames, late=late, speaking=speaking)

    def _act(self, setting: Setting, now: int) -> None:
        assert self._ladder is not None
        self._ctx.publish("effort", Effort(0, now, setting.rung or "", setting.fps or 0.0, model_share(self._ladder, setting)))
        if self._hands is None or self._hands.busy:
            return
        for trouble in self._hands.troubles():
            self._ctx.log.warning("%s", trouble)
        usual = self._ladder.setting(self._ladder.heat.at[0])
        self._hands.want(None if (setting.fan, setting.mode) == (usual.fan, usual.mode) else (setting.fan, setting.mode), now)

    def _raise_alarm(self, alarm: str, now: int) -> None:
        """One line for the technician as long as it holds, and a minute more."""
        if alarm and alarm == self._alarm:
            self._alarm_ns = now
        elif now - self._alarm_ns >= QUIET_NS or (alarm and not self._alarm):
            if alarm or self._alarm:
                self._ctx.notice("heat", f"{alarm}: see 'visavis sensors', and look at the fan and the vents" if alarm else "")
            self._alarm, self._alarm_ns = alarm, now

    def _tell(self, setting: Setting, why: str, state: State) -> None:
        self._ctx.measure("setting", in_words(setting))
        self._ctx.measure("why", why)
        self._ctx.measure("heat_steps", state.heat.steps)
        self._ctx.measure("heat_alarm", bool(self._alarm))
        self._ctx.measure("rung_reason", self._reason(setting, state))

    def _tell_fleet(self, now: int) -> None:
        """Once a second, and only after it was kept: what the uplink has heard outlives this node."""
        reins = self._reins
        levels = self._ladder.profile.levers[rung_at(self._ladder)].levels if self._ladder else ()
        rungs = tuple(str(level) for level in levels if level != LOOP)
        rung, left_s = (reins.hold.rung, max(0.0, (reins.hold.until_ns - now) / NS)) if reins.hold else (-1, 0.0)
        self._ctx.publish("held", Held(0, now, rungs, reins.cap, rung, left_s, self._taken_ns))

    def _reason(self, setting: Setting, state: State) -> str:
        """Why that rung is drawn, in a word of the telemetry catalogue."""
        assert self._ladder is not None
        at = rung_at(self._ladder)
        level = state.levels[at]
        if self._reins.shown not in (None, level):
            return "override"
        if level and self._ladder.heat.at[state.heat.steps][at] == level:
            return "throttle" if setting.alarm == "the hardware throttles" else "heat"
        if level:
            return "late_frames"
        if self._drawn is None or not self._drawn.rung:
            return "best"
        return "override" if len(self._drawn.rungs) == 1 else "load"


def open_hands(root: Path) -> Hands | None:
    """Fan and power mode, on a box of ours: where there is a place for the record of what was there before."""
    record = root / _RECORD
    return Hands(Levers(record, root)) if os.access(record.parent, os.W_OK | os.X_OK) else None


def main(ctx: Context) -> None:
    """Govern until told to stop; then fan and power mode are as they were."""
    root = ctx.config.firmware.root
    hands = open_hands(root)
    try:
        with Sensors(root, nvml=root == Path("/")) as sensors:
            governor = Governor(ctx, sensors, hands, root)
            ctx.ready()
            while not ctx.stopping:
                for _, message in ctx.receive(governor.wait_s):
                    governor.handle(message)
                governor.tick()
                ctx.beat()
    finally:
        if hands is not None:
            hands.close()
