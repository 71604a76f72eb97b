"""The box's own keys and certificates: `python -m runtime.telemetry.pki DO FOLDER …`, a process of its own for each step.

So the library that knows certificates is in memory only for that moment, and a private key never passes through the uplink: it is made
here, lies in FOLDER readable by its owner alone, and no step writes it anywhere else. Answers are JSON on stdout; exit status 1 and one
line on stderr say what is wrong.

- `describe FILE…`: whose each certificate is, since and until when.
- `request FOLDER NAME`: a certificate request (PKCS#10) for the key in `next.key`, which is made if it is not there.
- `accept FOLDER NAME CA`: the certificate on stdin, if it is NAME's, of this authority and for that key, becomes `trial.pem`: key and
  certificate in one file.
- `prove FOLDER NAME CERTIFICATE KEY`: the request, the certificate that ended, and a signature of its key over the request.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PROOF", "Wrong", "accept", "describe", "prove", "request"]

PROOF = b"visavis renewal\n"
"""What a key that ended signs together with the request (DER), so that the signature means nothing else."""


class Wrong(Exception):
    """It cannot be done; the text says why."""


def describe(files: list[str]) -> list[dict[str, Any] | None]:
    """For each file its certificate's name, fingerprint (SHA-256) and validity (wall time, ms); None if there is no certificate in it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    found: list[dict[str, Any] | None] = []
    for file in files:
        try:
            certificate = x509.load_pem_x509_certificate(Path(file).read_bytes())
        except (OSError, ValueError):
            found.append(None)
            continue
        found.append(
            {
                "name": _name(certificate.subject),
                "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
                "begins": round(certificate.not_valid_before_utc.timestamp() * 1000),
                "ends": round(certificate.not_valid_after_utc.timestamp() * 1000),
            }
        )
    return found


def request(folder: Path, name: str) -> dict[str, Any]:
    """The request as PEM."""
    from cryptography.hazmat.primitives import serialization

    return {"request": _request(folder, name).public_bytes(serialization.Encoding.PEM).decode()}


def accept(folder: Path, name: str, ca: Path, pem: bytes) -> dict[str, Any]:
    """Keep the certificate with its key as `trial.pem`. Raises Wrong."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization

    key = _key(folder, make=False)
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        authorities = x509.load_pem_x509_certificates(ca.read_bytes())
    except (OSError, ValueError) as error:
        raise Wrong(f"not a certificate ({type(error).__name__})") from error
    if certificate.public_key() != key.public_key():
        raise Wrong("it is not for this box's key")
    if _name(certificate.subject) != name:
        raise Wrong("it is for another name")
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
            break
        except (ValueError, TypeError, InvalidSignature):
            continue
    else:
        raise Wrong("it is not of the fleet's authority")
    both = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(folder / "trial.pem", both + certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "next.key").unlink(missing_ok=True)  # it is in the trial; killed before this, the next start removes it
    return {}


def prove(folder: Path, name: str, certificate: Path, key: Path) -> dict[str, Any]:
    """What the controller takes from a box whose certificate has ended."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    old = serialization.load_pem_private_key(key.read_bytes(), None)
    if not isinstance(old, ec.EllipticCurvePrivateKey):
        raise Wrong("the key that ended is not of the fleet's kind")
    asked = _request(folder, name)
    signature = old.sign(PROOF + asked.public_bytes(serialization.Encoding.DER), ec.ECDSA(hashes.SHA256()))
    text = certificate.read_text(encoding="ascii")
    begin = text.find("-----BEGIN CERTIFICATE-----")  # not the key, which may stand before it in the same file
    end = text.find("-----END CERTIFICATE-----", begin) + len("-----END CERTIFICATE-----")
    return {
        "certificate": text[begin:end] + "\n",
        "request": asked.public_bytes(serialization.Encoding.PEM).decode(),
        "signature": base64.b64encode(signature).decode(),
    }


def _request(folder: Path, name: str) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(_key(folder, make=True), hashes.SHA256())


def _key(folder: Path, *, make: bool) -> Any:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    file = folder / "next.key"
    try:
        return serialization.load_pem_private_key(file.read_bytes(), None)
    except (FileNotFoundError, ValueError) as error:
        if not make:
            raise Wrong("nothing was asked for") from error
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(file, pem)
    return key


def _name(subject: Any) -> str:
    from cryptography.x509.oid import NameOID

    found = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one step, so that a power cut leaves the old or the new one; nobody but its owner reads it."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def main(words: list[str]) -> int:
    """One step; see the top."""
    steps: dict[str, Callable[..., Any]] = {
        "describe": lambda *files: describe(list(files)),
        "request": lambda folder, name: request(Path(folder), name),
        "accept": lambda folder, name, ca: accept(Path(folder), name, Path(ca), sys.stdin.buffer.read()),
        "prove": lambda folder, name, certificate, key: prove(Path(folder), name, Path(certificate), Path(key)),
    }
    try:
        sys.stdout.write(json.dumps(steps[words[0]](*words[1:])))
    except ImportError:
        sys.stderr.write("the package cryptography is not installed")
        return 1
    except (Wrong, OSError, ValueError, TypeError) as error:
        # Of what the system says only the class: it may hold paths.
        sys.stderr.write(str(error) if isinstance(error, Wrong) else f"the system refused ({type(error).__name__})")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
