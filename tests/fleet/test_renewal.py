"""Certificates that renew themselves: real uplinks, a real mosquitto, hostile boxes, clocks that were never set."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import ssl
import threading

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import runtime.telemetry as t
import runtime.telemetry.renewal as rules
from fleet import inventory, renewal
from fleet.authority import Authority
from fleet.bundle import bundle, write_bundle
from fleet.errors import BadRequest
from runtime.telemetry import pki, wire
from runtime.telemetry.times import SystemTimes
from tests.fleet import support
from tests.fleet.support import Box, Fleet, SetTimes

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

DAY = 86_400_000


class Epoch(SystemTimes):
    """A box without a battery: 1970, and no time server."""

    def wall_ms(self):
        return self.mono_ms() % 1_000_000

    def synced(self):
        return False


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    """The waits themselves are tested as rules."""
    for name in ("_GRACE_AFTER_MS", "_GRACE_BLIND_MS"):
        monkeypatch.setattr(rules, name, 0)
    monkeypatch.setattr(rules, "_AGAIN_MS", 500)
    monkeypatch.setattr(rules, "_LONGEST_MS", 500)


@pytest.fixture
def boxes(fleet, tmp_path):
    """Makes boxes whose certificate of 30 days was made so many days ago, and ends them."""
    made = []

    def make(days_ago, name="box-1", start=True):
        issued = inventory.enrol(fleet.db, fleet.controller.authority, name, 30, fleet.times.wall_ms() - days_ago * DAY)
        folder = tmp_path / f"{name}-files"
        where = f"localhost:{fleet.settings.broker_port}"
        renewal_at = f"localhost:{fleet.settings.renewal_port}"
        write_bundle(bundle(issued, fleet.controller.authority.pem, where, fleet.settings.tenant, renewal_at), folder)
        if not start:
            return folder
        made.append(Box(tmp_path / f"home-{name}", folder, name))
        return made[-1]

    yield make
    for one in made:
        one.close()


def identity(tmp_path, name="box-1"):
    return tmp_path / f"home-{name}" / "outbox" / "identity"


def serials(fleet, name="box-1"):
    return [one.serial for one in inventory.certificates(fleet.db, name)]


def test_a_box_renews_without_anybody_noticing(fleet, boxes, tmp_path):
    """After two thirds of its life: a new certificate, connected with it, no event of a lost box; after a restart still the new one."""
    box = boxes(25)
    fleet.until(lambda: "certificate_renewed" in fleet.codes("box-1"))
    assert len(serials(fleet)) == 2
    assert not {"box_lost", "box_offline", "box_silent"} & set(fleet.codes("box-1"))
    assert sorted(file.name for file in identity(tmp_path).iterdir()) == ["own.pem"]
    own = x509.load_pem_x509_certificate((identity(tmp_path) / "own.pem").read_bytes())
    assert f"{own.serial_number:x}" in serials(fleet)
    assert abs(round((own.not_valid_after_utc - own.not_valid_before_utc).total_seconds() / 86_400) - 31) <= 1
    fleet.until(lambda: fleet.device("box-1").health.get("certificate_left", 0) > 29 * 86_400)
    box.stop()
    fleet.until(lambda: fleet.state("box-1") == "offline")
    box.start()
    fleet.until(lambda: fleet.state("box-1") == "online")
    assert box.node._identity._shown.source == "own"
    assert len(serials(fleet)) == 2


def test_a_fresh_certificate_is_left_alone(fleet, boxes):
    """Nothing is asked for before it is due."""
    boxes(2)
    fleet.until(lambda: fleet.device("box-1").health.get("certificate_left", 0) > 27 * 86_400)
    assert len(serials(fleet)) == 1


@pytest.mark.parametrize("state", ["asked", "came", "came, key still there", "renewed once"])
def test_killed_at_any_step_it_goes_on(fleet, boxes, tmp_path, state):
    """Whatever a power cut left in the folder: the box comes up, renews, and has one whole pair in the end."""
    folder = boxes(25, start=False)
    place = identity(tmp_path)
    place.mkdir(parents=True)
    pki.request(place, "box-1")
    key = (place / "next.key").read_bytes()
    if state != "asked":
        asked = pki.request(place, "box-1")["request"]
        pem = renewal.grant(fleet.db, fleet.controller.authority, "box-1", asked, fleet.times.wall_ms())
        pki.accept(place, "box-1", fleet.controller.authority.certificate, pem.encode())
    if "key" in state:
        (place / "next.key").write_bytes(key)
    if state == "renewed once":
        (place / "trial.pem").rename(place / "own.pem")
    box = Box(tmp_path / "home-box-1", folder, "box-1")
    try:
        fleet.until(lambda: fleet.state("box-1") == "online")
        if state != "renewed once":
            fleet.until(lambda: "certificate_renewed" in fleet.codes("box-1"))
        assert sorted(file.name for file in place.iterdir()) == ["own.pem"]
        assert len(serials(fleet)) == 2
    finally:
        box.close()


def test_a_trial_that_is_not_let_in_leaves_the_old_pair(fleet, boxes, tmp_path, monkeypatch):
    """The new certificate is revoked before it connects: the box stays with the old one and is online; the trial is given up."""
    monkeypatch.setattr(rules, "_SUSPECT_MS", 3000)
    monkeypatch.setattr(rules, "_TRIAL_AGAIN_MS", 0)
    folder = boxes(25, start=False)
    place = identity(tmp_path)
    asked = pki.request(place, "box-1")["request"]
    pem = renewal.grant(fleet.db, fleet.controller.authority, "box-1", asked, fleet.times.wall_ms())
    pki.accept(place, "box-1", fleet.controller.authority.certificate, pem.encode())
    bad = f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:x}"
    with fleet.db.write() as tx:
        tx.run("UPDATE certificate SET revoked = 1, applied = 1 WHERE serial = ?", bad)
    crl = fleet.controller.authority.revoked
    fleet.until(lambda: x509.load_pem_x509_crl(crl.read_bytes()).get_revoked_certificate_by_serial_number(int(bad, 16)))
    box = Box(tmp_path / "home-box-1", folder, "box-1")
    try:
        fleet.until(lambda: "certificate_refused" in fleet.codes("box-1"))
        fleet.until(lambda: fleet.state("box-1") == "online")
        assert not (place / "trial.pem").exists()
    finally:
        box.close()


def test_a_box_whose_certificate_has_ended_waits_for_an_admin(fleet, boxes):
    """It cannot connect, asks by HTTPS, the technician reads why; approved, it gets its certificate and is online by itself."""
    box = boxes(40)
    waiting = fleet.until(lambda: renewal.asking(fleet.db))
    assert [(one.device, one.address) for one in waiting] == [("box-1", "127.0.0.1")]
    assert fleet.codes("box-1") == ["box_renewal_waits"]
    assert fleet.state("box-1") == "new"
    device = renewal.decide(fleet.db, fleet.controller.authority, waiting[0].fingerprint, "anna", fleet.times.wall_ms(), approve=True)
    assert device == "box-1"
    fleet.until(lambda: fleet.state("box-1") == "online")
    fleet.until(lambda: "certificate_renewed" in fleet.codes("box-1"))
    assert len(serials(fleet)) == 2
    assert box.node._identity._shown.source in ("trial", "own")
    assert renewal.asking(fleet.db) == []


def test_a_box_in_1970_renews(fleet, boxes, monkeypatch):
    """Its clock was never set: it connects, learns the time from the controller, and renews when that says so."""
    monkeypatch.setattr(support, "SetTimes", Epoch)
    boxes(25)
    fleet.until(lambda: "certificate_renewed" in fleet.codes("box-1"))
    assert len(serials(fleet)) == 2


def test_a_box_in_1970_whose_certificate_has_ended_asks_too(fleet, boxes, monkeypatch):
    """It does not know that it has ended, but that nobody lets it in."""
    monkeypatch.setattr(support, "SetTimes", Epoch)
    boxes(40)
    (waiting,) = fleet.until(lambda: renewal.asking(fleet.db))
    renewal.decide(fleet.db, fleet.controller.authority, waiting.fingerprint, "anna", fleet.times.wall_ms(), approve=True)
    fleet.until(lambda: fleet.state("box-1") == "online")


def handshake(certificate_folder, ca, *, dates):
    """A TLS handshake with a server of this certificate; True, or the error."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate_folder / "server.pem", certificate_folder / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve():
            plain, _ = listening.accept()
            try:
                server.wrap_socket(plain, server_side=True).close()
            except (ssl.SSLError, OSError):
                plain.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 10) as plain,
                wire.context(ca, dates=dates).wrap_socket(plain, server_hostname="localhost"),
            ):
                return True
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        finally:
            thread.join(10)


def test_without_a_clock_only_dates_are_not_judged(tmp_path):
    """A certificate that is not valid yet is taken by a box in 1970 only; another authority or another name by none."""
    now = SystemTimes().wall_ms()
    authority, other = Authority(tmp_path / "a", now), Authority(tmp_path / "b", now)

    def server(issuer, when, name):
        issued = issuer.issue("broker", 30, when, names=(name,))
        (tmp_path / "server.pem").write_bytes(issued.certificate)
        (tmp_path / "server.key").write_bytes(issued.key)
        return tmp_path

    assert handshake(server(authority, now + 10 * DAY, "localhost"), authority.certificate, dates=True) == "certificate is not yet valid"
    assert handshake(server(authority, now + 10 * DAY, "localhost"), authority.certificate, dates=False) is True
    assert handshake(server(other, now, "localhost"), authority.certificate, dates=False) is not True
    assert handshake(server(authority, now, "elsewhere"), authority.certificate, dates=False) is not True


# --- the controller's side


def request(name="box-1", key=None):
    """A request for this name, and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def test_only_the_name_of_the_certificate_that_asks(fleet, stranger):
    """A box asks for another's name, with nonsense, with a broken signature: refused with the reason, nothing is issued."""
    victim, thief = stranger("box-2"), stranger("box-1")
    good = x509.load_pem_x509_csr(request().encode()).public_bytes(serialization.Encoding.DER)
    broken = base64.encodebytes(good[:-4] + bytes((good[-4] ^ 1,)) + good[-3:]).decode()
    for text in (request("box-2"), "nonsense", f"-----BEGIN CERTIFICATE REQUEST-----\n{broken}-----END CERTIFICATE REQUEST-----\n"):
        assert thief.say(t.UpKind.RENEW, t.Renew(request=text)) == 0
    thief.wait(lambda: sum(message.topic.endswith("/down/certificate") for message in thief.came) == 3)
    answers = [
        t.decode_down(message.payload, t.DownKind.CERTIFICATE)[1] for message in thief.came if message.topic.endswith("/down/certificate")
    ]
    assert all(answer.certificate == "" and answer.reason for answer in answers)
    assert len(serials(fleet, "box-1")) == len(serials(fleet, "box-2")) == 1
    assert fleet.controller.counts["strange_renewal"] == 3
    assert not any(message.topic.endswith("/down/certificate") for message in victim.came)


def test_requests_that_the_library_cannot_read(fleet):
    """A curve nobody knows, a name of no alphabet, another kind of name: one line, nothing is issued, and the next box has its answer."""
    good = x509.load_pem_x509_csr(request().encode()).public_bytes(serialization.Encoding.DER)
    curve, other = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030102")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "box-1")])
    titled = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    fleet.enrol("box-1")
    for der in (
        good.replace(curve, other),
        good.replace(b"box-1", b"box-\xff"),
        titled.public_bytes(serialization.Encoding.DER),
    ):
        text = base64.encodebytes(der).decode()
        with pytest.raises(BadRequest):
            renewal.grant(
                *(fleet.db, fleet.controller.authority, "box-1"),
                f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n",
                fleet.times.wall_ms(),
            )
    assert len(serials(fleet)) == 1


def test_a_request_that_cannot_be_judged_stops_no_other(fleet, caplog, monkeypatch):
    """Whatever goes wrong with one: it is logged and counted, and the next box has its certificate."""
    for name in ("box-1", "box-2"):
        fleet.enrol(name)
    grant = renewal.grant

    def judged(db, authority, device, *rest):
        if device == "box-1":
            raise RuntimeError("what nobody thought of")
        return grant(db, authority, device, *rest)

    monkeypatch.setattr(renewal, "grant", judged)
    answer = fleet.controller.registrar.answer([("box-1", request()), ("box-2", request("box-2"))])
    asyncio.run_coroutine_threadsafe(answer, fleet.loop).result(60)
    assert fleet.controller.counts["strange_renewal"] == 1
    assert (len(serials(fleet, "box-1")), len(serials(fleet, "box-2"))) == (1, 2)
    assert "box-1 cannot be judged" in caplog.text


def test_the_same_request_is_the_same_certificate(fleet, stranger):
    """Asked again, because the answer was lost: the same one, however often."""
    box = stranger("box-1")
    asked = request()
    for _ in range(3):
        assert box.say(t.UpKind.RENEW, t.Renew(request=asked)) == 0
    box.wait(lambda: sum(message.topic.endswith("/down/certificate") for message in box.came) == 3)
    found = {message.payload.split(b'"certificate":')[1] for message in box.came if message.topic.endswith("/down/certificate")}
    assert len(found) == 1
    assert len(serials(fleet)) == 2


def test_a_box_cannot_have_certificates_without_end(fleet):
    """A hostile box that asks with new keys gets eight a day."""
    fleet.enrol("box-1")
    now = fleet.times.wall_ms()
    for _ in range(8):
        renewal.grant(fleet.db, fleet.controller.authority, "box-1", request(), now)
    with pytest.raises(BadRequest, match="too many"):
        renewal.grant(fleet.db, fleet.controller.authority, "box-1", request(), now)
    renewal.grant(fleet.db, fleet.controller.authority, "box-1", request(), now + 2 * DAY)


def test_a_revoked_box_gets_nothing(fleet):
    """By no way."""
    fleet.enrol("box-1")
    inventory.revoke(fleet.db, "box-1", 1)
    with pytest.raises(BadRequest, match="no certificate that is valid"):
        renewal.grant(fleet.db, fleet.controller.authority, "box-1", request(), fleet.times.wall_ms())


def test_a_revoked_box_whose_name_is_enrolled_again_gets_nothing(fleet, boxes, tmp_path):
    """A broker may not have read the list yet: for 30 days, or until the revoked certificate has ended, nobody renews under that name."""
    fleet.enrol("box-1")
    now = fleet.times.wall_ms()
    inventory.revoke(fleet.db, "box-1", now)
    folder = boxes(25, start=False)
    for moment in (now + 1, now + 29 * DAY):
        with pytest.raises(BadRequest, match="revoked lately"):
            renewal.grant(fleet.db, fleet.controller.authority, "box-1", request(), moment)
    with pytest.raises(BadRequest, match="revoked lately"):
        renewal.late(fleet.db, fleet.controller.authority, **proof(folder, tmp_path), address="", now_ms=now + 1)
    assert renewal.grant(fleet.db, fleet.controller.authority, "box-1", request(), now + 31 * DAY)


def proof(folder, tmp_path, name="box-1"):
    """What a box whose certificate has ended sends."""
    place = tmp_path / "proof"
    shutil.rmtree(place, ignore_errors=True)
    return pki.prove(place, name, folder / f"{name}.pem", folder / f"{name}.key")


def test_who_cannot_prove_the_old_key_is_refused(fleet, boxes, tmp_path):
    """Another key's signature, another name, another authority, a revoked certificate, nonsense, too much: one line, nothing kept."""
    folder = boxes(40, start=False)
    good = proof(folder, tmp_path)
    stranger = Authority(tmp_path / "stranger", fleet.times.wall_ms()).issue("box-1", 30, fleet.times.wall_ms() - 40 * DAY)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "box-1.pem").write_bytes(stranger.certificate)
    (foreign / "box-1.key").write_bytes(stranger.key)
    url = f"https://localhost:{fleet.settings.renewal_port}/renew"
    tls = ssl.create_default_context(cafile=fleet.controller.authority.certificate)
    with httpx.Client(verify=tls) as client:
        for body, status in (
            (good | {"request": request()}, 403),
            (good | {"signature": "AAAA"}, 403),
            (good | {"certificate": proof(foreign, tmp_path)["certificate"]}, 403),
            (proof(foreign, tmp_path), 403),
            (good | {"request": request("box-2")}, 403),
            (good | {"more": 1}, 400),
            ({}, 400),
            (good | {"certificate": "x" * 40_000}, 413),
        ):
            answer = client.post(url, json=body)
            assert answer.status_code == status, (status, answer.text)
        assert client.post(url, content=b"\xff").status_code == 400
        assert client.get(url).status_code == 405
        assert client.get(url.replace("/renew", "/api/v1/devices")).status_code == 404
        assert renewal.asking(fleet.db) == []
        assert client.post(url, json=good).json() == {"state": "waiting", "certificate": ""}
        assert client.post(url, json=good).json()["state"] == "waiting"
        (waiting,) = renewal.asking(fleet.db)
        renewal.decide(fleet.db, fleet.controller.authority, waiting.fingerprint, "anna", fleet.times.wall_ms(), approve=False)
        assert client.post(url, json=good).json()["state"] == "refused"
        for _ in range(60):
            answer = client.post(url, json={})
        assert answer.status_code == 429
    inventory.revoke(fleet.db, "box-1", 1)
    with pytest.raises(BadRequest, match="revoked"):
        renewal.late(fleet.db, fleet.controller.authority, **proof(folder, tmp_path), address="", now_ms=fleet.times.wall_ms())


def test_one_address_does_not_use_up_what_all_may_ask(fleet):
    """However often one host asks, boxes at other addresses are looked at."""
    url = f"https://localhost:{fleet.settings.renewal_port}/renew"
    tls = ssl.create_default_context(cafile=fleet.controller.authority.certificate)
    with httpx.Client(verify=tls) as client:
        assert client.post(url, json={}).status_code == 400
        assert 429 in {client.post(url, json={}).status_code for _ in range(700)}
    with httpx.Client(transport=httpx.HTTPTransport(verify=tls, local_address="127.0.0.2")) as other:
        assert other.post(url, json={}).status_code == 400


def test_a_certificate_that_has_not_ended_needs_no_admin(fleet, boxes, tmp_path):
    """A box whose clock is ahead asks by HTTPS though it could have asked by MQTT: the same proof, the same answer."""
    folder = boxes(25, start=False)
    device, answer = renewal.late(fleet.db, fleet.controller.authority, **proof(folder, tmp_path), address="", now_ms=fleet.times.wall_ms())
    assert (device, answer.state) == ("box-1", "issued")


class Moved(SetTimes):
    """Clocks that were behind until they are set."""

    behind_ms = 70 * DAY

    def wall_ms(self):
        return super().wall_ms() - self.behind_ms


def shown(port, ca):
    """The certificate that a server shows."""
    context = ssl.create_default_context(cafile=ca)
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                return secure.getpeercert()["serialNumber"]
        except ssl.SSLError as error:  # a broker that wants ours says so after its own
            raise AssertionError(error) from error


def test_the_controllers_own_certificates_and_list_renew_themselves(tmp_path):
    """After two thirds of their life broker, renewal and own files are new, and the list too; sessions go on."""
    times = Moved()
    fleet = Fleet(tmp_path / "data", times=times)
    try:
        ca = fleet.controller.authority.certificate
        ports = (fleet.settings.broker_port, fleet.settings.renewal_port)
        before = [shown(port, ca) for port in ports]
        files = [tmp_path / "data" / "authority" / name for name in ("controller.pem", "revoked.pem", "renewal.pem")]
        old = [file.read_bytes() for file in files]
        fleet.until(fleet.controller.link.connected.is_set)
        received = fleet.controller.link
        times.behind_ms = 0
        fleet.until(lambda: all(file.read_bytes() != text for file, text in zip(files, old, strict=True)))
        fleet.until(lambda: all(shown(port, ca) != serial for port, serial in zip(ports, before, strict=True)))
        assert received.connected.is_set()
        issued = x509.load_pem_x509_crl(files[1].read_bytes())
        assert issued.next_update_utc is not None
        assert issued.next_update_utc.timestamp() * 1000 > times.wall_ms() + 80 * DAY
    finally:
        fleet.stop()


def test_over_the_api(fleet, boxes, tmp_path):
    """An admin sees who waits and decides; an operator does not; it is in the audit log."""
    from fleet import accounts, journal

    folder = boxes(40, start=False)
    now = fleet.times.wall_ms()
    renewal.late(fleet.db, fleet.controller.authority, **proof(folder, tmp_path), address="10.0.0.5", now_ms=now)
    url = f"{fleet.controller.server.url}/api/v1/renewals"
    tokens = {role: accounts.make_token(fleet.db, "test", role, "anna", 1, now) for role in accounts.Role}
    for role in (accounts.Role.VIEWER, accounts.Role.OPERATOR):
        assert httpx.get(url, headers={"Authorization": f"Bearer {tokens[role]}"}).status_code == 403
    headers = {"Authorization": f"Bearer {tokens[accounts.Role.ADMIN]}"}
    (found,) = httpx.get(url, headers=headers).json()
    assert (found["device"], found["address"]) == ("box-1", "10.0.0.5")
    assert httpx.post(f"{url}/{found['fingerprint']}", json={"approve": True}, headers=headers).status_code == 200
    assert httpx.get(url, headers=headers).json() == []
    assert httpx.post(f"{url}/{found['fingerprint']}", json={"approve": True}, headers=headers).status_code == 400
    assert [entry.action for entry in journal.audited(fleet.db, target="box-1")] == ["renewal approved"]
