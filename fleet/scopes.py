"""Which boxes somebody may see and command: all, or those of some sites or names.

A rule is `site:TEXT` or `name:TEXT`; with `*` at its end it takes whatever begins so. A name is what the certificate says; a site is what
the box itself tells, so a box that is moved moves between scopes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fleet.database import Database, Transaction
from fleet.errors import BadRequest

__all__ = ["EVERYTHING", "Scope", "of", "parse", "put", "scopes"]

_MOST, _LONGEST = 50, 100
_COLUMNS = {"site": "site", "name": "name"}


class Scope(msgspec.Struct, frozen=True):
    """The rules; a box that any of them takes is in. Without rules every box is."""

    rules: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def where(self, alias: str = "d") -> tuple[str, list[str]]:
        """A condition upon the table `device` under this alias, and its values. Capitals and small letters differ, on every store."""
        conditions, values = [], []
        for rule in self.rules:
            kind, _, text = rule.partition(":")
            column = f"{alias}.{_COLUMNS[kind]}"
            if text.endswith("*"):
                conditions.append(f"substr({column}, 1, {len(text) - 1}) = ?")
            else:
                conditions.append(f"{column} = ?")
            values.append(text.removesuffix("*"))
        return f"({' OR '.join(conditions)})" if conditions else "1 = 1", values

    def within(self, column: str) -> tuple[str, list[str]]:
        """A condition upon a column that holds names of boxes, and its values."""
        where, values = self.where()
        return (f"{column} IN (SELECT d.name FROM device d WHERE {where})", values) if self else ("1 = 1", [])  # noqa: S608 - values are bound

    def covers(self, name: str, site: str) -> bool:
        """Whether this box is in."""
        return not self.rules or any(_takes(rule, {"name": name, "site": site}) for rule in self.rules)


EVERYTHING = Scope()


def _takes(rule: str, box: dict[str, str]) -> bool:
    kind, _, text = rule.partition(":")
    return box[kind].startswith(text[:-1]) if text.endswith("*") else box[kind] == text


def parse(rules: Sequence[str]) -> Scope:
    """The scope of these rules. Raises BadRequest."""
    found = []
    for rule in rules:
        kind, colon, text = (part.strip() for part in rule.partition(":"))
        if kind not in _COLUMNS or not colon or not text or "*" in text[:-1] or len(text) > _LONGEST:
            raise BadRequest(f"{rule!r} is no scope: site:TEXT or name:TEXT, with * only at the end")
        found.append(f"{kind}:{text}")
    if len(found) > _MOST:
        raise BadRequest(f"a scope has at most {_MOST} rules")
    return Scope(tuple(dict.fromkeys(found)))


def put(tx: Transaction, owner: str, scope: Scope) -> None:
    """Keep the scope of an owner: `account:NAME` or `token:NUMBER`."""
    tx.run("DELETE FROM scope WHERE owner = ?", owner)
    tx.many("INSERT INTO scope (owner, rule) VALUES (?, ?)", [(owner, rule) for rule in scope.rules])


def of(db: Database, owner: str) -> Scope:
    """An owner's scope."""
    return Scope(tuple(row[0] for row in db.read("SELECT rule FROM scope WHERE owner = ? ORDER BY rule", owner)))


def scopes(db: Database) -> dict[str, Scope]:
    """All owners that are limited."""
    found: dict[str, list[str]] = {}
    for owner, rule in db.read("SELECT owner, rule FROM scope ORDER BY owner, rule"):
        found.setdefault(owner, []).append(rule)
    return {owner: Scope(tuple(rules)) for owner, rules in found.items()}
