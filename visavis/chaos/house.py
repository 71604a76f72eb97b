"""The real kiosk as in the shop (`visavis run`, default engines), a page and a visitor in the middle of a conversation."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime import messages as m
from runtime.topology import NODES
from visavis._processes import name_of, tree
from visavis.chaos.page import Page
from visavis.chaos.seen import Entry, Seen, Watch
from visavis.rehearse import voices
from visavis.rehearse.errors import KioskFailed
from visavis.rehearse.kiosk import Kiosk
from visavis.rehearse.room import RATE

__all__ = ["LIMIT_S", "LONG", "MOMENT_S", "OWN", "SHORT", "SPOKEN", "House", "what_is_left", "zombies"]

LIMIT_S = 30.0
"""What has not come by then counts as a hang, and what is there a third of it after the end as left."""
LONG = ("What departments are there?", "Do you have a loyalty card?")
"""Their answers are long enough to break something in the middle of them."""
MOMENT_S = (0.3, 2.0)
"""The fault comes when so much of the answer was heard."""
SHORT = "How can I pay?"
SPOKEN = "what are your opening hours"
_START_S = 90.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing is made there, which is what is checked
_REST = (m.Posture.IDLE, m.Posture.ATTENTIVE)
OWN = tuple(row.name for row in NODES if not row.external)


class House:
    """A context manager: the kiosk runs, its face is on the page, its nodes are ready. `folder` gets its log and turn records.

    `limit_s`: what has not come by then does not come.
    """

    def __init__(
        self, folder: Path, changes: dict[str, Any] | None = None, *, env: dict[str, str] | None = None, limit_s: float = LIMIT_S
    ) -> None:
        self.limit_s = limit_s
        self.folder, self.probe = folder, folder / "probe"  # there goes what the real page tells of its pictures
        self.seen = Seen()
        self._changes, self._env = changes or {}, env or {}
        self._stack = ExitStack()
        self._spoken: dict[str, npt.NDArray[np.int16]] = {}

    def __enter__(self) -> House:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        with ExitStack() as stack:
            state = stack.enter_context(TemporaryDirectory(prefix="vvs-"))
            env = {**os.environ, "VISAVIS_STATE": state, **self._env}
            self.kiosk = stack.enter_context(Kiosk(self.folder, env, config=None, changes=self._changes, probe=self.probe))
            self.run_dir = self.kiosk.run_dir()
            self._until(lambda: "Visavis is ready" in self.kiosk.log.read_text(encoding="utf-8", errors="replace"), "is not ready")
            watch = Watch(self.run_dir, self.seen)
            stack.callback(watch.end)
            self.page = Page(self.kiosk.url, self.seen)
            self.page.start()
            stack.callback(self.page.end)
            self._until(lambda: bool(self.seen.last("page frame") and self.seen.last("bus floor")), "shows no face")
            self._until(lambda: set(self.nodes()) == set(OWN), "has not all of its nodes")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _until(self, done: Callable[[], bool], trouble: str) -> None:
        deadline = time.monotonic() + _START_S
        while not done():
            self.kiosk.check()
            if time.monotonic() > deadline:
                raise KioskFailed(f"the kiosk {trouble} after {_START_S:.0f} s (see {self.kiosk.log})")
            threading.Event().wait(0.05)

    # --- the processes

    def nodes(self) -> dict[str, int]:
        """The pids of its nodes that live now, by name."""
        return {name: pid for name, pid in self._named() if not _is_zombie(pid)}

    def pid(self, name: str) -> int:
        """The pid of node `name`. Raises KioskFailed if it is down at this moment."""
        try:
            return self.nodes()[name]
        except KeyError:
            raise KioskFailed(f"{name} was down already") from None

    def twins(self) -> list[str]:
        """Nodes of which more than one process lives."""
        return [name for name, count in Counter(name for name, pid in self._named() if not _is_zombie(pid)).items() if count > 1]

    def _named(self) -> list[tuple[str, int]]:
        return [(name[3:], pid) for pid in tree(self.kiosk.pid) if (name := name_of(pid)).startswith("vv-")]

    def wait_ready(self, name: str, since: int) -> Entry | None:
        """The moment when node `name`, which fell after the mark, is ready again."""
        return self.seen.wait(
            "bus nodes",
            lambda event: event.node == name and event.state is m.NodeState.READY and not event.again,
            since=since,
            limit_s=self.limit_s,
        )

    def missing(self) -> list[str]:
        """Nodes that were down or starting when they were last heard of."""
        states: dict[str, m.NodeState] = {}
        for entry in self.seen.all("bus nodes"):
            states[entry.what.node] = entry.what.state
        return [name for name, state in states.items() if state is not m.NodeState.READY]

    # --- the visitor

    def ask(self, text: str) -> Entry | None:
        """Type `text`; the moment when its answer begins to sound, None if it does not."""
        since, before = self.seen.mark(), self.turn
        self.page.input("typed", text)
        return self._answer(since, before)

    def say(self, text: str) -> Entry | None:
        """Say `text` into the microphone; the moment when its answer begins to sound. Raises MissingProgram without a synthesiser."""
        since, before = self.seen.mark(), self.turn
        self.page.say(self.voice(text))
        return self._answer(since, before)

    def voice(self, text: str) -> npt.NDArray[np.int16]:
        """`text` as the visitor says it, at MIC_RATE."""
        if text not in self._spoken:
            import soxr

            loud = voices.at_level(voices.say(text, "en-us+f3", Path()), -20.0)
            self._spoken[text] = (soxr.resample(loud, RATE, m.MIC_RATE) * 32767).astype(np.int16)
        return self._spoken[text]

    @property
    def turn(self) -> int:
        """The floor's turn."""
        entry = self.seen.last("bus floor")
        return int(entry.what.turn) if entry else 0

    def _answer(self, since: int, before: int) -> Entry | None:
        return self.seen.wait(
            "bus heard", lambda heard: heard.kind is m.HeardKind.STARTED and heard.turn > before, since=since, limit_s=self.limit_s
        )  # fmt: skip

    def rest(self, since: int) -> bool:
        """Wait until nobody speaks and nothing is to come, by a floor that was told after the mark; False if that does not happen."""
        deadline = time.monotonic() + self.limit_s
        while (left := deadline - time.monotonic()) > 0:
            floor = self.seen.wait("bus floor", lambda floor: floor.posture in _REST, since=since, limit_s=left)
            if floor is None:
                return False
            newest = self.seen.last("bus floor")
            if newest and newest.what.posture in _REST and not self.page.speaker.sounds(time.monotonic_ns()):
                return True
            since = self.seen.mark()
        return False

    def hush(self) -> None:
        """Touch Stop, and wait until it is quiet."""
        since = self.seen.mark()
        self.page.input("stop")
        self.rest(since)

    def answer_words(self, turn: int, since: int) -> list[str]:
        """The words of the answer of `turn`, as far as it was given; [] if it is not complete."""
        replies = [entry.what for entry in self.seen.all("bus reply", since) if entry.what.turn == turn]
        return [word for reply in replies for word in reply.text.split()] if replies and replies[-1].last else []


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def zombies(pids: Sequence[int]) -> list[int]:
    """Those of `pids` that have ended and were not waited for."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and _is_zombie(pid)]


def what_is_left(pids: Sequence[int], run_dir: Path, limit_s: float = LIMIT_S / 3) -> list[str]:
    """What a kiosk whose supervisor (the first of `pids`) has ended leaves behind: waits until that is nothing."""
    deadline = time.monotonic() + limit_s
    while True:
        alive = [pid for pid in pids[1:] if not _is_zombie(pid)]
        left = [f"process {pid} outlived the supervisor" for pid in alive]
        left += [f"{run_dir} is still there"] if run_dir.exists() else []
        left += [str(path) for path in _SHARED_MEMORY.glob("*visavis*")]
        if not left or time.monotonic() > deadline:
            return left
        threading.Event().wait(0.1)
