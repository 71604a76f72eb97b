"""The box's keys: made here, kept here, and what is refused as a certificate."""

from __future__ import annotations

import base64
import datetime
import json
import signal
import stat
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.authority import Authority
from fleet.renewal import PROOF as CONTROLLERS_PROOF
from runtime.telemetry import pki

pytestmark = pytest.mark.unit

NOW = 1_790_000_000_000


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority", NOW)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "identity"


def certificate(authority, folder, name="box-1"):
    """A certificate of the authority for the request of this folder."""
    asked = x509.load_pem_x509_csr(pki.request(folder, "box-1")["request"].encode())
    return authority.certify(name, asked.public_key(), 30, NOW).certificate


def test_a_key_is_made_once_and_read_by_its_owner_alone(folder):
    """Asked again, the same key asks: the controller knows it for the same request."""
    first, second = (x509.load_pem_x509_csr(pki.request(folder, "box-1")["request"].encode()) for _ in range(2))
    assert first.public_key() == second.public_key()
    assert first.is_signature_valid
    assert stat.S_IMODE((folder / "next.key").stat().st_mode) == 0o600
    assert [one.value for one in first.subject] == ["box-1"]


def test_a_certificate_becomes_the_trial_with_its_key(folder, authority):
    """One file holds both, and the key that was waiting is gone."""
    pki.accept(folder, "box-1", authority.certificate, certificate(authority, folder))
    assert sorted(file.name for file in folder.iterdir()) == ["trial.pem"]
    pem = (folder / "trial.pem").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert key.public_key() == x509.load_pem_x509_certificate(pem).public_key()
    assert stat.S_IMODE((folder / "trial.pem").stat().st_mode) == 0o600
    (found,) = pki.describe([str(folder / "trial.pem")])
    assert found is not None
    assert (found["name"], found["ends"]) == ("box-1", NOW + 30 * 86_400_000)


def test_what_is_refused(folder, authority, tmp_path):
    """Another key's certificate, another name, another authority, no certificate, nothing asked for: no trial is made."""
    with pytest.raises(pki.Wrong, match="nothing was asked for"):
        pki.accept(folder, "box-1", authority.certificate, b"")
    good = certificate(authority, folder)
    other = Authority(tmp_path / "other", NOW)
    for text, pem, ca in (
        ("not a certificate", b"-----BEGIN", authority.certificate),
        ("not for this box's key", authority.issue("box-1", 30, NOW).certificate, authority.certificate),
        ("for another name", certificate(authority, folder, "box-2"), authority.certificate),
        ("not of the fleet's authority", good, other.certificate),
        ("not of the fleet's authority", certificate(other, folder), authority.certificate),
    ):
        with pytest.raises(pki.Wrong, match=text):
            pki.accept(folder, "box-1", ca, pem)
    assert not (folder / "trial.pem").exists()
    pki.accept(folder, "box-1", authority.certificate, good)  # the key is still there


def test_the_proof_is_signed_by_the_old_key_and_shows_no_key(folder, authority, tmp_path):
    """Over the request, with words before it that mean nothing else; of a file with key and certificate only the certificate is shown."""
    issued = authority.issue("box-1", 30, NOW)
    both = tmp_path / "own.pem"
    both.write_bytes(issued.key + issued.certificate)
    found = pki.prove(folder, "box-1", both, both)
    assert "PRIVATE" not in json.dumps(found)
    old = x509.load_pem_x509_certificate(found["certificate"].encode())
    asked = x509.load_pem_x509_csr(found["request"].encode())
    key = old.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signature = base64.b64decode(found["signature"])
    key.verify(signature, pki.PROOF + asked.public_bytes(serialization.Encoding.DER), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(signature, asked.public_bytes(serialization.Encoding.DER), ec.ECDSA(hashes.SHA256()))
    assert pki.PROOF == CONTROLLERS_PROOF


def test_files_that_are_none_are_described_as_nothing(tmp_path, authority):
    """A damaged file, a missing one and a key are no certificates; the next file is read all the same."""
    broken = tmp_path / "broken.pem"
    broken.write_bytes(b"\x00\xff")
    found = pki.describe([str(broken), str(tmp_path / "none"), str(authority.certificate)])
    assert found[:2] == [None, None]
    assert found[2] is not None
    expected = datetime.datetime.fromtimestamp(NOW / 1000, datetime.timezone.utc) - datetime.timedelta(days=1)
    assert found[2]["begins"] == round(expected.timestamp() * 1000)


def run(*words, given=b""):
    return subprocess.run([sys.executable, "-m", "runtime.telemetry.pki", *map(str, words)], input=given, capture_output=True, check=False)


@pytest.mark.system
def test_as_a_process(folder, authority):
    """JSON on stdout; what is wrong is one line on stderr and status 1."""
    found = run("request", folder, "box-1")
    assert found.returncode == 0
    asked = x509.load_pem_x509_csr(json.loads(found.stdout)["request"].encode())
    pem = authority.certify("box-1", asked.public_key(), 30, NOW).certificate
    wrong = run("accept", folder, "box-2", authority.certificate, given=pem)
    assert (wrong.returncode, wrong.stderr) == (1, b"it is for another name")
    assert run("accept", folder, "box-1", authority.certificate, given=pem).returncode == 0
    assert run("describe", folder / "trial.pem").stdout.startswith(b"[{")


@pytest.mark.system
def test_killed_anywhere_it_goes_on(folder, authority):
    """SIGKILL at any moment of asking and accepting: afterwards the step can be done again and ends in one whole pair."""
    for number in range(12):
        process = subprocess.Popen([sys.executable, "-m", "runtime.telemetry.pki", "request", str(folder), "box-1"], stdout=subprocess.PIPE)
        if number:
            assert process.stdout is not None
            if number % 2:
                process.stdout.read(1)
            process.send_signal(signal.SIGKILL)
        process.communicate()
        key = folder / "next.key"
        if key.exists():
            serialization.load_pem_private_key(key.read_bytes(), None)  # whole
    pem = certificate(authority, folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime.telemetry.pki", "accept", str(folder), "box-1", str(authority.certificate)], stdin=subprocess.PIPE
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if not (folder / "trial.pem").exists():
        pki.accept(folder, "box-1", authority.certificate, pem)
    both = (folder / "trial.pem").read_bytes()
    key = serialization.load_pem_private_key(both, None)
    assert key.public_key() == x509.load_pem_x509_certificate(both).public_key()
