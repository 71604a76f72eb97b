"""The part of the API about boxes whose certificate has ended and that ask for a new one."""

from __future__ import annotations

from fleet import renewal
from fleet.accounts import Role
from fleet.ask import Ask, Body, Route, row
from fleet.renewal import Asking

__all__ = ["RENEWAL_ROUTES"]


class Decision(Body, frozen=True, kw_only=True):
    """Whether the box gets its certificate."""

    approve: bool


async def _asking(ask: Ask) -> list[Asking]:
    return await ask.thread(renewal.asking, ask.db)


async def _decide(ask: Ask) -> dict[str, str]:
    fingerprint, approve = ask.path("id"), ask.body.approve
    authority = ask.controller.authority
    device = await ask.thread(renewal.decide, ask.db, authority, fingerprint, ask.who.name, ask.now_ms, approve=approve)
    await ask.audit("renewal approved" if approve else "renewal refused", device, {"key": fingerprint[:16]})
    ask.controller.hub.tell({device})
    return {}


RENEWAL_ROUTES: tuple[Route, ...] = (
    row("GET", "/renewals", Role.ADMIN, _asking, "Boxes whose certificate has ended and that wait for an admin", answer=list[Asking]),
    row("POST", "/renewals/{id}", Role.ADMIN, _decide, "Give such a box its certificate, or not", body=Decision),
)
