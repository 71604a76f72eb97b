"""The controller: broker, connection, store and web server as one program that starts and ends in order.

What boxes send goes through reception.py, what is sent to them through post.py and steward.py.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from fleet import accounts, flood, history, inventory, journal
from fleet.access import Access
from fleet.alerts import Alerts
from fleet.authority import Authority
from fleet.broker import Broker, Place
from fleet.database import open_database
from fleet.echo import Echo
from fleet.errors import DataInUse, FleetError, Unavailable
from fleet.intake import Committed, Intake
from fleet.lease import LEASE_MS, Lease
from fleet.link import Link
from fleet.live import Hub
from fleet.oidc import Provider
from fleet.outside import Elsewhere
from fleet.post import Post
from fleet.projections.together import Projections, rights
from fleet.readers import readers
from fleet.reception import Reception
from fleet.refusals import Refusals
from fleet.registrar import Registrar
from fleet.revocation import Revocation
from fleet.server import Server
from fleet.settings import Settings, hold
from fleet.steward import Steward
from fleet.tasks import end
from fleet.tickets import Tickets
from fleet.upkeep import OWN_DAYS, Upkeep
from runtime import telemetry as t
from runtime.telemetry.times import Times

__all__ = ["Controller", "Settings"]

log = logging.getLogger("fleet")

_HOUR_S = 3600.0
_SETTINGS_S = 3600
_OUTSIDE_S = 10.0
_FAREWELL_S = 2.0
_SWEEP_MS = 10_000
"""So often who leads looks for commands of which the word was lost on its way from another controller."""
_DEAF_MS = 15_000
"""Who leads and has been without the broker for so long lets another lead that has it."""
_ONE_BROKER = "another controller works on %s: several need one broker that they share, given to each with --broker"


class Controller:
    """`start`, then `stop`. All methods belong to the asyncio loop."""

    def __init__(self, settings: Settings, times: Times) -> None:
        self.settings, self.times, self.hub = settings, times, Hub()
        self.counts: Counter[str] = Counter()
        self.throttle, self.refusals, self.hashing = accounts.Throttle(), Refusals(), asyncio.Semaphore(2)
        self.cookie = f"visavis-fleet-{settings.port}"  # cookies do not know ports
        self.names = tuple(dict.fromkeys(("localhost", "127.0.0.1", socket.gethostname(), *settings.names)))
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = hold(settings.data / "lock")
        self.authority = Authority(settings.data / "authority", times.wall_ms(), crl_url=settings.crl_url)
        self.upkeep = Upkeep(self.authority)
        self.access = Access(settings, self.authority, self.upkeep, times.wall_ms)
        self.db = open_database(settings.store)
        try:
            inventory.belongs(self.db, self.authority)
        except FleetError:
            self.db.close()
            self._lock.close()
            raise
        self.provider = Provider(settings.config.oidc, Tickets(self.db)) if settings.config.oidc else None
        self.holder = f"{socket.gethostname()}-{secrets.token_hex(8)}"
        self.lease = Lease(self.db, "main", self.holder)
        place = Place(
            host=settings.broker_host,
            port=settings.broker_port,
            folder=settings.data / "broker",
            ca=self.authority.certificate,
            revoked=self.authority.revoked,
        )
        more = rights(settings.config, settings.tenant, readers(self.db))
        self.broker: Broker | Elsewhere = (
            Elsewhere(settings.data / "broker", settings.tenant, settings.outside.name, more=more)
            if settings.outside is not None
            else Broker(self.authority, place, settings.tenant, more=more)
        )
        self.echo = Echo(self.db, self.hub, self.holder, self._mail_elsewhere)
        self.post = Post(self.db, times.wall_ms, send=self._send_order, mine=self.leads, pass_on=self.echo.has_mail)
        self.reception = Reception(
            Intake(self.db, self.lease),
            times,
            settings.tenant,
            self.counts,
            release=self._let_go,
            send=lambda device, ack: self._send(device, t.DownKind.ACK, ack, expiry_s=300),
            done=self._committed,
        )
        self.link = Link(self.access.login, self._patterns(), came=self.reception.came, up=self._up, published=self.post.published)
        self.registrar = Registrar(
            self.db,
            self.authority,
            self.upkeep,
            settings.data / "authority",
            times.wall_ms,
            send=lambda device, kind, body, expiry_s: self._send(device, kind, body, expiry_s=expiry_s),
            strange=self.reception.strange,
            tell=self.hub.tell,
        )
        self.server = Server(self)
        self.projections = Projections(
            settings.config,
            self.db,
            self.hub,
            own=self.access.own,
            now_ms=times.wall_ms,
            mine=self.leads,
            tenant=settings.tenant,
            console=self.server.url,
        )
        self.alerts = Alerts(
            self.db,
            settings.data,
            times.wall_ms,
            fleet="Visavis" if settings.tenant == "default" else settings.tenant,
            console=self.server.reached,
            listening=lambda: self._listening_since if self.link.connected.is_set() else 0,
            mine=self.leads,
            tell=self.hub.tell,
        )
        self.steward = Steward(
            self.db,
            times.wall_ms,
            mine=self.leads,
            send_commands=self._mail,
            send_shadow=self._send_shadow,
            tell=self.hub.tell,
        )
        self._heard_ms, self._swept_ms = times.mono_ms(), 0
        self._led, self._leading, self._projecting = False, list[asyncio.Task[None]](), list[asyncio.Task[None]]()
        self._revocation = Revocation(
            self.db,
            self.authority,
            settings.data,
            login=self.access.login,
            reload=self.broker.reload,
            copy=settings.outside.crl if settings.outside else None,
        )
        self._nudged = asyncio.Event()
        self._listening_since = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.ended = asyncio.Event()  # a part of it failed: stop, and begin anew

    # --- life

    async def start(self) -> None:
        """Until the broker runs and the controller listens. Raises FleetError."""
        now = self.times.wall_ms()
        await asyncio.to_thread(self._revocation.write, now)
        self.access.certify()
        await self._begin_to_lead()
        if isinstance(self.broker, Broker):
            await self.broker.start(self.upkeep.keep("broker", self.broker.certify, now, self.names))
        else:
            await self.broker.start(self.authority.issue("broker", OWN_DAYS, now, names=self.names))
        await self.registrar.start(self.settings.broker_host, self.settings.renewal, self.names)
        for work in (
            self.link.run(),
            self.reception.ingest(),
            self.reception.acknowledge(self.settings.ack_s),
            self._watch(),
            self._prune(),
            self.post.run(),
            self.alerts.run(self.settings.alert_s),
            self.steward.run(self.settings.watch_s),
        ):
            self._tasks.append(asyncio.create_task(self._guard(work)))
        self._projecting += [asyncio.create_task(self._guard(work)) for work in self.projections.runs()]
        if self.db.shared:
            self._leading.append(asyncio.create_task(self._guard(self._lead())))
            self._tasks.append(asyncio.create_task(self._guard(self.echo.run())))
        patience = _OUTSIDE_S if self.settings.outside is not None else float("inf")  # a console without boxes is better than none
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while not self.link.connected.is_set() and loop.time() - begun < patience:
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
        for task in self._projecting:
            task.cancel()
        await end(self._leading)
        if self._projecting:  # what they say last, hosts hear before what the next controller says first
            await asyncio.wait(self._projecting, timeout=_FAREWELL_S)
        with suppress(Unavailable):  # before the rest, so that the next one need not wait for it
            await asyncio.to_thread(self.lease.release)
        await self.server.close()
        await self.registrar.close()
        await end(self._tasks + self._projecting)
        await self.broker.stop()
        self.db.close()
        self._lock.close()

    def leads(self) -> bool:
        """Whether this controller does what one of them has to do."""
        return self.lease.held(self.times.mono_ms())

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

    async def _begin_to_lead(self) -> None:
        """With a broker of our own nobody else can; otherwise it does not matter who leads."""
        for _ in range(1 + (2 * LEASE_MS // 1000 if self.settings.outside is None else 0)):
            if await asyncio.to_thread(self.lease.leads, self.times.mono_ms()):
                self._led = True
                self._hear_statuses(True)
                break
            if self.settings.outside is not None:
                break
            await asyncio.sleep(1.0)
        else:
            raise DataInUse(_ONE_BROKER % self.db.place)

    def _patterns(self) -> list[str]:
        """What to hear. Who shares a broker shares its messages, each of which comes to one; statuses, which are retained, to who leads."""
        everything = t.pattern("up", self.settings.tenant)
        if self.settings.outside is None or not self.db.shared:
            return [everything]
        kinds = [kind.value for kind in t.UpKind if kind not in (t.UpKind.STATUS, t.UpKind.LOG)]
        return [f"$share/visavis/{everything.removesuffix('+')}{kind}" for kind in kinds]

    def _hear_statuses(self, wanted: bool) -> None:
        if self.settings.outside is not None and self.db.shared:
            statuses = t.pattern("up", self.settings.tenant).removesuffix("+") + t.UpKind.STATUS.value
            (self.link.follow if wanted else self.link.leave)(statuses)

    def _mail_elsewhere(self, device: str) -> None:
        """Another controller has a command for this box."""
        if self.leads():
            self.post.due(device)

    def _let_go(self, token: tuple[int, int, int]) -> None:
        self.link.acknowledge(token)

    async def _committed(self, done: Committed) -> None:
        self.projections.late(done.late)
        await self.registrar.answer(done.renewals)
        self.hub.tell(done.devices)
        self.steward.came(online=done.online, born=done.born)
        for device in done.online:
            self.post.due(device)

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
        self.post.due(device)
        self.hub.tell({device})
        return made

    def _send_order(self, order: journal.Order, now_ms: int) -> int:
        body = t.Command(id=order.id, name=order.name, issued=order.issued, expires=order.expires, by=order.author, args=order.args)
        expiry = max(1, (order.expires - now_ms) // 1000)
        kind = t.DownKind.JOB if order.id.startswith("j") else t.DownKind.COMMAND  # as `jobs.command_id` names them
        return self._send(order.device, kind, body, expiry_s=expiry, correlation=order.id.encode())

    async def _mail(self, device: str) -> None:
        self.post.due(device)

    def _up(self) -> None:
        self._listening_since = self.times.wall_ms()
        self.post.up()
        self.steward.up()

    # --- time

    async def _watch(self) -> None:
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), self.settings.watch_s)
            self._nudged.clear()
            try:
                await self._look()
            except Unavailable as error:
                self.reception.strange("", "store")
                log.warning("%s; tried again", error)

    async def _look(self) -> None:
        now, changed = self.times.wall_ms(), set()
        await self.registrar.look()
        if self.leads():
            changed |= set(await asyncio.to_thread(journal.expire, self.db, now))
            await self._sweep(now)
        if self.link.connected.is_set():
            if self.leads():
                changed |= set(await asyncio.to_thread(inventory.silent, self.db, now, self._listening_since))
            let_in = await asyncio.to_thread(readers, self.db)
            self.broker.allow(rights(self.settings.config, self.settings.tenant, let_in))
            changed |= await self._revocation.look(now, self.leads())
        self.hub.tell(changed | await self._hold_back(now))

    async def _sweep(self, now: int) -> None:
        if not 0 <= now - self._swept_ms < _SWEEP_MS:
            self._swept_ms = now
            for device in await asyncio.to_thread(journal.waiting, self.db, now):
                self.post.due(device)

    async def _hold_back(self, now: int) -> set[str]:
        """Say who floods, and end the connections of those who do so beyond all measure. Returns their boxes."""
        told, gross = self.reception.flood.look(self.times.mono_ms())
        for device, count in told.items():
            log.warning("%s sends too much: %d messages were held back (told once an hour)", device or "somebody", count)
        if told:
            await asyncio.to_thread(flood.tell, self.db, told, now)
        for device in gross:
            log.warning("the connection of %s is ended: it floods", device)
            await self._revocation.put_out(device, now)
        return set(told) | set(gross)

    async def _lead(self) -> None:
        """Of several controllers one looks after the clock, presence and commands."""
        while True:
            now = self.times.mono_ms()
            if self.link.connected.is_set() or self.settings.outside is None:  # a broker of our own nobody else has
                self._heard_ms = now
            try:
                another = not await asyncio.to_thread(self.lease.leads, now, hears=now - self._heard_ms < _DEAF_MS)
            except Unavailable as error:
                another = False
                log.warning("%s; tried again", error)
            if another and self.settings.outside is None:
                log.error(_ONE_BROKER, self.db.place)
                self.ended.set()
                return
            if self.leads() != self._led:
                self._led = self.leads()
                log.info("this controller %s", "leads" if self._led else "does not lead any more")
                self._hear_statuses(self._led)
                if self._led:
                    self._listening_since = self.times.wall_ms()
                    self.post.lead(self.lease.after_crash)
            await asyncio.sleep(self.settings.lease_s)

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(_HOUR_S)
            if not self.leads():
                continue
            with suppress(FleetError):
                await asyncio.to_thread(history.prune, self.db, self.times.wall_ms())
