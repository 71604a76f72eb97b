"""Deliveries to real servers: a webhook that fails at times, a mail server with STARTTLS and a password, kills at any moment."""

from __future__ import annotations

import asyncio
import random
import ssl
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from fleet import alert_desk as desk
from fleet import alert_store as store
from fleet.alert_channels import Channel, Mail, Message, Security, Webhook, mail, new_secret, sign
from fleet.alert_rules import Missing, Rule
from fleet.alert_send import GIVE_UP_MS, LAST_REFUSED, Sender, pause_ms
from fleet.authority import Authority
from fleet.database import open_database
from fleet.errors import BadRequest
from fleet.live import ALERTS
from runtime.telemetry.times import SystemTimes
from tests.fleet.alert_child import Clock
from tests.fleet.test_alert_turn import Shop
from tests.runtime.telemetry.support import free_port

NOW = 1_790_000_000_000
pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed")]


class Hook:
    """A webhook: answers what `answers` says next, 200 when it is used up, and keeps what came.

    `hold` and `deaf` are no answer until whoever asks is gone; `deaf` keeps nothing.
    """

    def __init__(self, *answers):
        self.answers, self.came, self.held = list(answers), [], threading.Event()

    async def handle(self, request):
        body = await request.read()
        status = self.answers.pop(0) if self.answers else 200
        if status != "deaf":
            self.came.append((dict(request.headers), body))
        if status in ("hold", "deaf"):
            self.held.set()
            await asyncio.Event().wait()
        if status == "cut":
            request.transport.close()
            return web.Response()
        return web.Response(status=status, headers={"Location": "http://elsewhere.example/"} if status == 302 else {})

    @property
    def messages(self):
        return [msgspec.json.decode(body, type=Message) for _, body in self.came]


@asynccontextmanager
async def serving(hook):
    """Where the hook listens."""
    app = web.Application()
    app.router.add_post("/hook", hook.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)  # nobody waits for those who were killed
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


class Post:
    """A store with messages and a sender with a clock of its own."""

    def __init__(self, folder):
        self.db, self.now = open_database(folder / "fleet.db"), NOW
        self.told: list[set[str]] = []
        self.sender = Sender(self.db, folder / "secrets", lambda: self.now, self.told.append)

    def channel(self, to, **more):
        return desk.put_channel(self.db, Channel(**({"id": "ops", "title": "Ops", "to": to} | more)), "anna", NOW)

    def message(self):
        desk.test(self.db, "ops", "anna", "Visavis", "http://console", self.now)
        self.now += 1

    async def send(self, *, after_ms=0):
        """One look, until all that it began has ended."""
        self.now += after_ms
        await self.sender.look()
        await asyncio.gather(*self.sender._busy.values())

    def state(self):
        (found,) = desk.channels(self.db)
        return found

    async def close(self):
        await self.sender.close()
        self.db.close()


def posting(tmp_path, work):
    """Run `work(post)` in a loop."""

    async def life():
        post = Post(tmp_path)
        try:
            await work(post)
        finally:
            await post.close()

    asyncio.run(life())


def test_a_webhook_that_fails_at_times(tmp_path):
    """Tried again with pauses, under the same name, signed anew; the second message waits for the first and keeps its place."""
    standardwebhooks = pytest.importorskip("standardwebhooks")
    hook = Hook(500, "cut", 429)

    async def work(post):
        async with serving(hook) as url:
            secret = post.channel(Webhook(url=url))
            post.message()
            post.message()
            await post.send()
            assert post.state().error == "it answers 500 Internal Server Error"
            await post.send(after_ms=1000)
            assert len(hook.came) == 1
            for _ in range(4):
                await post.send(after_ms=60_000)
            assert [post.state().waiting, post.state().given_up, post.state().error] == [0, 0, ""]
            assert post.told == [{ALERTS}] * 5  # pages that show the channel hear of each try's end
        names = [headers["webhook-id"] for headers, _ in hook.came]
        assert names == [f"test-{NOW}.ops"] * 4 + [f"test-{NOW + 1}.ops"]
        assert len({body for _, body in hook.came[:4]}) == 1
        verifier = standardwebhooks.Webhook(secret)
        for headers, body in hook.came:
            told = {name: headers[name] for name in ("webhook-id", "webhook-signature")}
            with pytest.raises(standardwebhooks.WebhookVerificationError):  # the clock of this test is not that of the library
                verifier.verify(body, {**told, "webhook-timestamp": headers["webhook-timestamp"]})
            now = SystemTimes().wall_ms() // 1000
            signed = sign(secret, headers["webhook-id"], now, body)
            assert verifier.verify(body, signed)["title"] == "Test"
            with pytest.raises(standardwebhooks.WebhookVerificationError):
                verifier.verify(body + b" ", signed)
            assert (
                headers["webhook-signature"]
                == sign(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)["webhook-signature"]
            )

    posting(tmp_path, work)


def test_what_is_refused_is_given_up(tmp_path):
    """A message that the webhook will never take is tried five times, one that it cannot take for a day; those behind it come through."""
    hook = Hook(*[404] * LAST_REFUSED)

    async def work(post):
        async with serving(hook) as url:
            post.channel(Webhook(url=url))
            post.message()
            post.message()
            for _ in range(LAST_REFUSED + 1):
                await post.send(after_ms=300_000)
            assert (len(hook.came), post.state().given_up, post.state().waiting) == (LAST_REFUSED + 1, 1, 0)
            hook.answers = [302]
            post.message()
            await post.send()
            assert "302" in post.state().error
            hook.answers = [503] * 1000
            await post.send(after_ms=GIVE_UP_MS)
            assert (post.state().given_up, post.state().waiting) == (2, 0)

    posting(tmp_path, work)


def test_nobody_listens_and_a_channel_that_goes(tmp_path):
    """A server that is not there is one line for the admin; what waits for a channel that was deleted is given up."""

    async def work(post):
        post.channel(Webhook(url=f"http://127.0.0.1:{free_port()}/"))
        post.message()
        await post.send()
        assert "Cannot connect" in post.state().error
        assert "\n" not in post.state().error
        desk.delete(post.db, "alert_channel", "ops")
        await post.send(after_ms=300_000)
        assert post.db.read("SELECT state FROM alert_delivery") == [("given up",)]

    posting(tmp_path, work)


def test_what_a_server_says_in_no_known_letters(tmp_path):
    """A reason that no store keeps (not UTF-8, a NUL) is kept with question marks: the message is tried again like any other."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write("HTTP/1.1 500 Hors service à Genève\0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1"))
        await writer.drain()
        writer.close()

    async def work(post):
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            post.channel(Webhook(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
            post.message()
            await post.send()
            await post.sender.look()
            assert (post.state().error, post.state().waiting) == ("it answers 500 Hors service ? Gen?ve?", 1)

    posting(tmp_path, work)


def test_what_cannot_be_noted_ends_nothing(tmp_path, caplog):
    """The store refuses a result: that is logged, other channels are served, and the message is not sent again at once but later."""
    hook, other = Hook(), Hook()

    async def work(post):
        async with serving(hook) as first, serving(other) as second:
            post.channel(Webhook(url=first))
            post.message()
            with post.db.write() as tx:
                tx.run(
                    "CREATE TRIGGER no BEFORE UPDATE OF state ON alert_delivery WHEN new.channel = 'ops' AND new.state = 'sent'"
                    " BEGIN SELECT RAISE(ABORT, 'no'); END"
                )
            await post.sender.look()
            await asyncio.wait(post.sender._busy.values())
            desk.put_channel(post.db, Channel(id="other", title="O", to=Webhook(url=second)), "anna", NOW)
            desk.test(post.db, "other", "anna", "Visavis", "http://console", NOW)
            await post.send()
            assert (len(hook.came), len(other.came)) == (1, 1)
            assert "channel ops" in caplog.text
            with post.db.write() as tx:
                tx.run("DROP TRIGGER no")
            await post.send(after_ms=120_000)
            assert len(hook.came) == 2
            assert [one.waiting for one in desk.channels(post.db)] == [0, 0]

    posting(tmp_path, work)


def test_a_slow_channel_holds_up_no_other(tmp_path):
    """While one webhook does not answer, the other has its message."""
    done = asyncio.Event()

    class Slow(Hook):
        async def handle(self, request):
            await done.wait()
            return await super().handle(request)

    slow, quick = Slow(), Hook()

    async def work(post):
        async with serving(slow) as first, serving(quick) as second:
            post.channel(Webhook(url=first))
            post.message()
            await post.sender.look()
            desk.put_channel(post.db, Channel(id="quick", title="Q", to=Webhook(url=second)), "anna", NOW)
            desk.test(post.db, "quick", "anna", "Visavis", "http://console", NOW)
            await post.sender.look()
            await post.sender._busy["quick"]
            assert (len(slow.came), len(quick.came)) == (0, 1)
            await post.sender.look()
            done.set()
            await post.sender._busy["ops"]
            assert len(slow.came) == 1

    posting(tmp_path, work)


def test_the_check_that_the_docs_print():
    """What docs/fleet.md says by hand accepts our signature and no other."""
    text = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
    code = text[text.index("    import base64, hashlib, hmac") :]
    code = textwrap.dedent(code[: code.index("\n\n")])
    secret, body = new_secret(), b'{"id": "x"}'
    headers = sign(secret, "x.ops", 1_790_000_000, body)
    exec(code, {"secret": secret, "headers": headers, "body": body})
    with pytest.raises(AssertionError):
        exec(code, {"secret": secret, "headers": headers, "body": body + b" "})


def test_pauses():
    """They double from 5 seconds to 5 minutes, and are spread."""
    assert [pause_ms(n, 1.0) for n in (1, 2, 3, 7, 50)] == [5_000, 10_000, 20_000, 300_000, 300_000]
    assert pause_ms(3, 0.0) == 10_000


def test_secrets_stay_in(tmp_path):
    """A webhook's path and key are not told again; what is given back as it was told changes nothing; a new key is another."""

    async def work(post):
        to = Webhook(url="https://hooks.example.com/T0/B0/very-secret")
        secret = post.channel(to)
        shown = post.state().channel
        assert shown.to.url == "https://hooks.example.com/…"
        assert post.channel(shown.to, title="Other") == ""
        kept, key = store.plan(post.db, NOW).channels[0], post.db.read("SELECT secret FROM alert_channel")[0][0]
        assert (kept.to, kept.title, key) == (to, "Other", secret)
        assert desk.renew(post.db, "ops", NOW) not in (secret, "")
        for wrong in (Webhook(url="ftp://x/"), Webhook(url="https://anna:secret@x/"), Webhook(url="https://other/…")):
            with pytest.raises(BadRequest):
                post.channel(wrong)

    posting(tmp_path, work)


# --- mail


class Inbox:
    """A mail server with STARTTLS and one user, in a thread."""

    def __init__(self, folder, monkeypatch):
        controller = pytest.importorskip("aiosmtpd.controller")
        from aiosmtpd.smtp import AuthResult

        authority = Authority(folder / "ca", SystemTimes().wall_ms())
        issued = authority.issue("localhost", 30, SystemTimes().wall_ms(), names=("localhost",))
        (folder / "mail.pem").write_bytes(issued.certificate)
        (folder / "mail.key").write_bytes(issued.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "mail.pem", folder / "mail.key")
        self.ca, self.came, self.answers = folder / "ca" / "ca.pem", [], []

        def authenticate(_server, _session, _envelope, _mechanism, data):
            return AuthResult(success=(data.login, data.password) == (b"kiosks", b"correct horse"), handled=False)

        class Handler:
            async def handle_DATA(_, _server, _session, envelope):  # noqa: N802, N805 - as aiosmtpd calls it
                if self.answers:
                    return self.answers.pop(0)
                self.came.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
                return "250 OK"

        self.port = free_port()
        self.server = controller.Controller(
            Handler(),
            hostname="127.0.0.1",
            port=self.port,
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
        )
        self.server.start()
        monkeypatch.setenv("SSL_CERT_FILE", str(self.ca))

    def channel(self, **more):
        given = {"to": ("ops@example.com", "anna@example.com"), "sender": "fleet@example.com", "host": "localhost", "port": self.port}
        return Mail(**(given | {"user": "kiosks", "password_file": "mail"} | more))


@pytest.fixture
def inbox(tmp_path, monkeypatch):
    made = Inbox(tmp_path, monkeypatch)
    yield made
    made.server.stop()


def test_mail(tmp_path, inbox):
    """Over STARTTLS with the password of the file; the subject says what and where; tried again it is the same mail."""
    inbox.answers = ["451 later"]

    async def work(post):
        post.channel(inbox.channel())
        post.message()
        await post.send()
        assert "mail in" in post.state().error
        assert "cannot be read" in post.state().error
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "mail").write_text("correct horse\n")
        await post.send(after_ms=300_000)
        assert "451" in post.state().error
        await post.send(after_ms=300_000)
        assert post.state().error == ""
        ((to, made),) = inbox.came
        assert to == ["ops@example.com", "anna@example.com"]
        assert made["Subject"] == "[Visavis] INFO Test: anna asks whether messages arrive here"
        assert made["Message-ID"] == f"<test-{NOW}.ops@example.com>"
        assert "http://console" in made.get_content()

    posting(tmp_path, work)


def test_mail_that_cannot_go(tmp_path, inbox, monkeypatch):
    """A wrong password and a certificate of nobody known are one line each, without the password; 5xx is given up after some tries."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "mail").write_text("wrong horse")

    async def work(post):
        post.channel(inbox.channel())
        post.message()
        await post.send()
        assert "535" in post.state().error
        assert "horse" not in post.state().error
        (tmp_path / "secrets" / "mail").write_text("correct horse")
        monkeypatch.delenv("SSL_CERT_FILE")
        await post.send(after_ms=300_000)
        assert "CERTIFICATE_VERIFY_FAILED" in post.state().error
        monkeypatch.setenv("SSL_CERT_FILE", str(inbox.ca))
        inbox.answers = ["554 no"] * 10
        for _ in range(LAST_REFUSED):
            await post.send(after_ms=300_000)
        assert (post.state().given_up, inbox.came) == (1, [])

    posting(tmp_path, work)


def test_a_message_that_cannot_be_made_stops_no_other(tmp_path, inbox):
    """One of another release that this one does not understand is given up after some tries; the next one comes through."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "mail").write_text("correct horse")

    async def work(post):
        post.channel(inbox.channel())
        post.message()
        body = post.db.read("SELECT body FROM alert_delivery")[0][0]
        with post.db.write() as tx:
            tx.run("UPDATE alert_delivery SET body = ?", msgspec.json.encode(msgspec.json.decode(body) | {"state": "newer"}).decode())
        post.message()
        for _ in range(LAST_REFUSED + 1):
            await post.send(after_ms=300_000)
        assert (post.state().given_up, post.state().waiting, len(inbox.came)) == (1, 0, 1)

    posting(tmp_path, work)


def test_a_box_does_not_write_mail_headers():
    """A site that holds an encoded word stays that word: it does not decode to a subject of its own."""
    site = "=?utf-8?q?Subject=0D=0ABcc:_x=40y?="
    texts = dict.fromkeys(("id", "rule", "title", "severity", "fleet", "console"), "")
    numbers = dict.fromkeys(("firing", "resolved", "more"), 0)
    told = Message(**texts, **numbers, state="resolved", reminder=False, summary=site, sites={}, alerts=[])
    made = mail(told, Mail(to=("a@b.example",), sender="c@b.example", host="localhost"), NOW, "1")
    assert "= ?utf-8?q?Subject=0D=0ABcc:_x=40y?=" in message_from_bytes(made.as_bytes(), policy=policy.default)["Subject"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"to": ("nobody",)}, "no mail address"),
        ({"sender": "a@b\nBcc: x@y"}, "no mail address"),
        ({"user": ""}, "belong together"),
        ({"security": Security.NONE}, "without protection"),
    ],
)
def test_mail_channels_that_cannot_be(tmp_path, more, text):
    """Each is refused in one line; a password file cannot be named outside of its folder."""

    async def work(post):
        given = {"to": ("a@b.example",), "sender": "c@d.example", "host": "localhost", "user": "x", "password_file": "p"}
        with pytest.raises(BadRequest, match=text):
            post.channel(Mail(**(given | more)))
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"kind": "mail", **given, "password_file": "../authority/ca.key"}, Mail)

    posting(tmp_path, work)


# --- kills


@pytest.fixture
def served():
    """A webhook that listens in a thread, and its address."""
    hook, ready, ended, where = Hook(), threading.Event(), threading.Event(), []

    async def serve():
        async with serving(hook) as url:
            where.append(url)
            ready.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(30)
    yield hook, where[0]
    ended.set()
    thread.join()


@pytest.fixture
def child():
    """Starts a process that waits for the end of its standard input, and can be heard; none outlives the test."""
    made = []

    def start(*words):
        made.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.stdin.close()
        process.wait()
        process.stdout.close()


class Street:
    """Twelve boxes that come and go while time passes, and it passes with the turns of the child that judges them."""

    def __init__(self, shop, clock, rng):
        self.shop, self.clock, self.rng, self.lost = shop, clock, rng, set()
        self.boxes = [f"box-{n}" for n in range(12)]
        for n, box in enumerate(self.boxes):
            shop.born(box, site=f"Store {n % 3}")

    def change(self, life):
        box = self.rng.choice(self.boxes)
        self.shop.status(box, "online" if box in self.lost else "lost")
        self.lost ^= {box}
        self.turns(life, 3)

    def turns(self, life, count):
        """The child begins so many, each later than the one before."""
        for _ in range(count):
            self.shop.now += 5_000
            self.clock.set(self.shop.now)
            while line := life.stdout.readline():
                if int(line) == self.shop.now:
                    break
            assert line, "the child has ended"


@pytest.mark.timeout(900)  # 15 processes one after the other
def test_once_in_effect_across_kills(tmp_path, served, child):
    """The controller's part is killed again and again while boxes come and go and the webhook fails: each alert is told once, and its
    end once, under one name each, however often it was sent.
    """
    hook, url = served
    rng = random.Random(7)
    hook.answers = [rng.choice([200, 200, 500, "cut"]) for _ in range(60)]
    shop = Shop(open_database(tmp_path / "fleet.db"))
    desk.put_channel(shop.db, Channel(id="all", title="All", to=Webhook(url=url)), "anna", NOW)
    desk.put_rule(shop.db, Rule(id="r", title="Missing", when=Missing(), for_s=30, clear_s=0, flaps=0), "anna", NOW)
    clock = Clock(tmp_path / "clock")
    clock.set(NOW)
    command = [sys.executable, "-m", "tests.fleet.alert_child", str(tmp_path / "fleet.db"), str(tmp_path / "clock"), str(NOW)]
    street = Street(shop, clock, rng)

    def waiting():
        rows = shop.db.read("SELECT count(*) FROM alert WHERE resolved = 0 OR told IN ('firing', 'flapping')")
        return rows[0][0] + shop.db.read("SELECT count(*) FROM alert_delivery WHERE state = 'queued'")[0][0]

    following = child(*command)
    for number in range(15):
        life, last = following, number == 14
        assert life.stdout.readline() == b"up\n"
        life.stdin.close()  # begin
        if last:
            for box in street.lost:
                shop.status(box, "online")
            while waiting():
                street.turns(life, 1)
        else:
            following = child(*command)  # comes up meanwhile
            for _ in range(rng.randrange(4, 16)):
                street.change(life)
            if number % 3 == 1:  # while a message is under way
                hook.held.clear()
                hook.answers.insert(0, rng.choice(["hold", "deaf"]))
                while not hook.held.is_set():
                    street.change(life)
            else:  # at any moment
                threading.Event().wait(rng.random() * 0.03)
        assert life.poll() is None
        life.kill()
        life.wait()
    told = Counter()
    for headers, body in {headers["webhook-id"]: (headers, body) for headers, body in hook.came}.values():
        assert headers["webhook-id"].endswith(".all")
        told.update((item.id, item.state) for item in msgspec.json.decode(body, type=Message).alerts)
    assert len(hook.came) > len({headers["webhook-id"] for headers, _ in hook.came})
    assert set(told.values()) == {1}
    heard = {id_ for id_, state in told if state == "firing"}
    assert heard == {id_ for id_, state in told if state == "resolved"}
    assert heard == {row[0] for row in shop.db.read("SELECT id FROM alert WHERE told = 'resolved'")}
    assert len(heard) > 5
    shop.db.close()
