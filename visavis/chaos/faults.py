"""What can break, done to a running kiosk. Each fault is undone when its function returns, or by the kiosk's own doing after it."""

from __future__ import annotations

import mmap
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq

from runtime import topology
from runtime.bus import CommandSender, LinkError
from runtime.context import link_path
from runtime.messages import Mark
from visavis.chaos.house import OWN, SPOKEN, House
from visavis.rehearse.observer import ring_fds

__all__ = ["FAULTS", "Fault", "names"]

_LASTS_S = 4.0
"""How long pressure is kept up."""
# As laid out in runtime/bus: what the ring is, the writer's words, then slots and consumer, or the anchors.
_FRAME_WORDS = (0, 1, *range(8, 16), *(16 + 8 * slot + word for slot in range(4) for word in range(7)), *range(48, 55))
_AUDIO_WORDS = (0, 1, *range(8, 13), *range(16, 20))
_HOG = """
import sys, time
block = bytearray(int(sys.argv[1]) << 20)
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    for at in range(0, len(block), 4096):
        block[at] = block[at] + 1 & 255
"""
_WRITER = """
import os, sys, time
until = time.monotonic() + float(sys.argv[2])
with open(sys.argv[1], "wb", buffering=0) as file:
    while time.monotonic() < until:
        file.seek(0)
        for _ in range(16):
            file.write(bytes(1 << 20))
        os.fsync(file.fileno())
"""


@dataclass(frozen=True)
class Fault:
    """`do(house, target, rng)` breaks it and returns a word on how, for the report; raises OSError or
    RehearsalError where it cannot be done at this moment. `falls`: the target's process ends and must return.
    """

    name: str
    what: str
    do: Callable[[House, str, random.Random], str]
    targets: tuple[str, ...] = ("",)
    falls: bool = False
    microphone: bool = False  # afterwards the visitor speaks, instead of typing


def _kill(house: House, target: str, _rng: random.Random) -> str:
    os.kill(house.pid(target), signal.SIGKILL)
    return ""


def _stop(house: House, target: str, _rng: random.Random) -> str:
    os.kill(house.pid(target), signal.SIGSTOP)
    return ""


def _memory(house: House, _target: str, _rng: random.Random) -> str:
    megabytes = min(1024, _available_mb() // 4)
    _run_beside(house, _HOG, str(megabytes), str(_LASTS_S))
    return f"{megabytes} MB written over and over"


def _starve(house: House, target: str, _rng: random.Random) -> str:
    """The node's next allocation of any size fails."""
    pid = house.pid(target)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    before = resource.prlimit(pid, resource.RLIMIT_AS, (pages * mmap.PAGESIZE, resource.RLIM_INFINITY))
    threading.Event().wait(_LASTS_S)
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_AS, before)
    return "alive" if house.nodes().get(target) == pid else "it fell and came back"


def _slow_disk(house: House, _target: str, _rng: random.Random) -> str:
    _run_beside(house, _WRITER, str(house.folder / "filler"), str(_LASTS_S), copies=2)
    (house.folder / "filler").unlink(missing_ok=True)
    return "two writers of 16 MB with fsync"


def _full_disk(house: House, _target: str, _rng: random.Random) -> str:
    """No node can write to any file: as on a full disk, but EFBIG instead of ENOSPC, and without taking the disk of the machine."""
    before = {}
    for pid in house.nodes().values():
        with suppress(ProcessLookupError):
            before[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    threading.Event().wait(2 * _LASTS_S)
    for pid, limits in before.items():
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    return "no node could write to a file"


def _flip(house: House, target: str, rng: random.Random) -> str:
    """One bit of a word that is in use in the ring's control page."""
    row = topology.link(target)
    assert row.ring is not None
    fds = ring_fds(house.kiosk.pid, row.ring.name)
    try:
        word, bit = rng.choice(_FRAME_WORDS if target == "video" else _AUDIO_WORDS), rng.randrange(64)
        with mmap.mmap(fds.control, mmap.PAGESIZE) as page, memoryview(page).cast("Q") as words:
            words[word] ^= 1 << bit
    finally:
        for fd in {fds.data, fds.control}:
            os.close(fd)
    return f"word {word}, bit {bit}"


def _flood(house: House, _target: str, rng: random.Random) -> str:
    """Commands on the bus, half of them garbage, and messages of the page, while the visitor listens."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(1)
    path, count = link_path(house.run_dir, "marks"), 0
    prefix = next(i for i, row in enumerate(topology.LINKS, start=1) if row.name == "marks")
    sender = CommandSender(context, path, prefix, Mark, 10_000, 1024)
    with context.socket(zmq.DEALER) as garbage:
        garbage.linger = 0
        garbage.connect(path)
        for _ in range(20):
            for _ in range(500):
                with suppress(LinkError):
                    sender.send(Mark(0, 0, "flood"))
                with suppress(zmq.Again):
                    garbage.send(rng.randbytes(40), zmq.NOBLOCK)
                house.page.raw(rng.choice(('{"t":"beat"}', '{"t":"nothing"}', "[", '{"t":"input","kind":"presence","text":"here"}')))
                count += 3
            threading.Event().wait(0.1)
    sender.close()
    context.destroy(linger=0)
    return f"{count} messages in 2 s"


def _microphone(house: House, _target: str, _rng: random.Random) -> str:
    """It is pulled out while the visitor begins to speak, and plugged in again."""
    house.page.say(house.voice(SPOKEN)[:8000])
    house.page.microphone(live=False)
    threading.Event().wait(2.0)
    house.page.microphone(live=True)
    return "away for 2 s"


def _page(house: House, _target: str, rng: random.Random) -> str:
    times = rng.randrange(5, 10)
    for _ in range(times):
        house.page.reload()
        threading.Event().wait(rng.uniform(0.05, 0.4))
    return f"{times} reloads"


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("kill", "SIGKILL of a node", _kill, OWN, falls=True),
        Fault("stop", "SIGSTOP of a node: alive, but stuck", _stop, OWN, falls=True),
        Fault("memory", "another program takes and writes a lot of memory", _memory),
        Fault("starve", "a node gets no more memory", _starve, OWN),
        Fault("slow_disk", "the disk is busy with others' writes", _slow_disk),
        Fault("full_disk", "no file takes another byte", _full_disk),
        Fault("flip", "one bit of a ring's control page flips", _flip, ("video", "speech", "mic"), microphone=True),
        Fault("flood", "floods of messages on the bus and from the page", _flood),
        Fault("microphone", "the microphone vanishes for two seconds", _microphone, microphone=True),
        Fault("page", "the page reloads again and again", _page),
    )
}


def names() -> tuple[str, ...]:
    """All faults of this module."""
    return tuple(FAULTS)


def _run_beside(house: House, code: str, *arguments: str, copies: int = 1) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=house.folder, stderr=subprocess.DEVNULL) for _ in range(copies)
    ]
    for process in running:
        process.wait()


def _available_mb() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 256
