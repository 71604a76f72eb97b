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
from fleet.errors import BadRequest, FleetError
from fleet.oidc import Provider, Stranger, Unknown
from fleet.people import open_for
from fleet.refusals import Kind
from fleet.tickets import VALID_S

__all__ = ["OIDC_ROUTES"]

log = logging.getLogger("fleet")

_BEGUN = "visavis-fleet-sso"
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
    url, sealed = await _provider(ask).begin(ask.now_ms)
    response = web.Response(status=302, headers={**HEADERS, "Location": url})
    # Lax: the provider's redirect comes from another site. Only the browser that began can end it.
    response.set_cookie(_BEGUN, sealed, httponly=True, samesite="Lax", path=_PATH, secure=ask.request.secure, max_age=VALID_S)
    return response


async def _finish(ask: Ask) -> web.Response:
    """To the console, signed in, or with one line that says why not."""
    try:
        name = await _person(ask)
    except FleetError as error:
        await _note(ask, error)
        response = web.Response(status=302, headers={**HEADERS, "Location": f"/#refused={quote(str(error))}"})
    else:
        await ask.audit("sign-in", name, {"by": "single sign-on"}, author=name)
        response = web.Response(status=302, headers={**HEADERS, "Location": "/"})
        await open_for(ask, name, response)
    response.del_cookie(_BEGUN, path=_PATH)
    return response


async def _person(ask: Ask) -> str:
    provider, back, now = _provider(ask), ask.query, ask.now_ms
    wait = ask.controller.throttle.wait_ms(_whoever(ask), ask.address, now)
    if wait > 0:
        raise Unknown(f"too many single sign-ons were refused from here: again in {-(-wait // 1000)} s")
    if back.error:
        raise Unknown("the single sign-on was left: begin again")
    who = await provider.finish(ask.request.cookies.get(_BEGUN, ""), back.state, back.code, now)
    try:
        return await ask.thread(accounts.federate, ask.db, who.issuer, who.subject, who.name, who.role, who.scope, now)
    except BadRequest as error:
        raise Stranger(str(error)) from error


async def _note(ask: Ask, error: FleetError) -> None:
    """Count a refusal, and write down as many as nobody can fill the audit log with."""
    kind = Kind.UNKNOWN if isinstance(error, Unknown) else Kind.PERSON if isinstance(error, Stranger) else Kind.UNCONFIRMED
    if kind is Kind.UNCONFIRMED and isinstance(error, BadRequest):  # and the provider is there
        ask.controller.throttle.failed(_whoever(ask), ask.address, ask.now_ms)
    held = ask.controller.refusals.note(kind, ask.now_ms)
    if held is None:
        log.info("a single sign-on was refused from %s: %s", ask.address, error)
        return
    details = {"why": str(error)} | ({"more": held} if held else {})
    await ask.audit("sign-in refused", "", details, author="single sign-on")


def _whoever(ask: Ask) -> str:
    """For the throttle, a name for each address: nobody shall lock others out of the single sign-on."""
    return f"single sign-on from {ask.address}"


OIDC_ROUTES: tuple[Route, ...] = (
    row("GET", "/oidc/start", None, _begin, "To the single sign-on"),
    row("GET", "/oidc/callback", None, _finish, "Back from the single sign-on", query=Back),
)
