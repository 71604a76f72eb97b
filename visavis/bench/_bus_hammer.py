"""Reads that are provoked to tear: a writer at full speed, a reader that always goes for the slot that is overwritten next."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from runtime.bus import RGB, FrameDescriptor, FrameReader, FrameRingSpec, FrameWriter, RingFds, StaleFrame

__all__ = ["SPEC", "draw_until_told", "hammer"]

# Large enough that drawing and reading overlap often, small enough for a million reads in seconds.
_WIDTH, _HEIGHT = 64, 48
SPEC = FrameRingSpec(name="hammer", max_width=_WIDTH, max_height=_HEIGHT, format=RGB, consumers=("bench",))
_BYTES = _WIDTH * _HEIGHT * 3
_WORDS = _BYTES // 8
_LOOK_EVERY = 1000


def draw_until_told(fds: RingFds, pipe: Connection) -> None:
    """The writer: every 8 bytes of frame n are the number n. Ends when something comes over the pipe."""
    writer = FrameWriter(SPEC, fds)
    pipe.send("ready")
    seq = 0
    while not pipe.poll():
        for _ in range(_LOOK_EVERY):
            frame = writer.begin(_WIDTH, _HEIGHT)
            if frame is not None:
                frame.reshape(-1).view(np.uint64)[:] = seq + 1
                seq = writer.commit(turn=0, t_capture_ns=0).seq
    pipe.send(writer.stats().stepped_over)


def hammer(fds: RingFds, reads: int) -> dict[str, Any]:
    """Reads `reads` times through leases and a tenth as often without; counts what was torn, and what of that was not told."""
    reader = FrameReader(SPEC, fds, "bench")
    words, layout = reader._words, reader._layout
    generations = [layout.generation(slot) for slot in range(layout.slots)]
    unprotected = [layout.view(reader._ring.bytes, slot, _WIDTH, _HEIGHT) for slot in range(layout.slots)]

    def aim(turn: int) -> tuple[int, int]:
        """The slot that is overwritten next (or, every fourth time, the newest) and its number."""
        now = [words[word] for word in generations]
        seq = max(now) if turn % 4 == 0 else min((g for g in now if g), default=0)
        return (now.index(seq), seq) if seq else (0, 0)

    epoch = reader.stats().epoch
    whole = undetected = refused = caught = bare = bare_torn = turn = 0
    while whole + caught < reads:
        turn += 1
        slot, seq = aim(turn)
        if turn % 10 == 0 and seq:
            seen = unprotected[slot].tobytes()
            bare += 1
            bare_torn += seen != seq.to_bytes(8, "little") * _WORDS
            continue
        entered = False
        try:
            with reader.lease(FrameDescriptor(1, epoch, slot, seq or 1, 0, 0, 0, _WIDTH, _HEIGHT, _WIDTH * 3, RGB, _BYTES)) as frame:
                entered = True
                seen = frame.tobytes()
        except StaleFrame:
            caught += entered
            refused += not entered
            continue
        whole += 1
        undetected += seen != seq.to_bytes(8, "little") * _WORDS
    reader.close()
    return {
        "reads": whole + caught,
        "refused_on_entry": refused,
        "torn_caught": caught,
        "torn_undetected": undetected,
        "unprotected_reads": bare,
        "unprotected_torn": bare_torn,
    }
