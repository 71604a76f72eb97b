"""A reader of a frame ring."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from runtime.bus._fence import fence
from runtime.bus._frames import (
    ABOUT,
    C_BEAT,
    C_LEASED,
    C_PINNED_AT,
    C_PINS,
    C_SEQ,
    C_SKIPPED,
    C_STALE,
    VERSION,
    W_BEAT,
    W_EPOCH,
    W_SLOT,
    FrameDescriptor,
    FrameRingSpec,
    Layout,
)
from runtime.bus._memory import Bytes, Mapping, RingFds
from runtime.bus._stats import RingStats
from runtime.bus.errors import LinkError, StaleFrame

__all__ = ["FrameReader", "Lease"]


class FrameReader:
    """Looks at frames in place, as consumer `consumer` of the spec. One per consumer, used by one thread.

    `receive` gives the newest frame's descriptor, `lease` the frame. A `Receiver` like the ends of the links: wait on `fd` together with
    others, or `attach` it to a loop.

    Raises:
        ValueError: the spec does not name this consumer.
        BusError: the ring was made for another spec.

    """

    def __init__(self, spec: FrameRingSpec, fds: RingFds, consumer: str, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._layout = Layout(spec)
        self._line = self._layout.consumer(consumer)
        self._ring = Mapping(spec.name, spec, fds, self._layout.data_bytes, write=False)
        self._words = self._ring.words
        self._clock = clock
        self.fd = fds.bells[spec.consumers.index(consumer)]
        """Readable when there may be a new frame, until `receive` is called."""
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)
        self._seen = 0  # seq of the newest frame received
        self._age_ns = 0
        self._generations = [self._layout.generation(slot) for slot in range(self._layout.slots)]
        self._about = [self._layout.about(slot) for slot in range(self._layout.slots)]
        self._strides: dict[int, tuple[int, int]] = {}  # by size as in ABOUT
        self._views: dict[tuple[int, ...], Bytes] = {}
        self._leases: list[tuple[int, int]] = []  # slot, since: the open leases, oldest first
        self._peak_ns = 0
        self._release_pins()  # of a life before that the supervisor has not cleared

    def receive(self, timeout_ms: int = 0) -> list[FrameDescriptor]:
        """The newest frame, if it was not received yet; waits up to `timeout_ms` for one. What came before it is skipped.

        A new reader gets the newest frame there is; the lease tells whether it is of the writer's present life.
        """
        found = self._look()
        if not found and timeout_ms:
            self._poll.poll(timeout_ms)
            found = self._look()
        return found

    def _look(self) -> list[FrameDescriptor]:
        """Silences the bell, then looks: what is committed after the look rings again."""
        try:  # noqa: SIM105  with the caches full of pixels suppress() costs 10 µs of a hop of 110
            os.eventfd_read(self.fd)
        except BlockingIOError:  # not rung
            pass
        words = self._words
        slot = words[W_SLOT]
        if slot >= self._layout.slots:
            return []  # a damaged word: the next commit rewrites it
        generation = self._generations[slot]
        seq = words[generation]
        if seq in (self._seen, 0):
            return []
        epoch, captured, published, turn, size, pts = ABOUT.unpack_from(words, self._about[slot])
        fence()  # what was read, before the look whether it still holds
        if words[generation] != seq:
            return []  # overtaken: the bell rings again
        width, height = size >> 32, size & 0xFFFFFFFF
        self._seen = seq
        self._age_ns = self._clock() - published
        measured = self._strides.get(size) or self._measure(size)
        if measured is None:
            return []  # damaged too: no frame has this size
        stride, nbytes = measured
        form = self._layout.spec.format
        return [FrameDescriptor(VERSION, epoch, slot, seq, captured, published, turn, width, height, stride, form, nbytes, pts)]

    def _measure(self, size: int) -> tuple[int, int] | None:
        """Bytes of a row, and of a frame of this size; None if there is none of it."""
        try:
            view = self._layout.view(self._ring.bytes, 0, size >> 32, size & 0xFFFFFFFF)
        except ValueError:
            return None
        self._strides[size] = found = view.strides[0], view.nbytes
        return found

    def lease(self, descriptor: FrameDescriptor) -> Lease:
        """A context manager that holds the frame and gives a read-only array of the shape that `FrameWriter.begin` gave.

        The array is good until the block ends; copy what is needed longer. Leases of different frames may overlap.

        Raises (both on entry and on leaving the block):
            StaleFrame: the frame is gone, or was rewritten under us: throw away what was made of it.
            LinkError: the descriptor is not one of this ring.
        """
        return Lease(self, descriptor)

    def _enter(self, descriptor: FrameDescriptor, since: int) -> Bytes:
        slot, words, line = descriptor.slot, self._words, self._line
        shape = (slot, descriptor.width, descriptor.height, descriptor.format, descriptor.nbytes, descriptor.version)
        view = self._views.get(shape)
        if view is None:
            view = self._views[shape] = self._view(descriptor)
        if not self._leases:
            words[line + C_PINNED_AT] = since
        self._leases.append((slot, since))
        words[line + C_PINS] |= 1 << slot
        fence()  # now the writer either sees the pin, or we see its 0
        if words[self._generations[slot]] != descriptor.seq or words[W_EPOCH] != descriptor.epoch:
            self._leave(slot, since)
            words[line + C_STALE] += 1
            raise StaleFrame(f"frame {descriptor.seq} of ring {self._layout.spec.name!r} is gone from slot {slot}")
        last = words[line + C_SEQ]
        if descriptor.seq > last:
            if last:  # frames before a consumer's first one are not its loss
                words[line + C_SKIPPED] += descriptor.seq - last - 1
            words[line + C_SEQ] = descriptor.seq
        words[line + C_LEASED] += 1
        words[line + C_BEAT] = since
        return view

    def _exit(self, descriptor: FrameDescriptor, since: int) -> bool:
        """Gives the slot back; False if it was rewritten meanwhile."""
        fence()  # our last look at the pixels before this look at the generation
        intact = bool(self._words[self._generations[descriptor.slot]] == descriptor.seq)
        self._leave(descriptor.slot, since)
        self._peak_ns = max(self._peak_ns, self._clock() - since)
        if not intact:
            self._words[self._line + C_STALE] += 1
        return intact

    def _leave(self, slot: int, since: int) -> None:
        self._leases.remove((slot, since))
        pins = 0
        for held, _ in self._leases:
            pins |= 1 << held
        self._words[self._line + C_PINS] = pins
        self._words[self._line + C_PINNED_AT] = self._leases[0][1] if self._leases else 0

    def _view(self, descriptor: FrameDescriptor) -> Bytes:
        """A new view of what the descriptor names. LinkError if this ring has no such thing."""
        where = f"ring {self._layout.spec.name!r}"
        if not 0 <= descriptor.slot < self._layout.slots or descriptor.version < VERSION:
            raise LinkError(f"{where}: the descriptor names slot {descriptor.slot}, version {descriptor.version}")
        try:
            view = self._layout.view(self._ring.bytes, descriptor.slot, descriptor.width, descriptor.height)
        except ValueError as error:
            raise LinkError(f"{where}: {error}") from error
        if descriptor.format != self._layout.spec.format or descriptor.nbytes != view.nbytes:
            raise LinkError(f"{where}: the descriptor is of another format or size")
        return view

    def stats(self) -> RingStats:
        """This consumer's counters: sent counts its leases, depth the open ones, peak the longest lease in ns."""
        words, line = self._words, self._line
        return RingStats(
            name=self._layout.spec.name,
            role="reader",
            epoch=words[W_EPOCH],
            depth=len(self._leases),
            peak=self._peak_ns,
            sent=words[line + C_LEASED],
            dropped={"skipped": words[line + C_SKIPPED], "stale": words[line + C_STALE]},
            oldest_lease_ns=self._clock() - self._leases[0][1] if self._leases else 0,
            heartbeat_ns=words[W_BEAT],
            age_ns=self._age_ns,
        )

    def _release_pins(self) -> None:
        self._leases.clear()
        self._words[self._line + C_PINS] = 0
        self._words[self._line + C_PINNED_AT] = 0

    def close(self) -> None:
        """Gives back what is held and unmaps the ring; an array that is still held keeps its memory."""
        self._release_pins()
        self._views.clear()
        self._ring.close()


class Lease:
    """One frame held for the length of a `with` block; made by `FrameReader.lease`."""

    __slots__ = ("_descriptor", "_reader", "_since")

    def __init__(self, reader: FrameReader, descriptor: FrameDescriptor) -> None:
        self._reader = reader
        self._descriptor = descriptor
        self._since = 0

    def __enter__(self) -> Bytes:
        self._since = self._reader._clock()  # the two classes are one mechanism
        return self._reader._enter(self._descriptor, self._since)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        intact = self._reader._exit(self._descriptor, self._since)
        # An error of the block itself says more than the frame's state.
        if not intact and kind is None:
            raise StaleFrame(f"frame {self._descriptor.seq} was rewritten while it was read")
        return False
