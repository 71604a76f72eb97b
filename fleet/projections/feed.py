"""From the store to a projection's broker: everything at the beginning, then what changed, while this controller is the one that tells it.

Whoever no longer is says farewell before the next one begins: it knows by its own clock, seconds before (fleet/lease.py). What changes is
told by the hub at once; a look at all boxes in a while finds what another controller on the same store has written.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fleet.database import Database
from fleet.errors import FleetError
from fleet.live import Hub, Listener
from fleet.projections import source
from fleet.projections.homeassistant import Discovery
from fleet.projections.outlet import Came, Outlet, Publish, Target
from fleet.projections.source import Box
from fleet.projections.sparkplug import Ask, Edge

__all__ = ["DiscoveryFeed", "Feed", "SparkplugFeed"]

log = logging.getLogger("projections")

_LONGEST_S = 60.0
_LOOK_S = 0.5
"""How often it is asked whose turn it is; much less than the time for which nobody leads after a leader fell silent."""
_LATE = 10_000
"""Late reports that may wait; more are not told to the hosts. The store has them."""


class Feed(ABC):
    """A projection with its connection. `run` until cancelled; it ends for nothing else. `mine` is whether this controller tells it now."""

    name = ""

    def __init__(
        self,
        db: Database,
        hub: Hub,
        where: Target,
        client_id: str,
        now_ms: Callable[[], int],
        mine: Callable[[], bool],
        sweep_s: float = 30.0,
    ) -> None:
        self.connected = asyncio.Event()
        self.connects = self.sent = 0
        self._db, self._hub, self._where, self._client_id = db, hub, where, client_id
        self._now, self._mine, self._sweep_s = now_ms, mine, sweep_s
        self._marks: dict[str, tuple[Any, ...]] = {}
        self._late: deque[tuple[str, int, dict[str, Any]]] = deque(maxlen=_LATE)
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Connect, tell, and connect again, whenever it is this one's turn."""
        failures, told = 0, ""
        while True:
            while not self._mine():  # noqa: ASYNC110 - a lease ends by the clock: nobody rings
                await asyncio.sleep(_LOOK_S)
            try:
                await self._session()
                failures, told = 0, ""
            except (OSError, FleetError) as error:
                failures += 1
                if str(error) != told:
                    told = str(error)
                    log.warning("%s: no connection to %s; tried again", self.name, error)
            except Exception:  # the boxes must not suffer from what a host or a projection does
                failures += 1
                log.exception("%s: begun anew", self.name)
            finally:
                self.connected.clear()
            await asyncio.sleep(random.uniform(0.2, min(_LONGEST_S, 1.0 * 2 ** min(failures, 6))))

    def late(self, device: str, ts: int, health: dict[str, Any]) -> None:
        """A box told this long after it was so."""
        if self._mine():
            self._late.append((device, ts, health))
            self._woken.set()

    async def _session(self) -> None:
        outlet = Outlet(self._where, self._client_id)
        await outlet.open(await asyncio.to_thread(self._will), self._subscriptions())  # the edge node's number is kept on the disk
        self.connects += 1
        try:
            with self._hub.listen() as listener:
                await self._serve(outlet, listener)
        finally:
            self.connected.clear()
            await asyncio.shield(outlet.close(self._farewell()))

    async def _serve(self, outlet: Outlet, listener: Listener) -> None:
        await self._begin(outlet)
        self.connected.set()
        changes = asyncio.ensure_future(listener.changes())
        came = asyncio.ensure_future(outlet.events.get())
        woken = asyncio.ensure_future(self._woken.wait())
        loop = asyncio.get_running_loop()
        sweep = loop.time() + self._sweep_s
        try:
            while not outlet.ended and self._mine():
                left = min(_LOOK_S, max(0.0, sweep - loop.time()))
                await asyncio.wait((changes, came, woken), timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if came.done():
                    message, came = came.result(), asyncio.ensure_future(outlet.events.get())
                    if message is None or not await self._came(message, outlet):
                        return
                if woken.done():
                    self._woken.clear()
                    woken = asyncio.ensure_future(self._woken.wait())
                names: set[str] = set()
                if changes.done():
                    names, changes = changes.result(), asyncio.ensure_future(listener.changes())
                if loop.time() >= sweep:
                    names |= await self._different()
                    sweep = loop.time() + self._sweep_s
                await self._tell(outlet, names)
        finally:
            for task in (changes, came, woken):
                task.cancel()

    async def _begin(self, outlet: Outlet) -> None:
        marks = await asyncio.to_thread(source.marks, self._db)
        boxes = await asyncio.to_thread(lambda: list(source.boxes(self._db)))
        self._marks = marks
        await self._send(outlet, self._birth(boxes))

    async def _different(self) -> set[str]:
        known, self._marks = self._marks, await asyncio.to_thread(source.marks, self._db)
        return {name for name, mark in self._marks.items() if known.get(name) != mark}

    async def _tell(self, outlet: Outlet, names: set[str]) -> None:
        boxes = await asyncio.to_thread(lambda: list(source.boxes(self._db, sorted(names)))) if names else []
        late = list(self._late)
        self._late.clear()
        await self._send(outlet, (message for box in boxes for message in self._news(box)))
        await self._send(outlet, (message for device, ts, health in late for message in self._history(device, ts, health)))

    async def _send(self, outlet: Outlet, messages: Iterable[Publish]) -> None:
        def counted() -> Iterator[Publish]:
            for message in messages:
                if not self._mine():  # the next one tells everything
                    return
                self.sent += 1
                yield message

        await outlet.send(counted())

    @abstractmethod
    def _will(self) -> Publish: ...

    @abstractmethod
    def _subscriptions(self) -> tuple[str, ...]: ...

    @abstractmethod
    def _birth(self, boxes: list[Box]) -> Iterator[Publish]: ...

    @abstractmethod
    def _news(self, box: Box) -> Iterator[Publish]: ...

    def _history(self, device: str, ts: int, health: dict[str, Any]) -> Iterator[Publish]:  # noqa: ARG002 - not every projection tells it
        return iter(())

    @abstractmethod
    async def _came(self, message: Came, outlet: Outlet) -> bool:
        """Deal with a message; False ends the session, in order."""

    @abstractmethod
    def _farewell(self) -> list[Publish]: ...


class SparkplugFeed(Feed):
    """The edge node's."""

    name = "Sparkplug"

    def __init__(self, edge: Edge, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._edge = edge

    def _will(self) -> Publish:
        return self._edge.will(self._now())

    def _subscriptions(self) -> tuple[str, ...]:
        return self._edge.subscriptions

    def _birth(self, boxes: list[Box]) -> Iterator[Publish]:
        return self._edge.begin(boxes, self._now())

    def _news(self, box: Box) -> Iterator[Publish]:
        return self._edge.tell(box, self._now())

    def _history(self, device: str, ts: int, health: dict[str, Any]) -> Iterator[Publish]:
        return self._edge.late(device, ts, health, self._now())

    async def _came(self, message: Came, outlet: Outlet) -> bool:
        asked = self._edge.came(message.topic, message.payload)
        if asked is Ask.BIRTH:
            await self._begin(outlet)
        return asked is not Ask.LEAVE

    def _farewell(self) -> list[Publish]:
        return self._edge.farewell(self._now())


class DiscoveryFeed(Feed):
    """Home Assistant's."""

    name = "Home Assistant"

    def __init__(self, discovery: Discovery, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._discovery = discovery

    def _will(self) -> Publish:
        return self._discovery.will()

    def _subscriptions(self) -> tuple[str, ...]:
        return self._discovery.subscriptions

    def _birth(self, boxes: list[Box]) -> Iterator[Publish]:
        return self._discovery.begin(boxes)

    def _news(self, box: Box) -> Iterator[Publish]:
        return self._discovery.tell(box)

    async def _came(self, message: Came, outlet: Outlet) -> bool:
        # A retained word is of a start that was before this connection: everything was told since.
        if self._discovery.came(message.topic, message.payload) and not message.retained:
            await self._begin(outlet)
        return True

    def _farewell(self) -> list[Publish]:
        return self._discovery.farewell()
