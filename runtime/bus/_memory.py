"""Shared memory without names: memfds that the supervisor makes and the nodes inherit.

Nothing is left after a crash, because the kernel frees a memfd with its last descriptor; nothing can be attached to in the wrong size,
because resizing is sealed off; nothing faults in the middle, because every page is allocated before the first node starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os

import msgspec
import numpy as np
import numpy.typing as npt

from runtime.bus.errors import BusError, mapped

__all__ = ["LINE", "PAGE", "Bytes", "Mapping", "RingFds", "make_ring", "mend_ring", "page_align"]

PAGE = mmap.PAGESIZE
LINE = 8
"""Words of 8 bytes in a cache line: each writer's words stand on lines of their own."""
CONTROL_BYTES = 4096
_MAGIC = int.from_bytes(b"visavis\x02", "little")
_W_MAGIC, _W_LAYOUT = 0, 1

Bytes = npt.NDArray[np.uint8]
_NOTHING: Bytes = np.empty(0, dtype=np.uint8)


class RingFds(msgspec.Struct, frozen=True):
    """Descriptors of a ring: the payload read-write (for its one writer) and read-only (for readers), the control page, and of a
    frame ring one bell (eventfd) for each consumer, in the order of the spec.
    """

    data: int
    data_ro: int
    control: int
    bells: tuple[int, ...] = ()

    def numbers(self) -> tuple[int, ...]:
        """All of them, for `pass_fds`."""
        return self.data, self.data_ro, self.control, *self.bells

    def close(self) -> None:
        """Closes this process's descriptors; the memory goes when the last process has done so."""
        for fd in self.numbers():
            os.close(fd)


def page_align(size: int) -> int:
    """`size` rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


def layout_hash(spec: msgspec.Struct) -> int:
    """A number that differs between specs: a node built for another table must not open this ring."""
    digest = hashlib.blake2b(msgspec.msgpack.encode([type(spec).__name__, spec]), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def _memfd(name: str, size: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # posix_fallocate says ENOSPC now, where ftruncate would let the first write die of SIGBUS.
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError:
        os.close(fd)
        raise
    return fd


def make_ring(name: str, spec: msgspec.Struct, data_bytes: int, bells: int = 0) -> RingFds:
    """Makes the memory of a ring, zeroed, and `bells` bells. Supervisor only.

    Raises:
        LinkError: the kernel has no memory or no descriptors left.

    """
    opened: list[int] = []
    try:
        opened.append(_memfd(name, data_bytes))
        # A second open file description is needed for read-only: a dup would share the access mode.
        opened.append(os.open(f"/proc/self/fd/{opened[0]}", os.O_RDONLY | os.O_CLOEXEC))
        opened.append(_memfd(f"{name}.control", CONTROL_BYTES))
        found = RingFds(data=opened[0], data_ro=opened[1], control=opened[2])
        mend_ring(spec, found)
        for _ in range(bells):
            opened.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))  # noqa: PERF401  each must be closed if the next fails
    except OSError as error:
        for fd in opened:
            os.close(fd)
        raise mapped(error, f"making ring {name!r} of {data_bytes >> 20} MiB") from error
    return msgspec.structs.replace(found, bells=tuple(opened[3:]))


def mend_ring(spec: msgspec.Struct, fds: RingFds) -> None:
    """Writes again what the ring is. Supervisor only, when a node has died: with a damaged word there its next life could not open it."""
    with mmap.mmap(fds.control, CONTROL_BYTES) as page, memoryview(page).cast("Q") as words:
        words[_W_LAYOUT] = layout_hash(spec)
        words[_W_MAGIC] = _MAGIC


class Mapping:
    """One process's view of a ring: `words`, the control page as 512 unsigned 64-bit words, and `bytes`, the payload (empty if
    `data_bytes` is 0: then only the control page is mapped).

    A word is stored and loaded by one aligned 8-byte move, so it is never seen half written.
    """

    __slots__ = ("_control", "_data", "bytes", "words")

    def __init__(self, name: str, spec: msgspec.Struct, fds: RingFds, data_bytes: int, *, write: bool) -> None:
        shared = mmap.MAP_SHARED | mmap.MAP_POPULATE  # the first lap without page faults: up to 80 ms at 1080p
        try:
            self._control = mmap.mmap(fds.control, CONTROL_BYTES, flags=shared)
            self._data: mmap.mmap | None = None
            if data_bytes and write:
                self._data = mmap.mmap(fds.data, data_bytes, flags=shared)
            elif data_bytes:
                self._data = mmap.mmap(fds.data_ro, data_bytes, flags=shared, prot=mmap.PROT_READ)
        except ValueError as error:  # mmap's word for "longer than the file"
            raise BusError(f"ring {name!r} is not of the size its spec says; is this node of another release?") from error
        except OSError as error:
            raise mapped(error, f"mapping ring {name!r}") from error
        self.words = memoryview(self._control).cast("Q")
        self.bytes: Bytes = _NOTHING if self._data is None else np.frombuffer(self._data, dtype=np.uint8)
        if self.words[_W_MAGIC] != _MAGIC or self.words[_W_LAYOUT] != layout_hash(spec):
            self.close()
            raise BusError(f"ring {name!r} has another layout than its spec says; is this node of another release?")

    def close(self) -> None:
        """Unmaps what nobody looks at any more; a view that a caller still holds keeps its memory until it goes."""
        self.words.release()
        self.bytes = _NOTHING
        self._control.close()
        if self._data is not None:
            with contextlib.suppress(BufferError):
                self._data.close()
