"""The fleet's hand on the picture: the rung that it holds for a while (a command), and the best that it lets be drawn (a setting).

The governor carries both out, ends the hold by itself, and stays below it where safety asks for that (`runtime.governor_override`). Here
it is told, asked whether it has taken it, and listened to: what is reported is what the governor says.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from runtime.bus import LinkError
from runtime.messages import Held, Hold
from runtime.telemetry import contract as c
from runtime.telemetry.executors import Done
from runtime.telemetry.levers import Lever
from runtime.telemetry.times import Times

__all__ = ["Picture"]

_ANSWER_S = 10.0
"""Longer than the link keeps a command: what was not confirmed by then will not be taken later."""
_SAME_MS = 5000
_ONE_RUNG = "only one rung can be drawn here: its avatar has no other, or kiosk.toml names it ([video] rung)"


class Picture:
    """`send(message)` gives the governor a message and raises LinkError while it is away; `now_ns` is CLOCK_MONOTONIC; `named`: kiosk.toml
    names a rung; `changed()` hears that a hold has begun or ended.
    """

    def __init__(
        self, send: Callable[[Hold], None], now_ns: Callable[[], int], times: Times, *, named: bool, changed: Callable[[], None]
    ) -> None:
        self._send, self._now_ns, self._times, self._named, self._changed = send, now_ns, times, named, changed
        self._cap, self._untold = 0, True  # an uplink before this one may have left another
        self._told: Held | None = None
        self._heard_ns = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._held: tuple[int, int] | None = None

    def lever(self) -> Lever:
        """Of the setting `rung`."""
        return Lever(0, self._set, lambda _: self._one_rung())

    @property
    def held(self) -> tuple[int, int] | None:
        """The rung that is held, and until when by the box's wall clock, ms; None if none is."""
        return self._held

    @property
    def left_s(self) -> int:
        """For how many seconds more; 0 if nothing is held."""
        since_s = (self._now_ns() - self._heard_ns) / 1e9  # also where the governor says no more
        return 0 if self._told is None else max(0, math.ceil(self._told.left_s - since_s))

    def again(self) -> None:
        """The governor is ready, so it may be another one: it is told the setting again. A hold it has kept itself."""
        self._untold = True
        self.tick()

    def tick(self) -> None:
        """Tell the governor what it was not told yet, if it is there."""
        if not self._untold:
            return
        try:
            self._send(Hold(0, self._now_ns(), self._cap, 0))
            self._untold = False
        except LinkError:
            return  # with the next tick

    def heard(self, told: Held) -> None:
        """What the governor says, once a second."""
        self._told, self._heard_ns = told, self._now_ns()
        held = None if told.rung < 0 else (told.rung, self._times.wall_ms() + round(told.left_s * 1000))
        # The same hold has the same end, although it is never reckoned the same to the millisecond.
        same = held and self._held and held[0] == self._held[0] and abs(held[1] - self._held[1]) < _SAME_MS
        if not same and held != self._held:
            self._held = held
            self._changed()
        waiting = self._waiting.pop(told.taken_ns, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def hold(self, rung: int, minutes: int) -> Done:
        """Have the governor hold a rung; done when it has kept it where its next life will find it."""
        if why := self._why_not(rung):
            return Done(c.Outcome.REFUSED, why)
        now = self._now_ns()
        taken = self._waiting[now] = asyncio.get_running_loop().create_future()
        try:
            self._send(Hold(0, now, rung, minutes))
            await asyncio.wait_for(taken, _ANSWER_S)
        except (LinkError, asyncio.TimeoutError):
            return Done(c.Outcome.FAILED, "the governor does not answer")
        finally:
            self._waiting.pop(now, None)
        return Done(
            c.Outcome.DONE,
            "for so long at most: heat, late frames or a restart of the kiosk go before",
            {"until_ms": self._held[1] if self._held else self._times.wall_ms()},
        )

    def _why_not(self, rung: int) -> str:
        if why := self._one_rung():
            return why
        if self._told is None or not self._told.rungs:
            return "the governor does not know the rungs yet: no renderer draws"
        if rung >= len(self._told.rungs):
            return f"this box has rungs 0 to {len(self._told.rungs) - 1} ({', '.join(self._told.rungs)})"
        if rung < self._cap:
            return f"the settings wanted of this box name {self._cap} as its best rung: change it there"
        return ""

    def _one_rung(self) -> str:
        rungs = self._told.rungs if self._told is not None else ()
        return _ONE_RUNG if len(rungs) == 1 or (not rungs and self._named) else ""

    def _set(self, rung: int) -> None:
        self._cap, self._untold = rung, True
        self.tick()
