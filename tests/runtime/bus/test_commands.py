"""Command links over real sockets: confirmation, bounds, deadlines, restarts, event loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq

from runtime.bus import CommandReceiver, CommandSender, DeadlineMissed, Overflow, PeerGone, attach
from runtime.messages import Ask

pytestmark = pytest.mark.system

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


def ask(text: str) -> Ask:
    return Ask(1, 2, text, visit=1)


def wait_for(receiver: CommandReceiver[Ask]) -> list[Ask]:
    got = receiver.receive(timeout_ms=5000)
    assert got, "nothing came in five seconds"
    return got


def test_command_arrives_and_is_confirmed(context: Context, path: str) -> None:
    """Commands of two senders arrive, each sender's in order, and are confirmed to both."""
    with closing(CommandReceiver(context, path, PREFIX, Ask)) as receiver:
        senders = [CommandSender(context, path, PREFIX, Ask, 60_000, 8) for _ in range(2)]
        for sender, name in zip(senders, "ab", strict=True):
            for number in range(3):
                sender.send(ask(f"{name}{number}"))
        got: list[Ask] = []
        while len(got) < 6:
            got += wait_for(receiver)
        texts = [message.text for message in got]
        assert sorted(texts) == ["a0", "a1", "a2", "b0", "b1", "b2"]
        for sender, name in zip(senders, "ab", strict=True):
            assert [text for text in texts if text[0] == name] == [f"{name}{number}" for number in range(3)]
            sender.confirm(5000)
            assert (sender.stats().sent, sender.stats().depth, sender.stats().peak) == (3, 0, 3)
            sender.close()


def test_commands_wait_for_the_first_start(context: Context, path: str) -> None:
    """What is sent before the receiver exists reaches it."""
    with closing(CommandSender(context, path, PREFIX, Ask, 60_000, 4)) as sender:
        sender.send(ask("early"))
        with closing(CommandReceiver(context, path, PREFIX, Ask)) as receiver:
            assert [message.text for message in wait_for(receiver)] == ["early"]
            sender.confirm(5000)


def test_command_overflow(context: Context, path: str) -> None:
    """One command more than the link holds raises; there is room again once the receiver has taken some."""
    with (
        closing(CommandReceiver(context, path, PREFIX, Ask)) as receiver,
        closing(CommandSender(context, path, PREFIX, Ask, 60_000, 4)) as sender,
    ):
        for number in range(4):
            sender.send(ask(str(number)))
        with pytest.raises(Overflow, match="4 commands"):
            sender.send(ask("too many"))
        with pytest.raises(DeadlineMissed, match="not taken"):
            sender.confirm(1)
        taken = 0
        while taken < 4:
            taken += len(wait_for(receiver))
        sender.confirm(5000)
        sender.send(ask("again"))
        assert [message.text for message in wait_for(receiver)] == ["again"]
        assert sender.stats().dropped == {"overflow": 1, "peer_gone": 0}


def test_command_deadline(context: Context, path: str) -> None:
    """A command that lay too long is dropped and counted, one in time is not."""
    now = 1_000_000_000
    with (
        closing(CommandReceiver(context, path, PREFIX, Ask, clock=lambda: now)) as receiver,
        closing(CommandSender(context, path, PREFIX, Ask, 100, 8, clock=lambda: now)) as sender,
    ):
        sender.send(ask("old"))
        now += 60_000_000
        sender.send(ask("young"))
        now += 60_000_000
        got: list[Ask] = []
        while not got:
            got += receiver.receive(timeout_ms=1000)
        assert [message.text for message in got] == ["young"]
        assert receiver.stats().dropped["expired"] == 1


def test_receiver_gone_and_back(context: Context, path: str) -> None:
    """The sender is told that the receiver exited, and goes on when it is back; what died with it is counted."""
    with closing(CommandSender(context, path, PREFIX, Ask, 60_000, 8)) as sender:
        first = CommandReceiver(context, path, PREFIX, Ask)
        sender.send(ask("taken"))
        wait_for(first)
        sender.confirm(5000)
        first.close()
        refused = 0
        while not refused:  # the news takes a moment
            try:
                sender.send(ask("lost or late"))
            except Overflow:
                time.sleep(0.005)
            except PeerGone:
                refused += 1
        with closing(CommandReceiver(context, path, PREFIX, Ask)) as second:
            got: list[Ask] = []
            while not got or got[-1].text != "again":
                try:
                    sender.send(ask("again"))
                except PeerGone:
                    refused += 1
                got += second.receive(timeout_ms=5)
            sender.confirm(5000)
            got += second.receive()
        after = sender.stats()
        assert (after.restarts, after.depth) == (1, 0)
        # Every command is accounted for: taken by the first (one) or the second receiver, or lost on the way.
        assert after.sent == 1 + len(got) + after.dropped["peer_gone"] - refused


def test_command_of_another_link(context: Context, path: str) -> None:
    """A command with another link's prefix is dropped and counted."""
    with (
        closing(CommandReceiver(context, path, PREFIX, Ask)) as receiver,
        closing(CommandSender(context, path, PREFIX + 1, Ask, 60_000, 8)) as sender,
    ):
        sender.send(ask("lost"))
        while not receiver.stats().dropped["malformed"]:
            assert receiver.receive(timeout_ms=1000) == []


def test_a_flood_does_not_fill_the_log(context: Context, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each command that does not fit is counted; the log gets a line for the 1st, 2nd, 4th, 8th …"""
    with (
        closing(CommandReceiver(context, path, PREFIX, Ask)) as receiver,
        closing(CommandSender(context, path, PREFIX + 1, Ask, 60_000, 200)) as sender,
    ):
        for _ in range(100):
            sender.send(ask("lost"))
        while receiver.stats().dropped["malformed"] < 100:
            assert receiver.receive(timeout_ms=1000) == []
    assert len([line for line in caplog.messages if "does not fit" in line]) == 7


def test_command_link_needs_bounds(context: Context, path: str) -> None:
    """Neither a deadline nor a capacity of zero makes a command link."""
    for deadline_ms, capacity in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match="deadline and a capacity"):
            CommandSender(context, path, PREFIX, Ask, deadline_ms, capacity)


def test_attached_commands(context: Context, path: str) -> None:
    """A receiver in an event loop never stalls, though it sends confirmations on the same edge-triggered socket."""

    async def serve() -> list[str]:
        got: list[str] = []
        loop = asyncio.get_running_loop()

        def take(messages: list[Ask]) -> None:
            got.extend(message.text for message in messages)

        detach = attach(loop, receiver, take)
        for number in range(500):
            while True:
                try:
                    sender.send(ask(str(number)))
                    break
                except Overflow:
                    await asyncio.sleep(0)
        while len(got) < 500:  # noqa: ASYNC110  nothing but the receiver itself shall wake this loop
            await asyncio.sleep(0)
        detach()
        return got

    with (
        closing(CommandReceiver(context, path, PREFIX, Ask)) as receiver,
        closing(CommandSender(context, path, PREFIX, Ask, 60_000, 4)) as sender,
    ):
        assert asyncio.run(serve()) == [str(number) for number in range(500)]
