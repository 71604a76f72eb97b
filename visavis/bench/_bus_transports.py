"""The ways to bring a frame from one process to another that `bus` compares: each with a sender and a receiver.

A sender gives the place to draw the next frame, then sends it; a receiver hands each frame to a function as an array. The clock of a
frame starts when it is drawn, so a transport that must copy it into its own memory pays for that.
"""

from __future__ import annotations

import ctypes
import os
import queue
import struct
from collections.abc import Callable
from itertools import cycle
from multiprocessing import shared_memory  # noqa: TID251  a peer in this benchmark: Frigate's pattern, with its faults
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import zmq

from runtime.bus import RGB, FrameDescriptor, FrameReader, FrameRingSpec, FrameWriter, Publisher, RingFds, StaleFrame

__all__ = ["SPEC", "TRANSPORTS", "Receiver", "Sender", "Setup", "Stamp"]

Frame = npt.NDArray[np.uint8]
SPEC = FrameRingSpec(name="bench", max_width=1920, max_height=1080, format=RGB, consumers=("bench",))
_MAX_BYTES = 1920 * 1080 * 3
_HEAD = struct.Struct("<qqii")


class Stamp(NamedTuple):
    """What travels with a frame: its number, when it was drawn (ns, CLOCK_MONOTONIC), its size."""

    seq: int
    drawn_ns: int
    width: int
    height: int


See = Callable[[Frame, Stamp], None]


class Setup(NamedTuple):
    """What both ends of a transport are given: a private folder, a ring, a queue; each uses what it needs."""

    folder: str
    fds: RingFds
    queue: Any


class Sender(Protocol):
    """The producer's end."""

    def frame(self, width: int, height: int) -> Frame:
        """Where the next frame shall be drawn."""

    def send(self, stamp: Stamp) -> None:
        """Sends the frame drawn."""

    def close(self) -> None:
        """Gives everything back."""


class Receiver(Protocol):
    """The consumer's end."""

    def take(self, timeout_ms: int, see: See) -> bool:
        """Shows `see` the next frame; False if none came in time."""


# --- ours


class RingSender:
    """Our ring, drawn in place; published as the renderer does it, for observers that are not there."""

    def __init__(self, setup: Setup) -> None:
        self._writer = FrameWriter(SPEC, setup.fds)
        self._context: zmq.Context[Any] = zmq.Context()
        self._link = Publisher(self._context, f"{setup.folder}/ring", 1, FrameDescriptor)

    def frame(self, width: int, height: int) -> Frame:
        frame = self._writer.begin(width, height)
        if frame is None:
            raise RuntimeError("every slot is held though there is one consumer")
        return frame

    def send(self, stamp: Stamp) -> None:
        self._link.send(self._writer.commit(turn=stamp.seq, t_capture_ns=stamp.drawn_ns))

    def close(self) -> None:
        self._link.close()
        self._context.term()
        self._writer.close()


class RingCopySender(RingSender):
    """Our ring behind a source that owns its memory: one copy in."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._own = np.empty(_MAX_BYTES, np.uint8)

    def frame(self, width: int, height: int) -> Frame:
        return self._own[: width * height * 3].reshape(height, width, 3)

    def send(self, stamp: Stamp) -> None:
        np.copyto(super().frame(stamp.width, stamp.height), self.frame(stamp.width, stamp.height))
        super().send(stamp)


class RingReceiver:
    """Our ring's reader: newest descriptor, frame in place, as the stage does it."""

    def __init__(self, setup: Setup) -> None:
        self._reader = FrameReader(SPEC, setup.fds, "bench")

    def take(self, timeout_ms: int, see: See) -> bool:
        for descriptor in self._reader.receive(timeout_ms):
            try:
                with self._reader.lease(descriptor) as frame:
                    see(frame, Stamp(descriptor.turn, descriptor.t_capture_ns, descriptor.width, descriptor.height))
            except StaleFrame:
                continue
            return True
        return False


# --- zmq with the frame inside


class ZmqSender:
    """A frame as a zmq message; `copy` as in pyzmq."""

    copy = True

    def __init__(self, setup: Setup) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"ipc://{setup.folder}/zmq")
        # Without a copy zmq reads the memory after send: the next frames need other memory.
        self._buffers = cycle([np.empty(_MAX_BYTES, np.uint8) for _ in range(1 if self.copy else 3)])
        self._buffer = next(self._buffers)

    def frame(self, width: int, height: int) -> Frame:
        self._buffer = next(self._buffers)
        return self._buffer[: width * height * 3].reshape(height, width, 3)

    def send(self, stamp: Stamp) -> None:
        self._socket.send(_HEAD.pack(*stamp), zmq.SNDMORE)
        self._socket.send(self._buffer[: stamp.width * stamp.height * 3].data, 0, copy=self.copy)

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class ZmqNoCopySender(ZmqSender):
    """The same, copy=False."""

    copy = False


class ZmqReceiver:
    """Takes zmq messages; `copy` as in pyzmq."""

    copy = True

    def __init__(self, setup: Setup) -> None:
        self._socket = zmq.Context().socket(zmq.PULL)
        self._socket.connect(f"ipc://{setup.folder}/zmq")

    def take(self, timeout_ms: int, see: See) -> bool:
        self._socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
        try:
            stamp = Stamp(*_HEAD.unpack(self._socket.recv()))
        except zmq.Again:
            return False
        body = self._socket.recv(copy=self.copy)
        see(np.frombuffer(body if isinstance(body, bytes) else body.buffer, np.uint8).reshape(stamp.height, stamp.width, 3), stamp)
        return True


class ZmqNoCopyReceiver(ZmqReceiver):
    """The same, copy=False."""

    copy = False


# --- multiprocessing


class QueueSender:
    """multiprocessing.Queue of arrays."""

    def __init__(self, setup: Setup) -> None:
        self._queue = setup.queue
        self._own = np.empty(_MAX_BYTES, np.uint8)

    def frame(self, width: int, height: int) -> Frame:
        return self._own[: width * height * 3].reshape(height, width, 3)

    def send(self, stamp: Stamp) -> None:
        # The queue pickles later, in its thread: the array must not be drawn over meanwhile.
        self._queue.put((tuple(stamp), self.frame(stamp.width, stamp.height).copy()))

    def close(self) -> None:
        self._queue.cancel_join_thread()
        self._queue.close()


class QueueReceiver:
    """The queue's other end."""

    def __init__(self, setup: Setup) -> None:
        self._queue = setup.queue

    def take(self, timeout_ms: int, see: See) -> bool:
        try:
            stamp, frame = self._queue.get(timeout=timeout_ms / 1000)
        except queue.Empty:
            return False
        see(frame, Stamp(*stamp))
        return True


class NamedSender(QueueSender):
    """Frigate's pattern: a named segment per slot, its name over a short queue, the newest frame skipped when that is full."""

    slots = 10

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._segments = [
            shared_memory.SharedMemory(f"visavis-bench-{os.getpid()}-{slot}", create=True, size=_MAX_BYTES) for slot in range(self.slots)
        ]

    def send(self, stamp: Stamp) -> None:
        segment = self._segments[stamp.seq % self.slots]
        frame = self.frame(stamp.width, stamp.height)
        assert segment.buf is not None
        segment.buf[: frame.nbytes] = frame.reshape(-1).data
        try:
            self._queue.put_nowait((tuple(stamp), segment.name))
        except queue.Full:
            return

    def close(self) -> None:
        for segment in self._segments:
            segment.close()
            segment.unlink()
        super().close()


class NamedReceiver(QueueReceiver):
    """Frigate's consumer: attaches to the segment of every frame, and lets go of it."""

    def take(self, timeout_ms: int, see: See) -> bool:
        try:
            head, name = self._queue.get(timeout=timeout_ms / 1000)
        except queue.Empty:
            return False
        stamp = Stamp(*head)
        segment = shared_memory.SharedMemory(name)
        frame = np.ndarray((stamp.height, stamp.width, 3), np.uint8, segment.buf)
        see(frame, stamp)
        del frame
        segment.close()
        return True


# --- iceoryx2


class _Iceoryx:
    """Node and services of both ends."""

    def __init__(self, setup: Setup) -> None:
        import iceoryx2

        self.api = iceoryx2
        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        self.node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        name = setup.folder.strip("/").replace("/", "-") + f"-{type(self).__name__.removesuffix('Sender').removesuffix('Receiver')}"
        self.frames = (
            self.node.service_builder(iceoryx2.ServiceName.new(name)).publish_subscribe(iceoryx2.Slice[ctypes.c_uint8]).open_or_create()
        )
        self.bell = self.node.service_builder(iceoryx2.ServiceName.new(name + "-bell")).event().open_or_create()


class IceoryxSender(_Iceoryx):
    """iceoryx2, drawn in place: a loaned sample and an event."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._publisher = self.frames.publisher_builder().initial_max_slice_len(_MAX_BYTES + _HEAD.size).create()
        self._notifier = self.bell.notifier_builder().create()
        self._sample: Any = None
        self._bytes: Any = None

    def frame(self, width: int, height: int) -> Frame:
        size = width * height * 3
        self._sample = self._publisher.loan_slice_uninit(size + _HEAD.size)
        self._bytes = (ctypes.c_uint8 * (size + _HEAD.size)).from_address(self._sample.payload_ptr)
        return np.frombuffer(self._bytes, np.uint8, offset=_HEAD.size).reshape(height, width, 3)

    def send(self, stamp: Stamp) -> None:
        _HEAD.pack_into(self._bytes, 0, *stamp)
        self._sample.assume_init().send()
        self._notifier.notify()

    def close(self) -> None:
        self._notifier.delete()
        self._publisher.delete()


class IceoryxCopySender(IceoryxSender):
    """iceoryx2 behind a source that owns its memory: one copy in."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._own = np.empty(_MAX_BYTES, np.uint8)

    def frame(self, width: int, height: int) -> Frame:
        return self._own[: width * height * 3].reshape(height, width, 3)

    def send(self, stamp: Stamp) -> None:
        np.copyto(super().frame(stamp.width, stamp.height), self.frame(stamp.width, stamp.height))
        super().send(stamp)


class IceoryxReceiver(_Iceoryx):
    """iceoryx2's other end; drained to the newest, as a reader of live pictures would."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._subscriber = self.frames.subscriber_builder().create()
        self._listener = self.bell.listener_builder().create()

    def take(self, timeout_ms: int, see: See) -> bool:
        self._listener.timed_wait(self.api.Duration.from_millis(timeout_ms))
        newest = None
        while (sample := self._subscriber.receive()) is not None:
            newest = sample
        if newest is None:
            return False
        view = newest.payload().as_memory_view()
        stamp = Stamp(*_HEAD.unpack_from(view))
        see(np.frombuffer(view, np.uint8, offset=_HEAD.size).reshape(stamp.height, stamp.width, 3), stamp)
        return True


class IceoryxCopyReceiver(IceoryxReceiver):
    """The same receiver on the service of the copying sender."""


TRANSPORTS: dict[str, tuple[type[Any], type[Any]]] = {
    "ring_in_place": (RingSender, RingReceiver),
    "ring_copy_in": (RingCopySender, RingReceiver),
    "zmq_copy": (ZmqSender, ZmqReceiver),
    "zmq_no_copy": (ZmqNoCopySender, ZmqNoCopyReceiver),
    "mp_queue": (QueueSender, QueueReceiver),
    "named_shared_memory": (NamedSender, NamedReceiver),
    "iceoryx2_in_place": (IceoryxSender, IceoryxReceiver),
    "iceoryx2_copy_in": (IceoryxCopySender, IceoryxCopyReceiver),
}
"""Sender and receiver of each, ours first."""
