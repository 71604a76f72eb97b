"""Sign-in by somebody else's OpenID Connect provider: authorization code with PKCE, state and nonce.

joserfc checks the signature and the claims of the id token. Which role somebody has is what a claim says; without
a role nobody gets in. Errors are told without what the provider said: it may hold tokens.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec
from msgspec import Meta

from fleet.accounts import Role
from fleet.errors import BadRequest, FleetError
from fleet.scopes import Scope, parse
from fleet.tickets import Tickets, new

__all__ = ["Oidc", "Person", "Provider", "Stranger", "Unknown", "check", "person", "verify"]

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
_LEEWAY_S = 60
_LIMIT_S = 10.0
_KEYS_MS = 3_600_000


class Oidc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[oidc]`. `url` is the console as people reach it; `roles` and `scopes` say what values of the claim `role_claim` mean here.

    Of several roles the highest counts; of several scopes all together, and a value without a scope means all boxes.
    """

    issuer: str
    client_id: str
    url: str
    client_secret_file: Path | None = None
    title: Annotated[str, Meta(min_length=1, max_length=60)] = "single sign-on"
    ask: str = "openid profile email"
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    roles: dict[str, Role]
    scopes: dict[str, tuple[str, ...]] = {}

    @property
    def redirect(self) -> str:
        """Where the provider sends people back."""
        return f"{self.url.rstrip('/')}/api/v1/oidc/callback"


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the provider vouches for."""

    issuer: str
    subject: str
    name: str
    role: Role
    scope: Scope


class Unknown(BadRequest):
    """An answer to no sign-in that was begun here, by this browser, in the last ten minutes."""


class Stranger(BadRequest):
    """The provider vouches for somebody who may not enter."""


def check(section: Oidc) -> None:
    """Raises BadRequest if the section cannot be meant: a provider or console without TLS, no role, a wrong scope."""
    for name, url in (("issuer", section.issuer), ("url", section.url)):
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and _local(parts.hostname or "")):
            raise BadRequest(f"[oidc] {name}: {url!r} has to begin with https://")
    if not section.roles:
        raise BadRequest("[oidc.roles] names no role: nobody could sign in")
    for value, rules in section.scopes.items():
        if value not in section.roles or not rules:  # either would let see all boxes
            raise BadRequest(f"[oidc.scopes] {value!r}: not in [oidc.roles], or without a rule")
        parse(rules)


def verify(section: Oidc, token: str, keys: Mapping[str, Any], nonce: str, now_ms: int) -> dict[str, Any]:
    """The claims of an id token that is signed by one of these keys (JWKS), for us, of now and of this nonce. Raises BadRequest."""
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    try:
        found = jwt.decode(token, KeySet.import_key_set(dict(keys)), algorithms=_ALGORITHMS)  # type: ignore[arg-type]
        registry = jwt.JWTClaimsRegistry(
            now=now_ms // 1000,
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": section.issuer},
            aud={"essential": True, "value": section.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        registry.validate(found.claims)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise BadRequest(f"the single sign-on's answer cannot be trusted ({type(error).__name__})") from error
    claims = dict(found.claims)
    audience = claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != section.client_id:
        raise BadRequest("the single sign-on's answer is for somebody else")
    return claims


def person(section: Oidc, claims: Mapping[str, Any]) -> Person:
    """Who this is here. Raises Stranger without a name or a role."""
    name, told = claims.get(section.name_claim), claims.get(section.role_claim, [])
    if not isinstance(name, str) or not name:
        raise Stranger(f"the single sign-on tells no {section.name_claim}")
    values = [value for value in (told if isinstance(told, list) else [told]) if isinstance(value, str)]
    mine = [value for value in values if value in section.roles]
    if not mine:
        raise Stranger(f"{name} has no role here: the single sign-on's {section.role_claim} names none that is known")
    role = max((section.roles[value] for value in mine), key=list(Role).index)
    limits = [section.scopes.get(value, ()) for value in mine if section.roles[value] is role]
    scope = Scope() if not all(limits) else parse([rule for rules in limits for rule in rules])
    return Person(issuer=section.issuer, subject=str(claims["sub"]), name=name, role=role, scope=scope)


class Provider:
    """The provider. For one console's loop."""

    def __init__(self, section: Oidc, tickets: Tickets) -> None:
        self._section, self._tickets = section, tickets
        self._about: dict[str, Any] = {}
        self._keys: tuple[int, dict[str, Any]] = (0, {})

    async def begin(self, now_ms: int) -> tuple[str, str]:
        """Where to send the browser, and what its cookie has to bring back. Raises FleetError."""
        async with httpx.AsyncClient(timeout=_LIMIT_S) as client:
            about = await self._discover(client)
        section, ticket = self._section, new()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(ticket.verifier.encode()).digest()).decode().rstrip("=")  # RFC 7636, S256
        query = {
            "response_type": "code",
            "client_id": section.client_id,
            "redirect_uri": section.redirect,
            "scope": section.ask,
            "state": ticket.state,
            "nonce": ticket.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        sealed = await asyncio.to_thread(self._tickets.seal, ticket, now_ms)
        return str(httpx.URL(about["authorization_endpoint"]).copy_merge_params(query)), sealed

    async def finish(self, sealed: str, state: str, code: str, now_ms: int) -> Person:
        """Whom the provider has let through: once for each `begin`, at any controller. Raises BadRequest or FleetError."""
        ticket = await asyncio.to_thread(self._tickets.open, sealed, now_ms)
        if ticket is None or ticket.state != state or not code:
            raise Unknown("this sign-in took too long, was left, or another browser began it: begin again")
        if not await asyncio.to_thread(self._tickets.use, ticket, now_ms):
            raise Unknown("this sign-in was ended before: begin again")
        async with httpx.AsyncClient(timeout=_LIMIT_S) as client:
            about = await self._discover(client)
            token = await self._token(client, about["token_endpoint"], code, ticket.verifier)
            keys = await self._key_set(client, about["jwks_uri"], now_ms)
            signed = str(token.get("id_token", ""))
            try:
                claims = verify(self._section, signed, keys, ticket.nonce, now_ms)
            except BadRequest:  # the provider may have new keys
                self._keys = (0, {})
                keys = await self._key_set(client, about["jwks_uri"], now_ms)
                claims = verify(self._section, signed, keys, ticket.nonce, now_ms)
            wanted = {self._section.name_claim, self._section.role_claim}
            if wanted - claims.keys() and "userinfo_endpoint" in about:
                more = await self._get(client, about["userinfo_endpoint"], Authorization=f"Bearer {token.get('access_token', '')}")
                if more.get("sub") == claims["sub"]:
                    claims = {**{name: more[name] for name in wanted & more.keys()}, **claims}
        return person(self._section, claims)

    async def _discover(self, client: httpx.AsyncClient) -> dict[str, Any]:
        if not self._about:
            found = await self._get(client, f"{self._section.issuer.rstrip('/')}/.well-known/openid-configuration")
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            if found.get("issuer") != self._section.issuer or not all(isinstance(found.get(name), str) for name in names):
                raise FleetError(f"{self._section.issuer} is not the OpenID provider that [oidc] names")
            self._about = found
        return self._about

    async def _key_set(self, client: httpx.AsyncClient, url: str, now_ms: int) -> dict[str, Any]:
        since, keys = self._keys
        if not keys or now_ms - since > _KEYS_MS:
            keys = await self._get(client, url)
            self._keys = (now_ms, keys)
        return keys

    async def _token(self, client: httpx.AsyncClient, url: str, code: str, verifier: str) -> dict[str, Any]:
        section = self._section
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": section.redirect, "code_verifier": verifier}
        auth = httpx.Auth()  # none
        if section.client_secret_file is None:
            form["client_id"] = section.client_id
        else:
            try:
                secret = section.client_secret_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise FleetError(f"[oidc] client_secret_file: it cannot be read: {error.strerror}") from error
            auth = httpx.BasicAuth(quote(section.client_id, safe=""), quote(secret, safe=""))  # RFC 6749, 2.3.1
        try:
            answer = await client.post(url, data=form, auth=auth)
            if answer.status_code in (400, 401):
                raise BadRequest("the single sign-on does not confirm this sign-in: begin again")
            return self._object(answer)
        except (httpx.HTTPError, ValueError) as error:
            raise self._unreachable(error) from error

    async def _get(self, client: httpx.AsyncClient, url: str, **headers: str) -> dict[str, Any]:
        try:
            return self._object(await client.get(url, headers=headers))
        except (httpx.HTTPError, ValueError) as error:
            raise self._unreachable(error) from error

    @staticmethod
    def _object(answer: httpx.Response) -> dict[str, Any]:
        found = answer.raise_for_status().json()
        if not isinstance(found, dict):
            raise ValueError("no object")  # noqa: TRY004 - of the answer, not of ours
        return found

    def _unreachable(self, error: Exception) -> FleetError:
        return FleetError(f"the single sign-on {self._section.issuer} does not answer as it should ({type(error).__name__})")


def _local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
