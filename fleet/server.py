"""The web server: the API's routes, the console's files, and TLS where it is not only for this machine."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from fleet.api import ROUTES
from fleet.ask import HEADERS, handler
from fleet.authority import Issued, write_private
from fleet.errors import PortTaken
from fleet.tasks import Through

if TYPE_CHECKING:
    from fleet.controller import Controller

__all__ = ["Server"]

_CONSOLE = Path(__file__).parent / "console"
_ENDING_S = 10.0
"""So long what was asked for may take to end when the controller does."""
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Server:
    """`start`, then `close`."""

    def __init__(self, controller: Controller) -> None:
        self._controller, self._through = controller, Through()
        app = web.Application(client_max_size=256 * 1024)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, handler(controller, route, controller.cookie, self._through))
        files = {file.relative_to(_CONSOLE).as_posix(): file for file in _CONSOLE.rglob("*") if file.suffix in _KINDS}
        app.router.add_get("/", _file(files["index.html"]))
        for name, file in files.items():
            app.router.add_get(f"/{name}", _file(file))
        app.router.add_get("/revoked.crl", self._revoked)
        # Browsers that look at the console keep a stream open: they are not waited for.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)

    @property
    def url(self) -> str:
        """Where the console is."""
        settings = self._controller.settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        return f"{'http' if self._local else 'https'}://{host}:{settings.port}"

    @property
    def reached(self) -> str:
        """Where the console is for people elsewhere, as messages name it."""
        settings = self._controller.settings
        name = settings.names[0] if settings.names else socket.gethostname()
        return f"https://{name}:{settings.port}" if settings.host in ("0.0.0.0", "::") else self.url  # noqa: S104 - compared

    async def start(self) -> None:
        """Listen. Raises PortTaken."""
        settings = self._controller.settings
        await self._runner.setup()
        site = web.TCPSite(self._runner, settings.host, settings.port, ssl_context=None if self._local else self._tls())
        try:
            await site.start()
        except OSError as error:
            raise PortTaken(f"the console cannot listen at {settings.host}:{settings.port}: {error.strerror}; choose --port") from error

    async def close(self) -> None:
        """End all connections, and what was asked for before."""
        await self._runner.cleanup()
        await self._through.close(_ENDING_S)

    @property
    def _local(self) -> bool:
        host = self._controller.settings.host
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    async def _revoked(self, _: web.Request) -> web.Response:
        """For brokers that fetch the list of revoked certificates; it is no secret."""
        file = self._controller.authority.revoked.with_suffix(".crl")
        if not file.exists():
            raise web.HTTPNotFound(text="start the controller with --crl-url")
        return web.Response(body=file.read_bytes(), content_type="application/pkix-crl", headers=HEADERS)

    def _tls(self) -> ssl.SSLContext:
        controller = self._controller
        folder = controller.settings.data / "authority"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2

        def show(issued: Issued) -> None:
            write_private(folder / "console.pem", issued.certificate)
            write_private(folder / "console.key", issued.key)
            context.load_cert_chain(folder / "console.pem", folder / "console.key")

        show(controller.upkeep.keep("console", show, controller.times.wall_ms(), controller.names))
        return context


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.Response]]:
    data, kind = path.read_bytes(), _KINDS[path.suffix]

    async def send(_: web.Request) -> web.Response:
        return web.Response(body=data, content_type=kind, charset="utf-8", headers=HEADERS)

    return send
