"""The network of the uplink: paho in a thread of its own, so that no name server, handshake or half-open line is ever waited for.

Orders go in by `connect`, `publish`, `acknowledge`, `disconnect`; what happens comes out of the thread through `report`. Each connection
has a client of its own: what to send again is the outbox's business, not paho's.
"""

from __future__ import annotations

import logging
import os
import select
import ssl
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from runtime.config import Fleet
from runtime.telemetry.contract import MAX_DOWN, UpKind, pattern, topic
from runtime.telemetry.uplink import NOT_TRUSTED, Lost, Refused, Welcomed

__all__ = ["Came", "Published", "Report", "Server", "Shown", "Wire", "context", "server_of"]

log = logging.getLogger("wire")

_MAX_PACKET = MAX_DOWN + 1024
_TEARDOWN_S = 0.7
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL (X509_VERIFY_PARAM_set_flags(3)); Python's ssl has no name for it."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as whom to connect. Without `ca` the system's authorities are believed; without `certificate` none is shown."""

    host: str
    port: int
    client_id: str
    subscribe: str
    will_topic: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    tls: bool = True
    keepalive_s: int = 30
    connect_s: float = 10.0
    session_s: int = 86_400  # the broker keeps our commands for so long while we are away
    will_delay_s: int = 25  # shorter absences are not told
    window: int = 20


def server_of(fleet: Fleet) -> Server:
    """The broker of kiosk.toml, and the box as it is known there."""
    host, port = fleet.address
    return Server(
        host=host,
        port=port,
        client_id=fleet.device,
        subscribe=pattern("down", fleet.tenant, fleet.device),
        will_topic=topic(fleet.tenant, fleet.device, UpKind.STATUS),
        ca=fleet.ca,
        certificate=fleet.certificate,
        key=fleet.key,
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """The certificate to show; a file that holds the key too needs no `key`. `dates`: whether the broker's dates can be judged."""

    certificate: Path | None
    key: Path | None
    dates: bool = True


@dataclass(frozen=True, slots=True)
class Published:
    """The broker answered the publish of outbox row `id` (0: none of the outbox) with a reason code."""

    id: int
    code: int


@dataclass(frozen=True, slots=True)
class Came:
    """A message from the fleet; `token` is for `acknowledge`. `expiry_s` is what is left of its life, None where none was given."""

    topic: str
    payload: bytes
    token: tuple[int, int, int]
    retained: bool
    expiry_s: int | None
    correlation: bytes
    response_topic: str


Report = Welcomed | Refused | Lost | Published | Came


class Wire:
    """One connection at a time. Methods may be called from any thread and return at once; `report` is called in the wire's thread."""

    def __init__(self, server: Server, report: Callable[[Report], None]) -> None:
        self._server, self._report = server, report
        self._orders: deque[Callable[[], None]] = deque()
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._client: mqtt.Client | None = None
        self._life = 0  # of the client: reports of an older one are nobody's
        self._rows: dict[int, int] = {}
        self._ended: Lost | Refused | None = None
        self._server_window = server.window
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()

    # --- orders

    def connect(self, will: bytes, shown: Shown | None = None) -> None:
        """Open a connection whose will is `will`; answered by Welcomed or Refused. `shown` instead of the server's own pair."""
        self._order(lambda: self._connect(will, shown or Shown(self._server.certificate, self._server.key)))

    def leave(self) -> None:
        """End the connection in order, without its will and with what the broker keeps for us; answered by Lost."""
        self._order(self._leave)

    def publish(self, id: int, topic: str, payload: bytes, *, retain: bool = False, correlation: bytes = b"") -> None:  # noqa: A002
        """Send with QoS 1; answered by Published, unless the connection is lost first."""
        self._order(lambda: self._publish(id, topic, payload, retain=retain, correlation=correlation))

    def acknowledge(self, token: tuple[int, int, int]) -> None:
        """The message of this token is dealt with or safely kept: the broker may forget it."""
        self._order(lambda: self._acknowledge(token))

    def close(self, last: tuple[str, bytes] | None = None) -> None:
        """Send a last retained message, if any, disconnect in order and end the thread; waits less than a second."""
        self._order(lambda: self._finish(last))
        self._thread.join(_TEARDOWN_S)

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        with suppress(BlockingIOError):
            os.write(self._wake_w, b"x")

    # --- the thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._wait()
                while self._orders and not self._stopping:
                    self._orders.popleft()()
                if self._client is not None:
                    self._client.loop_misc()
            except Exception as error:  # paho raises what it likes for bytes that are no MQTT; the thread must outlive any broker
                log.exception("the connection is dropped")
                self._drop(f"the fleet's broker sent what is no MQTT ({type(error).__name__})")
            self._settle()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        client = self._client
        sock = client.socket() if client else None
        if client and sock:
            poll.register(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        found = dict(poll.poll(1000 if sock else None))
        if self._wake_r in found:
            with suppress(BlockingIOError):
                os.read(self._wake_r, 4096)
        if client and sock:
            self._serve(client, sock, found.get(sock.fileno(), 0))

    def _serve(self, client: mqtt.Client, sock: Any, events: int) -> None:
        if events & ~select.POLLOUT:
            client.loop_read()
            # TLS may hold more decrypted bytes than one packet: the socket would not become readable for them.
            while _pending(sock) and client.socket() is sock:
                client.loop_read()
            if client._in_packet["remaining_length"] > _MAX_PACKET:  # paho itself collects whatever is announced, up to 256 MB
                self._drop("the fleet's broker sends more than was agreed")
                return
        if client.socket() and (events & select.POLLOUT or client.want_write()):
            client.loop_write()

    def _drop(self, why: str) -> None:
        """End the connection without a word; its will follows."""
        self._life += 1
        self._ended = self._ended or Lost(0, why)
        client = self._client
        if client is not None and (sock := client.socket()) is not None:
            sock.close()

    def _settle(self) -> None:
        """Tell the end of a connection, once, and drop its client."""
        if self._ended is None:
            return
        ended, self._ended = self._ended, None
        self._client = None
        self._rows.clear()
        self._report(ended)

    def _leave(self) -> None:
        if self._client is not None:
            self._client.disconnect()

    def _connect(self, will: bytes, shown: Shown) -> None:
        self._client = None
        self._life += 1
        server = self._server
        try:
            client = self._make(will, shown)
            client.connect(server.host, server.port, server.keepalive_s, clean_start=False, properties=self._connect_properties())
        except (OSError, ValueError) as error:
            # ssl.SSLError and socket.gaierror are OSErrors; paho raises ValueError for what it cannot encode.
            ours = isinstance(error, (ssl.SSLError, FileNotFoundError, PermissionError, ValueError))
            self._report(Refused(NOT_TRUSTED if ours else 0, _why(error, server)))
            return
        self._client = client

    def _make(self, will: bytes, shown: Shown) -> mqtt.Client:
        server, life = self._server, self._life
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=server.client_id, protocol=mqtt.MQTTv5, reconnect_on_failure=False, manual_ack=True
        )
        client.connect_timeout = server.connect_s
        client.max_inflight_messages_set(server.window)
        if server.tls:
            tls = context(server.ca, dates=shown.dates)
            if shown.certificate is not None:
                tls.load_cert_chain(shown.certificate, shown.key)
            client.tls_set_context(tls)
        delay = _properties(PacketTypes.WILLMESSAGE)
        delay.WillDelayInterval = server.will_delay_s
        client.will_set(server.will_topic, will, qos=1, retain=True, properties=delay)

        def mine(do: Callable[..., None]) -> Callable[..., None]:
            return lambda *given: do(*given) if life == self._life else None

        client.on_connect = mine(self._on_connect)
        client.on_subscribe = mine(self._on_subscribe)
        client.on_disconnect = mine(self._on_disconnect)
        client.on_publish = mine(self._on_publish)
        client.on_message = mine(self._on_message)
        return client

    def _connect_properties(self) -> Properties:
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._server.session_s
        properties.ReceiveMaximum = self._server.window
        properties.MaximumPacketSize = _MAX_PACKET
        return properties

    def _publish(self, id: int, topic: str, payload: bytes, *, retain: bool, correlation: bytes) -> None:  # noqa: A002
        if self._client is None:
            return
        properties = _properties(PacketTypes.PUBLISH)
        if correlation:
            properties.CorrelationData = correlation
        sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        self._rows[sent.mid] = id

    def _acknowledge(self, token: tuple[int, int, int]) -> None:
        life, mid, qos = token
        if self._client is not None and life == self._life:
            self._client.ack(mid, qos)

    def _finish(self, last: tuple[str, bytes] | None) -> None:
        self._stopping = True
        client, self._client = self._client, None
        if client is None:
            return
        self._life += 1
        if last is not None:
            client.publish(last[0], last[1], qos=1, retain=True)
        client.disconnect()
        poll = select.poll()
        # Blocking here hurts nobody: the connection ends, and the one who waits for it gives it a second.
        while (sock := client.socket()) is not None and client.want_write():
            poll.register(sock, select.POLLOUT)
            if not poll.poll(_TEARDOWN_S * 1000):
                return
            client.loop_write()

    # --- paho's callbacks, in the wire's thread

    def _on_connect(self, client: mqtt.Client, _: Any, __: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._ended = Refused(reason.value, f"the fleet's broker refuses this box: {reason.getName().lower()}")
            return
        self._server_window = int(getattr(properties, "ReceiveMaximum", 65_535))
        client.subscribe(self._server.subscribe, qos=1)

    def _on_subscribe(self, client: mqtt.Client, _: Any, __: int, reasons: Any, ___: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._ended = Refused(reasons[0].value, f"the fleet's broker lets this box hear nothing: {reasons[0].getName().lower()}")
            self._life += 1
            client.disconnect()
            return
        self._report(Welcomed(min(self._server.window, self._server_window)))

    def _on_disconnect(self, _: mqtt.Client, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        if self._ended is not None:
            return
        if flags.is_disconnect_packet_from_server:
            self._ended = Lost(reason.value, f"the fleet's broker ended the connection: {reason.getName().lower()}")
        else:
            self._ended = Lost(0, "the connection to the fleet's broker was lost")

    def _on_publish(self, _: mqtt.Client, __: Any, mid: int, reason: Any, ___: Any) -> None:
        self._report(Published(self._rows.pop(mid, 0), reason.value))

    def _on_message(self, _: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        properties = message.properties
        self._report(
            Came(
                topic=message.topic,
                payload=bytes(message.payload),
                token=(self._life, message.mid, message.qos),
                retained=message.retain,
                expiry_s=getattr(properties, "MessageExpiryInterval", None),
                correlation=getattr(properties, "CorrelationData", b""),
                response_topic=getattr(properties, "ResponseTopic", ""),
            )
        )


def _pending(sock: object) -> bool:
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]


def context(ca: Path | None, *, dates: bool = True) -> ssl.SSLContext:
    """TLS as a client that believes this authority. A box whose clock was never set cannot judge dates: `dates` false."""
    found = ssl.create_default_context(cafile=ca)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    if not dates:
        found.verify_flags |= _NO_CHECK_TIME
    return found


def _why(error: Exception, server: Server) -> str:
    where = f"{server.host}:{server.port}"
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return f"the certificates of [fleet] in kiosk.toml cannot be read: {error.strerror}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the fleet's broker {where} cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with the fleet's broker {where}: {error.reason}"
    return f"no connection to the fleet's broker {where}: {getattr(error, 'strerror', None) or error}"
