"""Commands on their way to the boxes: each is published by one controller, the one that leads, and again only if it may be lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fleet import journal
from fleet.database import Database
from fleet.errors import Unavailable
from fleet.journal import Order

__all__ = ["Post"]

log = logging.getLogger("fleet")

_NO_SUBSCRIBERS = 0x10
_RETRY_S = 1.0


class Post:
    """`run` until cancelled. `send` publishes and returns a number, 0 without a connection, which `published` gets with the broker's
    answer; `mine` is whether this controller leads; `pass_on` tells the one that does which box has mail. All but `run` return at once.
    """

    def __init__(
        self,
        db: Database,
        now_ms: Callable[[], int],
        *,
        send: Callable[[Order, int], int],
        mine: Callable[[], bool],
        pass_on: Callable[[str], None],
    ) -> None:
        self._db, self._now_ms, self._send, self._mine, self._pass_on = db, now_ms, send, mine, pass_on
        self._due: set[str] = set()
        self._sent: list[str] = []
        self._publishing: dict[int, str] = {}
        self._anew = self._was_up = False
        self._wake = asyncio.Event()

    def due(self, device: str) -> None:
        """There may be something for this box, "" for any."""
        if self._mine():
            self._due.add(device)
            self._wake.set()
        else:
            self._pass_on(device)

    def up(self) -> None:
        """There is a connection to the broker. It may have forgotten what it held: send again what has no answer.

        Of several controllers that is for whoever led or was connected before: the broker of one that is new here forgot nothing.
        """
        self._publishing.clear()
        self._anew = self._anew or self._was_up or self._mine()
        self._was_up = True
        self._wake.set()

    def lead(self, after_crash: bool) -> None:
        """This controller leads from now on. What one that crashed had sent may be lost with it: it is sent again."""
        self._anew = self._anew or after_crash
        self.due("")

    def published(self, mid: int, code: int) -> None:
        """The broker's answer."""
        id_ = self._publishing.pop(mid, "")
        # 0x10: the box has no session; it gets the command when it comes online.
        if id_ and code < 0x80 and code != _NO_SUBSCRIBERS:
            self._sent.append(id_)
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled; what the store cannot tell now is asked again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._round()
            except Unavailable as error:
                log.warning("%s; tried again", error)
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    async def _round(self) -> None:
        while self._sent:
            await asyncio.to_thread(journal.sent, self._db, self._sent[0])
            self._sent.pop(0)
        if not self._mine():
            self._due.clear()
            return
        if self._anew:
            await asyncio.to_thread(journal.reopen, self._db)
            self._anew, self._due = False, {""}
        while self._due:
            device = "" if "" in self._due else next(iter(self._due))
            self._due.discard(device)  # before it is looked: what comes meanwhile is looked for again
            try:
                await self._send_to(device)
            except Unavailable:
                self._due.add(device)
                raise

    async def _send_to(self, device: str) -> None:
        now, after, more = self._now_ms(), (0, ""), True
        while more:
            orders = await asyncio.to_thread(journal.due, self._db, device, now, after)
            for order in orders:
                if order.id not in self._publishing.values() and order.id not in self._sent and (mid := self._send(order, now)):
                    self._publishing[mid] = order.id
            if more := len(orders) == journal.PAGE:
                after = (orders[-1].issued, orders[-1].id)
