"""Words between controllers on one PostgreSQL: what could not be said is said later, and who may have missed one looks by itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from fleet.database import open_database
from fleet.echo import Echo
from fleet.live import ALERTS, JOBS, Hub
from fleet.tasks import end
from tests.support.harness import LIMIT_S

pytestmark = pytest.mark.system


@pytest.fixture
def two(cluster):
    """The same empty database, as two controllers have it open; and its name."""
    url = cluster.database()
    made = open_database(url), open_database(url)
    yield *made, url.rpartition("/")[2]
    for db in made:
        db.close()


class Side:
    """A controller's echo, what it was told that has mail, and a console there."""

    def __init__(self, db, holder):
        self.hub, self.mail = Hub(), asyncio.Queue()
        self.echo = Echo(db, self.hub, holder, self.mail.put_nowait)

    @asynccontextmanager
    async def runs(self):
        with self.hub.listen() as self.console:
            task = asyncio.create_task(self.echo.run())
            try:
                yield self
            finally:
                await end([task])

    async def hears(self, wanted):
        """Until it has been told of this box's mail."""
        while await self.mail.get() != wanted:
            pass

    async def shows(self, wanted):
        """Until its console has been told of all this."""
        while wanted := wanted - await self.console.changes():
            pass


def test_who_may_have_missed_a_word_looks(cluster, two):
    """Whenever a controller begins to listen, any box may have mail, and alerts and rollouts may have changed: also after its connection
    was lost.
    """
    one, _, name = two

    async def run():
        async with Side(one, "a").runs() as a:
            await a.hears("")
            await a.shows({ALERTS, JOBS})
            listens = f"datname = '{name}' AND query LIKE 'LISTEN%'"
            assert cluster.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {listens}") == [(True,)]
            await a.hears("")
            await a.shows({ALERTS, JOBS})

    asyncio.run(asyncio.wait_for(run(), LIMIT_S))


def test_what_could_not_be_said_is_said_later(cluster, two):
    """The store takes nothing from one controller for a while: the other then hears who has mail and what changed."""
    one, other, name = two

    async def run():
        async with Side(one, "a").runs() as a, Side(other, "b").runs() as b:
            for side in (a, b):
                await side.hears("")
                await side.shows({ALERTS, JOBS})
            cluster.ask(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            speaks = f"datname = '{name}' AND query NOT LIKE 'LISTEN%'"
            cluster.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {speaks}")
            failed = asyncio.Semaphore(0)
            fails = a.echo._fails
            a.echo._fails = lambda error: (fails(error), failed.release())
            a.echo.has_mail("box-1")
            a.hub.tell({"box-2", ALERTS})
            for _ in range(2):
                await failed.acquire()
            assert b.mail.empty()
            cluster.ask(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            await b.hears("box-1")
            await b.shows({"box-2", ALERTS})
            assert not a.echo._mailed

    asyncio.run(asyncio.wait_for(run(), LIMIT_S))
