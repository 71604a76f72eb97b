"""Links over real sockets: the three kinds, losses, restarts, deadlines, event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import zmq

from runtime.bus import (
    LinkError,
    LinkKind,
    Publisher,
    Receiver,
    Subscriber,
    attach,
)
from runtime.messages import Ask, Playhead, Posture
from tests.support.harness import LIMIT_S

pytestmark = pytest.mark.system

T = TypeVar("T")
PREFIX = 7
Context = zmq.Context[Any]


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/link"


def at(index: int) -> Playhead:
    return Playhead(1, 2, index, playing=True)


def ask(text: str) -> Ask:
    return Ask(1, 2, text, visit=1)


def until_heard(publisher: Publisher[Playhead], subscriber: Subscriber[Playhead], start: int = 0) -> int:
    """Publishes until the subscriber hears; returns the last index sent."""
    for index in range(start, start + 2000):
        publisher.send(at(index))
        if subscriber.receive(timeout_ms=5):
            while subscriber.receive(timeout_ms=20):
                pass
            return index
    raise AssertionError("the subscriber never heard the publisher")


def wait_for(receiver: Receiver[T]) -> list[T]:
    got = receiver.receive(timeout_ms=5000)
    assert got, "nothing came in five seconds"
    return got


def test_latest_gives_the_newest(context: Context, path: str) -> None:
    """After a pause the reader gets one message, the newest, and the count of those it missed."""
    with (
        closing(Publisher(context, path, PREFIX, Playhead)) as publisher,
        closing(Subscriber(context, path, PREFIX, Playhead, LinkKind.LATEST)) as subscriber,
    ):
        last = until_heard(publisher, subscriber)
        before = subscriber.stats().dropped["skipped"]
        for index in range(last + 1, last + 3001):
            publisher.send(at(index))
        got: list[Playhead] = []
        while not got or got[-1].index != last + 3000:
            batch = wait_for(subscriber)
            assert len(batch) == 1
            got += batch
        assert subscriber.stats().dropped["skipped"] - before == 3000 - len(got)
        assert subscriber.receive() == []


def test_stream_gives_all_in_order(context: Context, path: str) -> None:
    """Every message of a stream arrives, in order, and nothing counts as lost."""
    with (
        closing(Publisher(context, path, PREFIX, Playhead)) as publisher,
        closing(Subscriber(context, path, PREFIX, Playhead, "stream")) as subscriber,
    ):
        last = until_heard(publisher, subscriber)
        for index in range(last + 1, last + 1001):
            publisher.send(at(index))
        got: list[Playhead] = []
        while len(got) < 1000:
            got += wait_for(subscriber)
        assert [message.index for message in got] == list(range(last + 1, last + 1001))
        assert subscriber.stats().dropped == {"lost": 0, "malformed": 0}
        assert publisher.stats().sent == last + 1001


def test_stream_loss_is_counted_and_told(context: Context, path: str) -> None:
    """A reader that is too far behind learns exactly how many messages it lost."""
    told: list[int] = []
    with (
        closing(Publisher(context, path, PREFIX, Playhead)) as publisher,
        closing(Subscriber(context, path, PREFIX, Playhead, LinkKind.STREAM, on_gap=told.append)) as subscriber,
    ):
        last = until_heard(publisher, subscriber)
        heard = subscriber.stats().received
        for index in range(last + 1, last + 40_001):
            publisher.send(at(index))
        sent, count, newest = last + 40_000, 0, last
        while newest <= last + 40_000:  # what comes after the burst shows the hole
            sent += 1
            publisher.send(at(sent))
            for message in subscriber.receive(timeout_ms=50):
                assert message.index > newest
                count, newest = count + 1, message.index
        stats = subscriber.stats()
        assert stats.dropped["lost"] > 0
        assert stats.dropped["lost"] + count == newest - last
        assert sum(told) == stats.dropped["lost"]
        assert stats.received == heard + count


def test_subscriber_before_publisher(context: Context, path: str) -> None:
    """A subscriber may exist first."""
    with closing(Subscriber(context, path, PREFIX, Playhead, LinkKind.STREAM)) as subscriber:
        assert subscriber.receive() == []
        with closing(Publisher(context, path, PREFIX, Playhead)) as publisher:
            until_heard(publisher, subscriber)


def test_publisher_restarts(context: Context, path: str) -> None:
    """A new publisher takes the path over a stale socket file; the reader sees a restart, and counts what of the new life it missed."""
    with closing(Subscriber(context, path, PREFIX, Playhead, LinkKind.STREAM)) as subscriber:
        with closing(Publisher(context, path, PREFIX, Playhead)) as first:
            until_heard(first, subscriber)
        Path(path.removeprefix("ipc://")).touch()
        with closing(Publisher(context, path, PREFIX, Playhead)) as second:
            before = subscriber.stats()
            sent = until_heard(second, subscriber) + 1
            after = subscriber.stats()
        assert (before.restarts, after.restarts) == (0, 1)
        assert after.dropped["lost"] + after.received - before.received == sent


def test_other_prefix_is_not_received(context: Context, path: str) -> None:
    """Subscribers take their own link's prefix only."""
    with (
        closing(Publisher(context, path, PREFIX, Playhead)) as publisher,
        closing(Subscriber(context, path, PREFIX + 1, Playhead, LinkKind.STREAM)) as other,
        closing(Subscriber(context, path, PREFIX, Playhead, LinkKind.STREAM)) as subscriber,
    ):
        until_heard(publisher, subscriber)
        assert other.receive() == []


class Wider(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A later release's Playhead: one field appended."""

    turn: int
    t_ns: int
    index: int
    playing: bool
    gain: float
    page: bool
    more: str


def test_fields_may_be_appended(context: Context, path: str) -> None:
    """An older reader understands a message with a field more."""
    with (
        closing(Publisher(context, path, PREFIX, Wider)) as publisher,
        closing(Subscriber(context, path, PREFIX, Playhead, LinkKind.STREAM)) as subscriber,
    ):
        got: list[Playhead] = []
        while not got:
            publisher.send(Wider(1, 2, 3, True, 1.0, False, "new"))
            got = subscriber.receive(timeout_ms=5)
        assert got[0] == at(3)


def test_message_that_does_not_fit(context: Context, path: str) -> None:
    """A message of another type is dropped and counted; the reader lives on."""
    with (
        closing(Publisher(context, path, PREFIX, Ask)) as publisher,
        closing(Subscriber(context, path, PREFIX, Playhead, LinkKind.STREAM)) as subscriber,
    ):
        while not subscriber.stats().dropped["malformed"]:
            publisher.send(ask("hello"))
            assert subscriber.receive(timeout_ms=5) == []


def test_path_too_long(context: Context, tmp_path: Path) -> None:
    """A socket path that the kernel cannot take is one clear line; a folder that is missing too."""
    with pytest.raises(LinkError, match="shorter run directory"):
        Publisher(context, f"ipc://{tmp_path}/{'x' * 120}", PREFIX, Playhead)
    with pytest.raises(LinkError, match="nowhere"):
        Publisher(context, f"ipc://{tmp_path}/nowhere/link", PREFIX, Playhead)


def test_commands_are_no_broadcast(context: Context, path: str) -> None:
    """A Subscriber is not made for a command link."""
    with pytest.raises(ValueError, match="CommandReceiver"):
        Subscriber(context, path, PREFIX, Ask, LinkKind.COMMAND)


def test_ended_context(path: str) -> None:
    """Sockets of an ended context raise our error, not zmq's."""
    context: Context = zmq.Context()
    context.term()
    with pytest.raises(LinkError):
        Publisher(context, path, PREFIX, Playhead)


def test_attached_stream(context: Context, path: str) -> None:
    """In an event loop every message reaches the callback, also what had come before, and none after detaching."""

    async def listen() -> list[int]:
        got: list[int] = []
        done = asyncio.Event()

        def take(messages: list[Playhead]) -> None:
            got.extend(message.index for message in messages)
            if got[-1] >= last + 2000:
                done.set()

        detach = attach(asyncio.get_running_loop(), subscriber, take)
        for index in range(last + 1001, last + 2001):
            publisher.send(at(index))
            if index % 50 == 0:
                await asyncio.sleep(0)
        await asyncio.wait_for(done.wait(), LIMIT_S)
        detach()
        publisher.send(at(last + 2001))
        await asyncio.get_running_loop().run_in_executor(None, subscriber._socket.poll, 1000)
        return got

    with (
        closing(Publisher(context, path, PREFIX, Playhead)) as publisher,
        closing(Subscriber(context, path, PREFIX, Playhead, LinkKind.STREAM)) as subscriber,
    ):
        last = until_heard(publisher, subscriber)
        for index in range(last + 1, last + 1001):
            publisher.send(at(index))
        subscriber._socket.poll(1000)
        assert asyncio.run(listen()) == list(range(last + 1, last + 2001))
        assert [message.index for message in subscriber.receive()] == [last + 2001]


def test_kind_of_the_table_is_understood(context: Context, path: str) -> None:
    """Kinds may be named by any string enum of the same values; others are refused."""
    with pytest.raises(ValueError, match="speaking"):
        Subscriber(context, path, PREFIX, Playhead, Posture.SPEAKING)
