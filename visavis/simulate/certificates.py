"""A certificate for each simulated box, from the fleet's own authority: made once, kept in the controller's folder, used again."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from fleet import inventory
from fleet.authority import Authority
from fleet.database import Database
from fleet.errors import BadRequest

__all__ = ["Identities", "make"]

_DAYS = 30
_DAY_MS = 86_400_000


class Identities:
    """The files in `folder`: `ca.pem`, and certificate with key in NAME.pem."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contexts: dict[str, ssl.SSLContext] = {}

    def context(self, name: str) -> ssl.SSLContext:
        """What a box needs for TLS; kept, because making one costs 1.5 ms, more than a handshake. Raises BadRequest."""
        if name not in self._contexts:
            try:
                made = ssl.create_default_context(cafile=self._folder / "ca.pem")
                made.load_cert_chain(self._folder / f"{name}.pem")
            except OSError as error:
                raise BadRequest(f"{name} has no certificate in {self._folder} ({error}): give --data, the controller's folder") from error
            made.minimum_version = ssl.TLSVersion.TLSv1_2
            self._contexts[name] = made
        return self._contexts[name]


def make(names: Sequence[str], folder: Path, db: Database, authority: Authority, now_ms: int) -> int:
    """Give a certificate to those that have none in `folder` or one that ends within a day; returns how many were made.

    All are entered in the store in one transaction before the first file is written: 10,000 take seconds, not a minute of fsync.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca = folder / "ca.pem"
    if not ca.exists() or ca.read_bytes() != authority.pem:
        for file in folder.glob("*.pem"):
            file.unlink()
    limit = (now_ms + _DAY_MS) / 1000
    # The file was made when the certificate was: nothing needs to be parsed to know how old it is.
    missing = [name for name in names if not _fresh(folder / f"{name}.pem", limit - _DAYS * _DAY_MS / 1000)]
    issued = inventory.enrol_all(db, authority, missing, _DAYS, now_ms)
    for one in issued:
        file = folder / f"{one.name}.pem"
        file.touch(mode=0o600)
        file.write_bytes(one.certificate + one.key)
    ca.write_bytes(authority.pem)
    return len(issued)


def _fresh(file: Path, since_s: float) -> bool:
    try:
        found = file.stat()
    except FileNotFoundError:
        return False
    return found.st_mtime >= since_s and found.st_size > 0
