"""Real contexts without a supervisor: rings, board and sockets as in the kiosk, the nodes in the test's own process.

with Bench() as bench:
    stage, listener = bench.context("stage"), bench.context("listener")
    stage.publish("mic", MicTick(...))
    bench.wait_for(listener, "mic")

"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime import topology
from runtime.clock import Clock
from runtime.context import Bootstrap, Context
from runtime.sharedstate import create_board, create_checkpoint
from runtime.supervisor import make_rings

__all__ = ["LIMIT_S", "Bench"]

LIMIT_S = 60.0
"""How long anything may take in a test of real processes, threads and sockets: generous, because test machines are busy."""


class Bench:
    """A private bus with its shared memory; closes everything it made."""

    def __init__(self, *, config: Path | None = None, timeline: Path | None = None, options: dict[str, str] | None = None) -> None:
        self.run_dir = Path(tempfile.mkdtemp(prefix="vvtest-"))
        self.rings = make_rings()
        self._config, self._timeline, self._options = config, timeline, options or {}
        self._names = [row.name for row in topology.NODES] + [topology.SUPERVISOR, "probe"]
        self._board = create_board(len(self._names))
        self._checkpoints: dict[str, int] = {}
        self._lifeline = os.pipe()
        self._contexts: list[Context] = []

    def context(self, name: str, clock: Clock | None = None) -> Context:
        """The context of node `name` (as after an exec, so a second one for the same name is its next life)."""
        boot = Bootstrap(
            name=name,
            run_dir=str(self.run_dir),
            config=str(self._config or ""),
            rings=self.rings,
            board=self._board,
            line=self._names.index(name),
            checkpoint=self._checkpoints.setdefault(name, create_checkpoint(name)),
            lifeline=self._lifeline[0],
            token="test-token",
            timeline=str(self._timeline or ""),
            options=self._options,
        )
        ctx = Context(boot, clock)
        self._contexts.append(ctx)
        return ctx

    def wait_for(self, ctx: Context, link: str, wanted: Callable[[Any], bool] = lambda _: True, limit_s: float = LIMIT_S) -> Any:
        """The next message on `link` that `wanted` accepts; AssertionError after `limit_s`."""
        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0:
            for name, message in ctx.receive(min(left, 0.2)):
                if name == link and wanted(message):
                    return message
        raise AssertionError(f"{ctx.name} saw no such message on {link} within {limit_s} s")

    def repeat_until(self, send: Callable[[], None], ctx: Context, link: str, limit_s: float = LIMIT_S) -> Any:
        """Call `send` until `ctx` sees something on `link`: a subscriber that has just connected misses what came before."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            send()
            for name, message in ctx.receive(0.05):
                if name == link:
                    return message
        raise AssertionError(f"{ctx.name} never heard {link}")

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for ctx in self._contexts:
            ctx.close()
        for ring in self.rings.values():
            ring.close()
        for fd in (self._board, *self._checkpoints.values(), *self._lifeline):
            os.close(fd)
        shutil.rmtree(self.run_dir, ignore_errors=True)
