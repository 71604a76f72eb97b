"""Programs that read the projections at the fleet's own broker: a SCADA host, Home Assistant. Each has a certificate named `~NAME`."""

from __future__ import annotations

from fleet.authority import Authority, Issued
from fleet.broker import CONTROLLER
from fleet.database import Database
from fleet.errors import BadRequest
from fleet.projections.together import HOME_ASSISTANT, SPARKPLUG
from runtime.telemetry import is_id

__all__ = ["admit", "dismiss", "readers"]

_OURS = {CONTROLLER, SPARKPLUG, HOME_ASSISTANT, "~broker"}


def admit(db: Database, authority: Authority, name: str, days: int, now_ms: int) -> Issued:
    """A certificate for a program called `name`; a running controller lets it in within seconds. Raises BadRequest."""
    own = f"~{name}"
    if not is_id(name) or own in _OURS or own.startswith(CONTROLLER):
        raise BadRequest(f"{name!r} cannot name a reader: letters, digits, '.', '_', '-', at most 63, the first no sign, and none of ours")
    if not 1 <= days <= 3650:
        raise BadRequest("a certificate is valid from 1 to 3650 days")
    issued = authority.issue(own, days, now_ms)
    with db.write() as tx:
        sql = "INSERT INTO certificate (serial, device, issued, expires) VALUES (?, ?, ?, ?)"
        tx.run(sql, issued.serial, own, now_ms, issued.expires)
    return issued


def dismiss(db: Database, name: str, now_ms: int) -> int:
    """Take back all certificates of a reader; returns how many."""
    with db.write() as tx:
        return tx.count("UPDATE certificate SET revoked = ? WHERE device = ? AND revoked IS NULL", now_ms, f"~{name}")


def readers(db: Database) -> tuple[str, ...]:
    """The names in the certificates of those that are let in."""
    rows = db.read("SELECT DISTINCT device FROM certificate WHERE device >= '~' AND device < '~~' AND revoked IS NULL ORDER BY device")
    return tuple(row[0] for row in rows)
