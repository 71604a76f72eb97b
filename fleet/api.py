"""The REST API: everything the console does, as a table of routes. The OpenAPI document is made from the same table."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from fleet import history, inventory, journal, sites
from fleet.accounts import Role
from fleet.api_alerts import ALERT_ROUTES
from fleet.api_jobs import JOB_ROUTES
from fleet.api_oidc import OIDC_ROUTES
from fleet.api_renewals import RENEWAL_ROUTES
from fleet.ask import HEADERS, Ask, Body, Route, identify, row
from fleet.bundle import bundle
from fleet.errors import BadRequest
from fleet.history import Curve
from fleet.inventory import Certificate, Device, Filter
from fleet.journal import Audited, Order, Told
from fleet.live import ALERTS, JOBS
from fleet.metrics import exposition
from fleet.openapi import document
from fleet.people import PEOPLE
from fleet.projections import source
from fleet.projections.prometheus import exposition as box_metrics
from fleet.scopes import Scope
from fleet.sites import Sites
from runtime import telemetry as t
from runtime.telemetry import COMMANDS, EVENTS, METRICS, SETTINGS, Duty

__all__ = ["ROUTES"]

_LIVE_S, _QUIET_S = 1.0, 15.0
_DUTY_ROLE = {Duty.OBSERVE: Role.OPERATOR, Duty.OPERATE: Role.OPERATOR, Duty.CHANGE: Role.ADMIN}
Limit = Annotated[int, Meta(ge=1, le=1000)]


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """A page of boxes; `facets` counts all boxes by state, condition, site, model and release."""

    devices: list[Device]
    facets: dict[str, dict[str, int]]


class OneDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A box with its certificates."""

    device: Device
    certificates: list[Certificate]


class Enrol(Body, frozen=True, kw_only=True):
    """A box's name; for how many days its certificate is valid; the broker as the box reaches it."""

    name: str
    days: int = 730
    broker: str = ""


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """The files for the box, by name. The key is told this once."""

    files: dict[str, str]


class Window(Body, frozen=True, kw_only=True):
    """From when to when (wall time, ms; `end` 0 is now, `begin` 0 an hour earlier)."""

    metric: Annotated[str, Meta(max_length=100)]
    begin: Annotated[int, Meta(ge=0, le=2**53)] = 0
    end: Annotated[int, Meta(ge=0, le=2**53)] = 0


class EventQuery(Body, frozen=True, kw_only=True):
    """Which events; `before` is the id of the last one that is known."""

    device: str = ""
    severity: str = ""
    code: str = ""
    before: Annotated[int, Meta(ge=0, le=2**62)] = 0
    limit: Limit = 100


class OrderQuery(Body, frozen=True, kw_only=True):
    """Which commands."""

    device: str = ""
    limit: Limit = 50


class AuditQuery(Body, frozen=True, kw_only=True):
    """Which entries."""

    author: str = ""
    target: str = ""
    before: Annotated[int, Meta(ge=0, le=2**62)] = 0
    limit: Limit = 100


class BoxMetrics(Body, frozen=True, kw_only=True):
    """Boxes of one site, and metrics by name with commas between; all of them unless told."""

    site: str = ""
    metric: str = ""


class Send(Body, frozen=True, kw_only=True):
    """A command of the catalogue; a box that is away gets it if it is back before the command expires."""

    name: str
    args: dict[str, Any] = msgspec.field(default_factory=dict)
    expires_s: int = 300


# --- boxes


async def _devices(ask: Ask) -> Devices:
    found = await ask.thread(inventory.devices, ask.db, ask.query, ask.who.scope)
    return Devices(devices=found, facets=await ask.thread(inventory.facets, ask.db, ask.who.scope))


async def _sites(ask: Ask) -> Sites:
    return await ask.thread(sites.sites, ask.db, ask.query, ask.who.scope)


async def _device(ask: Ask) -> OneDevice:
    name = await ask.box()
    found = await ask.thread(inventory.device, ask.db, name)
    if found is None:
        raise BadRequest(f"there is no box {name!r}")
    return OneDevice(device=found, certificates=await ask.thread(inventory.certificates, ask.db, name))


async def _enrol(ask: Ask) -> Bundle:
    controller, wanted = ask.controller, ask.body
    issued = await ask.thread(inventory.enrol, ask.db, controller.authority, wanted.name, wanted.days, ask.now_ms)
    await ask.audit("enrol", wanted.name, {"serial": issued.serial, "days": wanted.days})
    settings = controller.settings
    files = bundle(issued, controller.access.broker_ca, wanted.broker or settings.broker, settings.tenant, settings.renewal_at)
    controller.hub.tell({wanted.name})
    return Bundle(files={name: data.decode() for name, data in files.items()})


async def _revoke(ask: Ask) -> dict[str, int]:
    name = ask.path("name")
    count = await ask.thread(inventory.revoke, ask.db, name, ask.now_ms)
    await ask.audit("revoke", name, {"certificates": count})
    ask.controller.nudge()
    return {"revoked": count}


async def _health(ask: Ask) -> Curve:
    now = ask.now_ms
    end = ask.query.end or now
    begin = ask.query.begin or end - 3_600_000
    if begin >= end or t.metric(ask.query.metric) is None:
        raise BadRequest("a metric of the catalogue, and begin before end")
    return await ask.thread(history.curve, ask.db, await ask.box(), ask.query.metric, begin, end, now)


async def _events(ask: Ask) -> list[Told]:
    return await ask.thread(journal.events, ask.db, **msgspec.structs.asdict(ask.query), scope=ask.who.scope)


# --- commands


async def _send(ask: Ask) -> Order:
    kind, name = t.command_kind(ask.body.name), await ask.box()
    if kind is None:
        raise BadRequest(f"there is no command {ask.body.name!r}")
    if not ask.who.role.covers(_DUTY_ROLE[kind.duty]):
        raise BadRequest(f"{kind.name} needs the role {_DUTY_ROLE[kind.duty].value}")
    made = await ask.controller.order(name, kind.name, ask.body.args, ask.who.name, ask.body.expires_s)
    await ask.audit("command", name, {"id": made.id, "name": made.name, "args": made.args})
    return made


async def _orders(ask: Ask) -> list[Order]:
    return await ask.thread(journal.orders, ask.db, device=ask.query.device, limit=ask.query.limit, scope=ask.who.scope)


async def _order(ask: Ask) -> Order:
    found = await ask.thread(journal.orders, ask.db, id=ask.path("id"), scope=ask.who.scope)
    if not found:
        raise BadRequest("there is no such command")
    return found[0]


# --- the rest


async def _audit(ask: Ask) -> list[Audited]:
    return await ask.thread(journal.audited, ask.db, **msgspec.structs.asdict(ask.query))


async def _catalogue(_: Ask) -> dict[str, Any]:
    arguments = {row.name: msgspec.json.schema(row.args)["$defs"][row.args.__name__] for row in COMMANDS}
    return {
        "metrics": METRICS,
        "events": EVENTS,
        "commands": [
            {"name": row.name, "title": row.title, "role": _DUTY_ROLE[row.duty], "arguments": arguments[row.name].get("properties", {})}
            for row in COMMANDS
        ],
        "settings": [{"name": row.name, "title": row.title, "role": _DUTY_ROLE[row.duty], "value": row.schema} for row in SETTINGS],
    }


async def _live(ask: Ask) -> web.StreamResponse:
    """Server-sent events, at most once a second: `devices` with the names of boxes that changed, `alerts` and `jobs` if those did.

    Who is limited to some boxes hears of alerts with one of those, and of no rollouts.
    Who has nothing to be told hears `here`, with the seconds within which the next word comes: a line can die without a sign.
    """
    headers = {**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(ask.request)
    with ask.controller.hub.listen() as listener:
        here = f"event: here\ndata: {_QUIET_S + _LIVE_S:g}\n\n"
        await response.write(f"retry: 2000\n{here}".encode())
        while True:
            try:
                names = await asyncio.wait_for(listener.changes(), _QUIET_S)
            except asyncio.TimeoutError:
                names = set()
            who = await identify(ask.controller, ask.request, ask.controller.cookie)  # sessions end, tokens are withdrawn, scopes change
            if who is None:
                return response
            boxes = sorted(await _visible(ask, who.scope, names - {ALERTS, JOBS}))
            heard = names & {ALERTS, JOBS} if not who.scope else names & {ALERTS} if boxes else set()
            text = "".join(f"event: {name[1:]}\ndata: {{}}\n\n" for name in sorted(heard))
            if boxes:
                text += f"event: devices\ndata: {msgspec.json.encode(boxes).decode()}\n\n"
            await response.write((text or here).encode())
            await asyncio.sleep(_LIVE_S)


async def _visible(ask: Ask, scope: Scope, names: set[str]) -> set[str]:
    if not scope or not names:
        return names
    where, values = scope.where()
    rows = await ask.thread(ask.db.read, f"SELECT d.name FROM device d WHERE {where}", *values)  # noqa: S608 - values are bound
    return names & {row[0] for row in rows}


async def _metrics(ask: Ask) -> web.Response:
    controller = ask.controller
    counts, refused = dict(controller.counts), dict(controller.refusals.counts)
    text = await ask.thread(exposition, ask.db, counts, refused, controller.broker.restarts)
    return web.Response(body=text, headers={**HEADERS, "Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _box_metrics(ask: Ask) -> web.Response:
    site, names = ask.query.site, frozenset(ask.query.metric.split(",")) - {""}
    scope = ask.who.scope

    def write() -> bytes:
        boxes = (box for box in source.boxes(ask.db) if site in ("", box.site) and scope.covers(box.name, box.site))
        return box_metrics(boxes, names)

    text = await ask.thread(write)
    return web.Response(body=text, headers={**HEADERS, "Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _well(ask: Ask) -> dict[str, bool]:
    connected = ask.controller.link.connected.is_set()
    if not connected:
        raise web.HTTPServiceUnavailable(text='{"broker": false}', content_type="application/json", headers=HEADERS)
    return {"broker": connected}


async def _openapi(_: Ask) -> dict[str, Any]:
    return document(ROUTES)


_V, _O, _A = Role.VIEWER, Role.OPERATOR, Role.ADMIN
ROUTES: tuple[Route, ...] = (
    row("GET", "/devices", _V, _devices, "Boxes, by name", answer=Devices, query=Filter, scoped=True),
    row("GET", "/sites", _V, _sites, "Sites with their place, for the map", answer=Sites, query=Filter, scoped=True),
    row("POST", "/devices", _A, _enrol, "Enrol a box: a certificate and what goes to it", answer=Bundle, body=Enrol),
    row("GET", "/devices/{name}", _V, _device, "One box", answer=OneDevice, scoped=True),
    row("POST", "/devices/{name}/revoke", _A, _revoke, "Take back all certificates of a box, end its session", answer=dict[str, int]),
    row("GET", "/devices/{name}/health", _V, _health, "One metric over time", answer=Curve, query=Window, scoped=True),
    row("POST", "/devices/{name}/commands", _O, _send, "Send a command", answer=Order, body=Send, scoped=True),
    row("GET", "/commands", _V, _orders, "Commands and answers, the newest first", answer=list[Order], query=OrderQuery, scoped=True),
    row("GET", "/commands/{id}", _V, _order, "One command with its answer", answer=Order, scoped=True),
    row("GET", "/events", _V, _events, "Events, the newest first", answer=list[Told], query=EventQuery, scoped=True),
    row("GET", "/audit", _A, _audit, "Who did what", answer=list[Audited], query=AuditQuery),
    row("GET", "/catalogue", _V, _catalogue, "Metrics, events, commands and settings as data", answer=dict[str, Any], scoped=True),
    row("GET", "/live", _V, _live, "Server-sent events: which boxes changed", scoped=True, stream=True),
    *ALERT_ROUTES,
    *JOB_ROUTES,
    *RENEWAL_ROUTES,
    *OIDC_ROUTES,
    *PEOPLE,
    row("GET", "/openapi.json", None, _openapi, "This document", answer=dict[str, Any]),
    row("GET", "/metrics", _V, _metrics, "For Prometheus, with a viewer's token"),
    row("GET", "/metrics/boxes", _V, _box_metrics, "Every metric of every box, for Prometheus", query=BoxMetrics, scoped=True),
    row("GET", "/healthz", None, _well, "Whether the controller hears the broker", answer=dict[str, bool]),
)
