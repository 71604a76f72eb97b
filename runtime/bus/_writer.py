"""The one writer of a frame ring."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from runtime.bus._fence import fence
from runtime.bus._frames import (
    ABOUT,
    VERSION,
    W_ABANDONED,
    W_BEAT,
    W_EPOCH,
    W_LATEST,
    W_OVERRUN,
    W_PEAK,
    W_SLOT,
    W_STEPPED,
    FrameDescriptor,
    FrameRingSpec,
    Layout,
    pinned_slots,
    snapshot,
)
from runtime.bus._memory import Bytes, Mapping, RingFds
from runtime.bus._stats import RingStats
from runtime.bus.errors import BusError

__all__ = ["FrameWriter"]


class FrameWriter:
    """Draws frames into the ring: `begin` gives the place, `commit` tells the consumers. One per ring, used by one thread.

    Making a writer starts a new life of the ring: the epoch rises (descriptors of the life before are stale), the sequence goes on.
    The writer never waits: it steps over slots that somebody holds.

    Raises:
        BusError: the ring was made for another spec.

    """

    def __init__(self, spec: FrameRingSpec, fds: RingFds, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._layout = Layout(spec)
        self._ring = Mapping(spec.name, spec, fds, self._layout.data_bytes, write=True)
        self._words = self._ring.words
        self._bells = fds.bells
        self._clock = clock
        self._generations = [self._layout.generation(slot) for slot in range(self._layout.slots)]
        self._about = [self._layout.about(slot) for slot in range(self._layout.slots)]
        self._views: dict[tuple[int, int, int], Bytes] = {}
        self._drawing: tuple[int, int, int] | None = None  # slot, width, height
        # A writer that died between the two stores of `commit` left a generation newer than `latest`.
        self._seq = max(self._words[W_LATEST], *(self._words[word] for word in self._generations))
        self._words[W_LATEST] = self._seq
        self._slot = max(range(self._layout.slots), key=lambda slot: self._words[self._generations[slot]])
        if self._words[self._generations[self._slot]] == self._seq:  # else the newest was being drawn over, and an older one is no news
            self._words[W_SLOT] = self._slot
        self._words[W_EPOCH] += 1
        self._epoch: int = self._words[W_EPOCH]
        self._words[W_BEAT] = clock()

    @property
    def memory(self) -> Bytes:
        """All slots as one array of bytes, for page-locking it once at start."""
        return self._ring.bytes

    def begin(self, width: int, height: int) -> Bytes | None:
        """A writable array for the next frame, (height * 3 // 2, width) for NV12 or (height, width, 3) for RGB; its old content is garbage.

        None if every slot is held: drop this frame (counted as overrun). A frame begun before and not committed is abandoned.

        Raises:
            ValueError: the frame does not fit the ring.

        """
        self.abandon()
        slot = self._take_slot()
        if slot is None:
            self._words[W_OVERRUN] += 1
            return None
        view = self._views.get((slot, width, height))
        if view is None:
            view = self._views[slot, width, height] = self._layout.view(self._ring.bytes, slot, width, height)
        self._slot = slot
        self._drawing = (slot, width, height)
        return view

    def _take_slot(self) -> int | None:
        """The next slot that nobody holds, its generation set to 0."""
        words, slots = self._words, self._layout.slots
        pins = pinned_slots(self._layout, words)
        words[W_PEAK] = max(words[W_PEAK], pins.bit_count())
        for step in range(1, slots + 1):
            slot = (self._slot + step) % slots
            bit, generation = 1 << slot, self._generations[slot]
            if pins & bit:
                words[W_STEPPED] += 1
                continue
            before = words[generation]
            words[generation] = 0
            fence()  # now a reader either sees the 0, or we see its pin
            pins = pinned_slots(self._layout, words)
            if not pins & bit:
                return slot
            words[generation] = before
            words[W_STEPPED] += 1
        return None

    def commit(self, *, turn: int, t_capture_ns: int, pts: int = -1) -> FrameDescriptor:
        """Ends the frame begun, tells the consumers, and returns the descriptor for whoever else wants to know.

        `pts` is the speech-ring sample the frame is drawn for (-1: idle).

        Raises:
            BusError: no frame was begun.

        """
        if self._drawing is None:
            raise BusError(f"ring {self._layout.spec.name!r}: commit without begin")
        slot, width, height = self._drawing
        self._drawing = None
        self._seq = seq = self._seq + 1
        words, now = self._words, self._clock()
        ABOUT.pack_into(words, self._about[slot], self._epoch, t_capture_ns, now, turn, width << 32 | height, pts)
        fence()  # the pixels and what describes them before the generation that vouches for them
        words[self._generations[slot]] = seq
        words[W_SLOT] = slot
        words[W_LATEST] = seq
        words[W_EPOCH] = self._epoch  # again, because damaged it would make every frame of this life stale
        # After the words: whoever hears the bell finds the frame. It is never full: a bell counts to 2^64.
        for bell in self._bells:
            os.eventfd_write(bell, 1)
        words[W_BEAT] = now
        view = self._views[slot, width, height]
        return FrameDescriptor(
            VERSION,
            self._epoch,
            slot,
            seq,
            t_capture_ns,
            now,
            turn,
            width,
            height,
            view.strides[0],
            self._layout.spec.format,
            view.nbytes,
            pts,
        )

    def abandon(self) -> None:
        """Drops the frame begun, if any; its slot stays invalid until it is drawn again."""
        if self._drawing is not None:
            self._drawing = None
            self._words[W_ABANDONED] += 1

    def stats(self) -> RingStats:
        """The writer's counters and those of each consumer."""
        return snapshot(self._layout, self._words, "writer", self._clock())

    def close(self) -> None:
        """Abandons what was begun and unmaps the ring."""
        self.abandon()
        self._views.clear()
        self._ring.close()
