"""Tasks end when they are told to."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from fleet.tasks import Through, end

pytestmark = pytest.mark.unit


def test_a_task_that_is_woken_while_it_is_cancelled():
    """It waits with a limit, as the controller's parts do, and what it waits for comes in the same moment: it ends all the same."""

    async def run():
        rang = asyncio.Event()

        async def work():
            while True:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(rang.wait(), 60)
                rang.clear()

        tasks = [asyncio.create_task(work()), asyncio.create_task(asyncio.sleep(60))]
        for _ in range(5):
            await asyncio.sleep(0)
        rang.set()
        await asyncio.wait_for(end(tasks), 30)
        assert all(task.cancelled() for task in tasks)

    asyncio.run(run())


def test_what_a_task_raises_stops_nobody():
    """One that fails at its end, one that ended long ago, and none at all."""

    async def run():
        async def bad():
            try:
                await asyncio.sleep(60)
            finally:
                raise OSError("broken")

        tasks = [asyncio.create_task(bad()), asyncio.create_task(asyncio.sleep(0))]
        for _ in range(5):
            await asyncio.sleep(0)
        await end(tasks)
        assert all(task.done() for task in tasks)
        await end([])

    asyncio.run(run())


def test_work_that_goes_through(caplog):
    """Whoever waits gets what it makes or raises; when who waited is gone it ends all the same, and what it raises is logged; at the end
    what takes too long is cancelled.
    """

    async def run():
        through, go, done = Through(), asyncio.Event(), []

        async def work(what, error=None):
            await go.wait()
            done.append(what)
            if error:
                raise error
            return what

        waiting = asyncio.create_task(through.do(work("one")))
        gone = [asyncio.create_task(through.do(work(what, error))) for what, error in (("two", None), ("three", OSError("broken")))]
        raising = asyncio.create_task(through.do(work("four", KeyError("told"))))
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        assert all(task.cancelled() for task in gone)
        go.set()
        assert await waiting == "one"
        with pytest.raises(KeyError, match="told"):
            await raising
        await through.close(60)
        assert done == ["one", "two", "three", "four"]
        endless = asyncio.create_task(through.do(asyncio.Event().wait()))
        await asyncio.sleep(0)
        await through.close(0)
        await asyncio.wait([endless])
        assert endless.cancelled()

    asyncio.run(run())
    assert [record.exc_info[1].args for record in caplog.records] == [("broken",)]
