"""A copy of the newest frame, for somebody who is no consumer of the ring: no pin, no bell, nothing that the writer could notice.

A slot that nobody pins is drawn over after a few frames, so the copy is compared with the slot's generation afterwards, and made again
if it was overtaken. At 30 fps a slot stays for at least 66 ms; a 1080p frame is copied in 1 ms.
"""

from __future__ import annotations

from runtime.bus._fence import fence
from runtime.bus._frames import ABOUT, VERSION, W_LATEST, W_SLOT, FrameDescriptor, FrameRingSpec, Layout
from runtime.bus._memory import Bytes, Mapping, RingFds

__all__ = ["peek_frame"]

_TRIES = 5


def peek_frame(spec: FrameRingSpec, fds: RingFds) -> tuple[FrameDescriptor, Bytes] | None:
    """The newest frame and a copy of its pixels, as FrameReader.lease would show them; None if there is none, or none that holds still.

    Raises BusError if the ring is of another layout, LinkError if it cannot be mapped.
    """
    layout = Layout(spec)
    ring = Mapping(spec.name, spec, fds, layout.data_bytes, write=False)
    try:
        for _ in range(_TRIES):
            found = _copy(layout, ring)
            if found is not None:
                return found
    finally:
        ring.close()
    return None


def _copy(layout: Layout, ring: Mapping) -> tuple[FrameDescriptor, Bytes] | None:
    words = ring.words
    seq, slot = words[W_LATEST], words[W_SLOT]
    if slot >= layout.slots:
        return None  # a damaged word: the next commit rewrites it
    generation = layout.generation(slot)
    fence()
    if seq == 0 or words[generation] != seq:
        return None
    epoch, captured, published, turn, size, pts = ABOUT.unpack_from(words, layout.about(slot))
    width, height = size >> 32, size & 0xFFFFFFFF
    try:
        view = layout.view(ring.bytes, slot, width, height)
    except ValueError:
        return None  # damaged too: no frame has this size
    pixels = view.copy()
    stride, nbytes = view.strides[0], view.nbytes
    del view
    fence()
    if words[generation] != seq:
        return None
    form = layout.spec.format
    return FrameDescriptor(VERSION, epoch, slot, seq, captured, published, turn, width, height, stride, form, nbytes, pts), pixels
