"""The lever of the experience pack. It moves slowly: a pack is checked, the supervisor waits for the visitor to go, the nodes start anew.

A wish ends in one of three ways: the pack serves and the choice is kept; it is broken or does not run, and the box has its old one; or
somebody was there all the time. A command gets that as its answer. A setting is reported when it has ended; where only the visitor is in
the way it goes on, and is reported as late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path

from runtime.bus import LinkError
from runtime.changeover import WAITED
from runtime.config import Config
from runtime.messages import PackPhase, PackServes, PackWanted
from runtime.packchoice import MOST_PACKS, Choice, first_line, installed, keep_choice, kept_choice
from runtime.packs import Pack, PackError
from runtime.packs import load as load_pack
from runtime.telemetry.contract import Outcome
from runtime.telemetry.executors import Done
from runtime.telemetry.levers import Lever

__all__ = ["WAIT_S", "PackChange"]

WAIT_S = 600
"""So long a change waits for the visitor to go; then a command has failed, and a setting is told to be late."""
_TELL_AFTER_NS = 5_000_000_000
_LONGEST = 180


class _Wish:
    """A pack that is wanted, until it serves or does not."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.pack: Pack | None = None  # once it was checked
        self.ask = 0  # of the supervisor; 0: not asked yet
        self.since_ns = 0
        self.told = self.late = self.awaited = self.over = False
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # why it does not serve, "" if it does


class PackChange:
    """Use in the uplink's loop. `send` asks the supervisor and raises LinkError; `serves` is called with the pack when another one does,
    `ended` when a wish has, after `missed(name)` where it came to nothing; `event(code, cause)` keeps an event; `by_setting()`: whether a
    setting names the pack now.
    """

    def __init__(
        self,
        config: Config,
        serving: Path,
        *,
        send: Callable[[PackWanted], None],
        now_ns: Callable[[], int],
        serves: Callable[[Pack], None],
        ended: Callable[[], None],
        missed: Callable[[str], None],
        event: Callable[[str, str], None],
        by_setting: Callable[[], bool],
    ) -> None:
        self._config, self._path = config, serving
        self._send, self._now_ns = send, now_ns
        self._serves, self._ended, self._missed, self._event, self._by_setting = serves, ended, missed, event, by_setting
        self._wish: _Wish | None = None
        self._failed: dict[str, tuple[str, int]] = {}  # why a pack does not serve, and how it was then
        self._tasks: set[asyncio.Task[None]] = set()
        self._unkept = ""

    @property
    def name(self) -> str:
        """The pack that serves."""
        return self._path.name

    @property
    def names(self) -> tuple[str, ...]:
        """The packs that can be chosen."""
        return tuple(sorted({self._config.pack_path.name, *installed(self._config)}))[:MOST_PACKS]

    @property
    def moving(self) -> bool:
        """Whether what is wanted has neither come nor failed, and is not late either."""
        return self._wish is not None and not self._wish.late

    def lever(self) -> Lever:
        """Its place among the others."""
        return Lever(self._config.pack_path.name, self._want, self._why_not, now=lambda: self.name)

    def commanded(self) -> str:
        """The pack that a command chose before this start; "" if none did."""
        choice = kept_choice(self._config)
        return choice.pack if choice is not None and choice.by == "command" else ""

    def begin(self) -> None:
        """After a start: tell if what was chosen is not there any more. (One that is broken is tried again, which tells it.)"""
        choice = kept_choice(self._config)
        if choice is not None and self._find(choice.pack) is None:
            self._event("pack_refused", "lost")

    async def switch(self, name: str, lever: Callable[[str], str]) -> Done:
        """Carry out a command: `lever(name)` moves the lever and says why not, then it takes as long as it takes."""
        self._failed.pop(name, None)  # whoever asks for it by name wants it tried
        why = lever(name)
        if why:
            return Done(Outcome.REFUSED, why)
        wish = self._wish
        if wish is not None:
            wish.awaited = True
            try:
                why = await asyncio.shield(wish.end)
            except asyncio.CancelledError:
                self._withdraw("it took too long")
                raise
            if why:
                return Done(Outcome.FAILED if wish.pack else Outcome.REFUSED, why)
        return Done(Outcome.DONE, self._unkept, {"pack": name})

    def take(self, told: PackServes) -> None:
        """The supervisor says what serves."""
        path, wish = Path(told.pack) if told.pack else self._config.pack_path, self._wish
        if path != self._path:
            self._path = path
            self._event("pack_changed", "")
            if wish is not None and wish.path == path and wish.pack is not None:
                self._serves(wish.pack)
            else:
                self._run(self._adopt(path))
        if wish is None or wish.over or not wish.ask or told.ask != wish.ask:
            return
        if told.phase is PackPhase.WAITS and not wish.told and self._now_ns() - wish.since_ns > _TELL_AFTER_NS:
            wish.told = True
            self._event("pack_waits", "")
        if told.phase is not PackPhase.SERVES:
            return
        if path == wish.path:
            self._arrived(wish)
        elif told.reason != WAITED:
            wish.over = True
            self._run(self._explain(wish, told.reason))
        elif wish.awaited:
            self._fell(wish, "waited", f"{WAITED}, for {WAIT_S // 60} minutes: it stays as it is")
        else:
            wish.ask, wish.late = 0, True
            self._ended()

    def tick(self) -> None:
        """Ask the supervisor, or again."""
        wish = self._wish
        if wish is None or wish.ask or wish.pack is None:
            return
        now = self._now_ns()
        with suppress(LinkError):  # with the next tick
            self._send(PackWanted(0, now, str(wish.path), now, now + WAIT_S * 1_000_000_000))
            wish.ask, wish.since_ns = now, now

    # --- the lever

    def _want(self, name: str) -> None:
        wish = self._wish
        if wish is not None and wish.name == name:
            return
        if name == self.name and wish is None:
            self._keep()
            return
        self._withdraw("another one was wanted meanwhile")
        path = self._find(name)
        if name != self.name and path is not None and not self._why_not(name):
            self._wish = wish = _Wish(name, path)
            self._run(self._check(wish))

    def _why_not(self, name: str) -> str:
        path = self._find(name)
        if path is None:
            return f"it is not installed; this box has {', '.join(self.names)}"[:_LONGEST]
        if self._wish is not None and self._wish.name == name and self._wish.late:
            return f"{WAITED}, for {WAIT_S // 60} minutes: it changes when they have gone"
        why, as_it_was = self._failed.get(name, ("", 0))
        return why if why and as_it_was == _stamp(path) else ""

    def _find(self, name: str) -> Path | None:
        return self._config.pack_path if name == self._config.pack_path.name else installed(self._config).get(name)

    def _withdraw(self, why: str) -> None:
        """Take the wish back that is under way, if there is one."""
        wish, self._wish = self._wish, None
        if wish is None:
            return
        self._missed(wish.name)
        if wish.ask:
            now = self._now_ns()
            with suppress(LinkError):  # the supervisor's own limit ends it
                self._send(PackWanted(0, now, str(self._path), now, now))
        if not wish.end.done():
            wish.end.set_result(why)

    # --- how a wish goes on

    async def _check(self, wish: _Wish) -> None:
        pack, why = await asyncio.to_thread(_load, wish.path)
        if self._wish is not wish:
            return
        wish.pack = pack
        if pack is None:
            self._fell(wish, "broken", why)
        else:
            self.tick()

    async def _explain(self, wish: _Wish, reason: str) -> None:
        """It was whole when it was checked: what is wrong with it now says more than how a node ended."""
        _, why = await asyncio.to_thread(_load, wish.path)
        if self._wish is wish:
            self._fell(wish, "start", f"{reason}; {why}" if why else reason)

    async def _adopt(self, path: Path) -> None:
        pack, _ = await asyncio.to_thread(_load, path)
        if pack is not None and path == self._path:
            self._serves(pack)

    def _arrived(self, wish: _Wish) -> None:
        self._wish = None
        self._failed.pop(wish.name, None)
        self._keep()
        if not wish.end.done():
            wish.end.set_result("")
        self._ended()

    def _fell(self, wish: _Wish, cause: str, why: str) -> None:
        self._wish = None
        if cause != "waited":
            self._failed[wish.name] = (why[:_LONGEST], _stamp(wish.path))
        self._missed(wish.name)
        self._event("pack_refused", cause)
        if not wish.end.done():
            wish.end.set_result(why[:_LONGEST])
        self._ended()

    def _keep(self) -> None:
        """What serves now shall serve after a restart, and for the same reason."""
        usual = self.name == self._config.pack_path.name
        choice = None if usual else Choice(self.name, "setting" if self._by_setting() else "command")
        if choice == kept_choice(self._config):
            self._unkept = ""
            return
        try:
            keep_choice(self._config, choice)
            self._unkept = ""
        except OSError as error:
            self._unkept = f"the disk did not keep the choice ({type(error).__name__})"

    def _run(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)


def _load(path: Path) -> tuple[Pack | None, str]:
    """The pack, or the first of its mistakes."""
    try:
        return load_pack(path), ""
    except PackError as error:
        return None, first_line(error)


def _stamp(path: Path) -> int:
    """Another number after somebody has changed a file of the pack."""
    newest = 0
    for file in path.rglob("*"):
        with suppress(OSError):
            newest = max(newest, file.stat().st_mtime_ns)
    return newest
