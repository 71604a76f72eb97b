"""Another experience pack while the page is open: it is read in a thread, so that picture and sound go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from runtime.context import Context
from runtime.messages import PackServes
from runtime.packs import Pack, PackError
from runtime.packs import load as load_pack

__all__ = ["PackFollower"]


class PackFollower:
    """Keeps `ctx.pack` the one that serves; `changed(pack)` is called when it is another one. Use in a running loop."""

    def __init__(self, ctx: Context, changed: Callable[[Pack], None]) -> None:
        self._ctx, self._changed = ctx, changed
        self._task: asyncio.Task[None] | None = None
        self._said = ""

    def take(self, told: PackServes) -> None:
        """The supervisor says what serves, once a second: what could not be read is tried again."""
        if told.pack and Path(told.pack) != self._ctx.pack.path and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._change(Path(told.pack)))

    async def _change(self, path: Path) -> None:
        try:
            pack = await asyncio.to_thread(load_pack, path)
        except PackError as error:
            if self._said != str(error):  # it is tried every second
                self._said = str(error)
                self._ctx.log.warning("the pack that serves cannot be shown: %s", error)
            return
        self._said = ""
        self._ctx.pack = pack
        self._changed(pack)
