"""A real HTTP server that speaks the OpenAI chat API, or misbehaves on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Handler = Callable[["Server", web.Request, web.StreamResponse], Awaitable[None]]


class Server:
    """Answers each request with the next handler (the last one again and again); remembers what was asked."""

    def __init__(self, *handlers: Handler) -> None:
        self.handlers = list(handlers)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gone = asyncio.Event()  # a client went away in the middle of an answer
        self.release = asyncio.Event()  # lets a hanging answer end with the test
        self.made: list[str] = []  # pieces that `thinks` has come to
        self.more = asyncio.Semaphore(0)  # lets it come to the next one

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await handler(self, request, response)
        except (ConnectionResetError, asyncio.CancelledError):
            self.gone.set()
            raise
        return response

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The base URL while it runs."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            self.release.set()
            await runner.cleanup()


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"


def says(*parts: str, finish: str = "stop", done: bool = True) -> Handler:
    """An answer in these pieces."""

    async def handler(_: Server, request: web.Request, response: web.StreamResponse) -> None:
        await response.prepare(request)
        await response.write(chunk({"role": "assistant", "content": None}))
        for part in parts:
            await response.write(chunk({"content": part}))
        await response.write(chunk({}, finish))
        if done:
            await response.write(b"data: [DONE]\n\n")

    return handler


def raw(data: bytes) -> Handler:
    """Exactly these bytes."""

    async def handler(_: Server, request: web.Request, response: web.StreamResponse) -> None:
        await response.prepare(request)
        await response.write(data)

    return handler


def status(code: int, text: str = "") -> Handler:
    """Refuses."""

    async def handler(_: Server, request: web.Request, response: web.StreamResponse) -> None:
        response.set_status(code)
        await response.prepare(request)
        await response.write(text.encode())

    return handler


def hangs(*parts: str) -> Handler:
    """These pieces, then nothing more until the test ends or the client goes."""

    async def handler(server: Server, request: web.Request, response: web.StreamResponse) -> None:
        await response.prepare(request)
        for part in parts:
            await response.write(chunk({"content": part}))
        await server.release.wait()

    return handler


def thinks(*parts: str) -> Handler:
    """Comes to each piece only when the test releases `server.more`, as a model comes to its tokens; ends its work when the client goes."""

    async def handler(server: Server, request: web.Request, response: web.StreamResponse) -> None:
        await response.prepare(request)
        for part in parts:
            await server.more.acquire()
            server.made.append(part)
            await response.write(chunk({"content": part}))
        await response.write(chunk({}, "stop") + b"data: [DONE]\n\n")

    return handler


def calls(name: str, *pieces: str, finish: str = "tool_calls") -> Handler:
    """A tool call whose arguments come in pieces."""

    async def handler(_: Server, request: web.Request, response: web.StreamResponse) -> None:
        await response.prepare(request)
        head = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": ""}}
        await response.write(chunk({"tool_calls": [head]}))
        for piece in pieces:
            await response.write(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
        await response.write(chunk({}, finish) + b"data: [DONE]\n\n")

    return handler
