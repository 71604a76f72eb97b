"""What follows when certificates are taken back: the list that the broker reads, and the end of the live sessions."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from fleet import inventory
from fleet.authority import LIST_DAYS, Authority
from fleet.database import Database
from fleet.link import Login, evict

__all__ = ["Revocation"]

log = logging.getLogger("fleet")

_DAY_MS = 86_400_000
_AGAIN_MS = LIST_DAYS * _DAY_MS // 3


class Revocation:
    """`reload` has the broker read the list again; `copy` is where else the list is written, for a broker that is not ours."""

    def __init__(
        self, db: Database, authority: Authority, folder: Path, *, login: Login, reload: Callable[[], None], copy: Path | None = None
    ) -> None:
        self._db, self._authority, self._folder = db, authority, folder
        self._login, self._reload, self._copy = login, reload, copy
        self._written: frozenset[str] | None = None
        self._written_ms = 0

    def write(self, now_ms: int) -> bool:
        """Write the list if it is not what the store says, or will soon end; returns whether it was written. Blocks. Raises Unavailable."""
        serials = frozenset(inventory.revoked_serials(self._db))
        if serials == self._written and -_DAY_MS <= now_ms - self._written_ms < _AGAIN_MS:
            return False
        self._authority.write_revoked(serials, now_ms)
        if self._copy is not None:
            try:
                fresh = self._copy.with_name(self._copy.name + ".new")
                fresh.write_bytes(self._authority.revoked.read_bytes())
                fresh.chmod(0o644)  # a list of revoked certificates is no secret, and the broker is somebody else
                fresh.replace(self._copy)
            except OSError as error:
                log.warning("the list of revoked certificates cannot be written to %s: %s; tried again", self._copy, error.strerror)
                return False
        self._written, self._written_ms = serials, now_ms
        return True

    async def look(self, now_ms: int, leads: bool) -> set[str]:
        """First the list, so that nobody comes back; then the live sessions, by whoever leads. Returns the boxes that were put out.

        A broker that is not ours may read the list late: who comes back in between is put out again.
        """
        if await asyncio.to_thread(self.write, now_ms):
            self._reload()
        names = await asyncio.to_thread(inventory.revocations_to_apply, self._db) if leads else []
        done = set()
        for name in names:
            if await self.put_out(name, now_ms):
                await asyncio.to_thread(inventory.apply_revocations, self._db, name, now_ms)
                done.add(name)
        return done

    async def put_out(self, name: str, now_ms: int) -> bool:
        """End the live session of a box, whose certificate may be good; False, and a line in the log, if that did not come about."""
        try:
            await asyncio.to_thread(self._evict, name, now_ms)
        except OSError as error:
            log.warning("the session of %s could not be ended: %s; tried again", name, error)
            return False
        return True

    def _evict(self, name: str, now_ms: int) -> None:
        issued = self._authority.issue(name, 1, now_ms)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:  # 0700
            certificate, key = Path(folder) / "certificate", Path(folder) / "key"
            certificate.write_bytes(issued.certificate)
            key.write_bytes(issued.key)
            evict(msgspec.structs.replace(self._login, name=name, certificate=certificate, key=key))
