"""Single sign-on: against a real OpenID Connect provider, and what must not be believed."""

from __future__ import annotations

import base64
import hmac
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urljoin

import httpx
import msgspec
import pytest

from fleet import accounts, journal
from fleet.accounts import Role
from fleet.config import Config
from fleet.database import open_database
from fleet.errors import BadRequest
from fleet.oidc import Oidc, check, person, verify
from fleet.refusals import Kind, Refusals
from fleet.scopes import EVERYTHING, Scope
from fleet.tickets import Tickets, new
from tests.fleet.support import Fleet
from tests.runtime.telemetry.support import free_port

FOLDER = Path(__file__).parent
NOW = 1_790_000_000_000
SECTION = Oidc(
    issuer="https://id.example.com",
    client_id="visavis",
    url="https://fleet.example.com:8480",
    roles={"fleet-admins": Role.ADMIN, "shops": Role.OPERATOR, "berlin": Role.OPERATOR, "everybody": Role.VIEWER},
    scopes={"berlin": ("site:Berlin*",)},
)


# --- what is believed


@pytest.fixture(scope="module")
def key():
    from joserfc.jwk import RSAKey

    return RSAKey.generate_key(2048, {"kid": "1"})


def signed(key, **changes):
    from joserfc import jwt

    claims = {"iss": SECTION.issuer, "aud": "visavis", "sub": "17", "nonce": "n", "iat": NOW // 1000, "exp": NOW // 1000 + 300}
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode({"alg": "RS256", "kid": "1"}, claims, key)


def keys(key):
    return {"keys": [key.as_dict(private=False)]}


@pytest.mark.unit
def test_a_good_token_is_believed(key):
    """Signed by the provider, for us, of now, of this sign-in."""
    assert verify(SECTION, signed(key), keys(key), "n", NOW)["sub"] == "17"
    assert verify(SECTION, signed(key, aud=["visavis", "x"], azp="visavis"), keys(key), "n", NOW)["sub"] == "17"


@pytest.mark.unit
@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example.com"},
        {"aud": "somebody-else"},
        {"aud": ["visavis", "x"]},
        {"aud": ["visavis", "x"], "azp": "x"},
        {"exp": NOW // 1000 - 61},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"nonce": "another"},
        {"nonce": None},
    ],
)
def test_other_claims_are_not(key, changes):
    """Another issuer, audience, time or sign-in."""
    with pytest.raises(BadRequest):
        verify(SECTION, signed(key, **changes), keys(key), "n", NOW)


@pytest.mark.unit
def test_other_signatures_are_not(key):
    """Another key, no signature, a shared secret made of the public key, a changed token, nonsense."""
    from joserfc.jwk import RSAKey

    good = signed(key)
    stranger = RSAKey.generate_key(2048, {"kid": "1"})
    head, body, tail = good.split(".")
    none = "eyJhbGciOiJub25lIn0." + body + "."
    forged = f"eyJhbGciOiJIUzI1NiIsImtpZCI6IjEifQ.{body}"  # HS256
    mac = hmac.digest(key.as_pem(private=False), forged.encode(), "sha256")
    forged += "." + base64.urlsafe_b64encode(mac).decode().rstrip("=")
    for token in (
        signed(stranger),
        none,
        f"{head}.{body}A.{tail}",
        forged,
        "",
        "a.b.c",
        "x" * 10_000,
    ):
        with pytest.raises(BadRequest, match="cannot be trusted"):
            verify(SECTION, token, keys(key), "n", NOW)


@pytest.mark.unit
def test_roles_and_scopes_from_a_claim():
    """The highest role counts; scopes of that role add up; a value without a scope lifts them; no known value is no role."""
    claims = {"sub": "17", "preferred_username": "anna@example.com"}

    def found(*groups):
        who = person(SECTION, claims | {"groups": list(groups)})
        return who.role, who.scope

    assert found("everybody", "fleet-admins", "unknown") == (Role.ADMIN, EVERYTHING)
    assert found("berlin", "everybody") == (Role.OPERATOR, Scope(("site:Berlin*",)))
    assert found("berlin", "shops") == (Role.OPERATOR, EVERYTHING)
    assert person(SECTION, claims | {"groups": "everybody"}).role is Role.VIEWER
    for groups in ([], ["unknown"], [1, None], {"fleet-admins": 1}):
        with pytest.raises(BadRequest, match="no role here"):
            person(SECTION, claims | {"groups": groups})
    with pytest.raises(BadRequest, match="preferred_username"):
        person(SECTION, {"sub": "17", "groups": ["shops"]})


@pytest.mark.unit
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"issuer": "http://id.example.com"}, "issuer"),
        ({"url": "ftp://x"}, "url"),
        ({"roles": {}}, "no role"),
        ({"scopes": {"berlin": ("city:Berlin",)}}, "is no scope"),
        ({"scopes": {"Berlin": ("site:Berlin*",)}}, "'Berlin': not in"),
        ({"scopes": {"berlin": ()}}, "without a rule"),
    ],
)
def test_a_section_that_cannot_be_meant(change, says):
    """Without TLS, without a role, with a wrong scope: one line before anything starts."""
    with pytest.raises(BadRequest, match=says):
        check(msgspec.structs.replace(SECTION, **change))


@pytest.mark.unit
def test_nobody_takes_over_an_account(tmp_path):
    """A stranger with a local user's name is refused; the same subject is the same account, though its name at the provider changed."""
    db = open_database(tmp_path / "fleet.db")
    accounts.create(db, "anna", Role.ADMIN, "correct horse battery", 1)
    with pytest.raises(BadRequest, match="called anna here already"):
        accounts.federate(db, "https://id", "1", "anna", Role.VIEWER, EVERYTHING, 1)
    assert accounts.federate(db, "https://id", "2", "ben", Role.VIEWER, Scope(("site:Berlin",)), 1) == "ben"
    assert accounts.federate(db, "https://id", "2", "benjamin", Role.OPERATOR, EVERYTHING, 1) == "ben"
    with pytest.raises(BadRequest, match="called ben here already"):
        accounts.federate(db, "https://another", "2", "ben", Role.ADMIN, EVERYTHING, 1)
    assert accounts.sign_in(db, "ben", "-") is None
    found = {user.name: user for user in accounts.accounts(db)}
    assert (found["ben"].role, found["ben"].federated, found["anna"].federated) == (Role.OPERATOR, True, False)
    accounts.change(db, "ben", disabled=True)
    with pytest.raises(BadRequest, match="may not sign in"):
        accounts.federate(db, "https://id", "2", "ben", Role.OPERATOR, EVERYTHING, 1)
    with pytest.raises(BadRequest, match="no user here can have"):
        accounts.federate(db, "https://id", "3", "a name with spaces", Role.VIEWER, EVERYTHING, 1)
    db.close()


# --- what is on its way


@pytest.mark.unit
def test_a_ticket_is_good_at_any_controller_and_once(db):
    """Sealed by one, opened and used by another on the same store, which the first then knows; nothing of it can be read outside."""
    one, other = Tickets(db), Tickets(db)
    ticket = new()
    sealed = one.seal(ticket, NOW)
    assert other.open(sealed, NOW + 599_000) == ticket
    assert not any(secret in base64.urlsafe_b64decode(sealed) for secret in (ticket.nonce.encode(), ticket.verifier.encode()))
    assert other.use(ticket, NOW + 1000)
    assert not other.use(ticket, NOW + 2000)
    assert not one.use(ticket, NOW + 600_000)
    assert one.use(new(), NOW + 2000)
    assert not any(ticket.state in str(row) for row in db.read("SELECT digest FROM ticket"))


@pytest.mark.unit
def test_other_tickets_are_none(db, tmp_path):
    """Older than ten minutes, of another fleet, changed, nonsense; and what was used is only remembered while it could be used again."""
    tickets, ticket = Tickets(db), new()
    sealed = tickets.seal(ticket, NOW)
    assert tickets.open(sealed, NOW + 601_000) is None
    strange = open_database(tmp_path / "another.db")
    assert Tickets(strange).open(sealed, NOW) is None
    strange.close()
    for text in ("", "x", "ü", sealed[:-8] + "AAAAAAA=", sealed[:60] + sealed[64:], "gAAAAA" * 500):
        assert tickets.open(text, NOW) is None, text
    assert tickets.use(ticket, NOW)
    assert tickets.use(new(), NOW + 719_000)
    assert len(db.read("SELECT 1 FROM ticket")) == 2
    assert tickets.use(new(), NOW + 721_000)
    assert len(db.read("SELECT 1 FROM ticket")) == 2


@pytest.mark.unit
def test_few_refusals_are_written_down():
    """Of what anybody can bring about one an hour, with how many were only counted before it; of people a hundred; of nothing none."""
    refusals = Refusals()
    assert [refusals.note(Kind.UNCONFIRMED, NOW + n) for n in range(5)] == [0, None, None, None, None]
    assert refusals.note(Kind.UNCONFIRMED, NOW + 3_599_999) is None
    assert refusals.note(Kind.UNCONFIRMED, NOW + 3_600_000) == 5
    assert refusals.note(Kind.UNCONFIRMED, NOW + 3_600_001) is None
    assert [refusals.note(Kind.PERSON, NOW) for _ in range(101)] == [0] * 100 + [None]
    assert {refusals.note(Kind.UNKNOWN, NOW + 4_000_000 * n) for n in range(10)} == {None}
    assert refusals.note(Kind.UNCONFIRMED, NOW - 1) == 1  # the clock was set back: better one too many than none
    assert refusals.counts == {Kind.UNCONFIRMED: 9, Kind.PERSON: 101, Kind.UNKNOWN: 10}


# --- with a real provider


@pytest.fixture
def provider():
    """Starts a provider that gives these groups; returns its address."""
    if shutil.which("node") is None or not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        pytest.skip("no OpenID provider: npm ci in tests/fleet")
    running = []

    def start(redirect, *groups):
        port = free_port()
        process = subprocess.Popen(
            ["node", "provider.js", str(port), redirect, *groups],
            cwd=FOLDER,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        return f"http://localhost:{port}"

    yield start
    for process in running:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def shop(tmp_path, provider):
    """A controller with a single sign-on that gives these groups."""
    made = []

    def make(*groups):
        console = free_port()
        url = f"http://localhost:{console}"
        issuer = provider(f"{url}/api/v1/oidc/callback", *groups)
        secret = tmp_path / "secret"
        secret.write_text("a secret of some length\n")
        section = msgspec.structs.replace(SECTION, issuer=issuer, url=url, client_secret_file=secret, title="Example ID")
        made.append(Fleet(tmp_path / f"data-{len(made)}", port=console, config=Config(oidc=section)))
        accounts.create(made[-1].db, "anna", Role.ADMIN, "correct horse battery", 1)
        return made[-1], url

    yield make
    for fleet in made:
        fleet.stop()


def through(browser, url, name, before_the_end=lambda: None):
    """Click through the provider's pages as `name` would; the last answer, at the console's callback."""
    answer = browser.get(url)
    for _ in range(12):
        if answer.is_redirect:
            target = urljoin(str(answer.url), answer.headers["location"])
            if "/oidc/callback" in target:
                before_the_end()
                return browser.get(target)
            answer = browser.get(target)
            continue
        action = re.search(r'action="([^"]+)"', answer.text)
        assert action, answer.text[:500]
        prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
        assert prompt
        form = {"prompt": prompt[1]} | ({"login": name, "password": "x"} if prompt[1] == "login" else {})
        answer = browser.post(urljoin(str(answer.url), action[1]), data=form)
    raise AssertionError("the provider does not end")


@pytest.mark.system
def test_sign_in(shop):
    """Through a real provider: a session with the role of the claim, an account that the console shows, an entry in the audit log."""
    fleet, url = shop("shops")
    with httpx.Client(timeout=60) as browser:
        assert browser.get(f"{url}/api/v1/session").json()["sso"] == "Example ID"
        answer = through(browser, f"{url}/api/v1/oidc/start", "ben")
        assert (answer.status_code, answer.headers["location"]) == (302, "/")
        session = browser.get(f"{url}/api/v1/session").json()
        assert (session["name"], session["role"], session["scope"]) == ("ben", "operator", [])
        assert browser.get(f"{url}/api/v1/devices").status_code == 200
        assert browser.get(f"{url}/api/v1/users").status_code == 403
    with httpx.Client(timeout=60) as browser:  # again, as the same
        through(browser, f"{url}/api/v1/oidc/start", "ben")
        assert browser.get(f"{url}/api/v1/session").json()["name"] == "ben"
    assert [(user.name, user.federated) for user in accounts.accounts(fleet.db)] == [("anna", False), ("ben", True)]
    assert [entry.author for entry in journal.audited(fleet.db) if entry.action == "sign-in"] == ["ben", "ben"]


@pytest.mark.system
def test_another_controller_ends_a_sign_in(shop):
    """One began it, another on the same store, which has only that in common with the first, takes the answer; once."""
    fleet, url = shop("shops")

    def another():
        fleet.stop()
        fleet.start()

    with httpx.Client(timeout=60) as browser:
        answer = through(browser, f"{url}/api/v1/oidc/start", "ben", another)
        assert (answer.status_code, answer.headers["location"]) == (302, "/")
        assert browser.get(f"{url}/api/v1/session").json()["name"] == "ben"


@pytest.mark.system
def test_an_answer_is_taken_once(shop):
    """The same answer with the same cookie again: refused without asking the provider, though it is still good by its time."""
    fleet, url = shop("shops")
    with httpx.Client(timeout=60) as browser:
        kept = {}
        answer = through(browser, f"{url}/api/v1/oidc/start", "ben", lambda: kept.update(begun=browser.cookies["visavis-fleet-sso"]))
        assert answer.headers["location"] == "/"
        for _ in range(2):
            again = httpx.get(answer.url, cookies={"visavis-fleet-sso": kept["begun"]}, timeout=60)
            assert again.headers["location"].startswith("/#refused=this%20sign-in%20was%20ended%20before")
            fleet.stop()
            fleet.start()


@pytest.mark.system
def test_made_up_codes_do_not_fill_the_audit_log(shop):
    """Whoever begins sign-ins and makes up the answers: the first is in the log, the others are counted, and soon refused unasked."""
    fleet, url = shop("shops")
    token = accounts.make_token(fleet.db, "prometheus", Role.VIEWER, "anna", 1, fleet.times.wall_ms())
    with httpx.Client(timeout=60) as outsider:
        for _ in range(8):
            state = re.search(r"state=([^&]+)", outsider.get(f"{url}/api/v1/oidc/start").headers["location"])
            assert state
            answer = outsider.get(f"{url}/api/v1/oidc/callback?state={state[1]}&code=made-up")
            assert answer.headers["location"].startswith("/#refused=")
        assert outsider.get(f"{url}/api/v1/session").json()["name"] == ""
    assert [entry.action for entry in journal.audited(fleet.db)] == ["sign-in refused"]
    text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=60).text
    counts = re.findall(r'visavis_fleet_single_sign_ons_refused_total\{cause="(\w+)"\} (\d+)', text)
    assert sum(int(count) for _, count in counts) == 8
    assert int(dict(counts)["unconfirmed"]) >= 5


@pytest.mark.system
def test_a_scope_from_the_provider(shop):
    """A group that is limited to Berlin sees no other box."""
    fleet, url = shop("berlin")
    fleet.enrol("paris-1")
    with httpx.Client(timeout=60) as browser:
        through(browser, f"{url}/api/v1/oidc/start", "ben")
        assert browser.get(f"{url}/api/v1/session").json()["scope"] == ["site:Berlin*"]
        assert browser.get(f"{url}/api/v1/devices").json()["devices"] == []


@pytest.mark.system
def test_who_is_refused(shop):
    """No known group, a local user's name: back to the console with one line, no session, no account."""
    fleet, url = shop("strangers")
    with httpx.Client(timeout=60) as browser:
        answer = through(browser, f"{url}/api/v1/oidc/start", "ben")
        assert answer.headers["location"].startswith("/#refused=ben%20has%20no%20role%20here")
        assert browser.get(f"{url}/api/v1/session").json()["name"] == ""
    other, url = shop("shops")
    with httpx.Client(timeout=60) as browser:
        answer = through(browser, f"{url}/api/v1/oidc/start", "anna")
        assert "another%20user%20is%20called%20anna" in answer.headers["location"]
    for one in (fleet, other):
        assert [user.name for user in accounts.accounts(one.db)] == ["anna"]


@pytest.mark.system
def test_another_browser_cannot_end_a_sign_in(shop):
    """The state belongs to the browser that began, to one sign-in, and to ten minutes; made-up answers are refused."""
    fleet, url = shop("shops")
    with httpx.Client(timeout=60) as thief, httpx.Client(timeout=60) as victim:
        begun = thief.get(f"{url}/api/v1/oidc/start")
        state = re.search(r"state=([^&]+)", begun.headers["location"])
        assert state
        assert "code_challenge_method=S256" in begun.headers["location"]
        for query in (f"state={state[1]}&code=x", "state=made-up&code=x", "", "error=access_denied"):
            answer = victim.get(f"{url}/api/v1/oidc/callback?{query}")
            assert answer.headers["location"].startswith("/#refused="), query
            assert victim.get(f"{url}/api/v1/session").json()["name"] == ""
        assert journal.audited(fleet.db) == []  # anybody can ask for these
        answer = thief.get(f"{url}/api/v1/oidc/callback?state={state[1]}&code=made-up")
        assert "does%20not%20confirm" in answer.headers["location"]
        answer = thief.get(f"{url}/api/v1/oidc/callback?state={state[1]}&code=made-up")
        assert answer.headers["location"].startswith("/#refused=")
        assert [entry.action for entry in journal.audited(fleet.db)] == ["sign-in refused"]


@pytest.mark.system
def test_new_keys_of_the_provider(shop, key):
    """A provider that has changed its keys is asked for them when the known ones do not fit."""
    fleet, url = shop("shops")
    fleet.controller.provider._keys = (fleet.times.wall_ms(), keys(key))
    with httpx.Client(timeout=60) as browser:
        answer = through(browser, f"{url}/api/v1/oidc/start", "ben")
        assert (answer.status_code, answer.headers["location"]) == (302, "/")


@pytest.mark.system
def test_a_provider_that_is_away_is_one_line(tmp_path):
    """The console works; only this way in does not."""
    section = msgspec.structs.replace(SECTION, issuer=f"http://localhost:{free_port()}", url="http://localhost:1")
    fleet = Fleet(tmp_path / "data", config=Config(oidc=section))
    try:
        url = fleet.controller.server.url
        answer = httpx.get(f"{url}/api/v1/oidc/start", timeout=60)
        assert answer.status_code == 503
        assert "does not answer" in answer.json()["error"]
        assert httpx.get(f"{url}/api/v1/session").status_code == 200
    finally:
        fleet.stop()
