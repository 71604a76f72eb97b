"""Who may use the controller: people with a password and a role, sessions of browsers, tokens of programs.

Passwords are kept as Argon2id (RFC 9106; the parameters are OWASP's, 19 MiB and two passes), sessions and tokens as SHA-256 of 256
random bits. Functions block: call them in a thread.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from enum import Enum
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import ClassVar

import msgspec
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from fleet.authority import write_private
from fleet.database import Database, Transaction
from fleet.errors import BadRequest
from fleet.scopes import EVERYTHING, Scope, of, put, scopes

__all__ = ["Account", "Identity", "Role", "Throttle", "Token", "accounts", "change", "close_session", "create", "federate", "first",
           "identify",
           "make_token", "needs_first", "open_session", "setup_code", "sign_in", "tokens", "withdraw"]  # fmt: skip

SESSION_MS, IDLE_MS = 12 * 3_600_000, 2 * 3_600_000
_TOUCH_MS = 60_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_SHORTEST, _LONGEST = 12, 200
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ib2R5$2xartQhIJmi7JZSw24sgg7qhh/vfNAMMWsuVyq2q+Rg"
"""Verified for names that do not exist, so that an answer takes as long as for those that do."""
_NO_PASSWORD = "-"  # noqa: S105 - it is none
"""Of accounts that sign in elsewhere."""


class Role(str, Enum):
    """What somebody may do; each may do what the one before may."""

    VIEWER = "viewer"  # see everything but the audit log and the users
    OPERATOR = "operator"  # and send commands that change nothing for good
    ADMIN = "admin"  # and everything else

    def covers(self, other: Role) -> bool:
        """Whether this role may do what `other` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `name` is an account, or `token NUMBER (title)`."""

    name: str
    role: Role
    session: bool
    scope: Scope = EVERYTHING


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A person."""

    name: str
    role: Role
    created: int
    disabled: bool
    scope: tuple[str, ...] = ()
    federated: bool = False  # signs in by the single sign-on, which says role and scope


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A program's way in; the secret itself is told once and not kept."""

    id: int
    title: str
    role: Role
    author: str
    created: int
    expires: int
    used: int
    scope: tuple[str, ...] = ()


class Throttle:
    """Slows down guessing: after some failures each further one doubles the wait, by name and address, by address, and by name."""

    _FREE: ClassVar = {"pair": 5, "address": 20, "name": 50}
    _LONGEST_MS = 900_000
    _FORGET_MS = 3_600_000

    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], tuple[int, int]] = {}  # key → count, last

    def wait_ms(self, name: str, address: str, now_ms: int) -> int:
        """How long this one has to wait before the next try."""
        waits = [0]
        for key in self._keys(name, address):
            count, last = self._failures.get(key, (0, 0))
            over = count - self._FREE[key[0]]
            if over >= 0 and now_ms - last < self._FORGET_MS:
                waits.append(last + min(self._LONGEST_MS, 1000 << min(over, 20)) - now_ms)
        return max(waits)

    def failed(self, name: str, address: str, now_ms: int) -> None:
        """A wrong password."""
        if len(self._failures) > 10_000:
            self._failures = {key: entry for key, entry in self._failures.items() if now_ms - entry[1] < self._LONGEST_MS}
        for key in self._keys(name, address):
            count, last = self._failures.get(key, (0, 0))
            self._failures[key] = (count + 1 if now_ms - last < self._FORGET_MS else 1, now_ms)

    def succeeded(self, name: str, address: str) -> None:
        """The right one: this person is not slowed down from here; others still are."""
        self._failures.pop(self._keys(name, address)[0], None)

    @staticmethod
    def _keys(name: str, address: str) -> list[tuple[str, str]]:
        place = _place(address)
        return [("pair", f"{name} {place}"), ("address", place), ("name", name)]


def _place(address: str) -> str:
    """What one subscriber cannot change: of IPv6 the /64, of which anybody has as many addresses as they like."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(IPv6Network((found.packed[:8] + bytes(8), 64))) if isinstance(found, IPv6Address) and not found.ipv4_mapped else address


# --- the first one


def needs_first(db: Database) -> bool:
    """Whether nobody can sign in yet."""
    return not db.read("SELECT 1 FROM account LIMIT 1")


def setup_code(folder: Path) -> str:
    """The code that the first sign-in needs: whoever can read the controller's folder, or its first words, owns it."""
    file = folder / "setup-code"
    if not file.exists():
        write_private(file, secrets.token_urlsafe(12).encode())
    return file.read_text(encoding="ascii")


def first(db: Database, folder: Path, code: str, name: str, password: str, now_ms: int) -> None:
    """Make the first account, an admin. Raises BadRequest."""
    if not needs_first(db):
        raise BadRequest("there is an admin already: sign in")
    if not secrets.compare_digest(code.strip().encode(), setup_code(folder).encode()):
        raise BadRequest("this is not the setup code: it is in the first words of `visavis fleet serve` and in setup-code of its folder")
    phc = _hash(name, password)
    with db.write() as tx:
        if tx.run("SELECT 1 FROM account LIMIT 1"):
            raise BadRequest("there is an admin already: sign in")
        tx.run("INSERT INTO account (name, role, password, created) VALUES (?, 'admin', ?, ?)", name, phc, now_ms)
    (folder / "setup-code").unlink(missing_ok=True)


# --- people


def create(db: Database, name: str, role: Role, password: str, now_ms: int, scope: Scope = EVERYTHING) -> None:
    """A new account. Raises BadRequest."""
    phc = _hash(name, password)
    with db.write() as tx:
        sql = "INSERT INTO account (name, role, password, created) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        if not tx.count(sql, name, role.value, phc, now_ms):
            raise BadRequest(f"there is a user {name} already")
        put(tx, f"account:{name}", scope)


def federate(db: Database, issuer: str, subject: str, name: str, role: Role, scope: Scope, now_ms: int) -> str:
    """The account of somebody whom a single sign-on vouches for, made if there is none; its role and scope are what that says now.

    Raises BadRequest if somebody else has the name, or the account may not sign in.
    """
    if _NAME.fullmatch(name) is None:
        raise BadRequest("the single sign-on tells a name that no user here can have")
    with db.write() as tx:
        known = tx.run("SELECT account FROM federated WHERE issuer = ? AND subject = ?", issuer, subject)
        if not known:
            sql = "INSERT INTO account (name, role, password, created) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
            if not tx.count(sql, name, role.value, _NO_PASSWORD, now_ms):
                raise BadRequest(f"another user is called {name} here already: an admin has to rename one of them")
            tx.run("INSERT INTO federated (issuer, subject, account) VALUES (?, ?, ?)", issuer, subject, name)
        account = str(known[0][0]) if known else name
        if tx.run("SELECT 1 FROM account WHERE name = ? AND disabled = 1", account):
            raise BadRequest("this user may not sign in")
        tx.run("UPDATE account SET role = ? WHERE name = ?", role.value, account)
        put(tx, f"account:{account}", scope)
        _one_admin(tx)
    return account


def change(
    db: Database,
    name: str,
    *,
    role: Role | None = None,
    password: str = "",
    disabled: bool | None = None,
    scope: Scope | None = None,
) -> None:
    """Change what is given and end the user's sessions. Raises BadRequest, also where no admin would be left."""
    phc = _hash(name, password) if password else ""
    with db.write() as tx:
        if not tx.run("SELECT 1 FROM account WHERE name = ?", name):
            raise BadRequest(f"there is no user {name}")
        if role is not None:
            tx.run("UPDATE account SET role = ? WHERE name = ?", role.value, name)
        if phc:
            tx.run("UPDATE account SET password = ? WHERE name = ?", phc, name)
        if disabled is not None:
            tx.run("UPDATE account SET disabled = ? WHERE name = ?", int(disabled), name)
        if scope is not None:
            put(tx, f"account:{name}", scope)
        _one_admin(tx)
        tx.run("DELETE FROM session WHERE account = ?", name)


def _one_admin(tx: Transaction) -> None:
    sql = (
        "SELECT 1 FROM account a WHERE a.role = 'admin' AND a.disabled = 0"
        " AND NOT EXISTS (SELECT 1 FROM scope s WHERE s.owner = 'account:' || a.name)"
    )
    if not tx.run(sql):
        raise BadRequest("one admin without limits has to stay")


def accounts(db: Database) -> list[Account]:
    """All users."""
    sql = "SELECT a.name, a.role, a.created, a.disabled, f.subject FROM account a LEFT JOIN federated f ON f.account = a.name"
    limited = scopes(db)
    return [
        Account(
            name=row[0],
            role=Role(row[1]),
            created=row[2],
            disabled=bool(row[3]),
            scope=limited.get(f"account:{row[0]}", EVERYTHING).rules,
            federated=row[4] is not None,
        )
        for row in db.read(f"{sql} ORDER BY a.name")
    ]


def sign_in(db: Database, name: str, password: str) -> Role | None:
    """The role of whoever this is; None if name or password is wrong. Takes some 50 ms by design."""
    rows = db.read("SELECT password, role FROM account WHERE name = ? AND disabled = 0", name)
    try:
        known = bool(rows) and rows[0][0] != _NO_PASSWORD
        Argon2id.verify_phc_encoded(password[:_LONGEST].encode(), rows[0][0] if known else _NOBODY)
    except InvalidKey:
        return None
    return Role(rows[0][1]) if known else None


# --- sessions and tokens


def open_session(db: Database, name: str, now_ms: int) -> str:
    """A session's secret for the browser's cookie."""
    key = secrets.token_urlsafe(32)
    with db.write() as tx:
        tx.run("DELETE FROM session WHERE created < ? OR used < ?", now_ms - SESSION_MS, now_ms - IDLE_MS)
        tx.run("INSERT INTO session (digest, account, created, used) VALUES (?, ?, ?, ?)", _digest(key), name, now_ms, now_ms)
    return key


def close_session(db: Database, key: str) -> None:
    """Sign out."""
    with db.write() as tx:
        tx.run("DELETE FROM session WHERE digest = ?", _digest(key))


def make_token(db: Database, title: str, role: Role, author: str, days: int, now_ms: int, scope: Scope = EVERYTHING) -> str:
    """A token's secret, told this once. Raises BadRequest."""
    if not 1 <= days <= 3650 or not title.strip() or len(title) > 100:
        raise BadRequest("a token needs a title and lives from 1 to 3650 days")
    key = f"vvt_{secrets.token_urlsafe(32)}"
    with db.write() as tx:
        sql = "INSERT INTO token (digest, title, role, author, created, expires) VALUES (?, ?, ?, ?, ?, ?)"
        tx.run(sql, _digest(key), title.strip(), role.value, author, now_ms, now_ms + days * 86_400_000)
        number = tx.run("SELECT id FROM token WHERE digest = ?", _digest(key))[0][0]
        put(tx, f"token:{number}", scope)
    return key


def tokens(db: Database) -> list[Token]:
    """All tokens that were not withdrawn."""
    rows = db.read("SELECT id, title, role, author, created, expires, used FROM token ORDER BY id")
    names = ("id", "title", "role", "author", "created", "expires", "used")
    limited = scopes(db)
    return [
        msgspec.convert({**dict(zip(names, row, strict=True)), "scope": limited.get(f"token:{row[0]}", EVERYTHING).rules}, Token)
        for row in rows
    ]


def withdraw(db: Database, id: int) -> None:  # noqa: A002
    """A token is no longer valid. Raises BadRequest."""
    with db.write() as tx:
        if not tx.count("DELETE FROM token WHERE id = ?", id):
            raise BadRequest(f"there is no token {id}")
        put(tx, f"token:{id}", EVERYTHING)


def identify(db: Database, *, session: str = "", token: str = "", now_ms: int) -> Identity | None:
    """Who shows this secret; None if nobody knows it or its time is over."""
    if token:
        rows = db.read("SELECT id, title, role, used FROM token WHERE digest = ? AND expires > ?", _digest(token), now_ms)
        if not rows:
            return None
        id_, title, role, used = rows[0]
        if now_ms - used > _TOUCH_MS:
            with db.write() as tx:
                tx.run("UPDATE token SET used = ? WHERE id = ?", now_ms, id_)
        return Identity(name=f"token {id_} ({title})", role=Role(role), session=False, scope=of(db, f"token:{id_}"))
    sql = (
        "SELECT s.account, a.role, s.used FROM session s JOIN account a ON a.name = s.account"
        " WHERE s.digest = ? AND s.created > ? AND s.used > ? AND a.disabled = 0"
    )
    rows = db.read(sql, _digest(session), now_ms - SESSION_MS, now_ms - IDLE_MS) if session else []
    if not rows:
        return None
    if now_ms - rows[0][2] > _TOUCH_MS:
        with db.write() as tx:
            tx.run("UPDATE session SET used = ? WHERE digest = ?", now_ms, _digest(session))
    return Identity(name=rows[0][0], role=Role(rows[0][1]), session=True, scope=of(db, f"account:{rows[0][0]}"))


def _hash(name: str, password: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise BadRequest("a user's name has letters, digits, '.', '_', '@', '-', at most 63, the first no sign")
    if not _SHORTEST <= len(password) <= _LONGEST or password.casefold() == name.casefold():
        raise BadRequest(f"a password has {_SHORTEST} to {_LONGEST} characters and is not the name")
    derive = Argon2id(salt=os.urandom(16), length=32, iterations=2, lanes=1, memory_cost=19_456)
    return derive.derive_phc_encoded(password.encode())


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
