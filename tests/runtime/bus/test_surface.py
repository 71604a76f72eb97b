"""What the bus shows: its names, its errors, its memory."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path

import pytest
import zmq

import runtime.bus
from runtime.bus import (
    FENCE,
    AudioRingSpec,
    BusError,
    DeadlineMissed,
    Gap,
    LinkError,
    Overflow,
    PeerGone,
    StaleFrame,
    create_audio_ring,
)
from runtime.bus._fence import fence, probe
from runtime.bus.errors import mapped

pytestmark = pytest.mark.unit


def test_all_is_what_is_exported() -> None:
    """`__all__` holds exactly the public names that the package imports."""
    public = {name for name, value in vars(runtime.bus).items() if not name.startswith("_") and not hasattr(value, "__path__")}
    modules = {"annotations", "errors"}
    assert public - modules == set(runtime.bus.__all__)


def test_tree_of_errors() -> None:
    """Each error tells what the caller can do, and all of them are LinkErrors."""
    for kind in (StaleFrame, Gap, PeerGone, DeadlineMissed, Overflow):
        assert issubclass(kind, LinkError)
    assert issubclass(LinkError, BusError)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EAGAIN, Overflow),
        (errno.ENOBUFS, Overflow),
        (errno.ETIMEDOUT, DeadlineMissed),
        (errno.EPIPE, PeerGone),
        (errno.ECONNREFUSED, PeerGone),
        (errno.ECONNRESET, PeerGone),
        (errno.EHOSTUNREACH, PeerGone),
        (int(zmq.ETERM), PeerGone),
        (errno.ENOSPC, LinkError),
    ],
)
def test_foreign_errors_are_translated(number: int, expected: type[LinkError]) -> None:
    """Errors of zmq and of the kernel become ours and say where."""
    for error in (zmq.ZMQError(number), OSError(number, os.strerror(number))):
        ours = mapped(error, "link 'video'")
        assert type(ours) is expected
        assert str(ours).startswith("link 'video': ")


def test_no_foreign_error_is_caught_elsewhere() -> None:
    """Wherever the bus catches an error of zmq or the kernel, it ends in `mapped`, or is `zmq.Again`, or is raised again."""
    for module in Path(runtime.bus.__file__).parent.glob("*.py"):
        lines = module.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"except \(?(zmq\.ZMQError|OSError)", line) and module.name != "_fence.py":
                handler = "\n".join(lines[number : number + 5])
                assert "raise" in handler, f"{module.name}:{number + 1}"


def test_ring_cannot_be_resized() -> None:
    """The memory is sealed: nobody can shrink it under a reader, which would be SIGBUS, and the read-only end cannot write."""
    fds = create_audio_ring(AudioRingSpec(name="mic", rate=16000, seconds=1))
    with pytest.raises(PermissionError):
        os.ftruncate(fds.data, 4096)
    with pytest.raises(PermissionError):
        os.ftruncate(fds.data, 1 << 20)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fds.data_ro, b"x")
    for fd in fds.numbers():
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    fds.close()


def test_fence_of_each_cpu() -> None:
    """x86 takes a lock, ARM takes libatomic where it is installed, and each can be called."""
    assert probe("x86_64")[0] == "lock"
    name, call = probe("aarch64")
    assert name == "libatomic" or name.startswith("lock (not")
    call()
    fence()
    assert FENCE
