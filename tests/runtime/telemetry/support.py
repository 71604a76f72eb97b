"""What the tests of the box's end of the fleet share: clocks turned by hand, a small CA, a real mosquitto, a wire that can be cut."""

from __future__ import annotations

import datetime
import os
import select
import socket
import subprocess
import threading
import time
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import runtime.telemetry as t
from runtime.telemetry.times import SystemTimes
from tests.support.harness import LIMIT_S

__all__ = ["RAM", "Broker", "Cable", "Controller", "HandTimes", "Party"]

DAY = datetime.timedelta(days=1)


class HandTimes(SystemTimes):
    """Clocks that move when told to."""

    def __init__(self, mono_ms: int = 60_000, wall_ms: int = 1_790_000_000_000, *, synced: bool = True) -> None:
        super().__init__()
        self.mono, self.wall, self.is_synced = mono_ms, wall_ms, synced

    def mono_ms(self) -> int:
        return self.mono

    def wall_ms(self) -> int:
        return self.wall

    def synced(self) -> bool:
        return self.is_synced

    def advance(self, seconds: float) -> None:
        """Let time pass on both."""
        self.mono += round(seconds * 1000)
        self.wall += round(seconds * 1000)


class Party:
    """A certificate authority and what it signs, as PEM files in a folder."""

    def __init__(self, folder: Path, name: str = "Fleet CA") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._begin(self._name, self._key, DAY).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = certificate.sign(self._key, hashes.SHA256())
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def _begin(self, name, key, life):
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + life) - DAY)
            .not_valid_after(now + life)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def sign(self, name: str, *, server: bool = False, life: datetime.timedelta = DAY) -> tuple[Path, Path]:
        """A certificate and its key for `name`; a `server` is localhost."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, life)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if server:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return certificate, private


RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where tests of rules keep their files: the disk itself is the matter of test_outbox_crash.py only."""


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A real mosquitto with mutual TLS and rights by certificate name, as the controller starts it."""

    def __init__(self, folder: Path, party: Party, *, rights: str = "", keep: bool = True) -> None:
        self.folder, self.party, self.port = folder, party, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = party.sign("broker", server=True)
        folder.chmod(0o777)
        for path in party.folder.iterdir():
            path.chmod(0o644)
        self.rights = folder / "acl"
        self.grant(rights or "pattern write visavis/1/+/%u/up/#\npattern read visavis/1/+/%u/down/#\n")
        persistence = f"persistence true\npersistence_location {folder}/\n" if keep else ""
        (folder / "mosquitto.conf").write_text(
            f"per_listener_settings false\nlistener {self.port} 127.0.0.1\ncafile {party.ca}\ncertfile {certificate}\nkeyfile {key}\n"
            f"require_certificate true\nuse_identity_as_username true\nacl_file {self.rights}\n{persistence}"
            f"user root\nlog_dest file {folder}/log\nlog_type all\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def grant(self, rights: str) -> None:
        """Write the rights; the controller may do all."""
        self.rights.write_text(f"user controller\ntopic readwrite visavis/#\n{rights}")
        self.rights.chmod(0o644)

    def start(self) -> None:
        """Start, and wait until it listens."""
        self.process = subprocess.Popen(["mosquitto", "-c", str(self.folder / "mosquitto.conf")], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                threading.Event().wait(0.05)
            else:
                return
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Cable:
    """A TCP relay in front of a broker that can be cut (nothing passes, nothing is closed) and mended."""

    def __init__(self, target: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._target = target
        self.cut = threading.Event()
        self.accepted = threading.Semaphore(0)
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.accepted.release()
            thread = threading.Thread(target=self._relay, args=(client,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _relay(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                return
            with server:
                ends = {client: server, server: client}
                while not self._end.is_set():
                    ready, _, _ = select.select(list(ends), [], [], 0.1)
                    for end in ready if not self.cut.is_set() else ():
                        try:
                            data = end.recv(65536)
                            ends[end].sendall(data)
                        except OSError:
                            return
                        if not data:
                            return
                    if self.cut.is_set():
                        self._end.wait(0.1)

    def close(self) -> None:
        """End all of it."""
        self._end.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for thread in self._threads:
            thread.join()


class Controller:
    """The other end as a test needs it: hears all boxes, acknowledges what it is told to, sends commands."""

    def __init__(self, broker: Broker, *, ack: bool = True, name: str = "controller", listen: bool = True) -> None:
        self.ack, self._broker = ack, broker
        self.messages: list[tuple[str, bytes, bool]] = []
        self.rows: dict[tuple[str, int], tuple[t.Envelope, object]] = {}
        self.status: list[tuple[str, bool]] = []
        self.answers: dict[str, t.Answer] = {}
        self.correlations: list[bytes] = []
        self.changed = threading.Condition()
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        certificate, key = broker.party.sign(name)
        self._client.tls_set(str(broker.party.ca), str(certificate), str(key))
        self._client.on_connect = lambda client, *_: client.subscribe(t.pattern("up"), qos=1) if listen else self._ready.set()
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        self._client.connect("localhost", broker.port)
        self._client.loop_start()
        assert self._ready.wait(LIMIT_S)

    def _take(self, _client, _userdata, message) -> None:
        with self.changed:
            self.messages.append((message.topic, message.payload, message.retain))
            self.correlations.append(getattr(message.properties, "CorrelationData", b""))
            envelope, body = t.decode_up(message.payload)
            where = t.parse_topic(message.topic)
            assert where.kind is envelope.kind
            assert where.device == envelope.dev
            if isinstance(body, t.Status):
                self.status.append((body.state, message.retain))
            else:
                self.rows[envelope.boot, envelope.seq] = (envelope, body)
                if isinstance(body, t.Answer):
                    self.answers[body.id] = body
                if self.ack:
                    self.acknowledge(where.tenant, where.device, envelope.boot, envelope.seq)
            self.changed.notify_all()

    def acknowledge(self, tenant, device, boot, *seqs) -> None:
        """Tell a box that these are committed."""
        body = t.Ack(acked=(t.Acked(boot=boot, ranges=tuple((seq, seq) for seq in seqs)),))
        self.send(tenant, device, t.DownKind.ACK, body)

    def send(self, tenant, device, kind, body, *, expiry=None, correlation=b"", response="", retain=False) -> None:
        """Send a body to a box."""
        down = t.Down(ts=1, kind=kind, body=msgspec.Raw(t.encode(body)))
        self.raw(t.topic(tenant, device, kind), t.encode(down), expiry=expiry, correlation=correlation, response=response, retain=retain)

    def raw(self, topic, payload, *, expiry=None, correlation=b"", response="", retain=False) -> None:
        """Send bytes."""
        properties = Properties(PacketTypes.PUBLISH)
        if expiry is not None:
            properties.MessageExpiryInterval = expiry
        if correlation:
            properties.CorrelationData = correlation
        if response:
            properties.ResponseTopic = response
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)

    def wait(self, condition, limit_s=LIMIT_S) -> None:
        """Until `condition(self)` holds; it is looked at whenever a message came."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), limit_s), (len(self.messages), self.status, self.answers)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
