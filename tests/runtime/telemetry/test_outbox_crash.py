"""The outbox and what real machines do: processes killed anywhere, power cut, disks full."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from runtime.telemetry.outbox import Outbox
from runtime.telemetry.times import SystemTimes, kernel_boot

ROOT = Path(__file__).resolve().parents[3]
WRITER = [sys.executable, "-m", "tests.runtime.telemetry.writer"]


def kept_in(path):
    """The numbers of the events in a file, and whether it was whole."""
    outbox = Outbox(path, SystemTimes(), kernel_boot())
    rows = outbox.events(0, 100_000)
    whole = outbox.counts().corrupt == 0 and outbox.trouble == ""
    outbox.close()
    assert len({(row.boot, row.seq) for row in rows}) == len(rows)
    return [msgspec.json.decode(row.body)["numbers"]["restarts"] for row in rows], whole


@pytest.mark.system
def test_killed_at_any_instruction(tmp_path):
    """The process is ended by the kernel twenty times at random: what it had said is kept is there, once, and the file is whole."""
    path, chance, told = tmp_path / "outbox.db", random.Random(20261121), []
    for attempt in range(20):
        done = subprocess.run(
            [*WRITER, str(path), str(1_000_000 * attempt), "0", f"{chance.uniform(0.001, 0.4):.4f}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert done.returncode == -signal.SIGALRM
        told += [int(number) for number in re.findall(r"kept (\d+)\n", done.stdout)]
        found, whole = kept_in(path)
        assert whole
        assert found == sorted(set(found))
        # The one that was being kept may be there too: it was kept, only not yet told.
        assert set(told) <= set(found)
        assert len(found) <= len(told) + attempt + 1


class Disk:
    """What a disk holds if the power goes: all that was synced, and of the rest whatever it likes."""

    CALL = re.compile(r'^(\w+)\((?:AT_FDCWD<[^>]*>, )?(?:(\d+)<([^>]*)>|"([^"]*)")(.*)\) += (-?\d+)')

    def __init__(self, chance):
        self.chance = chance
        self.synced: dict[str, bytearray] = {}
        self.loose: dict[str, list[tuple]] = {}
        self.named: set[str] = set()  # files whose directory entry was synced
        self.unlinked: set[str] = set()  # files whose end was not synced
        self.told: list[int] = []

    def run(self, line, place):  # noqa: C901
        """Take in one line of strace."""
        found = self.CALL.match(line)
        if not found or int(found[6]) < 0:
            return
        call, fd, rest = found[1], found[2], found[5]
        name = self._text(found[3] or found[4])
        if call == "write" and fd == "1":
            self.told.append(int(self._data(rest).split()[1]))
        elif call == "openat" and "O_CREAT" in rest and name.startswith(place):
            if name not in self.synced or name in self.unlinked:
                self.synced[name], self.loose[name] = bytearray(), []
                self.unlinked.discard(name)
        elif call in ("fsync", "fdatasync"):
            if name in self.synced:
                for change in self.loose[name]:
                    self._apply(self.synced[name], change)
                self.loose[name] = []
            elif name == place:
                for gone in self.unlinked:
                    del self.synced[gone]
                self.unlinked.clear()
                self.named = set(self.synced)
        elif call == "pwrite64" and name in self.synced:
            self.loose[name].append((int(rest.rsplit(", ", 1)[1]), self._data(rest)))
        elif call == "ftruncate" and name in self.synced:
            self.loose[name].append((int(rest.rsplit(", ", 1)[1]), None))
        elif call == "unlink":
            self.unlinked.add(name)
        elif call == "rename":
            raise AssertionError(line)

    def leave(self, folder):
        """Write what the power cut leaves into `folder`."""
        for name, content in self.synced.items():
            if (name not in self.named or name in self.unlinked) and self.chance.random() < 0.5:
                continue
            left = bytearray(content)
            for change in self.loose[name]:
                if self.chance.random() < 0.5:
                    self._apply(left, change)
            (folder / Path(name).name).write_bytes(left)

    @staticmethod
    def _text(name):
        return bytes.fromhex(name.replace("\\x", "")).decode() if name.startswith("\\x") else name

    @staticmethod
    def _data(rest):
        text = re.search(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?', rest)
        assert text, rest
        assert not text[2], "strace cut the data short"
        return bytes.fromhex(text[1].replace("\\x", ""))

    @staticmethod
    def _apply(content, change):
        offset, data = change
        if data is None:
            del content[offset:]
            content.extend(bytes(offset - len(content)))
            return
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data


@pytest.mark.system
def test_power_cut_after_any_write(tmp_path):
    """Writes and syncs of a real run are recorded; the power is cut after any of them, with any part of what was not synced on the disk.

    What had been told as kept is there, and the file is whole.
    """
    place, log = tmp_path / "disk", tmp_path / "calls"
    place.mkdir()
    trace = [
        "strace",
        "-y",
        "-xx",
        "-s",
        "20000",
        "-o",
        str(log),
        "-e",
        "trace=openat,pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename",
    ]
    done = subprocess.run([*trace, *WRITER, str(place / "outbox.db"), "0", "90"], cwd=ROOT, capture_output=True, text=True, check=False)
    if "PTRACE" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = [line for line in log.read_text().splitlines() if not line.startswith("openat") or "O_CREAT" in line]
    chance = random.Random(7)
    cuts = {*chance.sample(range(len(lines)), 120), len(lines)}
    disk, syncs = Disk(chance), 0
    for number, line in enumerate([*lines, ""]):
        if number in cuts:
            left = tmp_path / "left"
            left.mkdir()
            disk.leave(left)
            found, whole = kept_in(left / "outbox.db")
            assert set(disk.told) <= set(found), f"cut after {number} writes"
            assert whole, f"cut after {number} writes"
            shutil.rmtree(left)
        disk.run(line, str(place))
        syncs += line.startswith(("fsync", "fdatasync"))
    assert len(disk.told) == 90
    assert syncs >= 90


FULL = """
import resource, sys
from pathlib import Path
from runtime.telemetry import EventBody, Health, UpKind, encode
from runtime.telemetry.outbox import Outbox, RETRY_MS
from tests.runtime.telemetry.support import HandTimes

path, quota = Path(sys.argv[1]), sys.argv[2] == "quota"
times = HandTimes()
outbox = Outbox(path, times, "boot")
number, kept, in_memory, gone = 0, 0, 0, []

def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def fill():
    if quota:
        return allow(4096)
    with path.with_name("ballast").open("ab", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass

def put():
    global number
    number += 1
    outbox.put(UpKind.HEALTH, encode(Health(m={"turns": number})))
    return outbox.put(UpKind.EVENT, encode(EventBody(code="node_down", numbers={"restarts": number})))

if quota:
    allow(600_000)
while not outbox.trouble:
    kept += put()
for _ in range(20):
    fill()
    in_memory += not put()
    if outbox.trouble:
        row = outbox.events(0, 100)[-1]
        outbox.remove([row.key])
        gone.append(number)
    times.advance(RETRY_MS / 1000)
    outbox.flush()
assert in_memory >= 10, in_memory
allow(resource.RLIM_INFINITY) if quota else path.with_name("ballast").unlink()
times.advance(RETRY_MS / 1000)
outbox.flush()
assert not outbox.trouble, outbox.trouble
assert put()
assert outbox.counts().unstored == 0
outbox.close()
print("kept", kept, "last", number, "gone", *gone)
"""


def full(path, how):
    """Run a writer into a full disk and out of it again; checks that nothing is missing."""
    done = subprocess.run([sys.executable, "-c", FULL, str(path), how], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    words = done.stdout.split()
    kept, last, gone = int(words[1]), int(words[3]), {int(word) for word in words[5:]}
    assert kept > 20
    found, whole = kept_in(path)
    assert whole
    assert set(found) == set(range(1, last + 1)) - gone


@pytest.mark.system
def test_a_quota(tmp_path):
    """The kernel refuses to let the file grow: reports go on out of memory; when it may grow again, all are on the disk."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    full(tmp_path / "outbox.db", "quota")


@pytest.mark.system
def test_a_full_disk(tmp_path):
    """A real file system without a free block: reports go on out of memory; with room again, all are on the disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True, check=False).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    try:
        (disk / "ballast").write_bytes(bytes(800_000))
        full(disk / "outbox.db", "disk")
    finally:
        subprocess.run(["umount", disk], check=True)
