"""The ledger: what boxes kept, sent and were told is safe, in a file of their own. Loss is counted from it, never from the store.

A text file, a line each, fields with a blank between; times are wall time in ms of the machine that simulates:

    k BOX BOOT SEQ KIND VALUES   kept: from here on it must not be lost (VALUES: metrics in a health report)
    s BOX BOOT SEQ MS            published for the first time
    a BOX BOOT SEQ[,SEQ…]        acknowledged by the controller
    d BOX ID                     a command was carried out
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Kept", "Key", "Ledger", "Record", "read"]

Key = tuple[str, str, int]
"""Box, boot, seq."""


class Ledger:
    """Writes the file anew. `flush` now and then: what a killed process did not write is not proven."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="ascii", buffering=1 << 20)

    def kept(self, box: str, boot: str, seq: int, kind: str, values: int) -> None:
        """The box keeps this message until it is acknowledged."""
        self._file.write(f"k {box} {boot} {seq} {kind} {values}\n")

    def sent(self, box: str, boot: str, seq: int, ms: int) -> None:
        """It was published for the first time."""
        self._file.write(f"s {box} {boot} {seq} {ms}\n")

    def acked(self, box: str, boot: str, seqs: Iterable[int]) -> None:
        """The controller said that it has them."""
        self._file.write(f"a {box} {boot} {','.join(map(str, seqs))}\n")

    def done(self, box: str, id: str) -> None:  # noqa: A002
        """The box carried out a command."""
        self._file.write(f"d {box} {id}\n")

    def flush(self) -> None:
        """Hand what is there to the kernel."""
        self._file.flush()

    def close(self) -> None:
        """The end."""
        self._file.close()


@dataclass(slots=True)
class Kept:
    """One message: its kind, how many metrics are in it, when it was first published (0: never), and whether it was acknowledged."""

    kind: str
    values: int
    sent_ms: int = 0
    acked: bool = False


@dataclass(slots=True)
class Record:
    """A ledger as it was read: messages, and how often each command was carried out by (box, id)."""

    messages: dict[Key, Kept] = field(default_factory=dict)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)


def read(path: Path) -> Record:
    """A ledger; a last line that was cut off by a kill does not count. Raises ValueError for a file that is none."""
    record = Record()
    with path.open(encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            try:
                _take(record, line.split())
            except (ValueError, KeyError, IndexError) as error:
                raise ValueError(f"{path}:{number}: is no line of a ledger") from error
    return record


def _take(record: Record, words: list[str]) -> None:
    what, box = words[0], words[1]
    if what == "k":
        record.messages[box, words[2], int(words[3])] = Kept(words[4], int(words[5]))
    elif what == "s":
        record.messages[box, words[2], int(words[3])].sent_ms = int(words[4])
    elif what == "a":
        for seq in words[3].split(","):
            record.messages[box, words[2], int(seq)].acked = True
    elif what == "d":
        record.done[box, words[2]] += 1
    else:
        raise ValueError(what)
