"""The frame ring: one writer draws into slots of shared memory, readers look at them in place.

What describes a frame lies beside it, and the writer rings each consumer's bell (an eventfd) when it is there: no message, no thread
between the two. A bell says only "look": a reader that was away looks once and has the newest frame.

Control page, in 64-byte lines, every word with exactly one writer:

    line 0             magic, layout                                                       supervisor
    line 1             epoch, latest seq, heartbeat, overruns, abandoned, stepped, peak,   writer
                       slot of the latest
    line 2 … 2+slots   generation of the slot: seq of the frame in it, 0 while it is drawn;  writer
                       then its epoch, captured at, published at, turn, size, pts
    then one line for  pins (bit per slot), pinned at, last seq, skipped, stale, leased,    that consumer
    each consumer      heartbeat

The supervisor takes over a consumer's pin word in one case only: the consumer is dead (`clear_pins`). Then it also writes line 0 again.
"""

from __future__ import annotations

import math
import struct
import time

import msgspec

from runtime.bus._memory import CONTROL_BYTES, LINE, Bytes, Mapping, RingFds, make_ring, page_align
from runtime.bus._stats import ConsumerStats, RingStats

__all__ = ["NV12", "RGB", "FrameDescriptor", "FrameRingSpec", "Layout", "clear_pins", "create_frame_ring", "ring_stats"]

NV12 = 1
"""Luma plane and interleaved half-size chroma: an array of (height * 3 // 2, width) bytes; width and height are even."""
RGB = 2
"""Packed 8-bit RGB: an array of (height, width, 3) bytes."""

W_EPOCH, W_LATEST, W_BEAT, W_OVERRUN, W_ABANDONED, W_STEPPED, W_PEAK, W_SLOT = range(LINE, LINE + 8)
C_PINS, C_PINNED_AT, C_SEQ, C_SKIPPED, C_STALE, C_LEASED, C_BEAT = range(7)


ABOUT = struct.Struct("6q")
"""What describes a frame, behind the generation of its slot: epoch, captured at, published at, turn, width << 32 | height, pts.

Packed and unpacked by one call: after a frame was drawn Python itself has to come back into the caches, and each step costs microseconds.
"""


class FrameRingSpec(msgspec.Struct, frozen=True):
    """A stream of frames up to `max_width` x `max_height` (any shape of no more bytes fits, portrait too) and who reads it."""

    name: str
    max_width: int
    max_height: int
    format: int
    consumers: tuple[str, ...]


class FrameDescriptor(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What stands for a frame. Times in ns of CLOCK_MONOTONIC; fields are only ever appended, with a default."""

    version: int
    epoch: int
    slot: int
    seq: int
    t_capture_ns: int
    t_publish_ns: int
    turn: int
    width: int
    height: int
    stride: int  # bytes from one row to the next
    format: int
    nbytes: int
    pts: int = -1  # sample of the speech ring that the frame is drawn for; -1: idle


VERSION = 1


def shape_of(format: int, width: int, height: int) -> tuple[int, ...]:  # noqa: A002
    """The array shape of a frame of bytes. ValueError for a format or a size that cannot be."""
    if width <= 0 or height <= 0:
        raise ValueError(f"a frame of {width}x{height} pixels cannot be")
    if format == RGB:
        return height, width, 3
    if format != NV12:
        raise ValueError(f"unknown frame format {format}")
    if width % 2 or height % 2:
        raise ValueError(f"NV12 needs an even width and height, not {width}x{height}")
    return height * 3 // 2, width


class Layout:
    """Where things are in a ring of this spec. ValueError if the spec cannot be laid out."""

    __slots__ = ("consumers", "data_bytes", "first_consumer", "frame_bytes", "slot_bytes", "slots", "spec")

    def __init__(self, spec: FrameRingSpec) -> None:
        self.spec = spec
        # One slot being drawn, the newest, one in between for a reader on its way to it, and one that each consumer may hold.
        self.slots = len(spec.consumers) + 3
        self.frame_bytes = math.prod(shape_of(spec.format, spec.max_width, spec.max_height))
        self.slot_bytes = page_align(self.frame_bytes)
        self.data_bytes = self.slots * self.slot_bytes
        self.first_consumer = (2 + self.slots) * LINE
        self.consumers = {name: self.first_consumer + i * LINE for i, name in enumerate(spec.consumers)}
        if len(self.consumers) != len(spec.consumers) or not spec.consumers:
            raise ValueError(f"ring {spec.name!r} needs consumers of different names")
        if (self.first_consumer + len(self.consumers) * LINE) * 8 > CONTROL_BYTES:
            raise ValueError(f"ring {spec.name!r} has more consumers than its control page holds")

    def generation(self, slot: int) -> int:
        """The word with the generation of `slot`."""
        return (2 + slot) * LINE

    def about(self, slot: int) -> int:
        """Where ABOUT of `slot` is: bytes from the start of the control page."""
        return (self.generation(slot) + 1) * 8

    def consumer(self, name: str) -> int:
        """The first word of a consumer's line. ValueError if the spec does not name it."""
        try:
            return self.consumers[name]
        except KeyError:
            known = ", ".join(self.consumers)
            raise ValueError(f"ring {self.spec.name!r} has no consumer {name!r}; its spec names {known}") from None

    def view(self, memory: Bytes, slot: int, width: int, height: int) -> Bytes:
        """The frame of this shape in `slot`. ValueError if it does not fit."""
        shape = shape_of(self.spec.format, width, height)
        size = math.prod(shape)
        if size > self.frame_bytes:
            raise ValueError(f"a frame of {width}x{height} does not fit the slots of ring {self.spec.name!r}")
        start = slot * self.slot_bytes
        return memory[start : start + size].reshape(shape)


def create_frame_ring(spec: FrameRingSpec) -> RingFds:
    """Makes the memory and the bells of a frame ring. Supervisor only, before the nodes start; hand the descriptors down by `pass_fds`.

    Raises:
        ValueError: the spec cannot be laid out.
        LinkError: no memory.

    """
    return make_ring(spec.name, spec, Layout(spec).data_bytes, len(spec.consumers))


def clear_pins(spec: FrameRingSpec, fds: RingFds, consumer: str) -> None:
    """Gives back the slots of a consumer that died. Supervisor only, after the process was reaped."""
    layout = Layout(spec)
    line = layout.consumer(consumer)
    ring = Mapping(spec.name, spec, fds, 0, write=False)
    ring.words[line + C_PINS] = 0
    ring.words[line + C_PINNED_AT] = 0
    ring.close()


def ring_stats(spec: FrameRingSpec, fds: RingFds) -> RingStats:
    """The ring's counters for somebody who neither writes nor reads it (supervisor, health)."""
    layout = Layout(spec)
    ring = Mapping(spec.name, spec, fds, 0, write=False)
    try:
        return snapshot(layout, ring.words, "observer", time.monotonic_ns())
    finally:
        ring.close()


def snapshot(layout: Layout, words: memoryview[int], role: str, now_ns: int) -> RingStats:
    """All that the control page says, as the writer's counters."""
    consumers = {}
    for name, line in layout.consumers.items():
        pins, since = words[line + C_PINS], words[line + C_PINNED_AT]
        consumers[name] = ConsumerStats(
            pinned=pins.bit_count(),
            lease_ns=max(0, now_ns - since) if pins and since else 0,
            last_seq=words[line + C_SEQ],
            skipped=words[line + C_SKIPPED],
            stale=words[line + C_STALE],
            heartbeat_ns=words[line + C_BEAT],
        )
    return RingStats(
        name=layout.spec.name,
        role=role,
        epoch=words[W_EPOCH],
        depth=pinned_slots(layout, words).bit_count(),
        peak=words[W_PEAK],
        sent=words[W_LATEST],
        dropped={"overrun": words[W_OVERRUN], "abandoned": words[W_ABANDONED]},
        oldest_lease_ns=max(row.lease_ns for row in consumers.values()),
        heartbeat_ns=words[W_BEAT],
        stepped_over=words[W_STEPPED],
        consumers=consumers,
    )


def pinned_slots(layout: Layout, words: memoryview[int]) -> int:
    """One bit for each slot that any consumer holds."""
    pins = 0
    for line in layout.consumers.values():
        pins |= words[line + C_PINS]
    return pins
