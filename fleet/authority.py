"""A small certificate authority: made on first start, signs the broker, the controller and the boxes, and takes certificates back.

X.509 as OpenSSL 3 checks it: P-256 keys, subject and authority key identifiers, extended key usage (RFC 5280). Private keys are
files that only their owner reads.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.telemetry import is_id

__all__ = ["LIST_DAYS", "Authority", "Issued", "write_private"]

_CA_DAYS = 20 * 365
LIST_DAYS = 90
_BACK = datetime.timedelta(days=1)
"""Certificates are valid from yesterday: the clock of a box may be behind."""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate with its key, as PEM; `serial` in hexadecimal, `expires` wall time in ms."""

    name: str
    certificate: bytes
    key: bytes
    serial: str
    expires: int


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step; nobody but its owner reads it."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class Authority:
    """The authority of one folder; `now_ms` is wall time. Files: `ca.pem`, `ca.key`, `revoked.pem` (the list of revoked ones).

    With `crl_url` certificates say that the list is there, and `revoked.crl` is the same list for brokers that fetch it (DER, with the
    issuing distribution point that EMQX asks for; RFC 5280, 5.2.5).
    """

    def __init__(self, folder: Path, now_ms: int, *, crl_url: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._crl_url = crl_url
        self.certificate, self._key_file, self.revoked = folder / "ca.pem", folder / "ca.key", folder / "revoked.pem"
        if not self._key_file.exists():
            self._create(now_ms)
        self._ca = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self._ca.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, days: int, now_ms: int, *, names: Sequence[str] = ()) -> Issued:
        """A key and a certificate for `name`; with `names` (host names and addresses) it is a server's.

        ValueError for a client that is neither an id of the contract nor one of ours (`~…`).
        """
        if not names and not is_id(name.removeprefix("~")):
            raise ValueError(f"{name!r} cannot name a box: letters, digits, '.', '_', '-', at most 63, the first no sign")
        key = ec.generate_private_key(ec.SECP256R1())
        return msgspec.structs.replace(self._sign(name, key.public_key(), days, now_ms, names), key=_private(key))

    def certify(self, name: str, key: CertificatePublicKeyTypes, days: int, now_ms: int) -> Issued:
        """A certificate for a client's key that was made elsewhere; `key` of the answer is empty. ValueError as `issue`."""
        if not is_id(name):
            raise ValueError(f"{name!r} cannot name a box")
        return self._sign(name, key, days, now_ms, ())

    def _sign(self, name: str, key: CertificatePublicKeyTypes, days: int, now_ms: int, names: Sequence[str]) -> Issued:
        usage = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        until = _moment(now_ms) + datetime.timedelta(days=days)
        builder = (
            self._begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), self._ca.subject, key, now_ms, until)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general(one) for one in names or (f"{name.removeprefix('~')}",)]), critical=False)
        )
        if self._crl_url and not names:
            builder = builder.add_extension(x509.CRLDistributionPoints([self._point()]), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        return Issued(
            name=name,
            certificate=signed.public_bytes(serialization.Encoding.PEM),
            key=b"",
            serial=f"{signed.serial_number:x}",
            expires=round(until.timestamp() * 1000),
        )

    def write_revoked(self, serials: Iterable[str], now_ms: int) -> None:
        """Write the list of revoked certificates anew. A broker reads it when it is told to."""
        now = _moment(now_ms)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._ca.subject).last_update(now - _BACK)
        # OpenSSL refuses everybody once the list is out of date; it is written anew after a third of its time (fleet/revocation.py).
        builder = builder.next_update(now + datetime.timedelta(days=LIST_DAYS))
        for serial in sorted(set(serials)):
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        write_private(self.revoked, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        if self._crl_url:
            where = x509.IssuingDistributionPoint(
                full_name=self._point().full_name,
                relative_name=None,
                only_contains_user_certs=False,
                only_contains_ca_certs=False,
                only_some_reasons=None,
                indirect_crl=False,
                only_contains_attribute_certs=False,
            )
            numbered = builder.add_extension(x509.CRLNumber(now_ms), critical=False).add_extension(where, critical=True)
            fetched = numbered.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
            write_private(self.revoked.with_suffix(".crl"), fetched)

    def _point(self) -> x509.DistributionPoint:
        return x509.DistributionPoint([x509.UniformResourceIdentifier(self._crl_url)], None, None, None)

    def _create(self, now_ms: int) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Visavis fleet {x509.random_serial_number() & 0xFFFFFFFF:08x}")])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            self._begin(name, name, key.public_key(), now_ms, _moment(now_ms) + datetime.timedelta(days=_CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        certificate = builder.sign(key, hashes.SHA256())
        # The key last: an interrupted start begins again.
        write_private(self.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        write_private(self._key_file, _private(key))

    @staticmethod
    def _begin(
        subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, now_ms: int, until: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(now_ms) - _BACK)
            .not_valid_after(until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


def _moment(now_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(now_ms // 1000, datetime.timezone.utc)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
