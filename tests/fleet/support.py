"""A controller in a thread with a real mosquitto, and boxes: real uplinks, or a bare MQTT client that says what it likes."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from pathlib import Path

import msgspec
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

import runtime.telemetry as t
from fleet import inventory, journal
from fleet.bundle import bundle, write_bundle
from fleet.controller import Controller, Settings
from fleet.errors import FleetError
from runtime.telemetry.box import Uplink
from runtime.telemetry.times import SystemTimes
from tests.runtime.telemetry.support import free_port
from tests.support.harness import LIMIT_S, Bench


class SetTimes(SystemTimes):
    """The machine's clocks, set by a time server whatever the kernel of the test machine thinks of its own."""

    def synced(self):
        return True


class Fleet:
    """A controller in a thread. `until` waits for what its store holds, and looks whenever something changed."""

    def __init__(self, data: Path, times=None, **settings):
        self.data, self.changed = data, threading.Condition()
        ports = {"broker_port": free_port(), "port": free_port(), "renewal_port": free_port()}
        settings = {"broker_host": "127.0.0.1", **ports, "ack_s": 0.05, "watch_s": 0.2} | settings
        self.settings = Settings(data=data, names=("localhost",), **settings)
        self.times = times or SetTimes()
        self.error = None
        self.start()

    def start(self):
        """Begin; also again after `stop`."""
        ready = threading.Event()

        async def life():
            self.loop, self.stopping = asyncio.get_running_loop(), asyncio.Event()
            self.controller = Controller(self.settings, self.times)
            self.controller.hub._listeners.add(self)
            try:
                await self.controller.start()
                ready.set()
                await self.stopping.wait()
            except FleetError as error:
                self.error = error
            finally:
                await self.controller.stop()
                ready.set()

        self.thread = threading.Thread(target=lambda: asyncio.run(life()))
        self.thread.start()
        assert ready.wait(LIMIT_S)
        if self.error:
            raise self.error

    def tell(self, _devices):
        with self.changed:
            self.changed.notify_all()

    def until(self, condition):
        """Wait until `condition()` is true, and return it."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := condition()):  # not under the lock: what it asks may need the controller's loop, which rings
            if time.monotonic() > deadline:
                raise AssertionError((found, self.controller.counts))
            with self.changed:
                self.changed.wait(0.2)  # not every change rings: counters do not
        return found

    def do(self, coroutine):
        """Run something in the controller's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT_S)

    def call(self, function, *given):
        """Call something in the controller's loop."""

        async def run():
            return function(*given)

        return self.do(run())

    def stop(self):
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive()

    # --- shortcuts

    @property
    def db(self):
        return self.controller.db

    def enrol(self, name):
        """Enrol a box; returns the folder of its bundle."""
        issued = inventory.enrol(self.db, self.controller.authority, name, 30, self.times.wall_ms())
        folder = self.data.parent / f"{name}-{issued.serial[:6]}"
        write_bundle(bundle(issued, self.controller.authority.pem, f"localhost:{self.settings.broker_port}", self.settings.tenant), folder)
        return folder

    def device(self, name):
        return inventory.device(self.db, name)

    def state(self, name):
        found = self.device(name)
        return found.state if found else ""

    def codes(self, name):
        """Codes of a box's events, the oldest first."""
        return [event.code for event in reversed(journal.events(self.db, device=name, limit=1000))]


class Box:
    """A real uplink with its own outbox, in a thread, configured by its bundle."""

    def __init__(self, folder, bundle_folder, name, extra=""):
        folder.mkdir(parents=True, exist_ok=True)
        toml = (bundle_folder / "fleet.toml").read_text().replace('site = "", model = ""', 'site = "Store 12", model = "Orin"')
        for file in (f"{name}.pem", f"{name}.key", "ca.pem"):
            toml = toml.replace(f'"{file}"', f'"{bundle_folder / file}"')
        config = folder / "kiosk.toml"
        config.write_text(f'{toml}health_s = 5\noutbox_path = "outbox"\n{extra}\n')
        self.bench = Bench(config=config)
        self.times = SetTimes()
        self.start()

    def start(self):
        """Begin an uplink's life."""
        self.ctx = self.bench.context("uplink")
        made = threading.Event()

        def life():
            self.node = Uplink(self.ctx, self.times)
            self.node._sender.again_ms = 3_000  # what was lost on the way is sent again: half a minute is long for a test
            made.set()
            asyncio.run(self.node.run())

        self.thread = threading.Thread(target=life)
        self.thread.start()
        assert made.wait(LIMIT_S)

    def stop(self):
        self.ctx.stop()
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive()

    def close(self):
        self.stop()
        self.bench.__exit__(None, None, None)


class Stranger:
    """A bare MQTT client with a box's certificate: it says what it likes and notes the broker's answers."""

    def __init__(self, fleet, folder, name, *, client_id=None, connect=True):
        self.name, self.tenant, self.boot = name, fleet.settings.tenant, "0" * 16
        self.came, self.codes, self.ended = [], {}, threading.Event()
        self.changed, self.refused = threading.Condition(), ""
        self._seq, self._ready, self._fleet = itertools.count(1), threading.Event(), fleet
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id or name, protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        self.client.tls_set(str(folder / "ca.pem"), str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = lambda _c, _u, message: self._note(lambda: self.came.append(message))
        self.client.on_publish = lambda _c, _u, mid, reason, _p: self._note(lambda: self.codes.update({mid: reason.value}))
        self.client.on_disconnect = lambda *_: (self.ended.set(), self._ready.set())
        if connect:
            self.connect()

    def connect(self):
        """Connect and hear what is ours; False if the broker does not want us."""
        self.client.connect("localhost", self._fleet.settings.broker_port)
        self.client.loop_start()
        assert self._ready.wait(LIMIT_S)
        return not self.ended.is_set()

    def _on_connect(self, client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            self.refused = str(reason)
            self._ready.set()
            return
        client.subscribe(t.pattern("down", self.tenant, self.name), qos=1)

    def _on_subscribe(self, *_):
        self._ready.set()

    def _note(self, do):
        with self.changed:
            do()
            self.changed.notify_all()

    def wait(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, LIMIT_S)

    def envelope(self, kind, body, *, seq=None, ts=None, clk=t.ClockState.SYNCED, dev=None, hist=False, boot=None):
        """A message of this box; the next number unless told."""
        if seq is None:
            seq = 0 if kind is t.UpKind.STATUS else next(self._seq)
        ts = self._fleet.times.wall_ms() if ts is None else ts
        raw = msgspec.Raw(t.encode(body) if isinstance(body, msgspec.Struct) else body)
        return t.Envelope(dev=dev or self.name, boot=boot or self.boot, seq=seq, ts=ts, mono=1, clk=clk, kind=kind, body=raw, hist=hist)

    def say(self, kind, body, *, retain=False, **more):
        """Publish a message and wait for the broker's answer; returns its reason code."""
        return self.raw(t.topic(self.tenant, self.name, kind), t.encode(self.envelope(kind, body, **more)), retain=retain)

    def raw(self, topic, payload, *, retain=False, qos=1):
        """Publish bytes; returns the reason code."""
        with self.changed:
            mid = self.client.publish(topic, payload, qos=qos, retain=retain).mid
        self.wait(lambda: mid in self.codes or self.ended.is_set())
        return self.codes.get(mid, -1)

    def acked(self):
        """The numbers that the controller has acknowledged."""
        numbers = set()
        for message in self.came:
            if message.topic.endswith("/down/ack"):
                for acked in t.decode_down(message.payload, t.DownKind.ACK)[1].acked:
                    for first, last in acked.ranges:
                        numbers.update(range(first, last + 1))
        return numbers

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()  # also of a client whose handshake failed: the garbage collector would complain of them
