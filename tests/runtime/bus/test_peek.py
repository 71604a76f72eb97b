"""Looking at the newest frame without being a consumer."""

from __future__ import annotations

import threading

import pytest

from runtime.bus import NV12, FrameRingSpec, FrameWriter, create_frame_ring, peek_frame

SPEC = FrameRingSpec(name="video", max_width=640, max_height=480, format=NV12, consumers=("stage",))


@pytest.fixture
def ring():
    fds = create_frame_ring(SPEC)
    writer = FrameWriter(SPEC, fds)
    yield fds, writer
    writer.close()
    fds.close()


def draw(writer, number, width=640, height=480):
    """Commit a frame whose every byte is `number`."""
    writer.begin(width, height)[:] = number % 251
    return writer.commit(turn=1, t_capture_ns=number)


def test_nothing_was_drawn_yet(ring):
    """An empty ring has no newest frame."""
    assert peek_frame(SPEC, ring[0]) is None


def test_the_newest_frame(ring):
    """The last one committed, in its own shape, as a copy that stays."""
    fds, writer = ring
    draw(writer, 1)
    draw(writer, 2, 320, 240)
    descriptor, pixels = peek_frame(SPEC, fds)
    draw(writer, 3)
    assert (descriptor.width, descriptor.height, descriptor.seq) == (320, 240, 2)
    assert pixels.shape == (360, 320)
    assert (pixels == 2).all()


def test_never_a_torn_frame(ring):
    """While the writer draws as fast as it can, each copy is of one frame only."""
    fds, writer = ring
    stop = threading.Event()

    def work():
        number = 0
        while not stop.is_set():
            number += 1
            draw(writer, number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        found = [peek_frame(SPEC, fds) for _ in range(300)]
    finally:
        stop.set()
        thread.join()
    whole = [entry for entry in found if entry is not None]
    assert whole
    for descriptor, pixels in whole:
        assert (pixels == descriptor.seq % 251).all()
