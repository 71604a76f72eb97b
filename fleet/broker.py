"""mosquitto as a child of the controller: its configuration, its rights, and its restart when it dies.

A certificate's name is its client id and its only right is its own topics; there are no passwords and nobody is anonymous. The child
ends with us whatever ends us (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import resource
import shutil
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from fleet.authority import Authority, Issued, write_private
from fleet.errors import BrokerMissing, PortTaken
from runtime.telemetry import MAX_UP, PREFIX

__all__ = ["CONTROLLER", "Broker", "Place", "configuration", "rights"]

log = logging.getLogger("broker")

CONTROLLER = "~controller"
"""The controller's own name; no box can have it (`is_id`)."""
_STOP_S = 5.0
_FIRST_S, _LONGEST_S = 0.2, 10.0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the broker listens, and the files it reads."""

    host: str
    port: int
    folder: Path
    ca: Path
    revoked: Path


def configuration(place: Place, user: str) -> str:
    """mosquitto.conf(5), for mosquitto 2.0 and later."""
    folder = place.folder
    return "\n".join(
        (
            "per_listener_settings false",
            f"listener {place.port} {place.host}",
            f"cafile {place.ca}",
            f"crlfile {place.revoked}",
            f"certfile {folder / 'broker.pem'}",
            f"keyfile {folder / 'broker.key'}",
            "tls_version tlsv1.2",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
            "allow_anonymous false",
            f"acl_file {folder / 'rights'}",
            f"user {user}",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 60",
            "persistent_client_expiration 2d",
            f"message_size_limit {MAX_UP}",
            f"max_packet_size {MAX_UP + 4096}",
            "max_inflight_messages 500",
            "max_queued_messages 20000",
            "max_queued_bytes 67108864",
            "max_keepalive 300",
            "connection_messages false",
            "log_dest stderr",
            "log_timestamp false",
            "log_type error",
            "log_type warning",
            "",
        )
    )


def rights(tenant: str, controllers: Iterable[str] = (CONTROLLER,)) -> str:
    """The acl_file: a box writes its own `up`, reads its own `down`, nothing else; the controllers the other way round."""
    root = f"{PREFIX}/{tenant}"
    ours = (f"user {name}\ntopic read {root}/+/up/+\ntopic write {root}/+/down/+\n" for name in controllers)
    return "".join(ours) + (f"pattern write {root}/%u/up/+\npattern read {root}/%u/down/+\n")


class Broker:
    """One mosquitto. `start` before use; `restarts` counts how often it died on its own; `on_restart` is called in the loop; `more` are
    further lines of the acl_file.
    """

    def __init__(
        self, authority: Authority, place: Place, tenant: str, on_restart: Callable[[], None] = lambda: None, *, more: str = ""
    ) -> None:
        self.restarts = 0
        self._more = more
        self._authority, self._place, self._tenant, self._on_restart = authority, place, tenant, on_restart
        self._process: asyncio.subprocess.Process | None = None
        self._said: deque[str] = deque(maxlen=5)
        self._keeper: asyncio.Task[None] | None = None
        self._up_at = 0.0

    @property
    def pid(self) -> int:
        """The running process; 0 while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self, certificate: Issued) -> None:
        """Write the files and start. Raises BrokerMissing or PortTaken."""
        place = self._place
        if shutil.which("mosquitto") is None:
            raise BrokerMissing("mosquitto is not installed: apt install mosquitto (its own service may be disabled)")
        _probe(place.host, place.port)
        place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.certify(certificate)
        self._write_rights()
        write_private(place.folder / "mosquitto.conf", configuration(place, pwd.getpwuid(os.getuid()).pw_name).encode())
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End it in order: it saves what it holds for boxes that are away."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_S)
            except asyncio.TimeoutError:
                process.kill()
        await self._drain(process)

    def allow(self, more: str) -> None:
        """Further lines of the acl_file from now on."""
        if more != self._more:
            self._more = more
            self._write_rights()
            self.reload()

    def certify(self, issued: Issued) -> None:
        """Show this certificate from the next connection on."""
        write_private(self._place.folder / "broker.pem", issued.certificate)
        write_private(self._place.folder / "broker.key", issued.key)
        self.reload()

    def reload(self) -> None:
        """Have it read rights and revoked certificates again; live sessions stay."""
        if self.pid:
            os.kill(self.pid, signal.SIGHUP)

    def check(self) -> None:
        """Raise BrokerMissing if it does not stay up, with what it said last."""
        if self.restarts >= 3 and not self.pid:
            raise BrokerMissing(f"mosquitto does not stay up: {self._said[-1] if self._said else 'it says nothing'}")

    def _write_rights(self) -> None:
        write_private(self._place.folder / "rights", (rights(self._tenant) + self._more).encode())

    async def _spawn(self) -> None:
        _open_files()
        self._process = await asyncio.create_subprocess_exec(
            *(*_tether(), "mosquitto", "-c", str(self._place.folder / "mosquitto.conf")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self._up_at = asyncio.get_running_loop().time()

    async def _drain(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self._said.append(line.decode(errors="replace").strip())
            log.debug("mosquitto: %s", self._said[-1])
        await process.wait()

    async def _keep(self) -> None:
        delay = _FIRST_S
        while True:
            assert self._process is not None
            await self._drain(self._process)
            self.restarts += 1
            if asyncio.get_running_loop().time() - self._up_at > 60:
                delay = _FIRST_S
            log.warning(
                "mosquitto ended (status %s) and is started again: %s", self._process.returncode, "; ".join(self._said) or "no word"
            )
            await asyncio.sleep(delay)
            delay = min(_LONGEST_S, delay * 2)
            await self._spawn()
            self._on_restart()


def _open_files() -> None:
    """As many connections as the system allows us: the child inherits the limit, of which programs use 1024 unless they ask for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _tether() -> tuple[str, ...]:
    """util-linux' setpriv has the kernel end the child when its parent dies."""
    return ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()


def _probe(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(f"port {port} for the boxes cannot be used: {error.strerror}; choose another with --broker-port") from error
