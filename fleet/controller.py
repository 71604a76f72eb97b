"""The controller: broker, connection, store and web server as one program that starts and ends in order.

Messages pass through here: judged in the loop, committed in a thread, and only then acknowledged, to the broker and to the box.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fleet import accounts, history, inventory, journal
from fleet.alerts import Alerts
from fleet.authority import Authority, write_private
from fleet.broker import CONTROLLER, Broker, Place
from fleet.config import Config
from fleet.database import open_database
from fleet.errors import DataInUse, FleetError, Unavailable
from fleet.intake import Accepted, Intake, Rejected, judge
from fleet.link import Came, Link, Login, evict
from fleet.live import Hub
from fleet.projections.outlet import Target
from fleet.projections.together import Projections, rights
from fleet.readers import readers
from fleet.server import Server
from fleet.steward import Steward
from runtime import telemetry as t
from runtime.telemetry.times import Times

__all__ = ["Controller", "Settings"]

log = logging.getLogger("fleet")

_BATCH = 1000
_NO_SUBSCRIBERS = 0x10
_OWN_DAYS = 5 * 365
_HOUR_S = 3600.0
_SETTINGS_S = 3600


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to run. `names` are host names and addresses under which boxes reach the broker; an empty `broker_host` is all interfaces."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8480
    broker_host: str = ""
    broker_port: int = 8883
    tenant: str = "default"
    names: tuple[str, ...] = ()
    config: Config = Config()
    ack_s: float = 1.0
    watch_s: float = 2.0
    alert_s: float = 5.0

    @property
    def broker(self) -> str:
        """HOST:PORT for the boxes."""
        return f"{self.names[0] if self.names else socket.gethostname()}:{self.broker_port}"


class Controller:
    """`start`, then `stop`. All methods belong to the asyncio loop."""

    def __init__(self, settings: Settings, times: Times) -> None:
        self.settings, self.times, self.hub = settings, times, Hub()
        self.counts: Counter[str] = Counter()
        self.throttle, self.hashing = accounts.Throttle(), asyncio.Semaphore(2)
        self.cookie = f"visavis-fleet-{settings.port}"  # cookies do not know ports
        self.names = tuple(dict.fromkeys(("localhost", "127.0.0.1", socket.gethostname(), *settings.names)))
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(settings.data / "lock")
        self.authority = Authority(settings.data / "authority", times.wall_ms())
        self.db = open_database(settings.data / "fleet.db")
        place = Place(
            host=settings.broker_host,
            port=settings.broker_port,
            folder=settings.data / "broker",
            ca=self.authority.certificate,
            revoked=self.authority.revoked,
        )
        self.broker = Broker(self.authority, place, settings.tenant, more=rights(settings.config, settings.tenant, readers(self.db)))
        self.link = Link(self._login(), t.pattern("up", settings.tenant), came=self._came, up=self._up, published=self._published)
        self.server = Server(self)
        self.projections = Projections(
            settings.config, self.db, self.hub, own=self._own, now_ms=times.wall_ms, tenant=settings.tenant, console=self.server.url
        )
        self.alerts = Alerts(
            self.db,
            settings.data,
            times.wall_ms,
            fleet="Visavis" if settings.tenant == "default" else settings.tenant,
            console=self.server.reached,
            listening=lambda: self._listening_since if self.link.connected.is_set() else 0,
            mine=lambda: True,
            tell=self.hub.tell,
        )
        self.steward = Steward(
            self.db,
            times.wall_ms,
            mine=lambda: True,
            send_commands=self._send_due,
            send_shadow=self._send_shadow,
            tell=self.hub.tell,
        )
        self._intake = Intake(self.db)
        self._waiting: deque[tuple[Accepted, tuple[int, int, int]]] = deque()
        self._arrived, self._nudged = asyncio.Event(), asyncio.Event()
        self._acks: dict[str, dict[str, list[int]]] = {}
        self._publishing: dict[int, str] = {}
        self._told: set[tuple[str, str]] = set()
        self._listening_since = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.ended = asyncio.Event()  # a part of it failed: stop, and begin anew

    # --- life

    async def start(self) -> None:
        """Until the broker runs and the controller listens. Raises FleetError."""
        now = self.times.wall_ms()
        self.authority.write_revoked(inventory.revoked_serials(self.db), now)
        own = self.authority.issue(CONTROLLER, _OWN_DAYS, now)
        login = self._login()
        write_private(login.certificate, own.certificate)
        write_private(login.key, own.key)
        await self.broker.start(self.authority.issue("broker", _OWN_DAYS, now, names=self.names))
        for work in (
            self.link.run(),
            self._ingest(),
            self._acknowledge(),
            self._watch(),
            self._prune(),
            self.alerts.run(self.settings.alert_s),
            self.steward.run(self.settings.watch_s),
        ):
            self._tasks.append(asyncio.create_task(self._guard(work)))
        self._tasks += [asyncio.create_task(self._guard(work)) for work in self.projections.runs()]
        while not self.link.connected.is_set():
            self.broker.check()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.link.connected.wait(), 0.2)
        await self.server.start()

    @property
    def welcome(self) -> str:
        """Where the console is; before there is an admin, with the code that makes one."""
        first = accounts.needs_first(self.db)
        return f"{self.server.url}/#setup={accounts.setup_code(self.settings.data)}" if first else self.server.url

    async def stop(self) -> None:
        """End everything; what was received but not committed will come again."""
        await self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.broker.stop()
        self.db.close()
        self._lock.close()

    def nudge(self) -> None:
        """Look now, not in a moment: something was revoked or asked for."""
        self._nudged.set()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("a part of the controller ended")
            self.ended.set()
            raise

    def _own(self, name: str) -> Target:
        """The fleet's own broker, as one of ours uses it."""
        folder = self.settings.data / "authority"
        issued = self.authority.issue(name, _OWN_DAYS, self.times.wall_ms())
        certificate, key = folder / f"{name[1:]}.pem", folder / f"{name[1:]}.key"
        write_private(certificate, issued.certificate)
        write_private(key, issued.key)
        ca = folder / "ca.pem"
        return Target(host="localhost", port=self.settings.broker_port, tls=True, ca=ca, certificate=certificate, key=key)

    def _login(self) -> Login:
        folder = self.settings.data / "authority"
        return Login(
            host="localhost",
            port=self.settings.broker_port,
            name=CONTROLLER,
            ca=folder / "ca.pem",
            certificate=folder / "controller.pem",
            key=folder / "controller.key",
        )

    # --- from the boxes

    def _came(self, came: Came) -> None:
        self.counts["received"] += 1
        found = judge(came.topic, came.payload, came.retained, self.settings.tenant, self.times.wall_ms())
        if isinstance(found, Rejected):
            self._strange(found.device, found.cause)
            self.link.acknowledge(came.token)
            return
        self._waiting.append((found, came.token))
        self._arrived.set()

    async def _ingest(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                await self._commit(batch)

    async def _commit(self, batch: list[tuple[Accepted, tuple[int, int, int]]]) -> None:
        now = self.times.wall_ms()
        while True:
            try:
                done = await asyncio.to_thread(self._intake.commit, [message for message, _ in batch], now)
                break
            except Unavailable as error:
                self._strange("", "store")
                log.warning("%s; tried again", error)
                await asyncio.sleep(1.0)
            except (ValueError, OverflowError, TypeError) as error:
                if len(batch) == 1:  # a message that no check foresaw: it shall not stop those behind it
                    log.error("a message of %s cannot be kept: %s", batch[0][0].device, error)  # noqa: TRY400 - one line
                    self._strange(batch[0][0].device, "poison")
                    self._release(batch)
                    return
                for one in batch:
                    await self._commit([one])
                return
        self.counts["committed"] += len(batch) - done.duplicates
        self.counts["duplicates"] += done.duplicates
        for device, cause in done.strange:
            self._strange(device, cause)
        self._release(batch)
        self.projections.late(done.late)
        self.hub.tell(done.devices)
        self.steward.came(online=done.online, born=done.born)
        for device in done.online:
            await self._send_due(device)

    def _release(self, batch: list[tuple[Accepted, tuple[int, int, int]]]) -> None:
        for message, token in batch:
            self.link.acknowledge(token)
            if message.envelope.seq:
                self._acks.setdefault(message.device, {}).setdefault(message.envelope.boot, []).append(message.envelope.seq)

    def _strange(self, device: str, cause: str) -> None:
        self.counts[f"strange_{cause}"] += 1
        if (device, cause) not in self._told and len(self._told) < 10_000:
            self._told.add((device, cause))
            log.warning("%s sends what cannot be used: %s (told once; counted)", device or "somebody", cause.replace("_", " "))

    async def _acknowledge(self) -> None:
        """Batched: one message a box and second, whatever it sent."""
        while True:
            await asyncio.sleep(self.settings.ack_s)
            acks, self._acks = self._acks, {}
            for device, boots in acks.items():
                groups = [t.Acked(boot=boot, ranges=part) for boot, seqs in boots.items() for part in _ranges(seqs)]
                for begin in range(0, len(groups), 16):
                    self._send(device, t.DownKind.ACK, t.Ack(acked=tuple(groups[begin : begin + 16])), expiry_s=300)

    # --- to the boxes

    def _send(self, device: str, kind: t.DownKind, body: msgspec.Struct, *, expiry_s: int, correlation: bytes = b"") -> int:
        tenant = self.settings.tenant
        payload = t.encode(t.Down(ts=self.times.wall_ms(), kind=kind, body=msgspec.Raw(t.encode(body))))
        response = t.topic(tenant, device, t.UpKind.JOB) if correlation else ""
        return self.link.publish(t.topic(tenant, device, kind), payload, expiry_s=expiry_s, correlation=correlation, response=response)

    def _send_shadow(self, device: str, shadow: t.Shadow) -> bool:
        return bool(self._send(device, t.DownKind.SHADOW, shadow, expiry_s=_SETTINGS_S))

    async def order(self, device: str, name: str, args: dict[str, Any], author: str, expires_s: int) -> journal.Order:
        """Send a command to a box, at once or when it is back. Raises BadRequest."""
        made = await asyncio.to_thread(journal.order, self.db, device, name, args, author, expires_s, self.times.wall_ms())
        await self._send_due(device)
        self.hub.tell({device})
        return made

    async def _send_due(self, device: str) -> None:
        now = self.times.wall_ms()
        for order in await asyncio.to_thread(journal.due, self.db, device, now):
            if order.id in self._publishing.values():
                continue
            body = t.Command(id=order.id, name=order.name, issued=order.issued, expires=order.expires, by=order.author, args=order.args)
            expiry = max(1, (order.expires - now) // 1000)
            kind = t.DownKind.JOB if order.id.startswith("j") else t.DownKind.COMMAND  # as `jobs.command_id` names them
            mid = self._send(order.device, kind, body, expiry_s=expiry, correlation=order.id.encode())
            if mid:
                self._publishing[mid] = order.id

    def _published(self, mid: int, code: int) -> None:
        id_ = self._publishing.pop(mid, "")
        # 0x10: the box has no session; it gets the command when it comes online.
        if id_ and code < 0x80 and code != _NO_SUBSCRIBERS:
            self._spawn(asyncio.to_thread(journal.sent, self.db, id_))

    def _up(self) -> None:
        self._listening_since = self.times.wall_ms()
        self._publishing.clear()
        self.steward.up()
        self._spawn(self._again())

    async def _again(self) -> None:
        await asyncio.to_thread(journal.reopen, self.db)
        await self._send_due("")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guard(work))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    # --- time

    async def _watch(self) -> None:
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), self.settings.watch_s)
            self._nudged.clear()
            try:
                await self._look()
            except Unavailable as error:
                self._strange("", "store")
                log.warning("%s; tried again", error)

    async def _look(self) -> None:
        now = self.times.wall_ms()
        changed = set(await asyncio.to_thread(journal.expire, self.db, now))
        if self.link.connected.is_set():
            changed |= set(await asyncio.to_thread(inventory.silent, self.db, now, self._listening_since))
            let_in = await asyncio.to_thread(readers, self.db)
            self.broker.allow(rights(self.settings.config, self.settings.tenant, let_in))
            names = await asyncio.to_thread(inventory.revocations_to_apply, self.db)
            if names:
                await self._revoke(names, now)
                changed |= set(names)
        self.hub.tell(changed)

    async def _revoke(self, names: list[str], now: int) -> None:
        """First the list, so that nobody comes back; then the live sessions."""
        self.authority.write_revoked(await asyncio.to_thread(inventory.revoked_serials, self.db), now)
        self.broker.reload()
        for name in names:
            try:
                await asyncio.to_thread(self._evict, name, now)
            except OSError as error:
                log.warning("the session of %s could not be ended: %s; tried again", name, error)
            else:
                await asyncio.to_thread(inventory.apply_revocations, self.db, name)

    def _evict(self, name: str, now: int) -> None:
        issued = self.authority.issue(name, 1, now)
        with tempfile.TemporaryDirectory(dir=self.settings.data) as folder:  # 0700
            certificate, key = Path(folder) / "certificate", Path(folder) / "key"
            certificate.write_bytes(issued.certificate)
            key.write_bytes(issued.key)
            evict(msgspec.structs.replace(self._login(), name=name, certificate=certificate, key=key))

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(_HOUR_S)
            with suppress(FleetError):
                await asyncio.to_thread(history.prune, self.db, self.times.wall_ms())


def _ranges(seqs: list[int]) -> list[tuple[tuple[int, int], ...]]:
    """Numbers as ranges, in parts of at most 1000."""
    ranges: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    return [tuple(ranges[begin : begin + 1000]) for begin in range(0, len(ranges), 1000)]


def _lock(path: Path) -> Any:
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise DataInUse(f"another controller works in {path.parent}: end it, or choose another folder with --data") from error
    return file
