"""The frame ring within one process: order, pins, generations, lives, shapes, counters."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import numpy as np
import pytest

from runtime.bus import (
    NV12,
    RGB,
    BusError,
    FrameDescriptor,
    FrameReader,
    FrameRingSpec,
    FrameWriter,
    LinkError,
    RingFds,
    StaleFrame,
    clear_pins,
    create_frame_ring,
    mend_ring,
    peek_frame,
    ring_stats,
)
from runtime.bus._frames import W_EPOCH, W_SLOT, Layout
from runtime.bus._memory import Mapping

pytestmark = pytest.mark.unit

SPEC = FrameRingSpec(name="video", max_width=64, max_height=32, format=RGB, consumers=("stage", "recorder"))
SLOTS = 5


@pytest.fixture
def fds() -> Iterator[RingFds]:
    made = create_frame_ring(SPEC)
    yield made
    made.close()


def draw(writer: FrameWriter, value: int, width: int = 64, height: int = 32) -> FrameDescriptor:
    frame = writer.begin(width, height)
    assert frame is not None
    frame[:] = value
    return writer.commit(turn=3, t_capture_ns=11, pts=22)


def test_frame_arrives_in_place(fds: RingFds) -> None:
    """A consumer sees the pixels drawn, and cannot write to them."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    descriptor = draw(writer, 9)
    with reader.lease(descriptor) as frame:
        assert frame.shape == (32, 64, 3)
        assert (frame == 9).all()
        with pytest.raises(ValueError, match="read-only"):
            frame[0, 0, 0] = 1


def test_descriptor_says_all(fds: RingFds) -> None:
    """The descriptor carries what was given and what the ring knows, and survives the wire."""
    writer = FrameWriter(SPEC, fds, clock=lambda: 77)
    descriptor = draw(writer, 9)
    expected = FrameDescriptor(1, 1, descriptor.slot, 1, 11, 77, 3, 64, 32, 192, RGB, 64 * 32 * 3, 22)
    assert descriptor == expected
    wire = msgspec.msgpack.encode(descriptor)
    assert msgspec.msgpack.decode(wire, type=FrameDescriptor) == expected
    assert len(wire) < 64


def test_unprotected_reader_sees_torn_frame(fds: RingFds) -> None:
    """Without a lease a reader that is lapped gets the halves of two frames and is not told: the danger is real."""
    writer = FrameWriter(SPEC, fds)
    ring = Mapping("video", SPEC, fds, SLOTS * 8192, write=False)
    descriptor = draw(writer, 1)
    frame = ring.bytes[descriptor.slot * 8192 :][: descriptor.nbytes].reshape(32, 64, 3)
    upper = frame[:16].copy()
    for value in range(2, 2 + SLOTS):
        draw(writer, value)
    assert set(np.unique(np.concatenate([upper, frame[16:]]))) == {1, 6}


def test_lease_keeps_the_writer_away(fds: RingFds) -> None:
    """A leased frame stays whole while the writer laps the ring; it steps over the slot and counts that."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    descriptor = draw(writer, 1)
    with reader.lease(descriptor) as frame:
        for value in range(2, 20):
            assert draw(writer, value).slot != descriptor.slot
        assert (frame == 1).all()
    assert writer.stats().stepped_over > 0
    assert reader.stats().dropped["stale"] == 0


def test_reader_before_writer(fds: RingFds) -> None:
    """A reader may exist first; until there is a writer every descriptor is stale."""
    reader = FrameReader(SPEC, fds, "stage")
    with pytest.raises(StaleFrame), reader.lease(FrameDescriptor(1, 1, 0, 1, 0, 0, 0, 64, 32, 192, RGB, 6144)):
        pass
    with reader.lease(draw(FrameWriter(SPEC, fds), 8)) as frame:
        assert (frame == 8).all()


def test_rewritten_frame_is_stale_on_entry(fds: RingFds) -> None:
    """A descriptor that was overtaken is refused."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    descriptor = draw(writer, 1)
    for value in range(2, 2 + SLOTS):
        draw(writer, value)
    with pytest.raises(StaleFrame), reader.lease(descriptor):
        pytest.fail("the lease was granted")
    assert reader.stats().dropped["stale"] == 1
    assert writer.stats().depth == 0


def test_generation_proves_what_the_pin_did_not_prevent(fds: RingFds) -> None:
    """If a pin is lost (a supervisor that took us for dead), the torn frame is told at the end of the block."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    descriptor = draw(writer, 1)
    with pytest.raises(StaleFrame, match="rewritten"), reader.lease(descriptor) as frame:  # noqa: PT012  the block is what is tested
        clear_pins(SPEC, fds, "stage")
        for value in range(2, 2 + SLOTS):
            draw(writer, value)
        assert (frame == 6).all()
    assert reader.stats().dropped["stale"] == 1


def test_error_of_the_block_wins(fds: RingFds) -> None:
    """An exception inside the block is not replaced by StaleFrame, and the slot is given back."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    descriptor = draw(writer, 1)
    with pytest.raises(KeyError), reader.lease(descriptor):  # noqa: PT012  the block is what is tested
        clear_pins(SPEC, fds, "stage")
        for value in range(2, 2 + SLOTS):
            draw(writer, value)
        raise KeyError
    assert writer.stats().depth == 0


def test_frame_being_drawn_is_stale(fds: RingFds) -> None:
    """Between begin and commit nobody gets in, and an abandoned slot stays shut."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    descriptors = [draw(writer, value) for value in range(SLOTS)]
    writer.begin(64, 32)
    with pytest.raises(StaleFrame), reader.lease(descriptors[0]):
        pass
    writer.abandon()
    with pytest.raises(StaleFrame), reader.lease(descriptors[0]):
        pass
    assert writer.stats().dropped == {"overrun": 0, "abandoned": 1}


def test_full_ring_drops_the_new_frame(fds: RingFds) -> None:
    """With every slot held the writer gets None at once and counts an overrun; one slot back and it goes on."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    leases = [reader.lease(draw(writer, value)) for value in range(SLOTS)]
    for lease in leases:
        lease.__enter__()
    assert writer.begin(64, 32) is None
    stats = writer.stats()
    assert (stats.dropped["overrun"], stats.depth, stats.peak) == (1, SLOTS, SLOTS)
    leases[2].__exit__(None, None, None)
    assert writer.begin(64, 32) is not None
    for lease in leases[:2] + leases[3:]:
        lease.__exit__(None, None, None)
    assert writer.stats().depth == 0


def test_same_frame_leased_twice(fds: RingFds) -> None:
    """The slot stays held until the last of two leases on it ends."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    descriptor = draw(writer, 1)
    with reader.lease(descriptor):
        with reader.lease(descriptor):
            pass
        assert writer.stats().depth == 1
    assert writer.stats().depth == 0


def test_new_life_of_the_writer(fds: RingFds) -> None:
    """A restarted writer raises the epoch, goes on in the sequence, and makes earlier descriptors stale."""
    first, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    old = [draw(first, value) for value in range(3)]
    first.begin(64, 32)  # dies here
    second = FrameWriter(SPEC, fds)
    new = draw(second, 5)
    assert (new.epoch, new.seq) == (2, 4)
    with pytest.raises(StaleFrame), reader.lease(old[-1]):
        pass
    with reader.lease(new) as frame:
        assert (frame == 5).all()


def test_death_between_the_stores_of_commit(fds: RingFds) -> None:
    """A generation newer than `latest` does not make the next life repeat a sequence number."""
    writer = FrameWriter(SPEC, fds)
    last = draw(writer, 1)
    writer._words[writer._generations[(last.slot + 1) % SLOTS]] = last.seq + 1
    assert draw(FrameWriter(SPEC, fds), 2).seq == last.seq + 2


def test_death_while_the_newest_is_drawn_over(fds: RingFds) -> None:
    """No reader takes the frame before it for the newest."""
    writer, holder = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "recorder")
    writer.begin(64, 32)
    with holder.lease(writer.commit(turn=0, t_capture_ns=0)):
        writer.begin(64, 32)
        newest = writer.commit(turn=0, t_capture_ns=0)
        writer.begin(64, 32)
        while writer._slot != newest.slot:
            writer.begin(64, 32)
        FrameWriter(SPEC, fds)
        assert FrameReader(SPEC, fds, "stage").receive() == []


def test_change_of_rung(fds: RingFds) -> None:
    """Frames of another size share the ring; the descriptor says which."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    for width, height in ((64, 32), (32, 16), (30, 62), (64, 32)):
        with reader.lease(draw(writer, 4, width, height)) as frame:
            assert frame.shape == (height, width, 3)
            assert (frame == 4).all()
    with pytest.raises(ValueError, match="does not fit"):
        writer.begin(66, 32)


def test_nv12_shape() -> None:
    """An NV12 frame is one plane of 3/2 height; odd sizes are refused."""
    spec = FrameRingSpec(name="nv12", max_width=64, max_height=32, format=NV12, consumers=("stage",))
    fds = create_frame_ring(spec)
    writer, reader = FrameWriter(spec, fds), FrameReader(spec, fds, "stage")
    descriptor = draw(writer, 7)
    assert (descriptor.stride, descriptor.nbytes) == (64, 64 * 48)
    with reader.lease(descriptor) as frame:
        assert frame.shape == (48, 64)
    with pytest.raises(ValueError, match="even"):
        writer.begin(63, 32)
    fds.close()


@pytest.mark.parametrize(
    "change", [{"slot": 5}, {"slot": -1}, {"format": NV12}, {"nbytes": 5}, {"width": 900}, {"height": 0}, {"version": 0}]
)
def test_descriptor_of_something_else(fds: RingFds, change: dict[str, int]) -> None:
    """A descriptor that does not belong to this ring is an error, and holds nothing."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    descriptor = msgspec.structs.replace(draw(writer, 1), **change)
    with pytest.raises(LinkError) as caught, reader.lease(descriptor):
        pass
    assert not isinstance(caught.value, StaleFrame)
    assert writer.stats().depth == 0


def test_counters_of_a_consumer(fds: RingFds) -> None:
    """Skipped frames count from the consumer's first one on; the lease's age is seen from outside."""
    now = 1000
    writer = FrameWriter(SPEC, fds, clock=lambda: now)
    reader = FrameReader(SPEC, fds, "stage", clock=lambda: now)
    for value in range(3):
        last = draw(writer, value)
    with reader.lease(last):
        pass
    for value in range(4):
        last = draw(writer, value)
    with reader.lease(last):
        now = 5000
        row = writer.stats().consumers["stage"]
        assert (row.pinned, row.lease_ns, row.last_seq, row.skipped) == (1, 4000, 7, 3)
        assert writer.stats().oldest_lease_ns == reader.stats().oldest_lease_ns == 4000
        assert ring_stats(SPEC, fds).depth == 1
    assert reader.stats().dropped == {"skipped": 3, "stale": 0}
    assert (reader.stats().sent, reader.stats().depth, reader.stats().peak) == (2, 0, 4000)
    assert writer.stats().sent == 7


def test_ring_of_another_spec(fds: RingFds) -> None:
    """A node of another release cannot open the ring."""
    other = msgspec.structs.replace(SPEC, format=NV12)
    with pytest.raises(BusError, match="another layout"):
        FrameReader(other, fds, "stage")
    with pytest.raises(BusError, match="not of the size"):
        FrameWriter(msgspec.structs.replace(SPEC, max_width=6400), fds)


def test_specs_that_cannot_be() -> None:
    """A spec without consumers, with too many, with doubles, or of an unknown format is refused."""
    for consumers in ((), ("a", "a"), tuple(str(i) for i in range(40))):
        with pytest.raises(ValueError, match="consumers"):
            create_frame_ring(msgspec.structs.replace(SPEC, consumers=consumers))
    with pytest.raises(ValueError, match="format"):
        create_frame_ring(msgspec.structs.replace(SPEC, format=9))


def test_unknown_consumer(fds: RingFds) -> None:
    """Only consumers named in the spec have a pin word."""
    with pytest.raises(ValueError, match="stage, recorder"):
        FrameReader(SPEC, fds, "nobody")


def test_commit_needs_begin(fds: RingFds) -> None:
    """There is nothing to publish before a frame was begun."""
    with pytest.raises(BusError, match="without begin"):
        FrameWriter(SPEC, fds).commit(turn=0, t_capture_ns=0)


def test_writer_memory_is_the_whole_ring(fds: RingFds) -> None:
    """The array for page-locking starts and ends with the slots."""
    assert FrameWriter(SPEC, fds).memory.shape == (SLOTS * 8192,)


def test_view_survives_close(fds: RingFds) -> None:
    """An array that somebody still holds when the reader closes can be read: no fault."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    with reader.lease(draw(writer, 3)) as frame:
        pass
    reader.close()
    writer.close()
    assert (frame == 3).all()


@pytest.mark.parametrize("bit", [3, 40, 63])
@pytest.mark.parametrize("what", ["slot of the newest", "size", "generation", "epoch"])
def test_a_damaged_word_costs_a_frame_and_no_more(fds: RingFds, what: str, bit: int) -> None:
    """The reader passes over what cannot be, and has the next frame."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    writer.begin(64, 32)
    slot = writer.commit(turn=0, t_capture_ns=0).slot
    generation = Layout(SPEC).generation(slot)
    word = {"epoch": W_EPOCH, "slot of the newest": W_SLOT, "size": generation + 5, "generation": generation}[what]
    with mmap.mmap(fds.control, mmap.PAGESIZE) as page, memoryview(page).cast("Q") as words:
        words[word] ^= 1 << bit
    for descriptor in reader.receive():
        with suppress(LinkError), reader.lease(descriptor):
            pass
    peek_frame(SPEC, fds)
    writer.begin(64, 32)
    newest = writer.commit(turn=0, t_capture_ns=0)
    assert reader.receive() == [newest]
    with reader.lease(newest) as frame:
        assert frame.shape == (32, 64, 3)


@pytest.mark.parametrize("word", [0, 1])
def test_what_the_ring_is_can_be_written_again(fds: RingFds, word: int) -> None:
    """A damaged first line keeps the next life of a node out, until the supervisor mends it."""
    with mmap.mmap(fds.control, mmap.PAGESIZE) as page, memoryview(page).cast("Q") as words:
        words[word] ^= 2
    with pytest.raises(BusError, match="another layout"):
        FrameReader(SPEC, fds, "stage")
    mend_ring(SPEC, fds)
    FrameReader(SPEC, fds, "stage")
