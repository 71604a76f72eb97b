"""New certificates for boxes that have one: for the name of the certificate that asks and for no other, the same request once.

By MQTT the broker has taken that name from the certificate; such a request is granted at once. A box whose certificate has ended proves by
HTTPS that it still has the key (`late`), and an admin decides. Functions block: call them in a thread.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet.authority import Authority
from fleet.database import Database, Transaction
from fleet.errors import BadRequest

__all__ = ["PROOF", "Asking", "Late", "asking", "decide", "grant", "late"]

PROOF = b"visavis renewal\n"
"""What an old key signs before the request (docs/contract/README.md)."""
_DAY_MS = 86_400_000
_KEEP_MS = 90 * _DAY_MS
_LATELY_MS = 30 * _DAY_MS
_MOST_A_DAY = 8
_MOST_WAITING = 4


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """A box that waits for an admin. `fingerprint` is of its new key, `ended` when its certificate ended, `address` where it asked from."""

    fingerprint: str
    device: str
    asked: int
    ended: int
    address: str


class Late(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a box: `waiting`, `issued` with the certificate, or `refused`."""

    state: str
    certificate: str = ""


def grant(db: Database, authority: Authority, device: str, request: str, now_ms: int) -> str:
    """The certificate (PEM) for a request that came with a valid certificate of `device`. Raises BadRequest with the reason."""
    csr, fingerprint = _read(request, device)
    with db.write() as tx:
        _not_revoked_lately(tx, device, now_ms)
        row = _row(tx, fingerprint, device)
        if row is not None and row[0] == "issued":
            return str(row[1])
        return _issue(tx, authority, device, csr, fingerprint, now_ms, "")


def late(
    db: Database, authority: Authority, *, certificate: str, request: str, signature: str, address: str, now_ms: int
) -> tuple[str, Late]:
    """What a box gets whose certificate has ended, and its name. Raises BadRequest; what is kept is bounded, whoever asks."""
    old = _old(authority, certificate)
    names = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    device = str(names[0].value) if names else ""
    csr, fingerprint = _read(request, device)
    _verify(old, csr, signature)
    ended = round(old.not_valid_after_utc.timestamp() * 1000)
    with db.write() as tx:
        serial = f"{old.serial_number:x}"
        if not tx.run("SELECT 1 FROM certificate WHERE serial = ? AND device = ? AND revoked IS NULL", serial, device):
            raise BadRequest("this certificate is not known or was revoked")
        row = _row(tx, fingerprint, device)
        if row is not None:
            return device, Late(state=row[0], certificate=row[1])
        _not_revoked_lately(tx, device, now_ms)
        if ended > now_ms:  # it could have asked by MQTT: nothing more is proved there
            return device, Late(state="issued", certificate=_issue(tx, authority, device, csr, fingerprint, now_ms, ""))
        waiting = tx.run("SELECT count(*) FROM renewal WHERE device = ? AND state = 'waiting'", device)[0][0]
        if waiting >= _MOST_WAITING:
            raise BadRequest("too many requests of this box wait for an admin")
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        sql = (
            "INSERT INTO renewal (fingerprint, device, asked, state, certificate, request, ended, address, author)"
            " VALUES (?, ?, ?, 'waiting', '', ?, ?, ?, '')"
        )
        tx.run(sql, fingerprint, device, now_ms, pem, ended, address[:64])
        columns = "device, boot, seq, ts, arrived, code, severity, details"
        sql = f"INSERT INTO event ({columns}) VALUES (?, '', 0, ?, ?, 'box_renewal_waits', 'warning', '{{}}')"  # noqa: S608 - columns of ours
        tx.run(sql, device, now_ms, now_ms)
        return device, Late(state="waiting")


def asking(db: Database) -> list[Asking]:
    """The boxes that wait for an admin, the oldest first."""
    names = ("fingerprint", "device", "asked", "ended", "address")
    rows = db.read(f"SELECT {', '.join(names)} FROM renewal WHERE state = 'waiting' ORDER BY asked, fingerprint")  # noqa: S608 - ours
    return [Asking(**dict(zip(names, row, strict=True))) for row in rows]


def decide(db: Database, authority: Authority, fingerprint: str, author: str, now_ms: int, *, approve: bool) -> str:
    """An admin's word about a box that waits; returns the box's name. It gets its certificate when it asks again. Raises BadRequest."""
    with db.write() as tx:
        rows = tx.run("SELECT device, request FROM renewal WHERE fingerprint = ? AND state = 'waiting'", fingerprint)
        if not rows:
            raise BadRequest("no box waits with this key any more")
        device, request = rows[0]
        if approve:
            csr, _ = _read(request, device)
            _issue(tx, authority, device, csr, fingerprint, now_ms, author)
        else:
            tx.run("UPDATE renewal SET state = 'refused', author = ? WHERE fingerprint = ?", author, fingerprint)
        return str(device)


# --- one request


def _read(request: str, device: str) -> tuple[x509.CertificateSigningRequest, str]:
    """The request and the fingerprint of its key. Raises BadRequest if it is none, or for another name."""
    try:
        csr = x509.load_pem_x509_csr(request.encode())
        key, valid, subject = csr.public_key(), csr.is_signature_valid, list(csr.subject)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadRequest("this is no certificate request") from error
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequest("the request is not signed by its own P-256 key")
    if [(name.oid, name.value) for name in subject] != [(NameOID.COMMON_NAME, device)]:
        raise BadRequest("the request is for another name")
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    return csr, digest.finalize().hex()


def _old(authority: Authority, certificate: str) -> x509.Certificate:
    try:
        old = x509.load_pem_x509_certificate(certificate.encode())
        old.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.pem))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise BadRequest("this is no certificate of this fleet") from error
    return old


def _verify(old: x509.Certificate, csr: x509.CertificateSigningRequest, signature: str) -> None:
    key = old.public_key()
    try:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(
            base64.b64decode(signature, validate=True), PROOF + csr.public_bytes(serialization.Encoding.DER), ec.ECDSA(hashes.SHA256())
        )
    except (InvalidSignature, AssertionError, binascii.Error, ValueError) as error:
        raise BadRequest("the old key has not signed this") from error


def _row(tx: Transaction, fingerprint: str, device: str) -> tuple[Any, ...] | None:
    rows = tx.run("SELECT state, certificate FROM renewal WHERE fingerprint = ? AND device = ?", fingerprint, device)
    return rows[0] if rows else None


def _not_revoked_lately(tx: Transaction, device: str, now_ms: int) -> None:
    """A broker that has not read the list yet lets a revoked box in, and the name may have been enrolled again. Raises BadRequest."""
    sql = "SELECT 1 FROM certificate WHERE device = ? AND revoked > ? AND expires > ?"
    if tx.run(sql, device, now_ms - _LATELY_MS, now_ms):
        raise BadRequest("a certificate of this box was revoked lately: enrol it anew, or ask later")


def _issue(
    tx: Transaction, authority: Authority, device: str, csr: x509.CertificateSigningRequest, fingerprint: str, now_ms: int, author: str
) -> str:
    """For as long as the box's last certificate was."""
    sql = "SELECT issued, expires FROM certificate WHERE device = ? AND revoked IS NULL ORDER BY issued DESC LIMIT 1"
    last = tx.run(sql, device)
    if not last:
        raise BadRequest("this box has no certificate that is valid")
    tx.run("DELETE FROM renewal WHERE asked < ?", now_ms - _KEEP_MS)
    sql = "SELECT count(*) FROM renewal WHERE device = ? AND state = 'issued' AND asked > ?"
    if tx.run(sql, device, now_ms - _DAY_MS)[0][0] >= _MOST_A_DAY:
        raise BadRequest("too many certificates for this box today")
    days = min(3650, max(1, round((last[0][1] - last[0][0]) / _DAY_MS)))
    issued = authority.certify(device, csr.public_key(), days, now_ms)
    pem = issued.certificate.decode()
    sql = "INSERT INTO certificate (serial, device, issued, expires) VALUES (?, ?, ?, ?)"
    tx.run(sql, issued.serial, device, now_ms, issued.expires)
    sql = (
        "INSERT INTO renewal (fingerprint, device, asked, state, certificate, request, ended, address, author)"
        " VALUES (?, ?, ?, 'issued', ?, '', 0, '', ?)"
        " ON CONFLICT (fingerprint) DO UPDATE SET state = 'issued', certificate = excluded.certificate, author = excluded.author"
    )
    tx.run(sql, fingerprint, device, now_ms, pem, author)
    return pem
