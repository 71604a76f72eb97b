"""What can go wrong on the bus, split by what the caller can do about it.

    BusError                 root; raised itself when a ring does not fit its spec (a mistake in the program)
    └── LinkError            this message or frame did not get across
        ├── StaleFrame       the slot was rewritten: take the next descriptor
        ├── Gap              `n` samples were overwritten before they were read: go on at `oldest`
        ├── PeerGone         the other end exited: the supervisor restarts it
        ├── DeadlineMissed   no answer in time: retrying may help
        └── Overflow         the other end does not keep up: send less, or drop

Errors of zmq and of the kernel never leave the bus: `mapped` below is the only place that translates them.
"""

from __future__ import annotations

import errno

import zmq

__all__ = ["BusError", "DeadlineMissed", "Gap", "LinkError", "Overflow", "PeerGone", "StaleFrame", "mapped"]


class BusError(Exception):
    """Root of all errors of the bus."""


class LinkError(BusError):
    """A message or a frame did not get across."""


class StaleFrame(LinkError):
    """The slot was rewritten or belongs to an earlier life of the ring; take the next descriptor."""


class Gap(LinkError):
    """`n` samples before `oldest` were overwritten before they could be read; the next good sample is `oldest`."""

    def __init__(self, n: int, oldest: int = 0) -> None:
        super().__init__(f"{n} samples were overwritten before they were read; the oldest still there is {oldest}")
        self.n = n
        self.oldest = oldest


class PeerGone(LinkError):
    """The other end exited; the supervisor will restart it."""


class DeadlineMissed(LinkError):
    """No answer in time; retrying may help."""


class Overflow(LinkError):
    """As many commands as the link holds are waiting already."""


# errno → what the caller can do. zmq numbers its own errors (ETERM, ENOTSOCK, EFSM) in the same space.
_BY_ERRNO: dict[int, type[LinkError]] = {
    errno.EAGAIN: Overflow,
    errno.ENOBUFS: Overflow,
    errno.ETIMEDOUT: DeadlineMissed,
    errno.EPIPE: PeerGone,
    errno.ECONNREFUSED: PeerGone,
    errno.ECONNRESET: PeerGone,
    errno.EHOSTUNREACH: PeerGone,
    int(zmq.ETERM): PeerGone,
}


def mapped(error: zmq.ZMQError | OSError, where: str) -> LinkError:
    """Translates a foreign error; the text says where it happened and what the system called it."""
    kind = _BY_ERRNO.get(error.errno or 0, LinkError)
    return kind(f"{where}: {error.strerror or error}")
