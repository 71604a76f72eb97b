"""`visavis fleet simulate`: certificates, then the crowd, with a line now and then that people and programs can read."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from fleet.authority import Authority
from fleet.database import Database
from fleet.errors import BadRequest
from runtime.telemetry import is_id
from runtime.telemetry.times import SystemTimes
from visavis.simulate import crowd
from visavis.simulate.certificates import make
from visavis.simulate.crowd import Load, Seen
from visavis.simulate.faults import chosen

__all__ = ["simulate", "target"]

_PORT = 8883
_MOST = 1_000_000
_SPARE_FILES = 100


def target(broker: str) -> tuple[str, int]:
    """Host and port of HOST, HOST:PORT or [ADDRESS]:PORT; localhost without one. Raises BadRequest."""
    try:
        parts = urlsplit(f"//{broker}")
        host, port = parts.hostname or "localhost", parts.port or _PORT
    except ValueError as error:
        raise BadRequest(f"--broker {broker}: must be HOST or HOST:PORT") from error
    return host, port


def _address(host: str, port: int) -> str:
    """Looked up once, not by ten thousand boxes."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise BadRequest(f"--broker: there is no {host}: {error}") from error


def simulate(
    db: Database,
    authority: Authority,
    folder: Path,
    *,
    devices: int,
    broker: str,
    health_s: float,
    minutes: float,
    faults: str,
    seed: int,
    tenant: str,
    prefix: str,
    ledger: Path | None,
    every_s: float,
) -> int:
    """Returns the exit status: 1 if something was not acknowledged in the end. Raises BadRequest."""
    if not 1 <= devices <= _MOST or not 1 <= health_s <= 3600 or every_s <= 0:
        raise BadRequest(f"--devices goes from 1 to {_MOST}, --health-s from 1 to 3600, --every-s is more than 0")
    if not is_id(f"{prefix}-00000") or not is_id(tenant):
        raise BadRequest("--prefix and --tenant: letters, digits, '.', '_', '-', the first no sign")
    host, port = target(broker)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if devices > most - _SPARE_FILES:
        raise BadRequest(f"--devices {devices}: this system lets a program open {most} files (ulimit -Hn), a box needs one")
    load = Load(
        devices=devices,
        host=_address(host, port),
        server_name=host,
        port=port,
        folder=folder,
        ledger=ledger or folder / "ledger",
        tenant=tenant,
        prefix=prefix,
        health_s=health_s,
        minutes=minutes,
        faults=chosen(faults),
        seed=seed,
        every_s=every_s,
    )
    times = SystemTimes()
    made = make(crowd.names(load), folder, db, authority, times.wall_ms())
    print(f"{devices} boxes, {made} new certificates in {folder}; the ledger is {load.ledger}", flush=True)
    seen = asyncio.run(_run(load, times))
    _say(seen)
    return 1 if seen.waiting else 0


async def _run(load: Load, times: SystemTimes) -> Seen:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await crowd.run(load, times, stop, _say)


def _say(seen: Seen) -> None:
    print(msgspec.json.encode(seen).decode(), flush=True)
