"""Sign-ins that are on their way to the single sign-on and back. What one began with travels in the browser's cookie, sealed.

So any controller on the same store can end it, and whoever only begins costs the store nothing. Fernet (cryptography) encrypts, signs and
dates; the key is in the store, where for as long as a ticket is valid it is also noted that it was used. Functions block.
"""

from __future__ import annotations

import hashlib
import secrets

import msgspec
from cryptography.fernet import Fernet, InvalidToken

from fleet.database import Database

__all__ = ["VALID_S", "Ticket", "Tickets", "new"]

VALID_S = 600
_SKEW_S = 60
"""What Fernet grants to clocks that differ, `fernet._MAX_CLOCK_SKEW`; here once for each end."""
_KEY = "oidc.key"


class Ticket(msgspec.Struct, frozen=True):
    """What a sign-in began with: the state that the provider brings back, the nonce of its token, PKCE's verifier (RFC 7636)."""

    state: str
    nonce: str
    verifier: str


def new() -> Ticket:
    """For a sign-in that begins."""
    return Ticket(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48))


class Tickets:
    """Those of all controllers on this store."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._fernet: Fernet | None = None

    def seal(self, ticket: Ticket, now_ms: int) -> str:
        """For the cookie. Raises Unavailable."""
        return self._seal.encrypt_at_time(msgspec.json.encode(ticket), now_ms // 1000).decode()

    def open(self, sealed: str, now_ms: int) -> Ticket | None:
        """What was sealed here, by any controller, in the last ten minutes; None for anything else. Raises Unavailable."""
        try:
            text = self._seal.decrypt_at_time(sealed.encode(), VALID_S, now_ms // 1000)
        except (InvalidToken, UnicodeEncodeError):
            return None
        return msgspec.json.decode(text, type=Ticket)

    def use(self, ticket: Ticket, now_ms: int) -> bool:
        """Whether this is the first use, in the order of the store's transactions. Raises Unavailable."""
        until = now_ms + (VALID_S + 2 * _SKEW_S) * 1000
        with self._db.write() as tx:
            tx.run("DELETE FROM ticket WHERE until < ?", now_ms)
            digest = hashlib.sha256(ticket.state.encode()).hexdigest()
            return bool(tx.count("INSERT INTO ticket (digest, until) VALUES (?, ?) ON CONFLICT DO NOTHING", digest, until))

    @property
    def _seal(self) -> Fernet:
        if self._fernet is None:
            with self._db.write() as tx:
                tx.run("INSERT INTO memo (name, content) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", _KEY, Fernet.generate_key().decode())
                key = tx.run("SELECT content FROM memo WHERE name = ?", _KEY)[0][0]
            self._fernet = Fernet(key)
        return self._fernet
