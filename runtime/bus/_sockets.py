"""What all links share: socket options, the envelope, counters, and how a socket meets an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import zmq

from runtime.bus.errors import LinkError, mapped

__all__ = ["Clock", "Envelope", "Receiver", "attach", "endpoint", "link_name", "monotonic_ns", "open_socket", "worth_a_line"]

T = TypeVar("T")
Clock = Callable[[], int]
monotonic_ns: Clock = time.monotonic_ns

RECONNECT_MS = 5
"""A restarted peer is found within this time: zmq's own 100 ms cost 72 ms per restart, 10 ms cost 9."""
RECONNECT_MAX_MS = 20
"""Where it backs off to, so that a node which is down for good does not cost its readers 200 attempts a second each."""
_SUN_PATH_MAX = 107


def worth_a_line(count: int) -> bool:
    """Whether the `count`-th drop of a kind is logged: the 1st, 2nd, 4th, 8th …; a flood must not fill the log, the counters tell all."""
    return count & (count - 1) == 0


class Envelope(msgspec.Struct, Generic[T], frozen=True, array_like=True, gc=False):
    """What the link adds to a message. `life` tells a restarted sender from a gap; fields are only ever appended."""

    seq: int  # 1, 2, 3 … within a life
    t_send_ns: int
    deadline_ns: int  # 0: none
    life: int  # CLOCK_MONOTONIC at which the sender was made
    payload: T


class Receiver(Protocol[T]):
    """The reading end of any link."""

    @property
    def fd(self) -> int:
        """Readable when there may be messages; edge-triggered, so use `attach`."""

    def receive(self, timeout_ms: int = 0) -> list[T]:
        """What has come, waiting up to `timeout_ms` for a first message."""


def endpoint(path: str) -> str:
    """The zmq address of a socket file. LinkError if the kernel cannot take a path of this length."""
    file = path.removeprefix("ipc://")
    if len(file.encode()) > _SUN_PATH_MAX:
        raise LinkError(f"{file}: a socket path may have {_SUN_PATH_MAX} bytes; use a shorter run directory")
    return f"ipc://{file}"


def link_name(path: str) -> str:
    """The last part of the socket path: by convention the name of the link."""
    return path.rsplit("/", 1)[-1]


def open_socket(context: zmq.Context[Any], kind: int, path: str, *, bind: bool, options: dict[int, int | bytes]) -> zmq.Socket[bytes]:
    """A socket with the house's options. A socket file left by a dead process is replaced by the bind (libzmq unlinks it first).

    Raises:
        LinkError: the path cannot be bound, or the context is gone.

    """
    address = endpoint(path)
    try:
        socket: zmq.Socket[bytes] = context.socket(kind)
    except zmq.ZMQError as error:
        raise mapped(error, f"link {link_name(path)!r}") from error
    try:
        common = {zmq.LINGER: 0, zmq.RECONNECT_IVL: RECONNECT_MS, zmq.RECONNECT_IVL_MAX: RECONNECT_MAX_MS}
        for option, value in (common | options).items():
            socket.setsockopt(option, value)
        (socket.bind if bind else socket.connect)(address)
    except zmq.ZMQError as error:
        socket.close()
        raise mapped(error, f"link {link_name(path)!r} at {address}") from error
    return socket


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message is there. Asking also re-arms the edge of the socket's descriptor.

    A third of the price of a receive that fails: pyzmq makes an exception with its text for each.
    """
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def attach(loop: asyncio.AbstractEventLoop, receiver: Receiver[T], callback: Callable[[list[T]], None]) -> Callable[[], None]:
    """Calls `callback` in `loop` with each batch that `receiver` takes; returns the function that ends this.

    zmq's descriptor fires on the edge only, so the receiver is also drained once at the start, and `receive` drains until empty.
    (A plain socket with add_reader costs a third of the CPU of zmq.asyncio.)
    """

    def drain() -> None:
        if messages := receiver.receive():
            callback(messages)

    fd = receiver.fd
    loop.add_reader(fd, drain)
    start = loop.call_soon(drain)

    def detach() -> None:
        start.cancel()
        loop.remove_reader(fd)

    return detach
