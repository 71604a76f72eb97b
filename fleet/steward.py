"""Sees to it that boxes get the settings they should have, and that rollouts go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from fleet import desired, jobs
from fleet.database import Database
from fleet.errors import Unavailable
from fleet.history import HOURS_MS
from fleet.live import JOBS
from runtime import telemetry as t

__all__ = ["Steward"]

log = logging.getLogger("rollouts")

AGAIN_MS = 60_000
"""Settings that a box has not reported are sent again after so long, while it is online."""
_HOUR_MS = 3_600_000
_GATHER_S, _SHARE = 0.1, 4
"""After a round it rests, four times as long as that took: a thousand boxes that come together are looked at together."""
_MANY = 200


class Steward:
    """Runs in the controller's loop. Of several controllers each sends settings, which does no harm twice; `mine` says who steps jobs."""

    def __init__(
        self,
        db: Database,
        now_ms: Callable[[], int],
        *,
        mine: Callable[[], bool],
        send_commands: Callable[[str], Awaitable[None]],
        send_shadow: Callable[[str, t.Shadow], bool],
        tell: Callable[[set[str]], None],
    ) -> None:
        self._db, self._now_ms, self._mine, self._tell = db, now_ms, mine, tell
        self._send_commands, self._send_shadow = send_commands, send_shadow
        self._nudged = asyncio.Event()
        self._born: set[str] = set()
        self._shadows: set[str] = set()
        self._sent: dict[str, tuple[int, int]] = {}  # version, when
        self._looked_ms = self._pruned_ms = 0

    def came(self, *, online: Iterable[str], born: Iterable[str]) -> None:
        """These boxes are online anew; these told what they are."""
        self._born.update(born)
        for name in online:
            self._sent.pop(name, None)
            self._shadows.add(name)
        if self._born or self._shadows:
            self._nudged.set()

    def changed(self, names: Iterable[str] = ()) -> None:
        """Something was asked for: look now. These boxes should have other settings."""
        self._shadows.update(names)
        self._nudged.set()

    def up(self) -> None:
        """The broker may have forgotten what it held: send again what no box has reported."""
        self._sent.clear()
        self._looked_ms = 0
        self._nudged.set()

    async def run(self, watch_s: float) -> None:
        """Until cancelled."""
        everybody = True  # what changed while no controller ran
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                if everybody:
                    self._shadows |= await asyncio.to_thread(desired.refresh, self._db, self._now_ms())
                    everybody = False
                await self._round(self._now_ms())
            except Unavailable as error:
                log.warning("%s; tried again", error)
            await asyncio.sleep(max(_GATHER_S, _SHARE * (loop.time() - began)))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), watch_s)
            self._nudged.clear()

    async def _round(self, now_ms: int) -> None:
        born, self._born = self._born, set()
        try:
            if born:
                self._shadows |= await asyncio.to_thread(desired.refresh, self._db, now_ms, sorted(born))
        except Unavailable:
            self._born |= born
            raise
        if self._mine():
            await self._jobs(now_ms)
        await self._settings(now_ms)

    async def _jobs(self, now_ms: int) -> None:
        if not 0 <= now_ms - self._pruned_ms < _HOUR_MS:
            self._pruned_ms = now_ms
            await asyncio.to_thread(jobs.prune, self._db, now_ms - HOURS_MS)
        for id_ in await asyncio.to_thread(jobs.waiting, self._db):
            done = await asyncio.to_thread(jobs.step, self._db, id_, now_ms)
            self._shadows |= done.shadows
            for device in sorted(done.commands):
                await self._send_commands(device)
            if done.jobs:
                self._tell({*done.boxes, JOBS})

    async def _settings(self, now_ms: int) -> None:
        all_of_them = not 0 <= now_ms - self._looked_ms < AGAIN_MS
        names, self._shadows = self._shadows, set()
        if not names and not all_of_them:
            return
        try:
            found = await asyncio.to_thread(desired.due, self._db, None if all_of_them else names)
        except Unavailable:
            self._shadows |= names
            raise
        if all_of_them:
            self._looked_ms = now_ms
        for number, (device, shadow) in enumerate(found):
            if number % _MANY == 0:
                await asyncio.sleep(0)  # others have their turn
            version, when = self._sent.get(device, (0, 0))
            again = not 0 <= now_ms - when < AGAIN_MS
            if (version != shadow.version or again) and self._send_shadow(device, shadow):
                self._sent[device] = (shadow.version, now_ms)
