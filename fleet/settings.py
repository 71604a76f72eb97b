"""How a controller is to run."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from fleet.config import Config
from fleet.errors import DataInUse
from fleet.outside import Outside

__all__ = ["Settings", "hold"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`names` are host names and addresses under which boxes reach the broker; an empty `broker_host` is all interfaces.

    `database` is the address of a PostgreSQL, "" a file in the folder. With `outside` no broker is started; `crl_url` is where such a
    broker fetches the list of revoked certificates. `renewal_port` is for boxes whose certificate has ended, 0 the one above the broker's.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8480
    broker_host: str = ""
    broker_port: int = 8883
    tenant: str = "default"
    names: tuple[str, ...] = ()
    config: Config = Config()
    database: str = ""
    outside: Outside | None = None
    crl_url: str = ""
    renewal_port: int = 0
    ack_s: float = 1.0
    watch_s: float = 2.0
    alert_s: float = 5.0
    lease_s: float = 3.0

    @property
    def broker(self) -> str:
        """HOST:PORT for the boxes."""
        if self.outside is not None:
            return f"{self.outside.host}:{self.outside.port}"
        return f"{self.names[0] if self.names else socket.gethostname()}:{self.broker_port}"

    @property
    def renewal(self) -> int:
        """The port for boxes whose certificate has ended."""
        return self.renewal_port or self.broker_port + 1

    @property
    def renewal_at(self) -> str:
        """HOST:PORT of that for the boxes, "" if it is where they look by themselves."""
        here = f"{self.names[0] if self.names else socket.gethostname()}:{self.renewal}"
        return "" if self.outside is None and self.renewal == self.broker_port + 1 else here

    @property
    def store(self) -> str | Path:
        """Where the store is."""
        return self.database or self.data / "fleet.db"


def hold(path: Path) -> Any:
    """The folder's lock, held until it is closed. Raises DataInUse where another controller holds it."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise DataInUse(f"another controller works in {path.parent}: end it, or choose another folder with --data") from error
    return file
