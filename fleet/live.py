"""Who wants to know when something changed: coalesced, so that a slow console never holds anything up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["ALERTS", "JOBS", "Hub", "Listener"]

ALERTS = "/alerts"
"""Told like the name of a box, which it cannot be, when alerts or what is known about them changed."""

JOBS = "/jobs"
"""The same for rollouts and the settings of groups."""


class Listener:
    """One console: which boxes changed since it last asked."""

    def __init__(self) -> None:
        self._devices: set[str] = set()
        self._told = asyncio.Event()

    def tell(self, devices: Iterable[str]) -> None:
        """These changed."""
        self._devices.update(devices)
        self._told.set()

    async def changes(self) -> set[str]:
        """The boxes that changed; waits until there are some."""
        await self._told.wait()
        self._told.clear()
        devices, self._devices = self._devices, set()
        return devices


class Hub:
    """Tells all listeners."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def tell(self, devices: set[str], *, but: Listener | None = None) -> None:
        """These boxes changed; `but` knows it."""
        if devices:
            for listener in self._listeners:
                if listener is not but:
                    listener.tell(devices)

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """A listener for as long as the block lasts."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)
