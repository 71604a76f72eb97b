"""The box's end of the fleet: tells how the box is, and carries out what the fleet may ask.

Everything goes through the outbox; the network has a thread of its own (`wire`), so that no line, however bad, keeps the uplink node
from its heartbeat. What leaves the box passes the whitelist of `collect`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from runtime import topology
from runtime.bus import FrameRingSpec
from runtime.context import Context
from runtime.messages import Activity, Floor, Held, NodeEvent, PackServes
from runtime.packchoice import fleet_folder
from runtime.packs import Pack
from runtime.telemetry import contract as c
from runtime.telemetry.collect import Collector, House, Reporter, read_house
from runtime.telemetry.commands import Duty
from runtime.telemetry.executors import Executors, by_systemd, diagnostics
from runtime.telemetry.identity import Identity
from runtime.telemetry.inbox import Inbox
from runtime.telemetry.levers import Lever, Levers
from runtime.telemetry.machine import Machine
from runtime.telemetry.nodenews import NodeNews
from runtime.telemetry.outbox import Limits, Outbox, Row
from runtime.telemetry.packchange import PackChange
from runtime.telemetry.page import Page
from runtime.telemetry.picture import Picture
from runtime.telemetry.selfcheck import self_check
from runtime.telemetry.times import Times, kernel_boot, time_zone
from runtime.telemetry.uplink import Connect, Event, Link, Lost, Refused, Sender, Tell, Tick, Up, Welcomed, decide
from runtime.telemetry.versions import versions
from runtime.telemetry.wire import Came, Published, Report, Server, Wire, server_of

__all__ = ["Uplink"]

_TICK_S = 0.5
_HIST_MS = 60_000
_HOUR_MS = 3600_000
_LOOK_MS = 60_000
"""How often it is looked which packs are installed."""


class Uplink:
    """Runs as the uplink node; everything happens in the loop of `run` but the wire's thread."""

    def __init__(self, ctx: Context, times: Times, open_wire: Callable[[Server, Callable[[Report], None]], Wire] = Wire) -> None:
        self._ctx, self._times, self._open_wire = ctx, times, open_wire
        fleet = ctx.config.fleet
        self._fleet = fleet
        folder = fleet_folder(ctx.config)
        self._outbox = Outbox(folder / "outbox.db", times, kernel_boot(), Limits(max_bytes=fleet.outbox_mb << 20))
        self._life = self._outbox.life
        self._collector = Collector([*(row.name for row in topology.NODES), topology.SUPERVISOR])
        self._reporter, self._machine = Reporter(), Machine(folder, ctx.config.firmware.root)
        self._link, self._sender = Link(), Sender(backlog_hz=fleet.backlog_hz)
        self._health_s, self._health_ms = fleet.health_s, 0
        self._born: tuple[float, str, tuple[str, ...]] = (0.0, "", ())
        self._born_ms = 0
        self._connects = 0
        self._told: dict[str, int] = {}
        self._troubled, self._damaged = "", 0
        spec = topology.link("video").ring
        assert isinstance(spec, FrameRingSpec)
        self._page = Page(
            lambda setting: ctx.send("house", setting), ctx.clock.monotonic_ns, volume=ctx.config.voice.volume, languages=ctx.pack.languages
        )
        named = ctx.config.video.rung != "auto"
        self._picture = Picture(
            lambda hold: ctx.send("hold", hold), ctx.clock.monotonic_ns, times, named=named, changed=self._report_settings
        )
        self._pack = PackChange(
            ctx.config,
            ctx.pack.path,
            send=lambda wish: ctx.send("wish", wish),
            now_ns=ctx.clock.monotonic_ns,
            serves=self._on_pack,
            ended=self._report_settings,
            missed=lambda name: self._settings.missed("pack", name),
            event=lambda code, cause: self._event(code, {"cause": cause} if cause else {}),
            by_setting=lambda: self._settings.names("pack"),
        )
        self._nodes = NodeNews(self._event, {"stage": self._page.again, "governor": self._picture.again})
        chosen = {"pack": pack} if (pack := self._pack.commanded()) else {}
        self._settings = Levers(self._levers(), frozenset(Duty(duty) for duty in fleet.allow), chosen)
        self._executors = Executors(
            times=times,
            run_dir=Path(ctx.boot.run_dir),
            supervisor=os.getppid(),
            ring=(spec, ctx.boot.rings[spec.name]),
            step=by_systemd(),
            report=self._diagnostics,
            check=self._self_check,
            stop=ctx.stop,
            set=self._settings.set,
            hold=self._picture.hold,
            switch=lambda name: self._pack.switch(name, lambda wanted: self._settings.set("pack", wanted)),
        )
        self._identity = Identity(
            folder / "identity",
            fleet.device,
            (fleet.certificate, fleet.key),
            fleet.ca,
            fleet.renewal_address,
            times,
            ask=lambda request: self._keep(c.UpKind.RENEW, c.Renew(request=request)),
            leave=self._leave,
            event=self._event,
            notice=lambda text: ctx.notice("fleet-certificate", text),
        )
        self._inbox = Inbox(
            tenant=fleet.tenant,
            device=fleet.device,
            allow=frozenset(Duty(duty) for duty in fleet.allow),
            times=times,
            outbox=self._outbox,
            execute=self._executors.run,
            event=self._event,
            apply=self._settings.apply,
            held=lambda: self._picture.held,
            moving=lambda: self._pack.moving,
            told=self._identity.told,
            renewed=self._identity.take,
        )
        self._wire: Wire | None = None
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Until the context stops."""
        loop = asyncio.get_running_loop()

        def report(what: Report) -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody wants to know
                loop.call_soon_threadsafe(self._on_report, what)

        self._wire = self._open_wire(server_of(self._fleet), report)
        self._ctx.attach(loop, self._handle, self._woken.set)
        await self._identity.load()
        self._begin()
        self._ctx.ready()
        while not self._ctx.stopping:
            self._tick()
            self._ctx.beat()
            self._ctx.pump(self._handle)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _TICK_S)
            self._woken.clear()
        await self._identity.close()
        self._end()

    def _begin(self) -> None:
        self._executors.resume()
        self._pack.begin()
        self._inbox.begin()
        run_dir = str(self._ctx.boot.run_dir)
        if self._outbox.setting("run") != run_dir:
            self._outbox.keep("run", run_dir)
            self._event("kiosk_started")
        self._birth()

    def _birth(self) -> None:
        zone = time_zone()
        body = c.Birth(
            attributes={**({"timezone": zone} if zone else {}), **self._fleet.attributes},
            versions=versions(),
            pack=self._pack.name,
            packs=self._pack.names,
            avatar=self._ctx.config.avatar_path.name,
            commands=self._executors.names,
            health_s=self._health_s,
        )
        self._outbox.put(c.UpKind.BIRTH, c.encode(body))
        self._born = (self._health_s, self._pack.name, self._pack.names)

    def _end(self) -> None:
        if self._wire is not None:
            last = (self._topic(c.UpKind.STATUS), self._status("offline")) if self._link.phase == "up" else None
            self._wire.close(last)
        self._outbox.close()
        self._machine.close()

    # --- what the house says

    def _handle(self, _: str, message: Any) -> None:
        if isinstance(message, Floor):
            self._collector.floor(message)
        elif isinstance(message, Activity):
            self._collector.activity(message)
        elif isinstance(message, NodeEvent):
            self._nodes.take(message)
        elif isinstance(message, Held):
            self._picture.heard(message)
        elif isinstance(message, PackServes):
            self._pack.take(message)

    def _event(self, code: str, names: dict[str, str] | None = None, numbers: dict[str, int] | None = None) -> None:
        self._keep(c.UpKind.EVENT, c.EventBody(code=code, names=names or {}, numbers=numbers or {}))

    def _keep(self, kind: c.UpKind, body: msgspec.Struct) -> None:
        self._outbox.put(kind, c.encode(body))
        self._woken.set()

    def _on_pack(self, pack: Pack) -> None:
        """Another one serves: its languages are what the page can begin with."""
        self._ctx.pack = pack
        self._settings.renew(self._page.speak(pack.languages))
        self._inbox.changed()

    # --- time

    def _tick(self) -> None:
        now = self._times.mono_ms()
        self._decide(Tick())
        if now - self._born_ms >= _LOOK_MS or self._born[:2] != (self._health_s, self._pack.name):
            self._born_ms = now
            if self._born != (self._health_s, self._pack.name, self._pack.names):
                self._birth()
        if now - self._health_ms >= self._health_s * 1000:
            self._health_ms = now
            self._report_health(now)
        self._executors.tick()
        self._identity.tick()
        self._page.tick()
        self._picture.tick()
        self._pack.tick()
        self._outbox.flush()
        self._watch_disk()
        self._send()

    def _report_health(self, now: int) -> None:
        house = self._house()
        values = self._collector.figures(house, {**self._machine.figures(), **self._own_figures()})
        self._outbox.put(c.UpKind.HEALTH, c.encode(self._reporter.report(values, now)))

    def _own_figures(self) -> dict[str, int | float | bool | str]:
        counts = self._outbox.counts()
        return {
            "clock_synced": self._times.synced(),
            "outbox_rows": counts.rows,
            "outbox_size": counts.bytes,
            "outbox_merged": counts.merged,
            "outbox_evicted": counts.evicted,
            "outbox_unstored": counts.unstored,
            "outbox_corrupt": counts.corrupt,
            "connects": self._connects,
            "rung_held": self._picture.left_s,
            **({} if (left := self._identity.left_s) is None else {"certificate_left": left}),
            "refused_messages": sum(self._inbox.refused.values()),
        }

    def _watch_disk(self) -> None:
        counts, trouble = self._outbox.counts(), self._outbox.trouble
        if counts.corrupt > self._damaged:
            self._damaged = counts.corrupt
            self._event("outbox_damaged", numbers={"times": counts.corrupt})
        if bool(trouble) != bool(self._troubled):
            self._troubled = trouble
            if trouble:
                cause = "full" if "full" in trouble else "error"
                self._event("outbox_unwritable", {"cause": cause})
                self._ctx.notice("fleet-disk", "the disk takes no reports for the fleet: make room on the data partition or replace it")
            else:
                self._event("outbox_writable", numbers={"unstored": counts.unstored})
                self._ctx.notice("fleet-disk", "")

    # --- the network

    def _on_report(self, report: Report) -> None:
        now = self._times.mono_ms()
        if isinstance(report, Published):
            if report.id:
                self._sender.puback(report.id, report.code, now)
            self._send()
        elif isinstance(report, Came):
            assert self._wire is not None
            self._inbox.take(report, self._sender)
            self._wire.acknowledge(report.token)
            self._send()
        else:
            if not isinstance(report, Welcomed):
                self._sender.down()
            self._decide(report)

    def _leave(self) -> None:
        if self._wire is not None:
            self._wire.leave()

    def _decide(self, event: Event | Welcomed | Lost | Refused) -> None:
        if isinstance(event, Welcomed):
            self._identity.welcomed()
        elif isinstance(event, Refused | Lost) and self._link.phase == "connecting":
            self._identity.failed(network=isinstance(event, Refused) and event.code == 0)
        elif isinstance(event, Refused | Lost):
            self._identity.lost()
        self._link, actions = decide(self._link, event, self._times.mono_ms(), random.random())
        for action in actions:
            if isinstance(action, Connect):
                assert self._wire is not None
                self._wire.connect(self._status("lost"), self._identity.choose())
            elif isinstance(action, Up):
                self._up(action.window)
            elif isinstance(action, Tell):
                self._ctx.notice("fleet", action.text)
                if action.taken_over:
                    self._hourly("identity_in_use", lambda: self._event("identity_in_use"))

    def _up(self, window: int) -> None:
        assert self._wire is not None
        self._connects += 1
        self._wire.publish(0, self._topic(c.UpKind.STATUS), self._status("online"), retain=True)
        self._sender.up(self._times.mono_ms(), self._outbox.newest, window)
        self._send()

    def _send(self) -> None:
        if self._link.phase != "up" or self._wire is None:
            return
        if self._outbox.life != self._life:  # another store, other row numbers
            self._life = self._outbox.life
            self._sender.up(self._times.mono_ms(), self._outbox.newest, self._sender.window)
        for row in self._sender.plan(self._outbox, self._times.mono_ms()):
            self._wire.publish(row.id, self._topic(c.UpKind(row.kind)), self._envelope(row), correlation=row.corr)

    def _envelope(self, row: Row) -> bytes:
        ts, clk = self._outbox.stamp(row)
        age = self._outbox.age_ms(row)
        return c.encode(
            c.Envelope(
                dev=self._fleet.device,
                boot=row.boot,
                seq=row.seq,
                ts=ts,
                mono=row.mono,
                clk=clk,
                kind=c.UpKind(row.kind),
                hist=age is None or age > _HIST_MS,
                body=msgspec.Raw(row.body),
            )
        )

    def _status(self, state: str) -> bytes:
        clk = c.ClockState.SYNCED if self._times.synced() else c.ClockState.UNSYNCED
        now = self._times.wall_ms()
        body = msgspec.Raw(c.encode(c.Status(state=state, since=now)))
        mono, boot = self._times.mono_ms(), self._outbox.boot
        return c.encode(c.Envelope(dev=self._fleet.device, boot=boot, seq=0, ts=now, mono=mono, clk=clk, kind=c.UpKind.STATUS, body=body))

    def _topic(self, kind: c.UpKind) -> str:
        return c.topic(self._fleet.tenant, self._fleet.device, kind)

    def _report_settings(self) -> None:
        self._inbox.changed()

    def _hourly(self, what: str, do: Callable[[], None]) -> None:
        now = self._times.mono_ms()
        if what not in self._told or now - self._told[what] >= _HOUR_MS:
            self._told[what] = now
            do()

    # --- for commands

    def _house(self) -> House | None:
        return read_house(Path(self._ctx.boot.run_dir) / "health.json", self._ctx.clock.monotonic_ns())

    def _self_check(self) -> dict[str, bool]:
        figures = {**self._machine.figures(), "clock_synced": self._times.synced()}
        return self_check(self._house(), figures, disk_takes=not self._outbox.trouble, now_ns=self._ctx.clock.monotonic_ns())

    def _diagnostics(self) -> dict[str, Any]:
        house = self._house()
        link = {"phase": self._link.phase, "failures": self._link.failures, "connects": self._connects}
        uplink = {"link": link, "outbox": self._outbox.counts(), "refused": dict(self._inbox.refused), "repeated": self._inbox.repeated}
        return diagnostics(house, {"uplink": uplink, "machine": self._machine.figures(), "versions": versions()})

    def _levers(self) -> dict[str, Lever]:
        level = self._ctx.config.log.level

        def set_health(seconds: float) -> None:
            self._health_s = float(seconds)

        def set_backlog(hertz: float) -> None:
            self._sender.backlog_hz = float(hertz)

        return {
            "health_s": Lever(self._fleet.health_s, set_health),
            "backlog_hz": Lever(self._fleet.backlog_hz, set_backlog),
            "log_level": Lever(level, lambda wanted: self._executors.keep_level("" if wanted == level else wanted)),
            **self._page.levers(),
            "rung": self._picture.lever(),
            "pack": self._pack.lever(),
        }
