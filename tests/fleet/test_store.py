"""The store, SQLite and PostgreSQL alike: what SQL means, and everything that is asked of it beside the intake."""

from __future__ import annotations

import itertools
import re
import threading

import pytest

import runtime.telemetry as t
from fleet import accounts, inventory, journal
from fleet.accounts import Role
from fleet.authority import Authority
from fleet.database import open_database
from fleet.errors import BadRequest, Unavailable
from fleet.inventory import Filter
from fleet.schema import CHANGES, VERSION

NOW = 1_790_000_000_000
pytestmark = pytest.mark.unit

THING = """CREATE TABLE thing (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, size INTEGER NOT NULL DEFAULT 0, share REAL, data BLOB,
  note TEXT NOT NULL DEFAULT 'TEXT? 100%')"""


@pytest.fixture
def thing(db):
    with db.write() as tx:
        tx.run(THING)
        tx.run("CREATE TABLE pair (a INTEGER NOT NULL, b TEXT NOT NULL, PRIMARY KEY (a, b)) WITHOUT ROWID")
    return db


def test_values_come_back_as_they_went(thing):
    """Text, large integers, floats, bytes, booleans as 0 and 1, None; the number of a row; a default with signs of SQL in it."""
    with thing.write() as tx:
        sql = "INSERT INTO thing (name, size, share, data) VALUES (?, ?, ?, ?) RETURNING id"
        assert tx.run(sql, "café '?' 100% \\ \N{HAMBURGER}", 2**63 - 1, 0.1, b"\0\xff") == [(1,)]
        assert tx.run(sql, "", True, None, None) == [(2,)]
        assert tx.run("UPDATE thing SET size = size WHERE id = ?", 2) == []
        assert tx.count("UPDATE thing SET share = ? WHERE size > ?", -1e300, 5) == 1
    rows = thing.read("SELECT name, size, share, data, note FROM thing ORDER BY id")
    assert rows == [("café '?' 100% \\ \N{HAMBURGER}", 2**63 - 1, -1e300, b"\0\xff", "TEXT? 100%"), ("", 1, None, None, "TEXT? 100%")]
    (row,) = thing.read("SELECT sum(size), count(*), size > 3, avg(id), '?%' FROM thing WHERE id = 2 GROUP BY size")
    assert row == (1, 1, 0, 2.0, "?%")
    assert [type(value) for value in row[:2]] == [int, int]


def test_text_is_compared_alike(thing):
    """Byte by byte in order and comparison; LIKE without regard to capitals, with ESCAPE; small and large integers in one expression."""
    with thing.write() as tx:
        tx.many("INSERT INTO thing (name, size) VALUES (?, ?)", [("b", 1), ("B", 2), ("a_b", 3), ("aXb", 4), ("é", 5), ("ab", 6)])
    assert [row[0] for row in thing.read("SELECT name FROM thing ORDER BY name")] == ["B", "aXb", "a_b", "ab", "b", "é"]
    assert [row[0] for row in thing.read("SELECT name FROM thing WHERE name > ? ORDER BY name", "aXb")] == ["a_b", "ab", "b", "é"]
    assert [row[0] for row in thing.read("SELECT name FROM thing WHERE name LIKE ? ESCAPE '\\' ORDER BY name", "A\\_%")] == ["a_b"]
    assert [row[0] for row in thing.read("SELECT name FROM thing WHERE name LIKE '%x%'")] == ["aXb"]
    assert thing.read("SELECT name FROM thing WHERE size * ? - ? * ? = 0", 1, 3, 2) == [("ab",)]
    assert thing.read("SELECT ? * ? FROM thing LIMIT ?", 3_000_000, 1_000, 1) == [(3_000_000_000,)]


def test_upserts(thing):
    """DO NOTHING and DO UPDATE, by one row and by many; `count` tells what was changed."""
    with thing.write() as tx:
        sql = "INSERT INTO thing (name, size) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET size = thing.size + excluded.size"
        tx.many(sql, [("a", 1), ("b", 2), ("a", 10)])
        tx.many(sql, [])
        many = "INSERT INTO thing (size, share, name) VALUES (7, ?, ?) ON CONFLICT (name) DO UPDATE SET share = excluded.share + thing.size"
        tx.many(many, [(float(n), f"many-{n % 300}") for n in range(700)])
        assert tx.run("SELECT count(*), sum(share) FROM thing WHERE size = 7") == [(300, sum(range(400, 700)) + 300 * 7.0)]
        tx.run("DELETE FROM thing WHERE size = 7")
        assert tx.count("INSERT INTO pair (a, b) VALUES (1, 'x') ON CONFLICT DO NOTHING") == 1
        assert tx.count("INSERT INTO pair (a, b) VALUES (1, 'x') ON CONFLICT DO NOTHING") == 0
        assert tx.run("SELECT name, size FROM thing ORDER BY name") == [("a", 11), ("b", 2)]
        assert tx.run("SELECT a FROM pair WHERE (a, b) < (?, ?)", 1, "y") == [(1,)]
        assert tx.count("DELETE FROM thing WHERE size < ?", 5) == 1


def test_an_error_undoes_the_transaction(thing):
    """Whatever leaves the block, nothing of it stays; the next transaction works; a value that cannot be kept is told as that."""

    def fail(error, size):
        with thing.write() as tx:
            tx.run("INSERT INTO thing (name) VALUES ('x')")
            tx.run("INSERT INTO thing (name, size) VALUES ('y', ?)", size)
            raise error

    for wrong in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(wrong):
            fail(wrong, 1)
    with pytest.raises((ValueError, OverflowError)):
        fail(RuntimeError, 2**63)
    assert thing.read("SELECT * FROM thing") == []
    with thing.write() as tx:
        tx.run("INSERT INTO thing (name) VALUES ('x')")
    assert thing.read("SELECT name FROM thing") == [("x",)]


def test_readers_see_what_was_committed(thing):
    """While a transaction is open another thread reads the state before it; afterwards the new one."""
    seen = []

    def look():
        seen.append(len(thing.read("SELECT 1 FROM thing")))

    with thing.write() as tx:
        tx.run("INSERT INTO thing (name) VALUES ('x')")
        other = threading.Thread(target=look)
        other.start()
        other.join()
    look()
    assert seen == [0, 1]


def test_writers_take_turns(thing):
    """Threads that read, then write what they read plus one, lose nothing: a transaction sees all that came before it."""
    with thing.write() as tx:
        tx.run("INSERT INTO thing (name) VALUES ('x')")

    def count():
        for _ in range(25):
            with thing.write() as tx:
                size = tx.run("SELECT size FROM thing")[0][0]
                tx.run("UPDATE thing SET size = ?", size + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert thing.read("SELECT size FROM thing") == [(100,)]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
def test_a_store_is_opened_again(kind, request, tmp_path):
    """What it holds stays; tables and columns that came with an update are made; a store of a newer version is refused in one line."""
    where = tmp_path / "fleet.db" if kind == "sqlite" else request.getfixturevalue("cluster").database()
    first = open_database(where)
    accounts.create(first, "anna", Role.ADMIN, "a long password", NOW)
    with first.write() as tx:
        tx.run("DROP TABLE audit")
        for statement in itertools.chain.from_iterable(CHANGES.values()):  # as it was in version 1
            table, column = re.search(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", statement).groups()
            tx.run(f"ALTER TABLE {table} DROP COLUMN {column}")
        tx.run("PRAGMA user_version = 1" if kind == "sqlite" else "UPDATE schema_version SET version = 1")
    first.close()
    again = open_database(where)
    assert again.read("SELECT marks FROM device") == []
    assert [one.name for one in accounts.accounts(again)] == ["anna"]
    journal.audit(again, NOW, "anna", "x")
    with again.write() as tx:
        tx.run(f"PRAGMA user_version = {VERSION + 1}" if kind == "sqlite" else f"UPDATE schema_version SET version = {VERSION + 1}")
    again.close()
    with pytest.raises(Unavailable, match="newer Visavis"):
        open_database(where)


def test_a_store_has_one_authority(db, tmp_path):
    """Whoever brings the key of the first controller belongs to it; another fleet's controller is told what to copy."""
    first = Authority(tmp_path / "first", NOW)
    inventory.belongs(db, first)
    inventory.belongs(db, Authority(tmp_path / "first", NOW))
    with pytest.raises(BadRequest, match="copy authority"):
        inventory.belongs(db, Authority(tmp_path / "second", NOW))


# --- what the controller asks


def test_accounts(db):
    """Made once, changed, signed in; one admin stays; sessions and tokens are known by their secret until their time is over."""
    accounts.create(db, "anna", Role.ADMIN, "a long password", NOW)
    with pytest.raises(BadRequest, match="already"):
        accounts.create(db, "anna", Role.VIEWER, "a long password", NOW)
    with pytest.raises(BadRequest, match="one admin"):
        accounts.change(db, "anna", disabled=True)
    assert accounts.sign_in(db, "anna", "a long password") is Role.ADMIN
    assert accounts.sign_in(db, "Anna", "a long password") is None
    key = accounts.open_session(db, "anna", NOW)
    assert accounts.identify(db, session=key, now_ms=NOW + 90_000).name == "anna"
    assert accounts.identify(db, session=key, now_ms=NOW + accounts.SESSION_MS) is None
    token = accounts.make_token(db, "prometheus", Role.VIEWER, "anna", 1, NOW)
    assert accounts.identify(db, token=token, now_ms=NOW + 90_000).role is Role.VIEWER
    accounts.withdraw(db, accounts.tokens(db)[0].id)
    with pytest.raises(BadRequest, match="no token"):
        accounts.withdraw(db, 1)


def test_boxes_and_certificates(db, tmp_path):
    """Enrolled twice it is one box with two certificates; found by part of a name or site; counted; revoked once."""
    authority = Authority(tmp_path / "authority", NOW)
    for name in ("Box-2", "box-1", "box_3", "box_3"):
        inventory.enrol(db, authority, name, 30, NOW)
    with db.write() as tx:
        tx.run("UPDATE device SET site = ?, state = 'online' WHERE name = 'box-1'", "Café 100%")
    names = [device.name for device in inventory.devices(db, Filter())]
    assert names == ["Box-2", "box-1", "box_3"]
    assert [device.name for device in inventory.devices(db, Filter(after="Box-2", limit=1))] == ["box-1"]
    assert [device.name for device in inventory.devices(db, Filter(q="BOX"))] == names
    assert [device.name for device in inventory.devices(db, Filter(q="_"))] == ["box_3"]
    assert [device.name for device in inventory.devices(db, Filter(q="100%", state="online"))] == ["box-1"]
    assert inventory.facets(db)["state"] == {"new": 2, "online": 1}
    assert inventory.revoke(db, "box_3", NOW) == 2
    assert inventory.revoke(db, "box_3", NOW) == 0
    assert len(inventory.revoked_serials(db)) == 2
    assert inventory.revocations_to_apply(db) == ["box_3"]
    inventory.apply_revocations(db, "box_3", NOW + 1)
    assert inventory.revocations_to_apply(db) == []
    with db.write() as tx:  # the broker does not know yet, and it came back
        tx.run("UPDATE device SET seen = ? WHERE name = 'box_3'", NOW + 2)
    assert inventory.revocations_to_apply(db) == ["box_3"]
    inventory.apply_revocations(db, "box_3", NOW + 3)
    assert inventory.revocations_to_apply(db) == []
    assert inventory.device(db, "box_3").revoked
    assert not inventory.device(db, "box-1").revoked


def test_commands_events_and_audit(db, tmp_path):
    """A command from queued to expired; events page by time and number; the audit log by author, the newest first."""
    inventory.enrol(db, Authority(tmp_path / "authority", NOW), "box-1", 30, NOW)
    made = journal.order(db, "box-1", "ping", {}, "anna", 60, NOW)
    assert [one.id for one in journal.due(db, "", NOW)] == [made.id]
    journal.sent(db, made.id)
    assert journal.due(db, "box-1", NOW) == []
    journal.reopen(db)
    assert journal.orders(db, id=made.id)[0].state == "queued"
    assert journal.expire(db, NOW + 60_000) == ["box-1"]
    assert journal.expire(db, NOW + 60_000) == []
    with db.write() as tx:
        sql = "INSERT INTO event (device, boot, seq, ts, arrived, code, severity, details) VALUES ('box-1', '', 0, ?, 0, ?, 'info', '{}')"
        tx.many(sql, [(NOW - n % 3, f"code_{n}") for n in range(9)])
    first = journal.events(db, device="box-1", limit=4)
    rest = journal.events(db, before=first[-1].id, limit=9)
    assert [event.code for event in first + rest] == [f"code_{n}" for n in (6, 3, 0, 7, 4, 1, 8, 5, 2)]
    for number in range(3):
        journal.audit(db, NOW + number, f"anna{number % 2}", "look", "box-1", {"n": number})
    assert [row.details["n"] for row in journal.audited(db, author="anna0")] == [2, 0]


def test_a_character_that_postgresql_cannot_keep(db):
    """A box whose site has the character 0 in it is a box like others."""
    from fleet.intake import Accepted, Intake, judge
    from tests.fleet.test_intake import envelope

    body = t.Birth(attributes={"site": "a\0b"}, versions={"visavis": "1"})
    found = judge(t.topic("default", "box-1", t.UpKind.BIRTH), envelope(t.UpKind.BIRTH, body, 1), False, "default", NOW)
    assert isinstance(found, Accepted)
    Intake(db).commit([found], NOW)
    assert inventory.device(db, "box-1").site in ("a\0b", "a\N{REPLACEMENT CHARACTER}b")
