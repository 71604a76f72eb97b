"""Two small pieces of memory that outlive a node: the heartbeat board and the checkpoint.

Both are memfds made by the supervisor and inherited by the nodes, so a crash of the node loses nothing and the end of the
supervisor leaves nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib

__all__ = ["BOARD_LINE", "CHECKPOINT_BYTES", "Board", "Checkpoint", "create_board", "create_checkpoint"]

BOARD_LINE = 64
"""Bytes per node on the board: one cache line, so that writers do not disturb each other."""
CHECKPOINT_BYTES = 64 * 1024
_HEADER = struct.Struct("<QII")  # sequence, length, crc32 of sequence and body


def create_board(lines: int) -> int:
    """Make the board's memfd with room for `lines` nodes."""
    return _memfd("visavis-board", lines * BOARD_LINE)


def create_checkpoint(name: str) -> int:
    """Make a checkpoint's memfd for node `name`."""
    return _memfd(f"visavis-checkpoint-{name}", CHECKPOINT_BYTES)


def _memfd(name: str, size: int) -> int:
    fd = os.memfd_create(name)
    os.posix_fallocate(fd, 0, size)
    return fd


class Board:
    """Heartbeats by line: the time of the last progress, how much progress there was, and whether the node is ready.

    A line has one writer, its node; the supervisor only reads, and zeroes the line of a dead node before it starts the next life.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self._words = memoryview(self._map).cast("Q")

    def beat(self, line: int, now_ns: int) -> None:
        """Note progress of the node on `line`."""
        at = line * BOARD_LINE // 8
        self._words[at] = now_ns
        self._words[at + 1] += 1

    def ready(self, line: int) -> None:
        """Note that the node on `line` can do its work now."""
        self._words[line * BOARD_LINE // 8 + 2] = 1

    def read(self, line: int) -> tuple[int, int, bool]:
        """(time of last beat in ns, beats, ready) of `line`; zeros before the first beat."""
        at = line * BOARD_LINE // 8
        return self._words[at], self._words[at + 1], bool(self._words[at + 2])

    def clear(self, line: int) -> None:
        """Forget the life of a dead node."""
        at = line * BOARD_LINE // 8
        self._words[at] = self._words[at + 1] = self._words[at + 2] = 0

    def close(self) -> None:
        """Unmap; Python's mmap holds a descriptor of its own."""
        self._words.release()
        self._map.close()


class Checkpoint:
    """The last consistent state a node saved; survives kill -9 in the middle of a save.

    Two slots are written in turn, each with a sequence number and a checksum; the newest slot whose checksum holds is the state.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self._half = len(self._map) // 2
        self._sequence = max((found[0] for found in self._slots()), default=0)

    def save(self, state: bytes) -> None:
        """Keep `state` (at most half of CHECKPOINT_BYTES less the header). Raises ValueError when it is larger."""
        if len(state) > self._half - _HEADER.size:
            raise ValueError(f"checkpoint of {len(state)} bytes is larger than {self._half - _HEADER.size}")
        self._sequence += 1
        at = (self._sequence % 2) * self._half
        self._map[at : at + _HEADER.size] = _HEADER.pack(0, 0, 0)
        self._map[at + _HEADER.size : at + _HEADER.size + len(state)] = state
        self._map[at : at + _HEADER.size] = _HEADER.pack(self._sequence, len(state), self._checksum(self._sequence, state))

    def load(self) -> bytes | None:
        """The newest state that is whole, or None."""
        found = max(self._slots(), default=None)
        return found[1] if found else None

    def erase(self) -> None:
        """Overwrite everything: a visit has ended and nothing of it stays (law 7)."""
        self._map[:] = bytes(len(self._map))

    def close(self) -> None:
        """Unmap; the state stays in the memfd."""
        self._map.close()

    def _slots(self) -> list[tuple[int, bytes]]:
        whole = []
        for at in (0, self._half):
            sequence, length, checksum = _HEADER.unpack_from(self._map, at)
            if not sequence or length > self._half - _HEADER.size:
                continue
            body = bytes(self._map[at + _HEADER.size : at + _HEADER.size + length])
            if self._checksum(sequence, body) == checksum:
                whole.append((sequence, body))
        return whole

    @staticmethod
    def _checksum(sequence: int, body: bytes) -> int:
        return zlib.crc32(body, sequence & 0xFFFFFFFF)
