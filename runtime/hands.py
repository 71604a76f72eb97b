"""Fan and power mode, set in a thread of their own: nvpmodel and jtop take seconds, and no look at the box may wait for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress

from firmware.errors import LeverError
from firmware.power import Levers
from runtime.governor_box import cooler_modes

__all__ = ["Hands"]

CLOSE_S = 1.0
"""So long the end of a node waits until all is put back; what is not by then stands in the record, for `visavis firmware restore`."""
RESTORE_AGAIN_NS = 60_000_000_000
"""What could not be put back is tried again so often."""
LOOK_AGAIN_NS = 300_000_000_000
"""A lever that is not there, or did not work, is looked for so often: a service that was restarted, a device that was busy."""

Wish = tuple[float | None, str | None]
"""Share of the fan's full speed, and power mode; None: nothing particular."""


class Hands:
    """What this box lets us set. One thing at a time; of what is wanted meanwhile the newest counts. Use from one thread."""

    def __init__(self, levers: Levers) -> None:
        self._levers = levers
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="levers")
        self._done: Wish | None = None  # None: everything as it was before us
        self._modes: tuple[str, ...] = ()
        self._fan = False
        self._troubles: list[str] = []
        self._unrestored: list[str] = []  # why, as of the last try
        self._owes = False  # all was to be as before us, and is not
        self._opened = False
        self._job: Future[None] = self._thread.submit(self._open)
        self._set_ns = self._look_ns = 0  # when that was begun last

    # All but the two times is written by the thread while a job runs, and read by the owner when none does.

    @property
    def busy(self) -> bool:
        """Whether something is being done; what is ours is not known before the first job has ended."""
        return not self._job.done()

    @property
    def fan(self) -> bool:
        """Whether a fan is ours."""
        return self._fan

    @property
    def modes(self) -> tuple[str, ...]:
        """The power mode that was on, and cooler ones; () where they are not ours."""
        return self._modes if len(self._modes) > 1 else ()

    def want(self, wish: Wish | None, now_ns: int) -> None:
        """Set the levers so; None: put them back as they were. Does nothing while `busy`: ask again, and again, at `now_ns`
        (CLOCK_MONOTONIC), for what failed is tried again.
        """
        if self.busy:
            return
        if wish != self._done:
            self._set_ns = self._look_ns = now_ns
            self._job = self._thread.submit(self._set, wish)
        elif self._owes and now_ns - self._set_ns >= RESTORE_AGAIN_NS:
            self._set_ns = now_ns
            self._job = self._thread.submit(self._set, wish)
        elif not (self._fan and self._modes) and now_ns - self._look_ns >= LOOK_AGAIN_NS:
            self._look_ns = now_ns
            self._job = self._thread.submit(self._look)

    def troubles(self) -> list[str]:
        """What did not work since the last call, one line each; a lever that does not work is ours no longer, until it is found again.
        Only while not `busy`.
        """
        self._job.result()  # anything but a LeverError is a bug, and is seen here
        told, self._troubles = self._troubles, []
        return told

    def close(self) -> None:
        """Put everything back."""
        ended = self._thread.submit(self._close)
        with suppress(TooLate):
            ended.result(CLOSE_S)
        self._thread.shutdown(wait=False)

    def _open(self) -> None:
        self._levers.__enter__()
        self._opened = True
        self._owes = self._levers.owes
        self._find()

    def _look(self) -> None:
        self._levers.look()
        self._find()

    def _find(self) -> None:
        self._fan = bool(self._levers.fans)
        if self._levers.modes:
            with suppress(LeverError):
                self._modes = cooler_modes(self._levers.usual_power_mode(), self._levers.modes)

    def _close(self) -> None:
        if self._opened:
            self._levers.__exit__(None, None, None)

    def _set(self, wish: Wish | None) -> None:
        if wish is None:
            before, self._unrestored = self._unrestored, self._levers.restore()
            self._troubles += [line for line in self._unrestored if line not in before]
            self._owes = self._levers.owes
        else:
            self._owes = False
            fan, mode = wish
            if fan is not None and not self._try(lambda: self._levers.set_fan(fan)):
                self._fan = False
            if mode is not None and not self._try(lambda: self._levers.set_power_mode(mode)):
                self._modes = ()
        self._done = wish

    def _try(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except LeverError as error:
            self._troubles.append(str(error))
            return False
        return True
