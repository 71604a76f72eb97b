"""Alerts in the controller: turns of the evaluator and deliveries, one after the other, as long as it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from fleet import alert_store
from fleet.alert_send import Sender
from fleet.alert_turn import Evaluator
from fleet.database import Database
from fleet.errors import Unavailable
from fleet.live import ALERTS

__all__ = ["LISTEN_MS", "Alerts"]

log = logging.getLogger("fleet")

LISTEN_MS = 60_000
"""Who was lost is judged when the controller has listened for so long: boxes come back within this time."""
_HOUR_MS = 3_600_000


class Alerts:
    """`run` until cancelled. `listening` is since when boxes are heard (wall time, ms), 0 if they are not; `mine` whether this controller
    is the one that evaluates; `tell` hears which boxes' alerts changed.
    """

    def __init__(
        self,
        db: Database,
        folder: Path,
        now: Callable[[], int],
        *,
        fleet: str,
        console: str,
        listening: Callable[[], int],
        mine: Callable[[], bool],
        tell: Callable[[set[str]], None],
    ) -> None:
        self._db, self._now, self._listening, self._mine, self._tell = db, now, listening, mine, tell
        self.fleet, self.console = fleet, console
        self._evaluator = Evaluator(db, fleet, console)
        self._sender = Sender(db, folder / "secrets", now, tell)
        self._pruned = 0

    async def run(self, every_s: float) -> None:
        """A turn and what is due, every `every_s`."""
        await asyncio.to_thread(alert_store.fill, self._db, self._now())
        try:
            while True:
                try:
                    await self._turn()
                except Unavailable as error:
                    self._evaluator.forget()
                    log.warning("%s; alerts are judged when it can", error)
                await asyncio.sleep(every_s)
        finally:
            await self._sender.close()

    async def _turn(self) -> None:
        if not self._mine():
            self._evaluator.forget()
            return
        now, since = self._now(), self._listening()
        changed = await asyncio.to_thread(self._evaluator.turn, now, bool(since) and now - since >= LISTEN_MS)
        if changed:
            self._tell(changed | {ALERTS})
        await self._sender.look()
        if now - self._pruned >= _HOUR_MS:
            self._pruned = now
            await asyncio.to_thread(alert_store.prune, self._db, now)
