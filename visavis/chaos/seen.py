"""Everything that came, in order and with its time, for one thread that writes and others that wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from runtime import topology
from runtime.bus import FrameDescriptor, Subscriber
from runtime.context import link_path

__all__ = ["Entry", "Seen", "Watch"]

_LINKS = ("floor", "heard", "nodes", "reply", "video")


class Entry(NamedTuple):
    """When it came (ns, CLOCK_MONOTONIC), what kind of thing it is, and what it is."""

    t_ns: int
    kind: str
    what: Any


class Seen:
    """A log that can be waited for. Kinds are "page …" (see `Page`) and "bus LINK" (the message)."""

    def __init__(self) -> None:
        self._log: list[Entry] = []
        self._begin = 0  # so many were forgotten
        self._newest: dict[str, Entry] = {}
        self._changed = threading.Condition()

    def add(self, kind: str, what: Any = None) -> None:
        """Note that something came just now."""
        with self._changed:
            self._newest[kind] = Entry(time.monotonic_ns(), kind, what)
            self._log.append(self._newest[kind])
            self._changed.notify_all()

    def mark(self) -> int:
        """A place to look from later."""
        with self._changed:
            return self._begin + len(self._log)

    def forget(self, before: int) -> None:
        """Drop what came before the mark; `last` still knows the newest of each kind."""
        with self._changed:
            del self._log[: max(0, before - self._begin)]
            self._begin = max(before, self._begin)

    def all(self, kind: str, since: int = 0, before: int | None = None) -> list[Entry]:
        """What came of `kind` after the mark, and before the other one if there is one."""
        with self._changed:
            end = len(self._log) if before is None else max(0, before - self._begin)
            return [entry for entry in self._log[max(0, since - self._begin) : end] if entry.kind == kind]

    def last(self, kind: str) -> Entry | None:
        """The newest of `kind`."""
        with self._changed:
            return self._newest.get(kind)

    def wait(self, kind: str, wanted: Callable[[Any], bool] = lambda _: True, *, since: int, limit_s: float) -> Entry | None:
        """The first of `kind` after the mark that is `wanted`, waiting for it; None after `limit_s`."""
        deadline = time.monotonic() + limit_s
        at = since
        with self._changed:
            while True:
                for entry in self._from(at):
                    at += 1
                    if entry.kind == kind and wanted(entry.what):
                        return entry
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def _from(self, mark: int) -> Iterator[Entry]:
        for at in range(max(0, mark - self._begin), len(self._log)):
            yield self._log[at]


class Watch(threading.Thread):
    """Subscribes to links of the kiosk in `run_dir` from construction to `end()`; takes part in nothing."""

    def __init__(self, run_dir: Path, seen: Seen) -> None:
        super().__init__(daemon=True, name="watch")
        self._run_dir, self._seen, self._over = run_dir, seen, threading.Event()
        self.start()

    def run(self) -> None:
        """The thread."""
        context: zmq.Context[Any] = zmq.Context(1)
        poller = zmq.Poller()
        ends: list[tuple[str, Subscriber[Any]]] = []
        for prefix, row in enumerate(topology.LINKS, start=1):
            if row.name in _LINKS:
                end: Subscriber[Any] = Subscriber(
                    context, link_path(self._run_dir, row.name), prefix, row.payload or FrameDescriptor, row.kind.value
                )
                poller.register(end.fd, zmq.POLLIN)
                ends.append((f"bus {row.name}", end))
        while not self._over.is_set():
            poller.poll(10)  # the descriptors are edge-triggered: look into every link after each wait
            for kind, end in ends:
                for message in end.receive():
                    self._seen.add(kind, message)
        for _, end in ends:
            end.close()
        context.destroy(linger=0)

    def end(self) -> None:
        """Stop watching."""
        self._over.set()
        self.join(5)
