"""Links from one publisher to any number of subscribers: `latest` (the newest counts) and `stream` (every one counts, in order)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec
import zmq

from runtime.bus._sockets import Clock, Envelope, link_name, monotonic_ns, open_socket, readable, worth_a_line
from runtime.bus._stats import LinkStats
from runtime.bus.errors import mapped

__all__ = ["LinkKind", "Publisher", "Subscriber"]

_log = logging.getLogger(__name__)
T = TypeVar("T")

STREAM_HWM = 4096
"""Messages that a stream holds for a reader that does not keep up, on each side; what comes then is lost, counted and reported."""
LATEST_HWM = 16


class LinkKind(str, Enum):
    """How a link treats a slow reader."""

    LATEST = "latest"  # drained to the newest, the gap is the drop count
    STREAM = "stream"  # ordered, a gap is an error event
    COMMAND = "command"  # bounded, each with a deadline; overflow raises


class Publisher(Generic[T]):
    """The sending end. Binds `path`; a restarted publisher binds the same one. Never waits. Used by one thread.

    Messages sent before a subscriber has connected (a few ms after both exist) do not reach it: state is repeated, not sent once.

    Raises:
        LinkError: the path cannot be bound.

    """

    def __init__(
        self,
        context: zmq.Context[Any],
        path: str,
        codec_prefix: int,
        type: type[T],  # noqa: A002  the bus's word for what a link carries
        *,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._name = link_name(path)
        self._clock = clock
        self._life = clock()
        self._seq = 0
        self._type = type
        self._encode = msgspec.msgpack.Encoder().encode_into
        self._buffer = bytearray([codec_prefix])
        self._socket = open_socket(context, zmq.PUB, path, bind=True, options={zmq.SNDHWM: STREAM_HWM})

    def send(self, message: T) -> None:
        """Sends to whoever listens. A subscriber that is 4096 messages behind loses this one and finds out by the gap.

        Raises:
            PeerGone: the context was ended.

        """
        self._seq += 1
        self._encode(Envelope(self._seq, self._clock(), 0, self._life, message), self._buffer, 1)
        try:
            self._socket.send(self._buffer, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise mapped(error, f"link {self._name!r}") from error

    def stats(self) -> LinkStats:
        """What was sent; losses are known to the subscribers."""
        return LinkStats(name=self._name, kind="publish", role="publisher", sent=self._seq)

    def close(self) -> None:
        """Ends the socket; what was not sent yet is dropped."""
        self._socket.close()


class Subscriber(Generic[T]):
    """The receiving end; may exist before its publisher. Used by one thread.

    `latest`: zmq itself keeps only the newest message, however long the reader sleeps (high-water marks would keep the *oldest*), and
    the gap in the sequence is counted as `skipped`. `stream`: all in order; a gap is counted as `lost`, logged, and told to `on_gap`
    with the number of messages. After a gap or a restart the reader asks the owner for its state.

    Raises:
        LinkError: the path cannot be connected to.

    """

    def __init__(
        self,
        context: zmq.Context[Any],
        path: str,
        prefix: int,
        type: type[T],  # noqa: A002  the bus's word for what a link carries
        kind: LinkKind | str,
        *,
        on_gap: Callable[[int], None] | None = None,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._kind = LinkKind(getattr(kind, "value", kind))
        if self._kind is LinkKind.COMMAND:
            raise ValueError(f"link {link_name(path)!r}: commands are received by a CommandReceiver")
        self._latest = latest = self._kind is LinkKind.LATEST
        self._name = link_name(path)
        self._clock = clock
        self._on_gap = on_gap
        self._decode = msgspec.msgpack.Decoder(Envelope[type]).decode  # type: ignore[valid-type]
        self._life = 0
        self._seq = 0
        self._timeout_ms = -1
        self._received = self._restarts = self._depth = self._peak = self._age_ns = 0
        self._dropped = {"skipped" if latest else "lost": 0, "malformed": 0}
        options: dict[int, int | bytes] = {zmq.RCVHWM: LATEST_HWM if latest else STREAM_HWM, zmq.SUBSCRIBE: bytes([prefix])}
        if latest:
            options[zmq.CONFLATE] = 1
        self._socket = open_socket(context, zmq.SUB, path, bind=False, options=options)
        self.fd = int(self._socket.FD)
        """Readable when there may be messages. Edge-triggered: use `attach`, or call `receive` once before waiting."""

    def receive(self, timeout_ms: int = 0) -> list[T]:
        """What has come: at most the newest (`latest`) or all in order (`stream`); waits up to `timeout_ms` for a first one.

        Use either waits or the descriptor: a wait does not arm the descriptor's edge again.

        Raises:
            PeerGone: the context was ended.

        """
        try:
            frames = self._wait(timeout_ms) if timeout_ms else []
            # After a wait for the latest there is no more to drain: zmq has kept only that one.
            while not (timeout_ms and self._latest) and readable(self._socket):
                frames.append(self._socket.recv(zmq.NOBLOCK))
        except zmq.ZMQError as error:
            raise mapped(error, f"link {self._name!r}") from error
        if not frames:
            return []
        self._depth = len(frames)
        self._peak = max(self._peak, self._depth)
        if self._latest:
            return self._open(frames[-1])
        return [message for frame in frames for message in self._open(frame)]

    def _wait(self, timeout_ms: int) -> list[bytes]:
        """The first message, or none. Waiting inside `recv` saves the set-up of a poll for each message (25 µs of a hop)."""
        if timeout_ms != self._timeout_ms:
            self._socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
            self._timeout_ms = timeout_ms
        try:
            return [self._socket.recv()]
        except zmq.Again:
            return []

    def _open(self, frame: bytes) -> list[T]:
        """The message, or nothing if it cannot be read."""
        try:
            envelope: Envelope[T] = self._decode(memoryview(frame)[1:])
        except msgspec.MsgspecError as error:
            self._dropped["malformed"] = count = self._dropped["malformed"] + 1
            if worth_a_line(count):
                _log.warning(
                    "link %s: dropped a message of %d bytes that does not fit (%d so far): %s", self._name, len(frame), count, error
                )
            return []
        if envelope.life == self._life and envelope.seq == self._seq + 1:
            self._seq += 1
        else:
            self._follow(envelope.life, envelope.seq)
        self._received += 1
        self._age_ns = self._clock() - envelope.t_send_ns
        return [envelope.payload]

    def _follow(self, life: int, seq: int) -> None:
        """Counts what is missing before this message. What was sent before we first listened is not our loss."""
        if life != self._life:
            self._restarts += self._life != 0
            self._seq = seq - 1 if self._life == 0 else 0
            self._life = life
        gap = seq - self._seq - 1
        self._seq = seq
        if gap <= 0:
            return
        if self._latest:
            self._dropped["skipped"] += gap
            return
        self._dropped["lost"] += gap
        _log.error("link %s: %d messages lost before number %d", self._name, gap, seq)
        if self._on_gap is not None:
            self._on_gap(gap)

    def stats(self) -> LinkStats:
        """This subscriber's counters."""
        return LinkStats(
            name=self._name,
            kind=self._kind.value,
            role="subscriber",
            received=self._received,
            depth=self._depth,
            peak=self._peak,
            dropped=dict(self._dropped),
            restarts=self._restarts,
            age_ns=self._age_ns,
        )

    def close(self) -> None:
        """Ends the socket."""
        self._socket.close()
