"""The audio ring: absolute indices, gaps, times, lives."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from runtime.bus import AudioReader, AudioRingSpec, AudioWriter, BusError, Gap, LinkError, RingFds, create_audio_ring
from runtime.bus._memory import LINE

pytestmark = pytest.mark.unit

SPEC = AudioRingSpec(name="mic", rate=1000, seconds=2)
CAPACITY = 2000


@pytest.fixture
def fds() -> Iterator[RingFds]:
    made = create_audio_ring(SPEC)
    yield made
    made.close()


def ramp(start: int, count: int) -> npt.NDArray[np.int16]:
    return (np.arange(start, start + count) % 30011).astype(np.int16)


def test_samples_are_found_by_index(fds: RingFds) -> None:
    """Two readers read what they like, at their own pace, as often as they like."""
    writer = AudioWriter(SPEC, fds)
    assert [writer.write(ramp(n, 300), 0) for n in (0, 300, 600)] == [0, 300, 600]
    for reader in (AudioReader(SPEC, fds), AudioReader(SPEC, fds)):
        assert reader.position == writer.position == 900
        for start, count in ((0, 900), (250, 100), (899, 1), (250, 100)):
            assert np.array_equal(reader.read(start, count), ramp(start, count))


def test_what_is_not_written_yet(fds: RingFds) -> None:
    """A read past the end gives what is there, none at and behind the end."""
    writer, reader = AudioWriter(SPEC, fds), AudioReader(SPEC, fds)
    assert len(reader.read(0, 100)) == 0
    writer.write(ramp(0, 50), 0)
    assert np.array_equal(reader.read(40, 100), ramp(40, 10))
    assert len(reader.read(50, 100)) == len(reader.read(70, 100)) == 0


def test_gap(fds: RingFds) -> None:
    """A reader that is too late learns how many samples it lost and where to go on."""
    writer, reader = AudioWriter(SPEC, fds), AudioReader(SPEC, fds)
    for n in range(0, 5000, 500):
        writer.write(ramp(n, 500), 0)
    with pytest.raises(Gap) as caught:
        reader.read(2900, 10)
    assert (caught.value.n, caught.value.oldest) == (100, 3000)
    assert np.array_equal(reader.read(caught.value.oldest, 2000), ramp(3000, 2000))
    assert reader.stats().dropped == {"gap": 100}
    assert reader.stats().sent == 2000


def test_samples_being_overwritten_are_gone(fds: RingFds) -> None:
    """While a chunk is being copied in, the samples in its place cannot be read, even though it is not announced yet."""
    writer, reader = AudioWriter(SPEC, fds), AudioReader(SPEC, fds)
    writer.write(ramp(0, CAPACITY), 0)
    assert len(reader.read(0, 10)) == 10
    writer._words[8 + 2] = CAPACITY + 100  # the writer has reserved the place of the first hundred
    with pytest.raises(Gap) as caught:
        reader.read(0, 10)
    assert caught.value.oldest == 100


def test_new_life_of_the_writer(fds: RingFds) -> None:
    """A restarted writer goes on at the same index; what its predecessor spoilt stays unreadable."""
    first, reader = AudioWriter(SPEC, fds), AudioReader(SPEC, fds)
    first.write(ramp(0, CAPACITY), 0)
    first._words[8 + 2] = CAPACITY + 500  # died in the middle of a copy
    second = AudioWriter(SPEC, fds)
    assert second.write(ramp(CAPACITY, 10), 0) == CAPACITY
    assert reader.oldest == 500
    assert reader.stats().epoch == 2


@pytest.mark.parametrize("word", range(LINE + 1, LINE + 4))
@pytest.mark.parametrize("bit", [0, 10, 50, 62])
def test_a_flipped_word_is_right_again_with_the_next_sound(fds: RingFds, word: int, bit: int) -> None:
    """Written, reserved, anchors: whatever bit of them flips, what is written after it is found and has its time."""
    writer, reader = AudioWriter(SPEC, fds), AudioReader(SPEC, fds)
    writer.write(ramp(0, 100), 0)
    with mmap.mmap(fds.control, mmap.PAGESIZE) as page, memoryview(page).cast("Q") as words:
        words[word] ^= 1 << bit
    assert writer.write(ramp(100, 100), 100_000_000) == 100
    assert reader.position == writer.position == 200
    assert np.array_equal(reader.read(0, 200), ramp(0, 200))
    assert reader.time_of(150) == 150_000_000


@pytest.mark.parametrize("bit", [0, 4, 14, 50, 63])
def test_a_damaged_reservation_does_not_take_the_sound_away(fds: RingFds, bit: int) -> None:
    """What is in the ring is read even before the writer has put the word right."""
    AudioWriter(SPEC, fds).write(ramp(0, 100), 0)
    with mmap.mmap(fds.control, mmap.PAGESIZE) as page, memoryview(page).cast("Q") as words:
        words[LINE + 2] ^= 1 << bit
    assert np.array_equal(AudioReader(SPEC, fds).read(0, 100), ramp(0, 100))


def test_a_new_life_does_not_believe_a_reservation_that_cannot_be(fds: RingFds) -> None:
    """No writer reserves more than the ring: with such a word every sound would count as overwritten for ever."""
    AudioWriter(SPEC, fds).write(ramp(0, 100), 0)
    with mmap.mmap(fds.control, mmap.PAGESIZE) as page, memoryview(page).cast("Q") as words:
        words[LINE + 2] ^= 1 << 50
    AudioWriter(SPEC, fds).write(ramp(100, 100), 0)
    assert np.array_equal(AudioReader(SPEC, fds).read(0, 200), ramp(0, 200))


def test_time_of_a_sample(fds: RingFds) -> None:
    """Times follow the last write, forwards and backwards, at the nominal rate."""
    writer, reader = AudioWriter(SPEC, fds), AudioReader(SPEC, fds)
    with pytest.raises(LinkError, match="nothing was written"):
        reader.time_of(0)
    writer.write(ramp(0, 100), 5_000_000_000)
    assert reader.time_of(0) == 5_000_000_000
    assert reader.time_of(100) == 5_100_000_000
    writer.write(ramp(100, 100), 5_200_000_000)  # a hole of 100 ms in the sound
    assert (reader.time_of(100), reader.time_of(50)) == (5_200_000_000, 5_150_000_000)


def test_what_is_not_sound_is_refused(fds: RingFds) -> None:
    """Another type, another shape, more than the ring holds, negative indices."""
    writer, reader = AudioWriter(SPEC, fds), AudioReader(SPEC, fds)
    for wrong in (np.zeros(5, np.float32), np.zeros((5, 2), np.int16)):
        with pytest.raises(ValueError, match="int16"):
            writer.write(wrong, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not fit"):
        writer.write(ramp(0, CAPACITY + 1), 0)
    with pytest.raises(ValueError, match="cannot read"):
        reader.read(-1, 5)
    assert writer.write(ramp(0, 0), 0) == writer.position == 0
    with pytest.raises(ValueError, match="holds nothing"):
        create_audio_ring(AudioRingSpec(name="none", rate=16000, seconds=0))
    with pytest.raises(BusError, match="another layout"):
        AudioReader(AudioRingSpec(name="mic", rate=2000, seconds=1), fds)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, CAPACITY), st.integers(0, 3 * CAPACITY), st.integers(0, CAPACITY)), max_size=12))
def test_a_read_is_right_or_a_gap(steps: list[tuple[int, int, int]]) -> None:
    """Whatever is written and asked for: the samples of that index, as many as exist, or a Gap of the right size."""
    fds = create_audio_ring(SPEC)
    writer, reader = AudioWriter(SPEC, fds), AudioReader(SPEC, fds)
    written = 0
    for amount, start, count in steps:
        writer.write(ramp(written, amount), 0)
        written += amount
        expected = max(0, min(count, written - start))
        if expected and start < written - CAPACITY:
            with pytest.raises(Gap) as caught:
                reader.read(start, count)
            assert caught.value.n == written - CAPACITY - start
        else:
            assert np.array_equal(reader.read(start, count), ramp(start, expected))
    writer.close()
    reader.close()
    fds.close()
