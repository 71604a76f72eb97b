"""Looks over the kiosk's shoulder: subscribes to its links, copies the voice as it was synthesised. Tells the visitor when to go on.

It takes part in nothing: subscribers that no row of the topology names, and rings mapped through /proc. No time in the report is its.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import zmq

from runtime import messages as m
from runtime import topology
from runtime.bus import AudioReader, AudioRingSpec, BusError, RingFds, Subscriber
from runtime.context import link_path

__all__ = ["Observer", "Seen", "View", "ring_fds"]

_LINKS = ("floor", "words", "reply", "speech", "heard", "playhead", "nodes", "activity")
_NAMES = {row.name: index for index, row in enumerate(topology.LINKS, start=1)}


class Seen(msgspec.Struct, frozen=True):
    """One message as it came: when (CLOCK_MONOTONIC), on which link."""

    t_ns: int
    link: str
    message: Any


class View(msgspec.Struct):
    """What is known of the kiosk now."""

    floor: m.Floor | None = None
    playhead: m.Playhead | None = None
    words: m.Transcript | None = None
    started: int = 0  # replies that began to sound
    ended: int = 0  # replies that ended, by themselves or stopped
    heard: m.Heard | None = None
    nodes: dict[str, str] = {}


class Observer:
    """Runs a thread from construction to `close()`. `voice` holds each clause: (turn, seq, start in the ring, samples)."""

    def __init__(self, run_dir: Path, supervisor_pid: int) -> None:
        self.view = View()
        self.log: list[Seen] = []
        self.voice: list[tuple[m.Speech, npt.NDArray[np.int16]]] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._run_dir, self._pid = run_dir, supervisor_pid
        self.error: str = ""
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(3)

    def wait(self, wanted: Callable[[View], bool], timeout_s: float) -> bool:
        """Wait until `wanted` holds of the view; False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: wanted(self.view), timeout_s)

    def words_of(self, turn: int) -> list[m.SpokenWord]:
        """The words of the reply of `turn`, so far as they are synthesised."""
        with self._changed:
            return [word for speech, _ in self.voice if speech.turn == turn for word in speech.words]

    def _run(self) -> None:
        context: zmq.Context[Any] = zmq.Context(1)
        poller = zmq.Poller()
        subscribers = {}
        for name in _LINKS:
            row = topology.link(name)
            assert row.payload is not None
            subscribers[name] = Subscriber(context, link_path(self._run_dir, name), _NAMES[name], row.payload, row.kind.value)
            poller.register(subscribers[name].fd, zmq.POLLIN)
        try:
            with speech_ring(self._pid) as ring:
                while not self._stop.is_set():
                    # zmq's descriptors are edge-triggered: look into every link after each wait, and wait shortly.
                    poller.poll(10)
                    for name, subscriber in subscribers.items():
                        for message in subscriber.receive():
                            self._take(name, message, ring)
        except (BusError, OSError) as error:
            self.error = str(error)
        finally:
            for subscriber in subscribers.values():
                subscriber.close()
            context.destroy(linger=0)

    def _take(self, link: str, message: Any, ring: AudioReader) -> None:
        with self._changed:
            if link != "playhead":
                self.log.append(Seen(time.monotonic_ns(), link, message))
            view = self.view
            if isinstance(message, m.Floor):
                view.floor = message
            elif isinstance(message, m.Playhead):
                view.playhead = message
            elif isinstance(message, m.Transcript):
                view.words = message
            elif isinstance(message, m.Speech):
                pcm = np.empty(0, dtype=np.int16)
                with suppress(BusError):
                    pcm = ring.read(message.start, message.samples)
                self.voice.append((message, pcm))
            elif isinstance(message, m.Heard):
                view.heard = message
                if message.kind is m.HeardKind.STARTED:
                    view.started += 1
                else:
                    view.ended += 1
            elif isinstance(message, m.NodeEvent):
                view.nodes[message.node] = message.state.value
            self._changed.notify_all()


def ring_fds(pid: int, name: str) -> RingFds:
    """Descriptors of ring `name` of the supervisor `pid`, opened anew from /proc. Raises OSError where they are not there (yet)."""
    data = control = -1
    folder = Path(f"/proc/{pid}/fd")
    for entry in folder.iterdir():
        with suppress(OSError):
            target = str(entry.readlink())
            if target.startswith(f"/memfd:{name} ") and data < 0:
                data = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
            elif target.startswith(f"/memfd:{name}.control ") and control < 0:
                # The ring's own code maps the control page read-write; nothing here writes to it.
                control = os.open(entry, os.O_RDWR | os.O_CLOEXEC)
    if min(data, control) < 0:
        for fd in (data, control):
            if fd >= 0:
                os.close(fd)
        raise FileNotFoundError(f"process {pid} holds no ring {name!r}")
    return RingFds(data=data, data_ro=data, control=control)


@contextmanager
def speech_ring(pid: int) -> Iterator[AudioReader]:
    """A reader of the speech ring of the supervisor `pid`."""
    spec = topology.link("speech").ring
    assert isinstance(spec, AudioRingSpec)
    fds = ring_fds(pid, spec.name)
    reader = AudioReader(spec, fds)
    try:
        yield reader
    finally:
        reader.close()
        os.close(fds.data)
        os.close(fds.control)
