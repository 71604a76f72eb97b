"""Tasks that are told to end, and do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

__all__ = ["end"]

_AGAIN_S = 1.0


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
