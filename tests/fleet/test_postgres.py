"""PostgreSQL when it does not do what it should: one clear line, nothing half done, and on as soon as it works again."""

from __future__ import annotations

import threading
from contextlib import suppress

import psycopg
import pytest

import runtime.telemetry as t
from fleet._postgres import translated
from fleet.database import open_database
from fleet.errors import Unavailable
from fleet.intake import Intake
from tests.fleet.support import Fleet, Stranger
from tests.fleet.test_intake import NOW, heard
from tests.runtime.telemetry.support import free_port

pytestmark = pytest.mark.system

EVENT = heard(t.UpKind.EVENT, t.EventBody(code="kiosk_started"), 1)


@pytest.fixture
def store(cluster):
    made = open_database(cluster.database())
    yield made
    made.close()


def test_what_cannot_be_opened(cluster):
    """No server, a wrong password, no such database, no right to make tables, another encoding: one line says it, without secrets."""
    cluster.ask("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    guest = cluster.database().replace("visavis:correct%20horse", "guest:guest")
    cases = {
        f"postgresql://visavis:secret@127.0.0.1:{free_port()}/x": "refused",
        cluster.url(password="secret"): "password authentication failed",
        cluster.url("nothing"): "does not exist",
        guest: "permission denied",
        cluster.database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"): "UTF8",
        "postgresql://[": "cannot be reached",
    }
    for url, cause in cases.items():
        with pytest.raises(Unavailable, match=cause) as caught:
            open_database(url)
        text = str(caught.value)
        assert "\n" not in text
        assert not {"secret", "horse", "guest:"} & set(text.replace("@", " ").split())


def test_a_server_that_crashes_in_the_middle(cluster, store):
    """The transaction is told as unavailable and nothing of it is kept; the same one works when the server is back, readers too."""
    intake = Intake(store)
    store.read("SELECT 1")

    def write():
        with store.write() as tx:
            tx.run("INSERT INTO memo (name, content) VALUES ('x', 'y')")
            cluster.stop()
            tx.run("INSERT INTO memo (name, content) VALUES ('z', 'y')")

    try:
        with pytest.raises(Unavailable, match="cannot be written"):
            write()
        with pytest.raises(Unavailable, match="cannot be reached"):
            store.read("SELECT 1")
    finally:
        cluster.start()
    assert store.read("SELECT name FROM memo") == []
    assert intake.commit([EVENT], NOW).duplicates == 0
    cluster.stop("fast")
    cluster.start()  # connections that rested meanwhile are no reason to fail
    assert store.read("SELECT count(*) FROM event WHERE boot <> ''") == [(1,)]
    assert intake.commit([EVENT], NOW).duplicates == 1


def test_a_disk_that_is_full(cluster, store):
    """What the server says when it has no room is told, nothing of the batch is kept, and the same batch is committed later."""
    name = store.place.rpartition("/")[2]
    full = "CREATE FUNCTION full_() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full USING MESSAGE = 'No space left'; END $$"
    cluster.ask(full, name)
    cluster.ask("CREATE TRIGGER full_ BEFORE INSERT ON event EXECUTE FUNCTION full_()", name)
    intake = Intake(store)
    with pytest.raises(Unavailable, match="No space left"):
        intake.commit([EVENT], NOW)
    assert store.read("SELECT * FROM seen") == []
    cluster.ask("DROP TRIGGER full_ ON event", name)
    assert intake.commit([EVENT], NOW).duplicates == 0


def test_an_error_that_is_passed_over(store):
    """PostgreSQL undoes a transaction in which a statement failed, whatever is said at its end: that is never taken for a success."""

    def write():
        with store.write() as tx:
            tx.run("INSERT INTO memo (name, content) VALUES ('x', 'y')")
            with suppress(psycopg.Error):
                tx.run("INSERT INTO memo (name, content) VALUES ('x', 'y')")

    with pytest.raises(Unavailable, match="passed over"):
        write()
    assert store.read("SELECT * FROM memo") == []


def test_a_controller_that_is_frozen_is_cut_off(cluster, store):
    """Somebody who stopped in the middle of a transaction does not hold up the others for ever: the server ends its connection."""
    name = store.place.rpartition("/")[2]
    other = open_database(cluster.url(name))
    begun, go_on = threading.Event(), threading.Event()
    ended = []

    def freeze():
        try:
            with other.write() as tx:
                tx.run("SET LOCAL idle_in_transaction_session_timeout = '300ms'")  # half a minute is too long for a test
                tx.run("INSERT INTO memo (name, content) VALUES ('frozen', '')")
                begun.set()
                go_on.wait(60)
                tx.run("SELECT 1")
        except Unavailable as error:
            ended.append(error)

    thread = threading.Thread(target=freeze)
    thread.start()
    assert begun.wait(60)
    with store.write() as tx:  # waits for its turn
        tx.run("INSERT INTO memo (name, content) VALUES ('on', '')")
    go_on.set()
    thread.join(60)
    assert len(ended) == 1
    assert store.read("SELECT name FROM memo") == [("on",)]
    assert store.read("SHOW idle_in_transaction_session_timeout") == [("30s",)]
    assert store.read("SHOW synchronous_commit") == [("on",)]
    other.close()


def test_weak_durability_is_not_taken(cluster):
    """A server that acknowledges before the disk has it is told otherwise; one that promises more may."""
    url = cluster.database()
    name = url.rpartition("/")[2]
    for given, used in (("off", "on"), ("remote_apply", "remote_apply")):
        cluster.ask(f"ALTER DATABASE {name} SET synchronous_commit = {given}")
        made = open_database(url)
        assert made.read("SHOW synchronous_commit") == [(used,)]
        made.close()


def test_nothing_is_acknowledged_that_is_not_committed(cluster, tmp_path):
    """While the server is away a box's messages wait; when it is back they are kept, then acknowledged; the controller goes on."""
    fleet = Fleet(tmp_path / "data", database=cluster.database())
    box = Stranger(fleet, fleet.enrol("box-1"), "box-1")
    try:
        assert box.say(t.UpKind.EVENT, t.EventBody(code="kiosk_started")) == 0
        fleet.until(lambda: box.acked() == {1})
        cluster.stop()
        try:
            assert box.say(t.UpKind.EVENT, t.EventBody(code="kiosk_started")) == 0
            fleet.until(lambda: fleet.controller.counts["strange_store"] > 0)
            assert box.acked() == {1}
        finally:
            cluster.start()
        fleet.until(lambda: box.acked() == {1, 2})
        assert fleet.db.read("SELECT seq FROM event WHERE boot <> '' ORDER BY seq") == [(1,), (2,)]
        assert not fleet.controller.ended.is_set()
    finally:
        box.close()
        fleet.stop()


def test_translation():
    """Question marks and signs of percent in texts stay what they are; types and LIKE are PostgreSQL's."""
    assert translated("SELECT '?%' FROM x WHERE a LIKE ? AND b % 2 = ?") == b"SELECT '?%%' FROM x WHERE a ILIKE %s AND b %% 2 = %s"
    assert translated("CREATE TABLE x (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'TEXT') WITHOUT ROWID").endswith(
        b"PRIMARY KEY, a TEXT COLLATE \"C\" DEFAULT 'TEXT') "
    )
