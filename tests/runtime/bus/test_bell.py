"""How a consumer of a frame ring hears of frames: newest first, on a descriptor it can wait for, across deaths of either side."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator

import pytest
import zmq

from runtime.bus import (
    RGB,
    FrameDescriptor,
    FrameReader,
    FrameRingSpec,
    FrameWriter,
    RingFds,
    StaleFrame,
    attach,
    clear_pins,
    create_frame_ring,
)
from runtime.bus._reader import Lease
from tests.runtime.bus.peer import frame_job, peer
from tests.support.harness import LIMIT_S

SPEC = FrameRingSpec(name="video", max_width=64, max_height=64, format=RGB, consumers=("stage", "recorder"))


@pytest.fixture
def fds() -> Iterator[RingFds]:
    made = create_frame_ring(SPEC)
    yield made
    made.close()


def draw(writer: FrameWriter, value: int, *, turn: int = 3, pts: int = -1, size: tuple[int, int] = (64, 64)) -> FrameDescriptor:
    frame = writer.begin(*size)
    assert frame is not None
    frame[:] = value
    return writer.commit(turn=turn, t_capture_ns=11, pts=pts)


def rung(reader: FrameReader) -> bool:
    return bool(select.select([reader.fd], [], [], 0)[0])


@pytest.mark.unit
def test_what_was_committed_is_received(fds: RingFds) -> None:
    """Each consumer gets the very descriptor that commit returned, once, whatever the turn, the sample and the size."""
    writer = FrameWriter(SPEC, fds)
    readers = [FrameReader(SPEC, fds, name) for name in SPEC.consumers]
    for turn, pts, size in ((0, -1, (64, 64)), (1 << 40, 1 << 50, (30, 16)), (7, 0, (64, 64))):
        sent = draw(writer, 5, turn=turn, pts=pts, size=size)
        for reader in readers:
            assert reader.receive() == [sent]
            assert reader.receive() == []


@pytest.mark.unit
def test_newest_counts(fds: RingFds) -> None:
    """A reader that was away gets the newest frame alone; the others count as skipped when it looks at that one."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    with reader.lease(draw(writer, 0)):
        pass
    last = [draw(writer, value) for value in range(20)][-1]
    (got,) = reader.receive()
    assert got == last
    with reader.lease(got) as frame:
        assert (frame == 19).all()
    assert reader.stats().dropped == {"skipped": 19, "stale": 0}
    assert reader.receive() == []


@pytest.mark.unit
def test_bell_rings_until_it_is_answered(fds: RingFds) -> None:
    """The descriptor is readable from the commit to the look, for each consumer by itself, and a wait without a frame ends empty."""
    writer = FrameWriter(SPEC, fds)
    stage, recorder = (FrameReader(SPEC, fds, name) for name in SPEC.consumers)
    assert not rung(stage)
    assert stage.receive(timeout_ms=1) == []
    draw(writer, 1)
    draw(writer, 2)
    assert rung(stage)
    assert len(stage.receive(timeout_ms=1000)) == 1
    assert not rung(stage)
    assert rung(recorder)


@pytest.mark.unit
def test_nothing_before_the_first_frame(fds: RingFds) -> None:
    """A reader may exist before its writer, and a frame that was begun or abandoned is none."""
    reader = FrameReader(SPEC, fds, "stage")
    assert reader.receive() == []
    writer = FrameWriter(SPEC, fds)
    writer.begin(64, 64)
    assert reader.receive() == []
    writer.abandon()
    assert reader.receive() == []
    assert reader.receive(timeout_ms=1) == []
    sent = draw(writer, 1)
    assert reader.receive() == [sent]


@pytest.mark.unit
def test_overtaken_between_look_and_lease(fds: RingFds) -> None:
    """A frame that was received and then drawn over is refused by the lease, and the bell has rung for its successor."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    draw(writer, 1)
    (got,) = reader.receive()
    last = [draw(writer, value) for value in range(2, 9)][-1]
    with pytest.raises(StaleFrame), reader.lease(got):
        pass
    assert rung(reader)
    assert reader.receive() == [last]


@pytest.mark.unit
def test_full_ring_does_not_ring(fds: RingFds) -> None:
    """When every slot is held no frame is made and nobody is woken; the newest that there is stays what it was."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    leases: list[Lease] = []
    while (frame := writer.begin(64, 64)) is not None:
        frame[:] = len(leases)
        leases.append(reader.lease(writer.commit(turn=0, t_capture_ns=0)))
        leases[-1].__enter__()
        assert len(reader.receive()) == 1
    assert not rung(reader)
    assert reader.receive() == []
    for lease in leases:
        lease.__exit__(None, None, None)


@pytest.mark.unit
def test_new_life_of_the_writer(fds: RingFds) -> None:
    """A restarted writer repeats nothing; a reader that restarts meanwhile finds the old life's frame, and the lease refuses it."""
    first, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    old = draw(first, 1)
    assert reader.receive() == [old]
    second = FrameWriter(SPEC, fds)
    assert reader.receive() == []
    restarted = FrameReader(SPEC, fds, "stage")
    assert restarted.receive() == [old]
    with pytest.raises(StaleFrame), restarted.lease(old):
        pass
    new = draw(second, 2)
    assert new.epoch == old.epoch + 1
    assert reader.receive() == restarted.receive() == [new]


@pytest.mark.unit
def test_age_of_the_newest(fds: RingFds) -> None:
    """The reader's counters say how long the newest frame was under way."""
    writer = FrameWriter(SPEC, fds, clock=lambda: 1000)
    reader = FrameReader(SPEC, fds, "stage", clock=lambda: 1234)
    draw(writer, 1)
    reader.receive()
    assert reader.stats().age_ns == 234


@pytest.mark.unit
def test_attached_to_a_loop(fds: RingFds) -> None:
    """In an event loop frames reach the callback like the messages of a link, also the one that was there before."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    first = draw(writer, 1)

    async def listen() -> list[FrameDescriptor]:
        got: list[FrameDescriptor] = []
        came = asyncio.Event()

        def take(frames: list[FrameDescriptor]) -> None:
            got.extend(frames)
            came.set()

        detach = attach(asyncio.get_running_loop(), reader, take)
        for _ in range(3):
            await asyncio.wait_for(came.wait(), LIMIT_S)
            came.clear()
            draw(writer, 2)
        await asyncio.wait_for(came.wait(), LIMIT_S)
        detach()
        return got

    got = asyncio.run(listen())
    assert got[0] == first
    assert [frame.seq for frame in got] == [1, 2, 3, 4]


@pytest.mark.unit
def test_waits_beside_zmq_sockets(fds: RingFds) -> None:
    """The descriptor can be waited for in a zmq poller together with sockets."""
    writer, reader = FrameWriter(SPEC, fds), FrameReader(SPEC, fds, "stage")
    poller = zmq.Poller()
    poller.register(reader.fd, zmq.POLLIN)
    assert poller.poll(0) == []
    draw(writer, 1)
    assert poller.poll(1000) == [(reader.fd, zmq.POLLIN)]


@pytest.mark.system
def test_writer_killed_again_and_again(fds: RingFds) -> None:
    """Through three lives of a writer that is killed anywhere, what is received rises, and what is leased is whole."""
    reader = FrameReader(SPEC, fds, "stage")
    highest = epoch = 0
    for _ in range(3):
        with peer("draw", **frame_job(SPEC, fds)):
            whole = 0
            while whole < 100:
                for descriptor in reader.receive(timeout_ms=5000):
                    assert descriptor.seq > highest
                    assert descriptor.epoch >= epoch
                    highest, epoch = descriptor.seq, descriptor.epoch
                    try:
                        with reader.lease(descriptor) as frame:
                            seen = frame.tobytes()
                    except StaleFrame:
                        continue
                    assert seen == bytes([seen[0]]) * len(seen)
                    whole += 1
    assert epoch == 3


@pytest.mark.system
def test_reader_killed_while_it_waits_and_while_it_holds(fds: RingFds) -> None:
    """The writer does not notice a reader that is killed before or after the bell; the next one is woken by the next frame."""
    writer = FrameWriter(SPEC, fds)
    with peer("take", **frame_job(SPEC, fds)):
        pass  # killed while it waits
    draw(writer, 1)
    with peer("take", **frame_job(SPEC, fds)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"  # finds the frame that nobody took; killed while it holds it
    assert writer.stats().consumers["stage"].pinned == 1
    clear_pins(SPEC, fds, "stage")
    with peer("take", **frame_job(SPEC, fds)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
    clear_pins(SPEC, fds, "stage")
    last = [draw(writer, value) for value in range(20)][-1]
    assert FrameReader(SPEC, fds, "stage").receive(timeout_ms=1000) == [last]
