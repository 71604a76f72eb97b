"""What a node can rely on when its neighbours die."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from typing import Any

from runtime import topology
from runtime.clock import SystemClock
from runtime.messages import Notice
from tests.support.harness import LIMIT_S, Bench


class Later(SystemClock):
    """A clock that can be put forward."""

    ahead_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.ahead_ns


def shown(stage: Any, node: Any, clock: Later, wanted: int, limit_s: float = LIMIT_S) -> list[tuple[str, str]]:
    """The notices that reach `stage` while `node` goes on beating, until there are as many as `wanted`."""
    found: list[tuple[str, str]] = []
    deadline = time.monotonic() + limit_s
    while len(found) < wanted and time.monotonic() < deadline:
        clock.ahead_ns += 1_000_000_000
        node.beat()
        found += [(m.code, m.text) for _, m in stage.receive(0.05) if isinstance(m, Notice)]
    return found


def test_a_new_stage_shows_what_still_holds():
    """Notices outlive the stage: the next one is told those that were not taken back, once."""
    clock = Later()
    with Bench() as bench:
        node, stage = bench.context("voice", clock), bench.context("stage")
        node.notice("engine", "espeak-ng speaks instead of piper")
        node.notice("disk", "the disk is full")
        assert len(shown(stage, node, clock, 2)) == 2
        node.notice("disk", "")
        assert shown(stage, node, clock, 1) == [("disk", "")]
        stage.close()
        bench._contexts.remove(stage)
        again = bench.context("stage")
        assert shown(again, node, clock, 1) == [("engine", "espeak-ng speaks instead of piper")]
        assert shown(again, node, clock, 1, limit_s=0.5) == []


def test_a_notice_waits_for_a_slow_start():
    """What a node finds missing while it starts is still shown where the stage takes its full time to start."""
    assert topology.link("notice").deadline_ms >= 60_000


class Ring:
    """Something that only garbage collection finds."""

    def __init__(self) -> None:
        self.itself = self


def test_what_a_conversation_leaves_in_rings_is_gone_after_ten_seconds():
    """Python by itself would wait for tens of thousands of objects more."""
    clock = Later()
    with Bench() as bench:
        node = bench.context("voice", clock)
        node.tidy = True
        before = gc.get_threshold()
        gc.set_threshold(0)
        try:
            node.beat()
            ring = weakref.ref(Ring())
            node.beat()
            assert ring() is not None
            clock.ahead_ns += 10_000_000_000
            node.beat()
            assert ring() is None
        finally:
            gc.set_threshold(*before)


def test_a_signal_wakes_a_loop():
    """SIGTERM ends a wait of the loop that the context is attached to, however long that would be, at any moment of it."""

    async def life() -> None:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        ctx.attach(loop, lambda *_: None, told.set)
        late = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
        late.start()
        await asyncio.wait_for(told.wait(), LIMIT_S)
        late.join()
        assert ctx.stopping

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Bench() as bench:
            ctx = bench.context("uplink")
            ctx.handle_signals()
            asyncio.run(life())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
