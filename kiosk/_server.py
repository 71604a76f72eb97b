"""The page's server: its files, and three sockets. Loopback only; who may connect is the guard's business."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec
from aiohttp import WSMsgType, web

from kiosk._guard import HEADERS, Guard
from kiosk._page import REPLACED, Outbox, PageLink
from kiosk._protocol import FromPage, decode
from kiosk._video import VideoSender
from runtime.config import HOST

__all__ = ["Host", "Server"]

_PAGE = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
}
_BUSY, _UNKNOWN_PAGE = 4001, 4003
_GHOST_NS = 5_000_000_000
"""A page without a beat for so long gives its place to the next one unasked."""
_CONTROL_MAX = 1 << 18
_CLOSE_S = 0.5


class Host(Protocol):
    """What the server needs of the stage. All in the event loop's thread."""

    @property
    def page(self) -> PageLink | None:
        """The page that is open now."""

    video: VideoSender

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC."""

    def opened(self, page: PageLink) -> None:
        """This page has the screen from now on."""

    def closed(self, page: PageLink) -> None:
        """This page is gone."""

    def heard_from(self, page: PageLink, message: FromPage) -> None:
        """A control message."""

    def microphone(self, data: bytes) -> None:
        """A chunk of sound."""

    def voice_ready(self, page: PageLink) -> None:
        """The page's audio socket opened or closed."""

    def alive(self) -> dict[str, Any]:
        """Counters for whoever watches the browser."""


class Server:
    """Serves until closed. Use: `await server.start(port)`, then `await server.close()`."""

    def __init__(self, host: Host, token: str) -> None:
        self._host = host
        self._token = token
        self.logo: Path | None = None
        """The store's sign."""
        self._files = {f"/{path.relative_to(_PAGE)}": path.read_bytes() for path in _PAGE.rglob("*") if path.suffix in _TYPES}
        self._guard = Guard(token, 0)
        self._runner: web.AppRunner | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> int:
        """Listen on 127.0.0.1; port 0 takes a free one. Returns the port. OSError if it is taken."""
        app = web.Application()
        app.router.add_get("/", self._index)
        app.router.add_get("/alive", self._alive)
        app.router.add_get("/control", self._control)
        app.router.add_get("/audio", self._audio)
        app.router.add_get("/video", self._video)
        app.router.add_get("/logo", self._logo_file)
        app.router.add_get("/{path:.+}", self._file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, port)
        await site.start()
        bound = int(self._runner.addresses[0][1])
        self._guard = Guard(self._token, bound)
        return bound

    async def close(self) -> None:
        """Close all sockets and stop listening."""
        if self._host.page:
            await self._host.page.close(1001)
        if self._runner:
            await self._runner.cleanup()

    # --- files

    async def _index(self, request: web.Request) -> web.StreamResponse:
        self._guard.check_host(request)
        text = self._files["/index.html"].decode().replace("{{key}}", self._guard.key)
        response = web.Response(text=text, content_type="text/html", headers=HEADERS)
        self._guard.give(response)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self._guard.check_host(request)
        body = self._files.get(request.path)
        if body is None or request.path == "/index.html":
            raise web.HTTPNotFound(headers=HEADERS)
        return web.Response(body=body, content_type=_TYPES[Path(request.path).suffix], headers=HEADERS)

    async def _logo_file(self, request: web.Request) -> web.StreamResponse:
        self._guard.check_host(request)
        logo = self.logo
        if logo is None or not logo.is_file():
            raise web.HTTPNotFound(headers=HEADERS)
        return web.Response(body=logo.read_bytes(), content_type=_TYPES.get(logo.suffix, "image/png"), headers=HEADERS)

    async def _alive(self, request: web.Request) -> web.StreamResponse:
        self._guard.check_host(request)
        return web.Response(body=msgspec.json.encode(self._host.alive()), content_type="application/json", headers=HEADERS)

    # --- sockets

    async def _control(self, request: web.Request) -> web.StreamResponse:
        self._guard.check_socket(request)
        socket = await self._accept(request, _CONTROL_MAX)
        page = PageLink(request.query.get("page", ""), socket, Outbox(socket), self._host.now_ns())
        page.beat_ns = page.since_ns
        if not self._makes_room(page, take=request.query.get("take") == "1"):
            await socket.send_str('{"t":"busy"}')
            await socket.close(code=_BUSY)
            return socket
        sender = asyncio.create_task(page.out.run())
        self._host.opened(page)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._take(page, message.data)
        finally:
            self._host.closed(page)
            sender.cancel()
            await page.close()
        return socket

    def _makes_room(self, page: PageLink, *, take: bool) -> bool:
        """Send the page that is open now away, if that may be."""
        current = self._host.page
        if current is None:
            return True
        if current.id != page.id and not take and self._host.now_ns() - current.beat_ns < _GHOST_NS:
            return False
        if current.id != page.id:
            current.tell("replaced")
        self._host.closed(current)
        farewell = asyncio.create_task(self._dismiss(current))
        self._closing.add(farewell)
        farewell.add_done_callback(self._closing.discard)
        return True

    @staticmethod
    async def _dismiss(page: PageLink) -> None:
        with suppress(ConnectionError):
            await page.close(REPLACED)

    def _take(self, page: PageLink, text: str) -> None:
        try:
            message = decode(text)
        except msgspec.MsgspecError:
            page.malformed += 1
            return
        if self._host.page is page:
            self._host.heard_from(page, message)

    async def _audio(self, request: web.Request) -> web.StreamResponse:
        async def serve(page: PageLink, socket: web.WebSocketResponse) -> None:
            page.voice = voice = Outbox(socket)
            self._host.voice_ready(page)
            sender = asyncio.create_task(voice.run())
            try:
                async for message in socket:
                    if message.type is WSMsgType.BINARY and self._host.page is page:
                        self._host.microphone(message.data)
            finally:
                sender.cancel()
                if page.voice is voice:
                    page.voice = None
                    self._host.voice_ready(page)

        return await self._media(request, serve)

    async def _video(self, request: web.Request) -> web.StreamResponse:
        async def serve(page: PageLink, socket: web.WebSocketResponse) -> None:
            transport = request.transport
            assert isinstance(transport, asyncio.WriteTransport)
            sender = asyncio.create_task(self._host.video.run(socket, transport))
            try:
                async for message in socket:
                    if message.type is WSMsgType.BINARY and self._host.page is page:
                        self._host.video.acknowledge(message.data)
            finally:
                sender.cancel()
                with suppress(asyncio.CancelledError):
                    await sender

        return await self._media(request, serve)

    async def _media(self, request: web.Request, serve: Callable[[PageLink, web.WebSocketResponse], Awaitable[None]]) -> web.StreamResponse:
        """A media socket of the page that is open now; others are turned away."""
        self._guard.check_socket(request)
        socket = await self._accept(request, 1 << 16)
        page = self._host.page
        if page is None or request.query.get("page") != page.id:
            await socket.close(code=_UNKNOWN_PAGE)
            return socket
        page.sockets.add(socket)
        try:
            await serve(page, socket)
        finally:
            page.sockets.discard(socket)
        return socket

    @staticmethod
    async def _accept(request: web.Request, limit: int) -> web.WebSocketResponse:
        # Deflate on raw pictures costs half a core and delays them by hundreds of ms: it is on by default, so it is off here.
        socket = web.WebSocketResponse(compress=False, max_msg_size=limit, timeout=_CLOSE_S)
        await socket.prepare(request)
        return socket
