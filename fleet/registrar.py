"""Everything that certifies while the controller runs: boxes that renew, boxes whose certificate has ended, and ourselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from fleet import renewal
from fleet.authority import Authority
from fleet.database import Database
from fleet.errors import BadRequest, Unavailable
from fleet.grace import Grace
from fleet.upkeep import Upkeep
from runtime import telemetry as t

__all__ = ["Registrar"]

log = logging.getLogger("fleet")

_ANSWER_S = 3600


class Registrar:
    """`send(device, kind, body, expiry_s)` publishes to a box, `strange(device, cause)` counts, `tell(devices)` has consoles look."""

    def __init__(
        self,
        db: Database,
        authority: Authority,
        upkeep: Upkeep,
        folder: Path,
        now_ms: Callable[[], int],
        *,
        send: Callable[[str, t.DownKind, t.Renewed, int], object],
        strange: Callable[[str, str], None],
        tell: Callable[[set[str]], None],
    ) -> None:
        self._upkeep = upkeep
        self._db, self._authority, self._now = db, authority, now_ms
        self._send, self._strange, self._tell = send, strange, tell
        self._grace = Grace(db, authority, folder, now_ms, self._asked)

    async def start(self, host: str, port: int, names: tuple[str, ...]) -> None:
        """Listen for boxes whose certificate has ended; `names` are those of this machine."""
        self._grace.certify(self._upkeep.keep("renewal", self._grace.certify, self._now(), names))
        await self._grace.start(host, port)

    async def close(self) -> None:
        """End all connections."""
        await self._grace.close()

    async def answer(self, asked: Iterable[tuple[str, str]]) -> None:
        """Requests that came with valid certificates: (box, PEM). A box that gets no answer asks again."""
        for device, request in asked:
            try:
                pem = await asyncio.to_thread(renewal.grant, self._db, self._authority, device, request, self._now())
                body = t.Renewed(certificate=pem)
            except BadRequest as error:
                self._strange(device, "renewal")
                body = t.Renewed(reason=str(error)[:200])
            except Unavailable as error:
                log.warning("%s; the box asks again", error)
                continue
            except Exception:  # whatever one box has made up: the others go on
                log.exception("a request of %s cannot be judged", device)
                self._strange(device, "renewal")
                continue
            self._send(device, t.DownKind.CERTIFICATE, body, _ANSWER_S)
            self._tell({device})

    async def look(self) -> None:
        """Renew what is ours and due."""
        for name in await asyncio.to_thread(self._upkeep.renew, self._now()):
            log.info("the certificate of %s was renewed", name)

    def _asked(self, device: str, state: str) -> None:
        if state == "waiting":
            self._tell({device})
