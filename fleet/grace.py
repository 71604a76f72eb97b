"""Where boxes ask whose certificate has ended: HTTPS without a client's certificate, one path, small bodies, slow to guess.

The broker lets nobody in with a certificate that has ended, so these boxes cannot ask there. Nothing else listens here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from fleet import renewal
from fleet.authority import Authority, Issued, write_private
from fleet.database import Database
from fleet.errors import BadRequest, FleetError

__all__ = ["Grace"]

log = logging.getLogger("fleet")

_MOST = 32 * 1024
_A_MINUTE = 60
"""Requests of one address and minute that are looked at; ten times as many of all together."""


class _Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    certificate: Annotated[str, Meta(max_length=8192)]
    request: Annotated[str, Meta(max_length=4096)]
    signature: Annotated[str, Meta(max_length=512)]


class Grace:
    """`certify` with a server's certificate, `start`, then `close`. `asked(device)` is called when somebody new waits."""

    def __init__(
        self, db: Database, authority: Authority, folder: Path, now_ms: Callable[[], int], asked: Callable[[str, str], None]
    ) -> None:
        self._db, self._authority, self._folder, self._now, self._asked = db, authority, folder, now_ms, asked
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        app = web.Application(client_max_size=_MOST)
        app.router.add_post("/renew", self._renew)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        self._minute, self._counts = 0, dict[str, int]()

    def certify(self, issued: Issued) -> None:
        """Show this certificate from the next connection on."""
        certificate, key = self._folder / "renewal.pem", self._folder / "renewal.key"
        write_private(certificate, issued.certificate)
        write_private(key, issued.key)
        self._context.load_cert_chain(certificate, key)

    async def start(self, host: str, port: int) -> None:
        """Listen; if that cannot be it is told, and everything else works."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host or None, port, ssl_context=self._context).start()
        except OSError as error:
            why = error.strerror or error
            log.warning("boxes whose certificate has ended cannot ask for a new one: port %s: %s; choose --renewal-port", port, why)

    async def close(self) -> None:
        """End all connections."""
        await self._runner.cleanup()

    async def _renew(self, request: web.Request) -> web.Response:
        address = request.remote or ""
        if not self._may(address):
            return _answer({"error": "too many requests: again in a minute"}, 429)
        try:
            ask = msgspec.json.decode(await request.read(), type=_Ask)
            found = await asyncio.to_thread(
                renewal.late,
                self._db,
                self._authority,
                certificate=ask.certificate,
                request=ask.request,
                signature=ask.signature,
                address=address,
                now_ms=self._now(),
            )
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _answer({"error": "not what this takes"}, 400)
        except BadRequest as error:
            return _answer({"error": str(error)}, 403)
        except FleetError:
            return _answer({"error": "not now"}, 503)
        device, late = found
        self._asked(device, late.state)
        return _answer(late, 200)

    def _may(self, address: str) -> bool:
        minute = self._now() // 60_000
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        self._counts[address] = self._counts.get(address, 0) + 1
        if self._counts[address] > _A_MINUTE:  # not of the total: one address alone shall not use that up
            return False
        self._counts[""] = self._counts.get("", 0) + 1
        return self._counts[""] <= 10 * _A_MINUTE


def _answer(body: object, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
