"""What every request of the API goes through: who asks, what may they, is it well-formed; and the table row that says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from fleet import accounts, journal
from fleet.accounts import Identity, Role
from fleet.errors import BadRequest, FleetError
from fleet.tasks import Through

if TYPE_CHECKING:
    from fleet.controller import Controller

__all__ = ["HEADERS", "Ask", "Body", "Route", "answer", "handler", "identify", "row"]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": _CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
T = TypeVar("T")
_ROOT = "/api/v1"


class Ask:
    """One request, already allowed and well-formed: `body` and `query` are structs of the route."""

    def __init__(self, request: web.Request, controller: Controller, who: Identity | None, body: Any, query: Any) -> None:
        self.request, self.controller, self._who, self.body, self.query = request, controller, who, body, query
        self.db = controller.db

    @property
    def who(self) -> Identity:
        """Who asks; only where the route has a role."""
        assert self._who is not None
        return self._who

    @property
    def now_ms(self) -> int:
        """Wall time."""
        return self.controller.times.wall_ms()

    @property
    def address(self) -> str:
        """Where from."""
        return self.request.remote or ""

    async def box(self) -> str:
        """The box in the path, if there is one and who asks may know it. Raises BadRequest."""
        name = self.path("name")
        where, values = self.who.scope.where()
        sql = f"SELECT 1 FROM device d WHERE d.name = ? AND {where}"  # noqa: S608 - values are bound
        if not await self.thread(self.db.read, sql, name, *values):
            raise BadRequest(f"there is no box {name!r}")
        return name

    def path(self, name: str) -> str:
        """A part of the path."""
        return self.request.match_info[name]

    async def thread(self, function: Callable[..., T], *given: Any, **named: Any) -> T:
        """Call a function of the store, which blocks, in a thread."""
        return await asyncio.to_thread(function, *given, **named)

    async def audit(self, action: str, target: str = "", details: dict[str, Any] | None = None, author: str = "") -> None:
        """Write down who did this."""
        await self.thread(journal.audit, self.db, self.now_ms, author or self.who.name, action, target, details, self.address)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the API; routes and the OpenAPI document are made from it. `role` None: anybody, before signing in."""

    method: str
    path: str
    role: Role | None
    summary: str
    scoped: bool = False  # somebody who is limited to some boxes may ask too, and gets no more than those
    stream: bool = False  # ends when its client is gone; all others end what they began: half of it would be neither told nor counted
    do: Callable[[Ask], Awaitable[Any]]
    answer: Any = None
    body: Any = None
    query: Any = None


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request brings: what nobody knows is refused."""


def row(method: str, path: str, role: Role | None, do: Any, summary: str, **more: Any) -> Route:
    """A row; paths are below /api/v1 but for those that have their place by custom."""
    return Route(
        method=method,
        path=path if path[1:] in ("metrics", "metrics/boxes", "healthz") else _ROOT + path,
        role=role,
        do=do,
        summary=summary,
        **more,
    )


def answer(value: Any, status: int = 200) -> web.Response:
    """A value as JSON; a response as it is."""
    if isinstance(value, web.Response):
        return value
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json", headers=HEADERS)


def _failed(status: int, text: str, **headers: str) -> web.Response:
    response = answer({"error": text}, status)
    response.headers.update(headers)
    return response


async def _done(controller: Controller, route: Route, request: web.Request, who: Identity | None, data: bytes) -> web.StreamResponse:
    try:
        body = msgspec.json.decode(data, type=route.body) if route.body else None
        query = msgspec.convert(dict(request.query), route.query, strict=False) if route.query else None
        done = await route.do(Ask(request, controller, who, body, query))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return _failed(400, f"not what this takes: {error}")
    except BadRequest as error:
        return _failed(400, str(error))
    except FleetError as error:
        return _failed(503, str(error))
    except web.HTTPException as error:  # aiohttp takes it raised only, and whoever is gone raises nothing
        return web.Response(status=error.status, body=error.body, headers=error.headers)
    return done if isinstance(done, web.StreamResponse) else answer(done)


def handler(controller: Controller, route: Route, cookie: str, through: Through) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of a row."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            who = await identify(controller, request, cookie)
        except FleetError as error:
            return _failed(503, str(error))
        if route.role is not None and who is None:
            return _failed(401, "sign in first", **{"WWW-Authenticate": "Bearer"})
        if route.role is not None and who is not None and not who.role.covers(route.role):
            return _failed(403, f"this needs the role {route.role.value}")
        if route.role is not None and who is not None and who.scope and not route.scoped:
            return _failed(403, "this needs a user who is not limited to some boxes")
        # A page of another site can send our cookie's owner here, but not with this header.
        if request.method != "GET" and request.headers.get("X-Visavis") != "1" and (who is None or who.session):
            return _failed(403, "requests that change something need the header X-Visavis: 1")
        work = _done(controller, route, request, who, await request.read() if route.body else b"")
        return await (work if route.stream else through.do(work))

    return handle


async def identify(controller: Controller, request: web.Request, cookie: str) -> Identity | None:
    """Who asks, as it is now; None if nobody knows them, or no longer."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    session = request.cookies.get(cookie, "")
    if scheme.lower() != "bearer" or not token:
        token = ""
    if not token and not session:
        return None
    return await asyncio.to_thread(accounts.identify, controller.db, session=session, token=token, now_ms=controller.times.wall_ms())
