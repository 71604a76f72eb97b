"""The part of the API that sends people to the single sign-on and takes them back."""

from __future__ import annotations

import logging
from typing import Annotated
from urllib.parse import quote

import msgspec
from aiohttp import web
from msgspec import Meta

from fleet import accounts
from fleet.ask import HEADERS, Ask, Route, row
from fleet.errors import FleetError
from fleet.oidc import Provider, Unknown
from fleet.people import open_for

__all__ = ["OIDC_ROUTES"]

log = logging.getLogger("fleet")

_STATE = "visavis-fleet-sso"
_PATH = "/api/v1/oidc"


class Back(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider's redirect brings; other parameters are its own business."""

    code: Annotated[str, Meta(max_length=4096)] = ""
    state: Annotated[str, Meta(max_length=200)] = ""
    error: Annotated[str, Meta(max_length=200)] = ""


def _provider(ask: Ask) -> Provider:
    if ask.controller.provider is None:
        raise Unknown("there is no single sign-on here: [oidc] in the controller's file names one")
    return ask.controller.provider


async def _begin(ask: Ask) -> web.Response:
    url, state = await _provider(ask).begin(ask.now_ms)
    response = web.Response(status=302, headers={**HEADERS, "Location": url})
    # Lax: the provider's redirect comes from another site. Only the browser that began can end it.
    response.set_cookie(_STATE, state, httponly=True, samesite="Lax", path=_PATH, secure=ask.request.secure, max_age=600)
    return response


async def _finish(ask: Ask) -> web.Response:
    """To the console, signed in, or with one line that says why not."""
    try:
        name = await _person(ask)
    except FleetError as error:
        if isinstance(error, Unknown):  # anybody can send such: the audit log is not for them
            log.info("a single sign-on was refused from %s: %s", ask.address, error)
        else:
            await ask.audit("sign-in refused", "", {"why": str(error)}, author="single sign-on")
        response = web.Response(status=302, headers={**HEADERS, "Location": f"/#refused={quote(str(error))}"})
    else:
        await ask.audit("sign-in", name, {"by": "single sign-on"}, author=name)
        response = web.Response(status=302, headers={**HEADERS, "Location": "/"})
        await open_for(ask, name, response)
    response.del_cookie(_STATE, path=_PATH)
    return response


async def _person(ask: Ask) -> str:
    provider, back = _provider(ask), ask.query
    if back.error or not back.state or ask.request.cookies.get(_STATE, "") != back.state:
        raise Unknown("the single sign-on was left, or another browser began it: begin again")
    who = await provider.finish(back.state, back.code, ask.now_ms)
    return await ask.thread(accounts.federate, ask.db, who.issuer, who.subject, who.name, who.role, who.scope, ask.now_ms)


OIDC_ROUTES: tuple[Route, ...] = (
    row("GET", "/oidc/start", None, _begin, "To the single sign-on"),
    row("GET", "/oidc/callback", None, _finish, "Back from the single sign-on", query=Back),
)
