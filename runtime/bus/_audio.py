"""The audio ring: seconds of mono 16-bit sound in shared memory, addressed by absolute sample index.

Control page: line 1 is the writer's: epoch, written (index behind the last sample), reserved, anchors published, heartbeat; line 2
holds two anchors (index, ns), written in turn.

Readers copy out and then look whether the writer has come round meanwhile. For that the writer says *before* it copies how far it will
get (`reserved`): with `written` alone a reader could miss that the oldest samples are being overwritten right now.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from runtime.bus._fence import fence
from runtime.bus._memory import LINE, Mapping, RingFds, make_ring, page_align
from runtime.bus._stats import RingStats
from runtime.bus.errors import Gap, LinkError

__all__ = ["AudioReader", "AudioRingSpec", "AudioWriter", "create_audio_ring"]

Pcm = npt.NDArray[np.int16]

_W_EPOCH, _W_WRITTEN, _W_RESERVED, _W_ANCHORS, _W_BEAT = range(LINE, LINE + 5)
_W_ANCHOR = 2 * LINE
_NS = 1_000_000_000


class AudioRingSpec(msgspec.Struct, frozen=True):
    """`seconds` of mono int16 sound at `rate` samples per second."""

    name: str
    rate: int
    seconds: int

    @property
    def capacity(self) -> int:
        """Samples in the ring."""
        return self.rate * self.seconds


def create_audio_ring(spec: AudioRingSpec) -> RingFds:
    """Makes the memory of an audio ring. Supervisor only, before the nodes start; hand the descriptors down by `pass_fds`.

    Raises:
        ValueError: the spec cannot be laid out.
        LinkError: no memory.

    """
    if spec.capacity <= 0:
        raise ValueError(f"ring {spec.name!r} of {spec.seconds} s at {spec.rate} Hz holds nothing")
    return make_ring(spec.name, spec, page_align(spec.capacity * 2))


def _open(spec: AudioRingSpec, fds: RingFds, *, write: bool) -> tuple[Mapping, Pcm]:
    ring = Mapping(spec.name, spec, fds, page_align(spec.capacity * 2), write=write)
    return ring, ring.bytes[: spec.capacity * 2].view(np.int16)


class AudioWriter:
    """Appends sound. One per ring, used by one thread; a restarted writer goes on at the index where the last one stopped.

    Raises:
        BusError: the ring was made for another spec.

    """

    def __init__(self, spec: AudioRingSpec, fds: RingFds, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._spec = spec
        self._ring, self._pcm = _open(spec, fds, write=True)
        self._words = words = self._ring.words
        self._clock = clock
        # Kept here and told there: a word that is damaged in the memory is right again with the next sound.
        self._written, reserved, self._anchors = words[_W_WRITTEN], words[_W_RESERVED], words[_W_ANCHORS]
        self._reserved = reserved if 0 <= reserved - self._written <= spec.capacity else self._written
        words[_W_EPOCH] += 1
        words[_W_BEAT] = clock()

    @property
    def position(self) -> int:
        """The index that the next sample gets."""
        return self._written

    def write(self, pcm: Pcm, t_ns: int) -> int:
        """Appends mono samples, shape (n,); `t_ns` is the time of the first one (CLOCK_MONOTONIC). Returns its absolute index.

        Raises:
            ValueError: not a one-dimensional int16 array, or longer than the ring.

        """
        if pcm.dtype != np.int16 or pcm.ndim != 1:
            raise ValueError(f"the audio ring takes int16 of shape (n,), not {pcm.dtype} of shape {pcm.shape}")
        capacity, words = self._spec.capacity, self._words
        if len(pcm) > capacity:
            raise ValueError(f"{len(pcm)} samples at once do not fit ring {self._spec.name!r} of {capacity}")
        start = self._written
        if not len(pcm):
            return start
        end = start + len(pcm)
        # A writer that died in the middle of a copy has spoilt what it had reserved: never take that back.
        self._reserved = words[_W_RESERVED] = max(self._reserved, end)
        fence()  # readers learn that the oldest samples go before they go
        at = start % capacity
        first = min(len(pcm), capacity - at)
        self._pcm[at : at + first] = pcm[:first]
        self._pcm[: len(pcm) - first] = pcm[first:]
        self._anchor(start, t_ns)
        fence()  # samples and anchor before the index that vouches for them
        self._written = words[_W_WRITTEN] = end
        words[_W_BEAT] = self._clock()
        return start

    def _anchor(self, index: int, t_ns: int) -> None:
        """Two places in turn, so that readers have a whole one at any time."""
        words = self._words
        self._anchors = count = self._anchors + 1
        place = _W_ANCHOR + 2 * (count & 1)
        words[place] = index
        words[place + 1] = t_ns
        fence()
        words[_W_ANCHORS] = count

    def stats(self) -> RingStats:
        """The writer's counters, in samples."""
        return _stats(self._spec, self._words, "writer", self._written, {})

    def close(self) -> None:
        """Unmaps the ring."""
        self._pcm = np.empty(0, dtype=np.int16)
        self._ring.close()


class AudioReader:
    """Reads sound at any index that is still there. Any number per ring; each keeps its own place; used by one thread.

    Raises:
        BusError: the ring was made for another spec.

    """

    def __init__(self, spec: AudioRingSpec, fds: RingFds) -> None:
        self._spec = spec
        self._ring, self._pcm = _open(spec, fds, write=False)
        self._words = self._ring.words
        self._read = 0
        self._lost = 0

    @property
    def position(self) -> int:
        """The index behind the newest sample."""
        return int(self._words[_W_WRITTEN])

    @property
    def oldest(self) -> int:
        """The index of the oldest sample that is still there; a reader that goes back on purpose stays some way above it."""
        capacity, reserved = self._spec.capacity, self._words[_W_RESERVED]
        written = self._words[_W_WRITTEN]  # looked at later, so no writer reserves more than the ring beyond it: else the word is damaged
        return max(0, int(reserved if written <= reserved <= written + capacity else written) - capacity)

    def read(self, start: int, count: int) -> Pcm:
        """A copy of the samples from `start`, shape (n,): `count` of them, or fewer (even none) if the rest is not written yet.

        Raises:
            Gap: samples from `start` on were overwritten: `n` are lost, go on at `oldest`.
            ValueError: a negative index or count.

        """
        if start < 0 or count < 0:
            raise ValueError(f"ring {self._spec.name!r}: cannot read {count} samples from {start}")
        capacity = self._spec.capacity
        n = min(count, self.position - start)
        if n <= 0:
            return np.empty(0, dtype=np.int16)
        self._check(start)
        fence()  # the index before the samples it vouches for
        at = start % capacity
        first = min(n, capacity - at)
        out = np.empty(n, dtype=np.int16)
        out[:first] = self._pcm[at : at + first]
        out[first:] = self._pcm[: n - first]
        fence()  # the samples before the look at what the writer does
        self._check(start)
        self._read += n
        return out

    def _check(self, start: int) -> None:
        oldest = self.oldest
        if start < oldest:
            self._lost += oldest - start
            raise Gap(oldest - start, oldest)

    def time_of(self, index: int) -> int:
        """When sample `index` sounded or will sound (ns, CLOCK_MONOTONIC), reckoned from the last write at the nominal rate.

        Raises:
            LinkError: nothing was written yet.

        """
        words = self._words
        while count := words[_W_ANCHORS]:
            fence()
            place = _W_ANCHOR + 2 * (count & 1)
            known, t_ns = words[place], words[place + 1]
            fence()
            if words[_W_ANCHORS] == count:
                return int(t_ns) + (index - int(known)) * _NS // self._spec.rate
        raise LinkError(f"ring {self._spec.name!r}: nothing was written yet, so no sample has a time")

    def stats(self) -> RingStats:
        """This reader's counters, in samples."""
        return _stats(self._spec, self._words, "reader", self._read, {"gap": self._lost})

    def close(self) -> None:
        """Unmaps the ring."""
        self._pcm = np.empty(0, dtype=np.int16)
        self._ring.close()


def _stats(spec: AudioRingSpec, words: memoryview[int], role: str, sent: int, dropped: dict[str, int]) -> RingStats:
    depth = min(words[_W_WRITTEN], spec.capacity)
    return RingStats(
        name=spec.name,
        role=role,
        epoch=words[_W_EPOCH],
        depth=depth,
        peak=depth,
        sent=sent,
        dropped=dropped,
        heartbeat_ns=words[_W_BEAT],
    )
