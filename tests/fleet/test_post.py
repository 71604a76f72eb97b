"""Commands that wait are sent: all of them, whatever comes meanwhile, and also if nobody has said that they are there."""

from __future__ import annotations

import asyncio

import pytest

import runtime.telemetry as t
from fleet import controller, journal
from fleet.post import Post
from fleet.tasks import end
from tests.fleet.boxes import NOW, Boxes
from tests.support.harness import LIMIT_S


def sending(db, work, most=1):
    """What a post sends while `work(post)` runs and until it has sent so many: ids of commands, in order."""

    async def run():
        sent, enough = [], asyncio.Event()

        def send(order, _now):
            sent.append(order.id)
            if len(sent) >= most:
                enough.set()
            return len(sent)

        post = Post(db, lambda: NOW, send=send, mine=lambda: True, pass_on=lambda _: None)
        task = asyncio.create_task(post.run())
        work(post)
        await asyncio.wait_for(enough.wait(), LIMIT_S)
        await end([task])
        return sent

    return asyncio.run(run())


@pytest.mark.unit
def test_all_that_waits_is_sent(db):
    """More than is read at once, several with the same time: each goes out, in order, once."""
    many = 2 * journal.PAGE
    rows = [(f"{number:06}", f"box-{number % 7}", NOW - number // 300) for number in range(many)]
    with db.write() as tx:
        columns = "id, device, name, args, author, issued, expires, state"
        tx.many(f"INSERT INTO command ({columns}) VALUES (?, ?, 'ping', '{{}}', 'anna', ?, {NOW + 1}, 'queued')", rows)
    assert sending(db, lambda post: post.due(""), most=many) == [row[0] for row in sorted(rows, key=lambda row: (row[2], row[0]))]


@pytest.mark.unit
def test_a_command_that_comes_while_the_store_is_asked(db, monkeypatch):
    """For the same box, a moment after its commands were read: it is sent too."""
    Boxes(db).come("box-1")
    first = journal.order(db, "box-1", "ping", {}, "anna", 60, NOW)
    read, second, running = journal.due, [], []

    def due(*given):
        found = read(*given)
        if not second:
            second.append(journal.order(db, "box-1", "ping", {}, "anna", 60, NOW + 1))
            post, loop = running
            loop.call_soon_threadsafe(post.due, "box-1")
        return found

    monkeypatch.setattr(journal, "due", due)

    def work(post):
        running[:] = post, asyncio.get_running_loop()
        post.due("box-1")

    assert sending(db, work, most=2) == [first.id, second[0].id]


@pytest.mark.unit
def test_boxes_that_wait(db):
    """Those that are there and have a command that is not sent, not over, not withdrawn."""
    boxes = Boxes(db)
    boxes.come("box-1", "box-2", "box-3", "box-4")
    boxes.go("box-2")
    for name in ("box-1", "box-1", "box-2"):
        journal.order(db, name, "ping", {}, "anna", 60, NOW)
    journal.order(db, "box-3", "ping", {}, "anna", 5, NOW - 5_000)
    journal.sent(db, journal.order(db, "box-4", "ping", {}, "anna", 60, NOW).id)
    assert journal.waiting(db, NOW) == ["box-1"]


@pytest.mark.system
def test_a_command_of_which_nobody_has_said_anything(fleet, stranger, monkeypatch):
    """Another controller has kept it, and its word was lost: whoever leads finds it all the same."""
    monkeypatch.setattr(controller, "_SWEEP_MS", 0)
    box = stranger("box-1")
    assert box.say(t.UpKind.STATUS, t.Status(state="online"), retain=True) == 0
    fleet.until(lambda: fleet.state("box-1") == "online")
    made = journal.order(fleet.db, "box-1", "ping", {}, "anna", 60, fleet.times.wall_ms())
    box.wait(lambda: any(message.topic.endswith("/command") for message in box.came))
    fleet.until(lambda: journal.orders(fleet.db, id=made.id)[0].state == "sent")
