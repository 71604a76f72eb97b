"""One simulated box: the real rules of connecting and sending, over our own client, with an invented machine below.

Everything happens in one asyncio loop. A box has one timer, for whatever it has to do next; between that it costs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from random import Random

import msgspec

from runtime import telemetry as t
from runtime.telemetry.collect import Reporter
from runtime.telemetry.levers import Lever, Levers
from runtime.telemetry.outbox import Row
from runtime.telemetry.uplink import Connect, Event, Link, Lost, Refused, Sender, Tick, Up, Welcomed, decide
from visavis.simulate import codec
from visavis.simulate.faults import Plan
from visavis.simulate.house import House, Skewed
from visavis.simulate.line import Line
from visavis.simulate.memory import Memory
from visavis.simulate.obedience import COMMANDS, Obedience
from visavis.simulate.plausible import NODES, Machine

__all__ = ["Box"]

_TICK_MS = 500
_CONNECT_MS = 10_000
_KEEPALIVE_S = 30
_SESSION_S = 86_400
_WILL_DELAY_S = 25
_WINDOW = 20
_HIST_MS = 60_000
_LARGEST = t.MAX_DOWN + 1024
_NODE_AWAY_MS = 4000


class Box:
    """`start`, then `stop`. `number` chooses the source address where one has too few ports."""

    def __init__(self, house: House, name: str, plan: Plan, rng: Random, source: str) -> None:
        self.name, self._house, self._plan, self._rng, self._source = name, house, plan, rng, source
        self._times = Skewed(house.times, plan.skew_ms, synced=plan.synced)
        boot = hashlib.sha256(f"{name} {secrets.token_hex(8)}".encode()).hexdigest()[:16]
        self._memory, self._sender, self._link = Memory(boot), Sender(), Link()
        self._machine, self._reporter = Machine(rng, hot=rng.random() < 0.02), Reporter()
        self._health_s, self._born_ms = house.health_s, house.times.mono_ms()
        # Reports are spread over the interval, as boxes that were switched on at different times are.
        self._health_ms = self._born_ms + round(rng.random() * house.health_s * 1000)
        self._event_ms = self._later(house.event_s)
        self._flap_ms = self._later(plan.flap_s) if plan.flap_s else 0
        self._node: tuple[str, int] | None = None  # one that is down, and until when
        self._cut_until_ms = 0
        self._line: Line | None = None
        self._decoder = codec.Decoder(_LARGEST)
        self._mids: dict[int, int] = {}
        self._mid, self._window = 0, _WINDOW
        self._connecting_ms = self._heard_ms = self._spoke_ms = self._connects = 0
        self._timer: asyncio.TimerHandle | None = None
        self._release = "1.0.0"
        levers = {
            "health_s": Lever(house.health_s, self._set_health),
            "backlog_hz": Lever(self._sender.backlog_hz, lambda hz: setattr(self._sender, "backlog_hz", float(hz))),
        }
        self._obedience = Obedience(
            times=self._times, rng=rng, levers=Levers(levers, frozenset(t.Duty)), put=self._put, event=self._event, did=self._did
        )  # fmt: skip

    def start(self) -> None:
        """Come to life: with what was kept while there was no network, if that is the plan."""
        now = self._times.mono_ms()
        for n in range(self._plan.backlog, 0, -1):
            self._report(now - round(n * self._plan.backlog_step_s * 1000))
        self._event("kiosk_started", {}, {})
        self._birth()
        # Not all boxes of a chain are switched on within the uplink's own five seconds.
        self._link = Link(due_ms=now + round(self._rng.random() * self._house.start_s * 1000))
        if self._plan.outage_s[1]:
            begin, end = (now + round(s * 1000) for s in self._plan.outage_s)
            asyncio.get_running_loop().call_later((begin - now) / 1000, self.cut, (end - begin) / 1000)
        self._wake()

    def stop(self) -> None:
        """Say goodbye if there is somebody to say it to, and end."""
        if self._timer is not None:
            self._timer.cancel()
        if self._line is not None and self._link.phase == "up":
            self._status("offline")
            self._line.send(codec.disconnect())
        self._hang_up()
        self._link = Link(phase="ended")

    def cut(self, for_s: float) -> None:
        """The network is gone for so long."""
        self._cut_until_ms = max(self._cut_until_ms, self._times.mono_ms() + round(for_s * 1000))
        self._drop("the network is gone")

    # --- time

    def _wake(self) -> None:
        """Do what is due, and set the timer for what comes next."""
        now = self._times.mono_ms()
        self._decide(Tick())
        if self._house.living:
            self._live(now)
        if self._link.phase == "connecting" and now - self._connecting_ms >= _CONNECT_MS:
            self._hang_up()
            self._decide(Refused(0, "no answer"))
        elif self._link.phase == "up":
            self._keep_alive(now)
            if self._line is not None:
                self._send()
        if self._timer is not None:
            self._timer.cancel()
        if self._link.phase != "ended":
            self._timer = asyncio.get_running_loop().call_later(max(1, self._next_ms(now) - now) / 1000, self._wake)

    def _next_ms(self, now: int) -> int:
        due = [now + _KEEPALIVE_S * 500]
        if self._house.living:
            due += [
                self._health_ms,
                self._event_ms,
                *((self._flap_ms,) if self._flap_ms else ()),
                *((self._node[1],) if self._node else ()),
            ]
        if self._link.phase == "down":
            due.append(self._link.due_ms)
        elif self._link.phase == "connecting":
            due.append(self._connecting_ms + _CONNECT_MS)
        elif len(self._memory) > len(self._sender.sent):
            due.append(now + _TICK_MS)
        elif self._sender.sent:
            due.append(max(now + _TICK_MS, min(entry.due_ms for entry in self._sender.sent.values())))
        return min(due)

    def _live(self, now: int) -> None:
        if now >= self._health_ms:
            # The beat is kept, whatever a busy loop made of it; beats that were slept through are not made up for.
            step = round(self._health_s * 1000)
            self._health_ms += step * (1 + (now - self._health_ms) // step)
            self._report(now)
        if now >= self._event_ms:
            self._event_ms = self._later(self._house.event_s)
            self._node_falls(now)
        if self._node is not None and now >= self._node[1]:
            node, self._node = self._node[0], None
            self._event("node_ready", {"node": node}, {"restarts": self._machine.node_restarted(node)})
        if self._flap_ms and now >= self._flap_ms:
            self._flap_ms = self._later(self._plan.flap_s)
            self._drop("flapped")

    def _node_falls(self, now: int) -> None:
        if self._node is None:
            node = self._rng.choice(NODES)
            self._node = node, now + _NODE_AWAY_MS
            self._event("node_down", {"node": node, "cause": "signal"}, {"restarts": 0})

    def _later(self, mean_s: float) -> int:
        return self._house.times.mono_ms() + round(self._rng.expovariate(1 / mean_s) * 1000)

    # --- keeping

    def _put(self, kind: t.UpKind, body: msgspec.Struct, corr: bytes = b"") -> None:
        self._keep(kind, body, self._times.mono_ms(), corr)

    def _keep(self, kind: t.UpKind, body: msgspec.Struct, mono: int, corr: bytes = b"") -> None:
        clk = t.ClockState.SYNCED if self._times.synced() else t.ClockState.UNSYNCED
        ts = max(0, self._times.wall_ms() - (self._times.mono_ms() - mono))
        row = self._memory.put(kind.value, t.encode(body), mono=mono, ts=ts, clk=clk.value, corr=corr)
        self._house.ledger.kept(self.name, row.boot, row.seq, row.kind, len(body.m) if isinstance(body, t.Health) else 0)
        self._house.waiting += 1
        self._house.counts["kept"] += 1
        if self._link.phase == "up":
            self._send()

    def _event(self, code: str, names: dict[str, str], numbers: dict[str, int]) -> None:
        self._put(t.UpKind.EVENT, t.EventBody(code=code, names=names, numbers=numbers))

    def _report(self, now: int) -> None:
        age_s = (now - self._born_ms) / 1000
        values = self._machine.values(age_s, max(0.0, now / 1000))
        values |= {"clock_synced": self._times.synced(), "outbox_rows": len(self._memory), "connects": self._connects}
        self._keep(t.UpKind.HEALTH, self._reporter.report(values, now), now)

    def _birth(self) -> None:
        site = f"Store {int(hashlib.sha256(self.name.encode()).hexdigest(), 16) % 400 + 1}"
        body = t.Birth(
            attributes={"site": site, "model": "simulated"},
            versions={"visavis": self._release},
            commands=COMMANDS,
            health_s=self._health_s,
        )
        self._put(t.UpKind.BIRTH, body)

    def _set_health(self, seconds: float) -> None:
        self._health_s = float(seconds)
        self._birth()  # the fleet judges by it when a box is silent

    def _did(self, command: t.Command) -> None:
        self._house.ledger.done(self.name, command.id)
        self._house.counts["commands"] += 1
        if command.name == "update":
            self._release = t.arguments(command).release
            self._birth()
        elif command.name in ("restart_box", "restart_service"):
            self._drop("restarted")
            self._event("kiosk_started", {}, {})
            self._birth()

    # --- sending

    def _send(self) -> None:
        for row in self._sender.plan(self._memory, self._times.mono_ms()):
            if self._line is None:  # it broke under the row before; the next connection begins with what is not acknowledged
                return
            if self._memory.first_time(row.id):
                self._house.ledger.sent(self.name, row.boot, row.seq, self._house.times.wall_ms())
                self._house.counts["sent"] += 1
            self._publish(t.UpKind(row.kind), self._envelope(row), id=row.id, corr=row.corr)

    def _publish(self, kind: t.UpKind, payload: bytes, *, id: int = 0, retain: bool = False, corr: bytes = b"") -> None:  # noqa: A002
        assert self._line is not None
        self._mid = self._mid % 65_535 + 1
        while self._mid in self._mids:
            self._mid = self._mid % 65_535 + 1
        self._mids[self._mid] = id
        topic = t.topic(self._house.tenant, self.name, kind)
        self._line.send(codec.publish(topic, payload, self._mid, retain=retain, correlation=corr))
        self._spoke_ms = self._times.mono_ms()

    def _envelope(self, row: Row) -> bytes:
        hist = self._times.mono_ms() - row.mono > _HIST_MS
        return t.encode(
            t.Envelope(
                dev=self.name, boot=row.boot, seq=row.seq, ts=row.ts, mono=max(0, row.mono), clk=t.ClockState(row.clk),
                kind=t.UpKind(row.kind), hist=hist, body=msgspec.Raw(row.body),
            )
        )  # fmt: skip

    def _said(self, state: str) -> bytes:
        now = self._times.wall_ms()
        clk = t.ClockState.SYNCED if self._times.synced() else t.ClockState.UNSYNCED
        body = msgspec.Raw(t.encode(t.Status(state=state, since=now)))
        mono = self._times.mono_ms()
        return t.encode(
            t.Envelope(dev=self.name, boot=self._memory.boot, seq=0, ts=now, mono=mono, clk=clk, kind=t.UpKind.STATUS, body=body)
        )

    def _status(self, state: str) -> None:
        self._publish(t.UpKind.STATUS, self._said(state), retain=True)

    # --- the connection

    def _decide(self, event: Event) -> None:
        was_up = self._link.phase == "up"
        self._link, actions = decide(self._link, event, self._times.mono_ms(), self._rng.random())
        self._house.connected += (self._link.phase == "up") - was_up
        for action in actions:
            if isinstance(action, Connect):
                self._connect()
            elif isinstance(action, Up):
                self._connects += 1
                self._house.counts["connects"] += 1
                self._status("online")
                if self._line is None:  # it broke under its first word
                    return
                self._sender.up(self._times.mono_ms(), self._memory.newest, action.window)
                self._send()

    def _connect(self) -> None:
        self._connecting_ms = now = self._times.mono_ms()
        if now < self._cut_until_ms:
            self._decide(Refused(0, "the network is gone"))
            return
        self._decoder, self._mids = codec.Decoder(_LARGEST), {}
        house = self._house
        self._line = Line(
            house.address,
            house.server_name,
            house.identities.context(self.name),
            source=self._source,
            opened=self._hello,
            came=self._came,
            ended=self._drop,
        )
        self._line.open()

    def _hello(self) -> None:
        assert self._line is not None
        will = codec.Will(t.topic(self._house.tenant, self.name, t.UpKind.STATUS), self._said("lost"), _WILL_DELAY_S)
        hello = codec.connect(self.name, keepalive_s=_KEEPALIVE_S, session_s=_SESSION_S, window=_WINDOW, largest=_LARGEST, will=will)
        self._line.send(hello)

    def _keep_alive(self, now: int) -> None:
        assert self._line is not None
        if now - self._heard_ms > _KEEPALIVE_S * 1500:
            self._drop("the broker is silent")
        elif now - min(self._spoke_ms, self._heard_ms) >= _KEEPALIVE_S * 500:
            self._line.send(codec.PINGREQ)
            self._spoke_ms = now

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _drop(self, why: str, code: int = 0) -> None:
        """The connection has ended, or ends here without a word."""
        phase = self._link.phase
        self._hang_up()
        if phase not in ("up", "connecting"):
            return
        self._house.counts["lost" if phase == "up" else "refused"] += 1
        self._sender.down()
        self._decide(Lost(code, why) if phase == "up" else Refused(code, why))
        self._wake()

    def _came(self, data: bytes) -> None:
        self._heard_ms = self._times.mono_ms()
        try:
            packets = self._decoder.feed(data)
        except codec.Malformed as error:
            self._house.counts["malformed"] += 1
            self._drop(str(error))
            return
        line = self._line
        for packet in packets:
            if self._line is not line:  # one of those before ended it
                return
            self._take(packet)
        if self._link.phase == "up":
            self._send()

    def _take(self, packet: codec.Packet) -> None:
        assert self._line is not None
        if isinstance(packet, codec.Puback):
            id_ = self._mids.pop(packet.mid, 0)
            if id_:
                self._sender.puback(id_, packet.code, self._times.mono_ms())
        elif isinstance(packet, codec.Publish):
            self._hear(packet)
            if packet.mid and self._line is not None:
                self._line.send(codec.puback(packet.mid))
        elif isinstance(packet, codec.Connack):
            if packet.code:
                self._drop("refused", packet.code)
            else:
                self._window = min(packet.window, _WINDOW)
                self._line.send(codec.subscribe(1, t.pattern("down", self._house.tenant, self.name)))
        elif isinstance(packet, codec.Suback):
            if packet.codes[0] >= 0x80:
                self._drop("may hear nothing", packet.codes[0])
            else:
                self._decide(Welcomed(self._window))
                self._wake()
        elif isinstance(packet, codec.Disconnected):
            self._drop("ended by the broker", packet.code)

    # --- the fleet

    def _hear(self, came: codec.Publish) -> None:
        try:
            kind = t.parse_topic(came.topic).kind
            assert isinstance(kind, t.DownKind)
            _, body = t.decode_down(came.payload, kind)
        except (t.ContractError, AssertionError):
            self._house.counts["malformed"] += 1
            return
        if isinstance(body, t.Ack):
            self._acked(body)
        elif isinstance(body, t.Shadow):
            self._obedience.settings(body)
        else:
            self._obedience.command(body, came)

    def _acked(self, body: t.Ack) -> None:
        now = self._times.mono_ms()
        for acked in body.acked:
            gone = self._memory.remove(id_ for id_, _, _ in self._sender.acked(acked, now))
            if gone:
                self._house.ledger.acked(self.name, self._memory.boot, gone)
                self._house.waiting -= len(gone)
                self._house.counts["acknowledged"] += len(gone)
