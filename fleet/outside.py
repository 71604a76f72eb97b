"""A broker that is not ours (mosquitto run by somebody else, EMQX, HiveMQ): its address, who we are there, and what it has to allow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from fleet.authority import Authority, Issued, write_private
from fleet.broker import CONTROLLER, Place, configuration, rights
from fleet.errors import BadRequest
from runtime.telemetry import is_id

__all__ = ["Elsewhere", "Outside", "broker_files", "outside"]

log = logging.getLogger("broker")


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """Where the broker is. Without a certificate of its own the controller gets one of the fleet's authority, as `name`.

    `ca` is who signed the broker's certificate, if that was not the fleet's authority; `crl` where else the list of revoked certificates
    is written.
    """

    host: str
    port: int
    name: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    crl: Path | None = None


def outside(
    url: str, *, controller: str, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None, crl: Path | None = None
) -> Outside:
    """The broker at `mqtts://HOST[:PORT]` for the controller of this name. Raises BadRequest with what is wrong."""
    parts = urlsplit(url)
    try:
        port = parts.port or 8883
    except ValueError as error:
        raise BadRequest(f"--broker {url}: {error}") from error
    if parts.scheme != "mqtts" or not parts.hostname or parts.path not in ("", "/") or parts.username or parts.query:
        raise BadRequest(f"--broker {url}: mqtts://HOST or mqtts://HOST:PORT is wanted; who we are is told by a certificate")
    if (certificate is None) != (key is None):
        raise BadRequest("--broker-cert and --broker-key go together")
    for file in (ca, certificate, key):
        if file is not None and not file.is_file():
            raise BadRequest(f"{file} is not a file")
    if not is_id(controller):
        raise BadRequest(f"{controller!r} cannot name a controller: letters, digits, '.', '_', '-', at most 63, the first no sign")
    name = f"{CONTROLLER}-{controller}"
    if certificate is not None and key is not None:
        try:
            name = _common_name(certificate.read_bytes())
            load_pem_private_key(key.read_bytes(), None)
        except (ValueError, TypeError, OSError) as error:
            raise BadRequest(f"{certificate}, {key}: not a certificate and its key as PEM: {error}") from error
    return Outside(host=parts.hostname, port=port, name=name, ca=ca, certificate=certificate, key=key, crl=crl)


def _common_name(pem: bytes) -> str:
    names = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names or not str(names[0].value):
        raise ValueError("the certificate has no common name")
    return str(names[0].value)


def broker_files(
    authority: Authority, *, names: Sequence[str], controllers: Sequence[str], place: Place, user: str, tenant: str, days: int, now_ms: int
) -> dict[str, bytes]:
    """By name, the files of a mosquitto that somebody else runs, which lie in `place.folder` there; `revoked.pem` is the authority's."""
    issued = authority.issue("broker", days, now_ms, names=names)
    return {
        "mosquitto.conf": configuration(place, user).encode(),
        "rights": rights(tenant, [f"{CONTROLLER}-{name}" for name in controllers]).encode(),
        "ca.pem": authority.pem,
        "broker.pem": issued.certificate,
        "broker.key": issued.key,
        "revoked.pem": authority.revoked.read_bytes(),
    }


class Elsewhere:
    """Stands where the child broker would: there is nothing to start or to end. The rights that it should give are kept in a file."""

    pid = restarts = 0

    def __init__(self, folder: Path, tenant: str, name: str, *, more: str = "") -> None:
        self._folder, self._tenant, self._name, self._more = folder, tenant, name, more

    async def start(self, _: Issued) -> None:
        """Write down what the broker should allow."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write()

    async def stop(self) -> None:
        """Nothing is ours."""

    def reload(self) -> None:
        """Whoever runs it has it read the list again."""

    def check(self) -> None:
        """It may come later."""

    def allow(self, more: str) -> None:
        """Further lines of an acl_file."""
        if more != self._more:
            self._more = more
            self._write()
            log.info("the broker should allow something else now: %s", self._folder / "rights")

    def _write(self) -> None:
        write_private(self._folder / "rights", (rights(self._tenant, (self._name,)) + self._more).encode())
