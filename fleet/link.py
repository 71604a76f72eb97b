"""The controller's own MQTT 5 connection: paho in the asyncio loop, without a thread.

What came is handed on with a token; only `acknowledge` lets the broker forget it, so a controller that cannot keep up slows the broker
instead of filling its own memory.
"""

from __future__ import annotations

import asyncio
import logging
import random
import select
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

__all__ = ["Came", "Link", "Login", "evict"]

log = logging.getLogger("link")

_WINDOW = 500
_RETRY_S = 2.0
_HANDSHAKE_S = 10.0
_TOLD = 3
"""So many attempts in a row fail before it is told: a broker that starts with us needs a moment."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as whom; certificate and key are files."""

    host: str
    port: int
    name: str
    ca: Path
    certificate: Path
    key: Path


class Came(msgspec.Struct, frozen=True):
    """A message of a box. `token` is for `acknowledge`."""

    topic: str
    payload: bytes
    retained: bool
    token: tuple[int, int, int]


class Link:
    """Connects, subscribes and connects again until cancelled. The callbacks run in the loop and must return soon."""

    def __init__(
        self,
        login: Login,
        patterns: Iterable[str],
        *,
        came: Callable[[Came], None],
        up: Callable[[], None],
        published: Callable[[int, int], None],
    ) -> None:
        self.connected = asyncio.Event()
        self._login, self._patterns = login, list(patterns)
        self._came, self._up, self._published = came, up, published
        self._client: mqtt.Client | None = None
        self._socket: Any = None
        self._life = 0
        self._ended = asyncio.Event()
        self._writing = False
        self._failing, self._failures = "", 0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self._session()
                except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                    self._fails(str(error))
                self.connected.clear()
                await asyncio.sleep(random.uniform(0.1, _RETRY_S))
        finally:
            self._close()

    def publish(self, topic: str, payload: bytes, *, expiry_s: int, correlation: bytes = b"", response: str = "") -> int:
        """Send with QoS 1; returns a number that `published` gets with the reason code, 0 if there is no connection."""
        if self._client is None or not self.connected.is_set():
            return 0
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = expiry_s
        if correlation:
            properties.CorrelationData = correlation
        if response:
            properties.ResponseTopic = response
        sent = self._client.publish(topic, payload, qos=1, properties=properties)
        self._want()
        return int(sent.mid) if sent.rc == mqtt.MQTT_ERR_SUCCESS else 0

    def follow(self, pattern: str) -> None:
        """Hear this too, beginning with what is retained there."""
        if pattern not in self._patterns:
            self._patterns.append(pattern)
            if self._client is not None and self.connected.is_set():
                self._client.subscribe(pattern, qos=1)
                self._want()

    def leave(self, pattern: str) -> None:
        """Hear this no more."""
        if pattern in self._patterns:
            self._patterns.remove(pattern)
            if self._client is not None and self.connected.is_set():
                self._client.unsubscribe(pattern)
                self._want()

    def acknowledge(self, token: tuple[int, int, int]) -> None:
        """The broker may forget this message."""
        life, mid, qos = token
        if self._client is not None and life == self._life:
            self._client.ack(mid, qos)
            self._want()

    # --- the connection

    def _fails(self, why: str) -> None:
        self._failures += 1
        if self._failures >= _TOLD and self._failing != why:
            self._failing = why
            log.warning("no connection to the broker at %s:%d: %s; tried again", self._login.host, self._login.port, why)

    async def _session(self) -> None:
        self._life += 1
        self._ended.clear()
        login = self._login
        client = _client(login, clean=_WINDOW)
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_publish, client.on_message = self._on_publish, self._on_message
        await asyncio.to_thread(client.connect, login.host, login.port, 30, clean_start=True, properties=_connecting(_WINDOW))
        # From here on paho works in this loop only: what it says while it connects would come from another thread.
        client.on_disconnect, client.on_socket_close = self._on_disconnect, self._on_socket_close
        if client.socket() is None:
            raise ConnectionError("the broker closed the connection at once")
        self._client, self._socket = client, client.socket()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._read)
        self._want()
        try:
            while not self._ended.is_set():
                client.loop_misc()
                self._want()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), 1.0)
        finally:
            self._close()

    def _close(self) -> None:
        client, self._client = self._client, None
        self.connected.clear()
        if client is None:
            return
        client.on_disconnect = None
        client.disconnect()
        if client.want_write():
            with suppress(OSError):
                client.loop_write()
        if (sock := client.socket()) is not None:
            self._detach(sock)
            sock.close()

    def _on_socket_close(self, _: mqtt.Client, __: Any, sock: Any) -> None:
        self._detach(sock)

    def _detach(self, sock: Any) -> None:
        """Before the socket is closed: the next one often gets its number, and a loop that still has the number never watches it."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        loop.remove_writer(sock.fileno())
        self._writing = False

    def _read(self) -> None:
        client, sock = self._client, self._socket
        if client is None:
            return
        client.loop_read()
        # TLS may hold more decrypted bytes than one packet: the socket would not become readable for them.
        while client.socket() is sock and isinstance(sock, ssl.SSLSocket) and sock.pending():
            client.loop_read()
        self._want()

    def _want(self) -> None:
        """Listen for room to write exactly while there is something to write."""
        client = self._client
        if client is None or client.socket() is None:
            return
        wants, loop = client.want_write(), asyncio.get_running_loop()
        if wants and not self._writing:
            loop.add_writer(self._socket.fileno(), self._write)
        elif not wants and self._writing:
            loop.remove_writer(self._socket.fileno())
        self._writing = wants

    def _write(self) -> None:
        if self._client is not None:
            self._client.loop_write()
            self._want()

    # --- paho's callbacks

    def _on_connect(self, client: mqtt.Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._fails(f"it refuses the controller: {reason}")
            self._ended.set()
            return
        client.subscribe([(pattern, SubscribeOptions(qos=1)) for pattern in self._patterns])

    def _on_subscribe(self, _: mqtt.Client, __: Any, ___: int, reasons: list[Any], ____: Any) -> None:
        for refused in {str(reason) for reason in reasons if reason.is_failure}:
            log.warning("the broker does not let the controller hear the boxes: %s", refused)
        if not self.connected.is_set():
            self.connected.set()
            self._failing, self._failures = "", 0
            self._up()

    def _on_disconnect(self, *_: Any) -> None:
        self.connected.clear()
        self._ended.set()

    def _on_publish(self, _: mqtt.Client, __: Any, mid: int, reason: Any, ___: Any) -> None:
        self._published(mid, reason.value)

    def _on_message(self, _: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        self._came(Came(message.topic, bytes(message.payload), message.retain, (self._life, message.mid, message.qos)))


def evict(login: Login) -> None:
    """End the live session of this name by taking it over for a moment; what was kept for it goes too. Blocks, for seconds at most.

    Raises OSError if the broker cannot be reached.
    """
    client = _client(login)
    done: list[bool] = []
    client.on_connect = lambda *_: done.append(True)
    client.connect(login.host, login.port, 30, clean_start=True, properties=_connecting(10))
    poll = select.poll()
    while not done and (sock := client.socket()) is not None:
        poll.register(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        if not poll.poll(_HANDSHAKE_S * 1000):
            break
        client.loop_read()
        if client.want_write():
            client.loop_write()
    client.disconnect()
    if (sock := client.socket()) is not None:
        sock.close()
    if not done:
        raise OSError("the broker does not answer")


def _client(login: Login, clean: int = 10) -> mqtt.Client:
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id=login.name, protocol=mqtt.MQTTv5, reconnect_on_failure=False, manual_ack=True
    )
    client.connect_timeout = _HANDSHAKE_S
    client.max_inflight_messages_set(clean)
    context = ssl.create_default_context(cafile=login.ca)
    context.load_cert_chain(login.certificate, login.key)
    client.tls_set_context(context)
    return client


def _connecting(window: int) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 0
    properties.ReceiveMaximum = window
    return properties
