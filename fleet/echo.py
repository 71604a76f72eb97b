"""What one controller has to tell the others on the same PostgreSQL: which boxes changed, and who has mail. By LISTEN and NOTIFY.

It only makes things quick: whoever may have missed a word looks by itself, and what could not be said is said later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import msgspec

from fleet.database import Database
from fleet.errors import Unavailable
from fleet.live import ALERTS, JOBS, Hub, Listener

__all__ = ["Echo", "parts"]

log = logging.getLogger("fleet")

_CHANNEL = "visavis"
_LONGEST = 7000
"""Bytes of a notification; PostgreSQL takes less than 8000."""
_PAUSE_S = 0.2
_RETRY_S = 1.0


class _Word(msgspec.Struct, frozen=True):
    holder: str
    boxes: list[str] = []
    mail: list[str] = []


class Echo:
    """`run` until cancelled. `mail` is called with a box that has mail, for whoever leads; with "" any box may have some."""

    def __init__(self, db: Database, hub: Hub, holder: str, mail: Callable[[str], None]) -> None:
        self._db, self._hub, self._holder, self._mail = db, hub, holder, mail
        self._mailed: set[str] = set()
        self._wake = asyncio.Event()
        self._failing = ""

    def has_mail(self, device: str) -> None:
        """Tell the others."""
        self._mailed.add(device)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; begins anew when the connection is lost."""
        with self._hub.listen() as changes:
            tasks = [asyncio.create_task(work) for work in (self._listen(changes), self._tell(changes), self._post())]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, ours: Listener) -> None:
        while True:
            try:
                async for text in self._db.heard(_CHANNEL):
                    self._failing = ""
                    if text:
                        self._take(text, ours)
                    else:
                        self._hub.tell({ALERTS, JOBS}, but=ours)
                        self._mail("")
            except Unavailable as error:
                self._fails(error)
            await asyncio.sleep(_RETRY_S)

    def _take(self, text: str, ours: Listener) -> None:
        try:
            word = msgspec.json.decode(text, type=_Word)
        except msgspec.MsgspecError:  # anybody who may use the database may notify
            return
        if word.holder == self._holder:
            return
        self._hub.tell(set(word.boxes), but=ours)
        for device in word.mail:
            self._mail(device)

    async def _tell(self, changes: Listener) -> None:
        while True:
            pause = _PAUSE_S
            for part in parts(sorted(await changes.changes())):
                if not await self._say(_Word(self._holder, boxes=part)):
                    changes.tell(part)
                    pause = _RETRY_S
            await asyncio.sleep(pause)

    async def _post(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            mailed, self._mailed = self._mailed, set()
            for part in parts(sorted(mailed)):
                if not await self._say(_Word(self._holder, mail=part)):
                    self._mailed.update(part)
            if self._mailed:
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    async def _say(self, word: _Word) -> bool:
        try:
            await asyncio.to_thread(self._db.read, "SELECT pg_notify(?, ?)", _CHANNEL, msgspec.json.encode(word).decode())
        except Unavailable as error:
            self._fails(error)
            return False
        return True

    def _fails(self, error: Unavailable) -> None:
        if self._failing != str(error):
            self._failing = str(error)
            log.warning("%s; other controllers are told later", error)


def parts(names: list[str]) -> Iterator[list[str]]:
    """Names in portions that fit into a notification; ALERTS and JOBS are in each, with the boxes that they are about."""
    about = [name for name in names if name in (ALERTS, JOBS)]
    part: list[str] = []
    size = 0
    for name in names:
        if name in about:
            continue
        more = len(name.encode()) + 3
        if part and size + more > _LONGEST:
            yield [*about, *part]
            part, size = [], 0
        part.append(name)
        size += more
    if part or about:
        yield [*about, *part]
