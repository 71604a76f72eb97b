"""The part of the API about alerts: viewers see, operators acknowledge, silence and comment, admins make rules and say who is told."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from fleet import alert_desk as desk
from fleet.accounts import Role
from fleet.alert_channels import Channel, Webhook
from fleet.alert_desk import AlertPage, AlertQuery, Filed, OneAlert, Posted
from fleet.alert_rules import Maintenance, Rule
from fleet.ask import Ask, Body, Route, row
from fleet.errors import BadRequest
from fleet.live import ALERTS

__all__ = ["ALERT_ROUTES"]

Ids = Annotated[tuple[Annotated[str, Meta(max_length=40)], ...], Meta(min_length=1, max_length=1000)]
Words = Annotated[str, Meta(max_length=1000)]


class Acknowledge(Body, frozen=True, kw_only=True):
    """Which alerts, and what there is to say."""

    ids: Ids
    comment: Words = ""


class Silence(Body, frozen=True, kw_only=True):
    """Which alerts' subjects, for how long (0: no longer), and what there is to say."""

    ids: Ids
    minutes: Annotated[int, Meta(ge=0, le=30 * 24 * 60)]
    comment: Words = ""


class Comment(Body, frozen=True, kw_only=True):
    """What there is to say."""

    text: Annotated[str, Meta(min_length=1, max_length=1000)]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook's key, told this once; "" if it stays as it was."""

    secret: str


# --- alerts


async def _alerts(ask: Ask) -> AlertPage:
    found = await ask.thread(desk.alerts, ask.db, ask.query, ask.now_ms, ask.who.scope)
    return AlertPage(alerts=found, counts=await ask.thread(desk.counts, ask.db, ask.who.scope))


async def _alert(ask: Ask) -> OneAlert:
    return await ask.thread(desk.one, ask.db, ask.path("id"), ask.now_ms, ask.who.scope)


async def _acknowledge(ask: Ask) -> dict[str, int]:
    body, who = ask.body, ask.who
    boxes = await ask.thread(desk.acknowledge, ask.db, body.ids, who.name, body.comment, ask.now_ms, who.scope)
    await ask.audit("alerts acknowledged", "", {"ids": body.ids[:20], "count": len(body.ids), "boxes": len(boxes)})
    ask.controller.hub.tell(boxes | {ALERTS})
    return {"boxes": len(boxes)}


async def _silence(ask: Ask) -> dict[str, int]:
    body, who = ask.body, ask.who
    until = ask.now_ms + body.minutes * 60_000
    boxes = await ask.thread(desk.silence, ask.db, body.ids, who.name, until, body.comment, ask.now_ms, who.scope)
    details = {"ids": body.ids[:20], "count": len(body.ids), "boxes": len(boxes), "minutes": body.minutes}
    await ask.audit("alerts silenced", "", details)
    ask.controller.hub.tell(boxes | {ALERTS})
    return {"boxes": len(boxes)}


async def _comment(ask: Ask) -> dict[str, int]:
    boxes = await ask.thread(desk.comment, ask.db, ask.path("id"), ask.who.name, ask.body.text, ask.now_ms, ask.who.scope)
    ask.controller.hub.tell(boxes | {ALERTS})
    return {"boxes": len(boxes)}


# --- rules and maintenance


async def _rules(ask: Ask) -> list[Filed]:
    return await ask.thread(desk.rules, ask.db)


async def _put_rule(ask: Ask) -> dict[str, str]:
    _same(ask)
    await ask.thread(desk.put_rule, ask.db, ask.body, ask.who.name, ask.now_ms)
    return await _changed(ask, "alert rule", msgspec.to_builtins(ask.body))


async def _delete_rule(ask: Ask) -> dict[str, str]:
    await ask.thread(desk.delete, ask.db, "alert_rule", ask.path("id"))
    return await _changed(ask, "alert rule deleted")


async def _windows(ask: Ask) -> list[Maintenance]:
    return await ask.thread(desk.windows, ask.db)


async def _put_window(ask: Ask) -> dict[str, str]:
    _same(ask)
    await ask.thread(desk.put_maintenance, ask.db, ask.body, ask.who.name, ask.now_ms)
    return await _changed(ask, "maintenance", msgspec.to_builtins(ask.body))


async def _delete_window(ask: Ask) -> dict[str, str]:
    await ask.thread(desk.delete, ask.db, "alert_window", ask.path("id"))
    return await _changed(ask, "maintenance deleted")


# --- channels


async def _channels(ask: Ask) -> list[Posted]:
    return await ask.thread(desk.channels, ask.db)


async def _put_channel(ask: Ask) -> Key:
    _same(ask)
    to = ask.body.to
    secret = await ask.thread(desk.put_channel, ask.db, ask.body, ask.who.name, ask.now_ms)
    where = {"host": urlsplit(to.url).hostname} if isinstance(to, Webhook) else {"host": to.host, "to": to.to}
    await _changed(ask, "alert channel", {"enabled": ask.body.enabled, **where})
    return Key(secret=secret)


async def _delete_channel(ask: Ask) -> dict[str, str]:
    await ask.thread(desk.delete, ask.db, "alert_channel", ask.path("id"))
    return await _changed(ask, "alert channel deleted")


async def _renew(ask: Ask) -> Key:
    secret = await ask.thread(desk.renew, ask.db, ask.path("id"), ask.now_ms)
    await _changed(ask, "alert channel's key")
    return Key(secret=secret)


async def _test(ask: Ask) -> dict[str, str]:
    service = ask.controller.alerts
    await ask.thread(desk.test, ask.db, ask.path("id"), ask.who.name, service.fleet, service.console, ask.now_ms)
    return await _changed(ask, "alert channel tested")


def _same(ask: Ask) -> None:
    if ask.body.id != ask.path("id"):
        raise BadRequest("the id in the address and in the body are the same")


async def _changed(ask: Ask, action: str, details: dict[str, object] | None = None) -> dict[str, str]:
    await ask.audit(action, ask.path("id"), details)
    # What is shown of an alert names its maintenance, and who is limited to some boxes hears of alerts only with one of those.
    ask.controller.hub.tell(await ask.thread(desk.firing, ask.db) | {ALERTS})
    return {}


_V, _O, _A = Role.VIEWER, Role.OPERATOR, Role.ADMIN
_Boxes = dict[str, int]
ALERT_ROUTES: tuple[Route, ...] = (
    row("GET", "/alerts", _V, _alerts, "Alerts, the newest first", answer=AlertPage, query=AlertQuery, scoped=True),
    row("GET", "/alerts/{id}", _V, _alert, "One alert with its history", answer=OneAlert, scoped=True),
    row("POST", "/alerts/acknowledge", _O, _acknowledge, "Somebody cares: no more reminders", answer=_Boxes, body=Acknowledge, scoped=True),
    row("POST", "/alerts/silence", _O, _silence, "Tell nothing of these subjects for a time", answer=_Boxes, body=Silence, scoped=True),
    row("POST", "/alerts/{id}/comments", _O, _comment, "Say something about an alert", answer=_Boxes, body=Comment, scoped=True),
    row("GET", "/alert-rules", _V, _rules, "All rules", answer=list[Filed]),
    row("PUT", "/alert-rules/{id}", _A, _put_rule, "Make or change a rule", body=Rule),
    row("DELETE", "/alert-rules/{id}", _A, _delete_rule, "Delete a rule: its alerts are over"),
    row("GET", "/alert-windows", _V, _windows, "All maintenance", answer=list[Maintenance]),
    row("PUT", "/alert-windows/{id}", _A, _put_window, "Make or change maintenance", body=Maintenance),
    row("DELETE", "/alert-windows/{id}", _A, _delete_window, "Delete maintenance"),
    row("GET", "/alert-channels", _A, _channels, "Who is told, without secrets", answer=list[Posted]),
    row("PUT", "/alert-channels/{id}", _A, _put_channel, "Make or change a channel; a new webhook's key", answer=Key, body=Channel),
    row("DELETE", "/alert-channels/{id}", _A, _delete_channel, "Delete a channel: what waits for it is given up"),
    row("POST", "/alert-channels/{id}/secret", _A, _renew, "Another key for a webhook", answer=Key),
    row("POST", "/alert-channels/{id}/test", _A, _test, "Send a test"),
)
