"""The part of the API about people and programs: sign-in, users, tokens."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from fleet import accounts
from fleet.accounts import Account, Role, Token
from fleet.ask import HEADERS, Ask, Body, Route, row
from fleet.errors import BadRequest
from fleet.scopes import of as scope_of
from fleet.scopes import parse

__all__ = ["PEOPLE", "open_for"]


class SignIn(Body, frozen=True, kw_only=True):
    """Name and password."""

    name: Annotated[str, Meta(max_length=63)]
    password: Annotated[str, Meta(max_length=200)]


class First(Body, frozen=True, kw_only=True):
    """The first admin; `code` is the setup code that the controller told at its start."""

    code: Annotated[str, Meta(max_length=100)]
    name: str
    password: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in: "" nobody; then `setup` says whether the first admin has still to be made."""

    name: str = ""
    role: str = ""
    setup: bool = False
    scope: tuple[str, ...] = ()
    sso: str = ""  # what the single sign-on is called, "" if there is none


class User(Body, frozen=True, kw_only=True):
    """A new user."""

    name: str
    role: Role
    password: str
    scope: tuple[str, ...] = ()


class Change(Body, frozen=True, kw_only=True):
    """What shall change of a user; sessions of that user end."""

    role: Role | None = None
    password: str = ""
    disabled: bool | None = None
    scope: tuple[str, ...] | None = None


class NewToken(Body, frozen=True, kw_only=True):
    """What the token is for, what it may, how long it lives."""

    title: str
    role: Role = Role.VIEWER
    days: int = 365
    scope: tuple[str, ...] = ()


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """Told this once."""

    token: str


async def _session(ask: Ask) -> Session:
    who = ask._who
    if who is not None:
        return Session(name=who.name, role=who.role.value, scope=who.scope.rules)
    oidc = ask.controller.settings.config.oidc
    return Session(setup=await ask.thread(accounts.needs_first, ask.db), sso=oidc.title if oidc else "")


async def _first(ask: Ask) -> web.Response:
    body = ask.body
    await _throttled(ask, "setup")
    try:
        await ask.thread(accounts.first, ask.db, ask.controller.settings.data, body.code, body.name, body.password, ask.now_ms)
    except BadRequest:
        ask.controller.throttle.failed("setup", ask.address, ask.now_ms)
        raise
    await ask.audit("first admin", body.name, author=body.name)
    return await _signed_in(ask, body.name, Role.ADMIN)


async def _sign_in(ask: Ask) -> web.Response:
    name, throttle = ask.body.name, ask.controller.throttle
    await _throttled(ask, name)
    async with ask.controller.hashing:  # each takes 19 MiB
        await _throttled(ask, name)  # others may have failed while this one waited
        role = await ask.thread(accounts.sign_in, ask.db, name, ask.body.password)
    if role is None:
        throttle.failed(name, ask.address, ask.now_ms)
        await ask.audit("sign-in refused", name, author="?")
        raise BadRequest("name or password is wrong")
    throttle.succeeded(name, ask.address)
    await ask.audit("sign-in", name, author=name)
    return await _signed_in(ask, name, role)


async def _throttled(ask: Ask, name: str) -> None:
    wait = ask.controller.throttle.wait_ms(name, ask.address, ask.now_ms)
    if wait > 0:
        text = msgspec.json.encode({"error": f"too many tries: again in {-(-wait // 1000)} s"}).decode()
        headers = {**HEADERS, "Retry-After": str(-(-wait // 1000))}
        raise web.HTTPTooManyRequests(text=text, content_type="application/json", headers=headers)


async def _signed_in(ask: Ask, name: str, role: Role) -> web.Response:
    scope = await ask.thread(scope_of, ask.db, f"account:{name}")
    session = Session(name=name, role=role.value, scope=scope.rules)
    response = web.Response(body=msgspec.json.encode(session), content_type="application/json", headers=HEADERS)
    await open_for(ask, name, response)
    return response


async def open_for(ask: Ask, name: str, response: web.Response) -> None:
    """A session for this user, whose cookie the response carries."""
    key = await ask.thread(accounts.open_session, ask.db, name, ask.now_ms)
    response.set_cookie(ask.controller.cookie, key, httponly=True, samesite="Strict", path="/", secure=ask.request.secure)


async def _sign_out(ask: Ask) -> web.Response:
    await ask.thread(accounts.close_session, ask.db, ask.request.cookies.get(ask.controller.cookie, ""))
    response = web.json_response({}, headers=HEADERS)
    response.del_cookie(ask.controller.cookie, path="/")
    return response


async def _users(ask: Ask) -> list[Account]:
    return await ask.thread(accounts.accounts, ask.db)


async def _create(ask: Ask) -> dict[str, str]:
    body = ask.body
    await ask.thread(accounts.create, ask.db, body.name, body.role, body.password, ask.now_ms, parse(body.scope))
    await ask.audit("user", body.name, {"role": body.role.value, "scope": body.scope})
    return {}


async def _change(ask: Ask) -> dict[str, str]:
    body, name = ask.body, ask.path("name")
    scope = None if body.scope is None else parse(body.scope)
    await ask.thread(accounts.change, ask.db, name, role=body.role, password=body.password, disabled=body.disabled, scope=scope)
    changed = {"role": body.role and body.role.value, "password": bool(body.password), "disabled": body.disabled, "scope": body.scope}
    await ask.audit("user changed", name, {key: value for key, value in changed.items() if value not in (None, False) or key == "disabled"})
    return {}


async def _tokens(ask: Ask) -> list[Token]:
    return await ask.thread(accounts.tokens, ask.db)


async def _make_token(ask: Ask) -> Secret:
    body = ask.body
    key = await ask.thread(accounts.make_token, ask.db, body.title, body.role, ask.who.name, body.days, ask.now_ms, parse(body.scope))
    await ask.audit("token", body.title, {"role": body.role.value, "days": body.days, "scope": body.scope})
    return Secret(token=key)


async def _withdraw(ask: Ask) -> dict[str, str]:
    id_ = msgspec.convert(ask.path("id"), Annotated[int, Meta(ge=0, le=2**62)], strict=False)
    await ask.thread(accounts.withdraw, ask.db, id_)
    await ask.audit("token withdrawn", str(id_))
    return {}


_A = Role.ADMIN
PEOPLE: tuple[Route, ...] = (
    row("GET", "/session", None, _session, "Who is signed in", answer=Session),
    row("POST", "/session", None, _sign_in, "Sign in", answer=Session, body=SignIn),
    row("DELETE", "/session", None, _sign_out, "Sign out"),
    row("POST", "/setup", None, _first, "Make the first admin", answer=Session, body=First),
    row("GET", "/users", _A, _users, "All users", answer=list[Account]),
    row("POST", "/users", _A, _create, "A new user", body=User),
    row("POST", "/users/{name}", _A, _change, "Change a user", body=Change),
    row("GET", "/tokens", _A, _tokens, "Tokens of programs", answer=list[Token]),
    row("POST", "/tokens", _A, _make_token, "A new token", answer=Secret, body=NewToken),
    row("DELETE", "/tokens/{id}", _A, _withdraw, "Withdraw a token"),
)
