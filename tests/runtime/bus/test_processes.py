"""The bus between real processes that are killed at the worst moment. Nothing may be torn, repeated, stuck or left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from runtime.bus import (
    RGB,
    AudioReader,
    AudioRingSpec,
    AudioWriter,
    CommandSender,
    FrameDescriptor,
    FrameReader,
    FrameRingSpec,
    FrameWriter,
    Gap,
    LinkKind,
    Overflow,
    PeerGone,
    RingFds,
    StaleFrame,
    Subscriber,
    clear_pins,
    create_audio_ring,
    create_frame_ring,
)
from runtime.bus._frames import Layout
from runtime.messages import Ask, Playhead
from tests.runtime.bus.peer import frame_job, peer
from tests.support.harness import LIMIT_S

pytestmark = pytest.mark.system

SPEC = FrameRingSpec(name="video", max_width=64, max_height=64, format=RGB, consumers=("stage",))


@pytest.fixture
def fds() -> Iterator[RingFds]:
    made = create_frame_ring(SPEC)
    yield made
    made.close()


def newest(reader: FrameReader, template: FrameDescriptor, *, oldest: bool = False) -> FrameDescriptor | None:
    """A descriptor of the newest frame, or of the one that will be overwritten next, from the control page."""
    generations = [reader._words[reader._layout.generation(slot)] for slot in range(reader._layout.slots)]
    wanted = min((g for g in generations if g), default=0) if oldest else max(generations)
    if not wanted:
        return None
    return msgspec.structs.replace(template, slot=generations.index(wanted), seq=wanted, epoch=reader.stats().epoch)


TEMPLATE = FrameDescriptor(1, 1, 0, 0, 0, 0, 0, 64, 64, 192, RGB, 64 * 64 * 3)


def test_no_torn_frame_passes_between_processes(fds: RingFds) -> None:
    """With a writer at full speed, a reader without a lease sees torn frames; with leases 3000 reads are whole or refused."""
    reader = FrameReader(SPEC, fds, "stage")
    layout = Layout(SPEC)
    with peer("draw", **frame_job(SPEC, fds)):
        torn = 0
        while not torn:  # the danger is there: provoke it until seen
            for slot in range(layout.slots):
                frame = layout.view(reader._ring.bytes, slot, 64, 64)
                torn += len(np.unique(frame)) > 1
        whole = undetected = 0
        while whole < 3000:
            descriptor = newest(reader, TEMPLATE, oldest=whole % 2 == 0)
            if descriptor is None:
                continue
            try:
                with reader.lease(descriptor) as frame:
                    seen = frame.tobytes()
            except StaleFrame:
                continue
            whole += 1
            undetected += seen != bytes([descriptor.seq % 251]) * len(seen)
    assert undetected == 0


def test_writer_killed_while_drawing(fds: RingFds) -> None:
    """The half-drawn frame is never seen; the next writer continues the sequence in a new epoch and uses the slot again."""
    with peer("draw_half", **frame_job(SPEC, fds)):
        pass
    reader = FrameReader(SPEC, fds, "stage")
    orphan = newest(reader, TEMPLATE)
    assert orphan is not None
    assert orphan.seq == 1
    writer = FrameWriter(SPEC, fds)
    slots = set()
    for seq in range(2, 2 + Layout(SPEC).slots):
        frame = writer.begin(64, 64)
        assert frame is not None
        frame[:] = seq
        descriptor = writer.commit(turn=0, t_capture_ns=0)
        assert (descriptor.seq, descriptor.epoch) == (seq, 2)
        with reader.lease(descriptor) as seen:
            assert (seen == seq).all()
        slots.add(descriptor.slot)
    assert len(slots) == Layout(SPEC).slots
    with pytest.raises(StaleFrame), reader.lease(msgspec.structs.replace(orphan, epoch=1)):
        pass


def test_writer_killed_again_and_again(fds: RingFds) -> None:
    """Three writers killed at any moment: the sequence only rises, every frame read is whole, the epoch counts the lives."""
    reader = FrameReader(SPEC, fds, "stage")
    highest = 0
    for life in range(1, 4):
        with peer("draw", **frame_job(SPEC, fds)):
            read = 0
            while read < 20:
                descriptor = newest(reader, TEMPLATE)
                if descriptor is None or descriptor.seq <= highest:
                    continue
                try:
                    with reader.lease(descriptor) as frame:
                        seen = frame.tobytes()
                except StaleFrame:
                    continue
                assert seen == bytes([descriptor.seq % 251]) * len(seen)
                assert descriptor.epoch == life
                read, highest = read + 1, descriptor.seq


def test_reader_killed_while_it_holds_a_frame(fds: RingFds) -> None:
    """The slot of a dead consumer stays shut until the supervisor clears its pins, and the writer goes on all the while."""
    writer = FrameWriter(SPEC, fds)
    assert writer.begin(64, 64) is not None
    held = writer.commit(turn=0, t_capture_ns=0)
    with peer("hold", descriptor=msgspec.to_builtins(held), **frame_job(SPEC, fds)):
        pass
    slots = Layout(SPEC).slots

    def lap() -> set[int]:
        used = set()
        for _ in range(2 * slots):
            assert writer.begin(64, 64) is not None
            used.add(writer.commit(turn=0, t_capture_ns=0).slot)
        return used

    assert lap() == set(range(slots)) - {held.slot}
    assert writer.stats().consumers["stage"].pinned == 1
    assert writer.stats().oldest_lease_ns > 0
    clear_pins(SPEC, fds, "stage")
    assert lap() == set(range(slots))
    assert writer.stats().oldest_lease_ns == 0


def test_sound_writer_killed_again_and_again() -> None:
    """Three sound writers killed at any moment: indices go on, every sample that can be read is the right one."""
    spec = AudioRingSpec(name="mic", rate=16000, seconds=1)
    fds = create_audio_ring(spec)
    reader = AudioReader(spec, fds)
    index = 0
    for life in range(1, 4):
        with peer("sound", pass_fds=fds.numbers(), spec=msgspec.to_builtins(spec), fds=msgspec.to_builtins(fds)):
            target = reader.position + 30_000
            while index < target:
                try:
                    got = reader.read(index, 4000)
                except Gap as gap:
                    index = gap.oldest + 4000  # a moment's head start on the writer
                    continue
                assert np.array_equal(got, (np.arange(index, index + len(got)) % 30011).astype(np.int16))
                index += len(got)
        assert reader.stats().epoch == life
    last = reader.position
    assert AudioWriter(spec, fds).write(np.zeros(10, np.int16), 0) == last
    kept = reader.oldest
    got = reader.read(kept, last - kept)
    assert np.array_equal(got, (np.arange(kept, last) % 30011).astype(np.int16))
    fds.close()


def test_publisher_killed_and_restarted(tmp_path: Path) -> None:
    """A subscriber hears the next publisher on the same path, and knows that it is another one."""
    context = zmq.Context()
    with closing(Subscriber(context, f"ipc://{tmp_path}/playhead", 7, Playhead, LinkKind.LATEST)) as subscriber:
        for life in range(3):
            with peer("publish", path=f"ipc://{tmp_path}/playhead"):
                for _ in range(5):
                    assert subscriber.receive(timeout_ms=5000)
            while subscriber.receive(timeout_ms=100):
                pass
            assert subscriber.stats().restarts == life
    context.term()


def test_receiver_killed_and_restarted(tmp_path: Path) -> None:
    """The sender of commands is told within a moment, and the restarted receiver takes commands again."""
    context = zmq.Context()
    path = f"ipc://{tmp_path}/ask"
    with closing(CommandSender(context, path, 5, Ask, 60_000, 64)) as sender:
        for life in range(2):
            with peer("take_commands", path=path):
                deadline = time.monotonic() + LIMIT_S
                while time.monotonic() < deadline:
                    try:
                        sender.send(Ask(1, 2, "hello", visit=1))
                        break
                    except PeerGone:
                        time.sleep(0.005)
                sender.confirm(5000)
            told = False
            while not told:  # the news takes a moment
                try:
                    sender.send(Ask(1, 2, "hello", visit=1))
                except Overflow:
                    time.sleep(0.005)
                except PeerGone:
                    told = True
            assert sender.stats().restarts == life
    context.destroy(linger=0)


def _open_files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return sorted(name for name in found if not name.startswith("/proc/"))


def _mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:")


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """After everything is closed or killed: the same descriptors, the same mappings, the same /dev/shm as before."""
    shm, files, mapped = sorted(os.listdir("/dev/shm")), _open_files(), _mappings()
    fds = create_frame_ring(SPEC)
    sound = AudioRingSpec(name="mic", rate=16000, seconds=1)
    sound_fds = create_audio_ring(sound)
    context = zmq.Context()
    ends: list[Any] = [
        FrameWriter(SPEC, fds),
        FrameReader(SPEC, fds, "stage"),
        AudioWriter(sound, sound_fds),
        AudioReader(sound, sound_fds),
        Subscriber(context, f"ipc://{tmp_path}/playhead", 7, Playhead, LinkKind.STREAM),
        CommandSender(context, f"ipc://{tmp_path}/ask", 5, Ask, 1000, 4),
    ]
    with peer("draw", **frame_job(SPEC, fds)), peer("publish", path=f"ipc://{tmp_path}/playhead"):
        assert "memfd:video" in Path("/proc/self/maps").read_text()
    for end in ends:
        end.close()
    context.term()
    fds.close()
    sound_fds.close()
    assert sorted(os.listdir("/dev/shm")) == shm
    assert _open_files() == files
    assert _mappings() == mapped
