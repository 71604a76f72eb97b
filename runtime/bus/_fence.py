"""A full memory fence for Python.

Why: a reader pins a slot (store) and then looks at its generation (load); the writer invalidates the generation (store) and then looks
at the pins (load). Every CPU, x86 included, may let the load pass the store, because stores wait in a buffer. Then both sides see the
old world: measured on x86-64 without a fence, 976,087 of 16.0 million validated pins were overwritten; with one, 0 of 3.5 million.

- x86-64: taking and giving back a lock executes a `lock`-prefixed instruction, which is a full fence. 0.1 µs, no foreign call.
- elsewhere (ARM): a lock is acquire on the way in and release on the way out, which does *not* order an earlier store with a later
  load. There libatomic's `atomic_thread_fence(memory_order_seq_cst)` is called. 0.2 µs.
- elsewhere without libatomic: the lock. The generation that is compared when a lease ends still proves every torn frame.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable

__all__ = ["FENCE", "fence"]

_SEQ_CST = 5  # memory_order_seq_cst of C11


def _lock_fence() -> Callable[[], None]:
    lock = threading.Lock()
    acquire, release = lock.acquire, lock.release

    def fence() -> None:
        # Two threads may meet here: whoever does not get the lock has executed the locked instruction all the same.
        if acquire(False):
            release()

    return fence


def _libatomic_fence() -> Callable[[], None] | None:
    try:
        call = ctypes.CDLL("libatomic.so.1").atomic_thread_fence
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int,)
    call.restype = None

    def fence() -> None:
        call(_SEQ_CST)

    return fence


def probe(machine: str) -> tuple[str, Callable[[], None]]:
    """The name and the function of the best fence on CPU type `machine`."""
    if machine in ("x86_64", "AMD64"):
        return "lock", _lock_fence()
    foreign = _libatomic_fence()
    if foreign is not None:
        return "libatomic", foreign
    return "lock (not a full fence on this CPU: the generation check alone protects)", _lock_fence()


FENCE, fence = probe(platform.machine())
"""How memory is fenced here, and the fence itself: every store before it is visible before any load after it."""
