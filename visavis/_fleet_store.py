"""A controller's folder and store, as commands open them beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.authority import Authority
    from fleet.database import Database

__all__ = ["folder_of", "opened"]


def folder_of(data: Path | None) -> Path:
    """The folder that `--data` names; by default in the state folder of this user."""
    from runtime.config import environment

    return (data or environment().state / "controller").resolve()


@contextmanager
def opened(data: Path | None, database: str, crl_url: str = "") -> Iterator[tuple[Database, Authority]]:
    """Store and authority, whether the controller runs or not. Raises FleetError, also for the store of another fleet."""
    from fleet.authority import Authority
    from fleet.database import open_database
    from fleet.inventory import belongs
    from runtime.telemetry.times import SystemTimes

    folder = folder_of(data)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority(folder / "authority", SystemTimes().wall_ms(), crl_url=crl_url)
    db = open_database(database or folder / "fleet.db")
    try:
        belongs(db, authority)
        yield db, authority
    finally:
        db.close()
