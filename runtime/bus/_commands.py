"""Command links: any number of senders, one receiver; bounded, each command with a deadline, nothing vanishes uncounted.

zmq's high-water marks do not bound a link (the kernel's socket buffers hold hundreds more), so the receiver confirms the sequence
numbers it took, and the sender counts what is out. DEALER to ROUTER: the receiver can answer each sender.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Generic, TypeVar

import msgspec
import zmq

from runtime.bus._sockets import Clock, Envelope, link_name, monotonic_ns, open_socket, readable, worth_a_line
from runtime.bus._stats import LinkStats
from runtime.bus.errors import DeadlineMissed, Overflow, PeerGone, mapped

__all__ = ["CommandReceiver", "CommandSender"]

_log = logging.getLogger(__name__)
T = TypeVar("T")
_MS = 1_000_000


class CommandSender(Generic[T]):
    """Sends commands to the receiver at `path`, which may not exist yet. Used by one thread.

    Raises:
        LinkError: the path cannot be connected to.

    """

    def __init__(
        self,
        context: zmq.Context[Any],
        path: str,
        prefix: int,
        type: type[T],  # noqa: A002  the bus's word for what a link carries
        deadline_ms: int,
        capacity: int,
        *,
        clock: Clock = monotonic_ns,
    ) -> None:
        if deadline_ms <= 0 or capacity <= 0:
            raise ValueError(f"link {link_name(path)!r}: a command link has a deadline and a capacity")
        self._name = link_name(path)
        self._type = type
        self._clock = clock
        self._life = clock()
        self._deadline_ns = deadline_ms * _MS
        self._capacity = capacity
        self._seq = self._sent = self._peak = 0
        self._out: deque[tuple[int, int]] = deque()  # seq and deadline of what is not confirmed, oldest first
        self._doubtful = 0  # the first so many went to a receiver that has died: some, all or none of them got there
        self._dropped = {"overflow": 0, "peer_gone": 0}
        self._connection = 0  # how often the peer was there
        self._connected = False
        self._encode = msgspec.msgpack.Encoder().encode_into
        self._decode_ack = msgspec.msgpack.Decoder(list[int]).decode
        self._buffer = bytearray([prefix])
        # zmq's own limit shall never be the one that counts; its look at how full a pipe is may be half a pipe late.
        hwm = 2 * capacity + 16
        self._socket = open_socket(context, zmq.DEALER, path, bind=False, options={zmq.SNDHWM: hwm, zmq.RCVHWM: hwm})
        events = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED
        self._monitor = self._socket.get_monitor_socket(events)

    def send(self, message: T) -> None:
        """Sends a command that is worth something for the link's deadline. Before the receiver's first start it is kept for it.

        Raises:
            Overflow: `capacity` commands are waiting already; this one was not sent.
            PeerGone: the receiver was there and is not now; this one was not sent.

        """
        self._update()
        if self._connection and not self._connected:
            self._dropped["peer_gone"] += 1
            raise PeerGone(f"link {self._name!r}: the receiver has exited")
        if len(self._out) - self._doubtful >= self._capacity:
            self._dropped["overflow"] += 1
            raise Overflow(f"link {self._name!r}: {self._capacity} commands are waiting")
        now = self._clock()
        deadline = now + self._deadline_ns
        self._encode(Envelope(self._seq + 1, now, deadline, self._life, message), self._buffer, 1)
        try:
            self._socket.send(self._buffer, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            self._dropped["overflow"] += isinstance(error, zmq.Again)
            raise mapped(error, f"link {self._name!r}") from error
        self._seq += 1
        self._sent += 1
        self._out.append((self._seq, deadline))
        self._peak = max(self._peak, len(self._out))

    def confirm(self, timeout_ms: int) -> None:
        """Waits until the receiver took everything sent so far.

        Raises:
            DeadlineMissed: it did not within `timeout_ms`.
            PeerGone: it exited.

        """
        end = self._clock() + timeout_ms * _MS
        while True:
            self._update()
            if not self._out:
                return
            if self._connection and not self._connected:
                raise PeerGone(f"link {self._name!r}: the receiver has exited")
            left = (end - self._clock()) // _MS
            if left <= 0:
                raise DeadlineMissed(f"link {self._name!r}: {len(self._out)} commands were not taken in {timeout_ms} ms")
            try:
                zmq.zmq_poll([(self._socket, zmq.POLLIN), (self._monitor, zmq.POLLIN)], int(left))
            except zmq.ZMQError as error:
                raise mapped(error, f"link {self._name!r}") from error

    def _update(self) -> None:
        """Takes in what has happened: connection lost or made, commands confirmed."""
        try:
            self._follow_peer()
            self._take_acks()
        except zmq.ZMQError as error:
            raise mapped(error, f"link {self._name!r}") from error
        # What went to a receiver that died is lost for certain once it could not be carried out any more.
        now = self._clock()
        while self._doubtful and self._out[0][1] < now:
            self._lose()

    def _follow_peer(self) -> None:
        while readable(self._monitor):
            event = int.from_bytes(self._monitor.recv_multipart()[0][:2], "little")
            self._connected = event == zmq.Event.HANDSHAKE_SUCCEEDED
            if not self._connected:
                continue
            self._connection += 1
            if self._connection > 1:  # what was kept for the very first start is not in doubt
                for _ in range(self._doubtful):
                    self._lose()
                self._doubtful = len(self._out)

    def _take_acks(self) -> None:
        while readable(self._socket):
            acks = self._decode_ack(self._socket.recv(zmq.NOBLOCK))
            for seq in acks:
                # Commands arrive in order: whatever is older than a confirmed one died with an earlier receiver.
                while self._out and self._out[0][0] < seq:
                    self._lose()
                if self._out and self._out[0][0] == seq:
                    self._forget()

    def _forget(self) -> None:
        self._out.popleft()
        self._doubtful = max(0, self._doubtful - 1)

    def _lose(self) -> None:
        self._forget()
        self._dropped["peer_gone"] += 1
        _log.warning("link %s: a command was lost with its receiver", self._name)

    def stats(self) -> LinkStats:
        """This sender's counters; depth is what is not confirmed yet."""
        self._update()
        return LinkStats(
            name=self._name,
            kind="command",
            role="sender",
            sent=self._sent,
            depth=len(self._out),
            peak=self._peak,
            dropped=dict(self._dropped),
            restarts=max(0, self._connection - 1),
        )

    def close(self) -> None:
        """Ends the socket; commands that the receiver has not taken are dropped."""
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()


class CommandReceiver(Generic[T]):
    """Takes the commands of all senders. Binds `path`; a restarted receiver binds the same one. Used by one thread.

    Raises:
        LinkError: the path cannot be bound.

    """

    def __init__(
        self,
        context: zmq.Context[Any],
        path: str,
        prefix: int,
        type: type[T],  # noqa: A002  the bus's word for what a link carries
        capacity: int = 1024,
        *,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._name = link_name(path)
        self._clock = clock
        self._prefix = bytes([prefix])
        self._decode = msgspec.msgpack.Decoder(Envelope[type]).decode  # type: ignore[valid-type]
        self._encode_ack = msgspec.msgpack.Encoder().encode
        self._received = self._depth = self._peak = self._age_ns = 0
        self._dropped = {"expired": 0, "malformed": 0}
        hwm = 2 * capacity + 16
        self._socket = open_socket(context, zmq.ROUTER, path, bind=True, options={zmq.RCVHWM: hwm, zmq.SNDHWM: hwm})
        self.fd = int(self._socket.FD)
        """Readable when there may be messages. Edge-triggered: use `attach`, or call `receive` once before waiting."""

    def receive(self, timeout_ms: int = 0) -> list[T]:
        """All commands that came and have not expired, in order of each sender; waits up to `timeout_ms` for a first one.

        Raises:
            PeerGone: the context was ended.

        """
        messages: list[T] = []
        taken = 0
        try:
            # Sending the confirmations may swallow the edge of a message that comes just then: look again after it.
            while parts := self._drain(timeout_ms):
                timeout_ms = 0
                taken += len(parts)
                messages += self._take(parts)
        except zmq.ZMQError as error:
            raise mapped(error, f"link {self._name!r}") from error
        self._depth = taken
        self._peak = max(self._peak, taken)
        return messages

    def _drain(self, timeout_ms: int) -> list[tuple[bytes, bytes]]:
        parts: list[tuple[bytes, bytes]] = []
        if timeout_ms and not self._socket.poll(timeout_ms, zmq.POLLIN):
            return parts
        while readable(self._socket):
            sender, *rest = self._socket.recv_multipart(zmq.NOBLOCK)
            parts.append((sender, b"".join(rest)))
        return parts

    def _take(self, parts: list[tuple[bytes, bytes]]) -> list[T]:
        messages: list[T] = []
        acks: dict[bytes, list[int]] = {}
        now = self._clock()
        for sender, frame in parts:
            try:
                if frame[:1] != self._prefix:
                    raise msgspec.ValidationError("it belongs to another link")
                envelope: Envelope[T] = self._decode(memoryview(frame)[1:])
            except msgspec.MsgspecError as error:
                self._dropped["malformed"] = count = self._dropped["malformed"] + 1
                if worth_a_line(count):
                    _log.warning(
                        "link %s: dropped a command of %d bytes that does not fit (%d so far): %s", self._name, len(frame), count, error
                    )
                continue
            acks.setdefault(sender, []).append(envelope.seq)
            if envelope.deadline_ns < now:
                self._dropped["expired"] += 1
                continue
            self._received += 1
            self._age_ns = now - envelope.t_send_ns
            messages.append(envelope.payload)
        for sender, seqs in acks.items():
            # A sender that has gone meanwhile needs no confirmation: a ROUTER drops what has no address.
            self._socket.send_multipart((sender, self._encode_ack(seqs)), zmq.NOBLOCK)
        return messages

    def stats(self) -> LinkStats:
        """This receiver's counters."""
        return LinkStats(
            name=self._name,
            kind="command",
            role="receiver",
            received=self._received,
            depth=self._depth,
            peak=self._peak,
            dropped=dict(self._dropped),
            age_ns=self._age_ns,
        )

    def close(self) -> None:
        """Ends the socket; commands not taken yet are lost, and their senders count them."""
        self._socket.close()
