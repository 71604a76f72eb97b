"""Tasks that are told to end, and do; and work that goes on to its end, whoever waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

__all__ = ["Through", "end"]

log = logging.getLogger("fleet")

_AGAIN_S = 1.0
T = TypeVar("T")


async def end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all have ended; what they raised is dropped.

    Once is not enough: before Python 3.12 `asyncio.wait_for` gives back what comes in the moment of the cancellation, which is lost then.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


class Through:
    """Work that is begun here goes through to its end, though nobody waits for it any more. For one loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop itself holds tasks only weakly

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result. Whoever is cancelled here only stops waiting; what the work raises then is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_told)
            raise

    async def close(self, within_s: float) -> None:
        """Let all end; what has not by then is cancelled."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        await end(list(self._tasks))


def _told(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("what somebody asked for who is gone has failed", exc_info=error)
