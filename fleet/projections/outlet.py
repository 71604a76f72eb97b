"""The MQTT connection of a projection: a client for each connection in a thread of its own, its events in the asyncio loop.

It must never hold up the controller: what cannot be sent is dropped with the connection, and told anew at the next one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet.errors import BadRequest

__all__ = ["Came", "Outlet", "Publish", "Target", "target"]

_CHUNK = 50
"""Messages on their way to the socket at once: a birth of ten thousand boxes shall not fill the memory."""
_CONNECT_S = 10.0
_WITH_WILL = 0x04


class Publish(msgspec.Struct, frozen=True):
    """A message to send."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Came(msgspec.Struct, frozen=True):
    """A message that came."""

    topic: str
    payload: bytes
    retained: bool


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The broker to speak to. Files are only read when it is connected to."""

    host: str
    port: int
    tls: bool
    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def target(
    url: str,
    *,
    user: str = "",
    password_file: Path | None = None,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> Target:
    """The broker that `url` names: mqtt://HOST[:PORT] or mqtts://HOST[:PORT]. Raises BadRequest."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.password:
        raise BadRequest(f"{url!r} is no broker: mqtt://HOST:PORT or mqtts://HOST:PORT; a password is read from password_file")
    tls = parts.scheme == "mqtts"
    return Target(
        host=parts.hostname,
        port=port or (8883 if tls else 1883),
        tls=tls,
        user=user or parts.username or "",
        password_file=password_file,
        ca=ca,
        certificate=certificate,
        key=key,
    )


class Outlet:
    """One connection: `open`, then `send` and `events`, then `close`. All methods belong to the loop; a new one for each connection."""

    def __init__(self, where: Target, client_id: str) -> None:
        self.events: asyncio.Queue[Came | None] = asyncio.Queue(1000)  # None: the connection ended
        self.dropped = 0
        self._where = where
        self._loop = asyncio.get_running_loop()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        self._client.connect_timeout = _CONNECT_S
        self._refused = ""
        self._ready, self._ended = asyncio.Event(), asyncio.Event()
        self._room = asyncio.Event()
        self._waiting_for = -1

    async def open(self, will: Publish, subscriptions: Iterable[str]) -> None:
        """Connect with this will and subscribe with QoS 1. Raises OSError with one line that says why not."""
        client, topics = self._client, [(topic, 1) for topic in subscriptions]
        client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
        client.on_connect = self._threadsafe(lambda _c, _u, _f, reason, _p: self._on_connect(reason, topics))
        client.on_subscribe = self._threadsafe(lambda _c, _u, _m, reasons, _p: self._on_subscribe(reasons))
        client.on_disconnect = self._threadsafe(lambda *_: self._on_end())
        client.on_publish = self._threadsafe(lambda _c, _u, mid, _r, _p: self._on_publish(mid))
        client.on_message = self._threadsafe(lambda _c, _u, message: self._on_message(message))
        try:
            await asyncio.to_thread(self._connect)
            client.loop_start()
            both = [asyncio.ensure_future(self._ready.wait()), asyncio.ensure_future(self._ended.wait())]
            try:
                await asyncio.wait(both, timeout=_CONNECT_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in both:
                    one.cancel()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            await self.close()
            raise OSError(f"{self._where.host}:{self._where.port}: {getattr(error, 'strerror', None) or error}") from error
        if not self._ready.is_set() or self._ended.is_set():
            await self.close()
            raise OSError(f"{self._where.host}:{self._where.port}: {self._refused or 'it ended the connection'}")

    @property
    def ended(self) -> bool:
        """Whether the connection is over."""
        return self._ended.is_set()

    async def send(self, messages: Iterable[Publish]) -> bool:
        """Send all of these, a few at a time; False if the connection ended meanwhile."""
        rest = iter(messages)
        while chunk := list(islice(rest, _CHUNK)):
            self._room.clear()
            for message in chunk:
                sent = self._client.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)
                if sent.rc != mqtt.MQTT_ERR_SUCCESS:
                    return False
                self._waiting_for = sent.mid
            if sent.is_published():
                continue
            ended = asyncio.ensure_future(self._ended.wait())
            room = asyncio.ensure_future(self._room.wait())
            await asyncio.wait([ended, room], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            room.cancel()
            if self._ended.is_set():
                return False
        return not self._ended.is_set()

    async def close(self, last: Iterable[Publish] = ()) -> None:
        """Say the last words, disconnect and end the thread. MQTT 5's reason 0x04 has the broker tell the will too."""
        if not self._ended.is_set():
            await asyncio.wait_for(self._quiet(last), _CONNECT_S)
        await asyncio.to_thread(self._stop)

    async def _quiet(self, last: Iterable[Publish]) -> None:
        with suppress(asyncio.TimeoutError):
            await self.send(last)

    def _stop(self) -> None:
        self._client.disconnect(reasoncode=ReasonCode(PacketTypes.DISCONNECT, identifier=_WITH_WILL))
        self._client.loop_stop()
        if (sock := self._client.socket()) is not None:
            sock.close()

    def _connect(self) -> None:
        where, client = self._where, self._client
        if where.user:
            client.username_pw_set(where.user, where.password_file.read_text().strip() if where.password_file else None)
        if where.tls:
            context = ssl.create_default_context(cafile=where.ca)
            if where.certificate is not None:
                context.load_cert_chain(where.certificate, where.key)
            client.tls_set_context(context)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0
        client.connect(where.host, where.port, 30, clean_start=True, properties=properties)

    # --- paho's callbacks, brought into the loop

    def _threadsafe(self, do: Callable[..., None]) -> Callable[..., None]:
        def report(*given: Any) -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody wants to know
                self._loop.call_soon_threadsafe(do, *given)

        return report

    def _on_connect(self, reason: Any, topics: list[tuple[str, int]]) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            self._ended.set()
        elif topics:
            self._client.subscribe(topics)
        else:
            self._ready.set()

    def _on_subscribe(self, reasons: Any) -> None:
        refused = [reason for reason in reasons if reason.is_failure]
        if refused:
            self._refused = f"a subscription: {refused[0]}"
            self._ended.set()
            return
        self._ready.set()

    def _on_publish(self, mid: int) -> None:
        if mid == self._waiting_for:
            self._room.set()

    def _on_message(self, message: mqtt.MQTTMessage) -> None:
        try:
            self.events.put_nowait(Came(message.topic, bytes(message.payload), message.retain))
        except asyncio.QueueFull:
            self.dropped += 1

    def _on_end(self) -> None:
        self._ended.set()
        with suppress(asyncio.QueueFull):
            self.events.put_nowait(None)
