"""How the renderer moves between rungs: by itself when frames are late, as the governor asks, and softly."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer import Renderer, Rung

__all__ = ["Fade", "Ladder", "Spare"]

log = logging.getLogger("renderer")

Picture = NDArray[np.uint8]


class Ladder:
    """Which rung this machine can draw in time: down when frames are late, up again after a long calm. Pure; costs in seconds per frame."""

    WINDOW = 75
    CALM = 1500

    def __init__(self, rungs: tuple[Rung, ...], period_s: float, fixed: int | None = None) -> None:
        self._rungs, self._period_s, self._fixed = rungs, period_s, fixed
        self.rung = fixed or 0
        self._costs: list[float] = []
        self._late: deque[bool] = deque(maxlen=self.WINDOW)
        self._calm = 0

    @property
    def open(self) -> tuple[Rung, ...]:
        """The rungs that may be drawn at all: the one that was chosen, or every one."""
        return self._rungs if self._fixed is None else self._rungs[self._fixed : self._fixed + 1]

    def start(self, costs: list[float]) -> None:
        """Choose by what each rung costs on this machine: the best that leaves more than half of the time to the others."""
        self._costs = costs
        if self._fixed is None:
            affordable = [i for i, cost in enumerate(costs) if cost < 0.45 * self._period_s]
            self.rung = affordable[0] if affordable else len(costs) - 1

    def note(self, cost_s: float, *, late: bool, quiet: bool = True) -> None:
        """Take account of one frame of this rung; up it goes only while all is `quiet`, for that may wait."""
        if self._fixed is not None:
            return
        self._late.append(late)
        self._calm = self._calm + 1 if not late and cost_s < 0.3 * self._period_s else 0
        if sum(self._late) > self.WINDOW // 4 and self.rung < len(self._rungs) - 1:
            self._step(1)
        elif quiet and self._calm > self.CALM and self.rung > 0 and cost_s * self._growth() < 0.4 * self._period_s:
            self._step(-1)

    def _growth(self) -> float:
        """How much dearer the next better rung is: as measured at the start, else by its pixels."""
        if self._costs:
            return self._costs[self.rung - 1] / self._costs[self.rung]
        here, above = self._rungs[self.rung], self._rungs[self.rung - 1]
        return above.width * above.height / (here.width * here.height)

    def _step(self, by: int) -> None:
        self.rung += by
        self._late.clear()
        self._calm = 0


class Fade:
    """A short cross-fade from the last picture of one rung into the first ones of another; NV12, whatever their sizes."""

    FRAMES = 8

    def __init__(self) -> None:
        self._before: Picture | None = None
        self._left = 0

    def begin(self, last: Picture, width: int, height: int) -> None:
        """From `last` (h * 3 // 2, w) to pictures of this size, from the next `blend` on."""
        self._before = _resized(last, width, height)
        self._left = self.FRAMES

    def blend(self, out: Picture) -> None:
        """Mix what is left of the picture before into `out`, in place; nothing once the fade is over."""
        if self._before is None:
            return
        share = self._left / (self.FRAMES + 1)
        cv2.addWeighted(self._before, share, out, 1 - share, 0, dst=out)
        self._left -= 1
        if not self._left:
            self._before = None


def _resized(picture: Picture, width: int, height: int) -> Picture:
    """An NV12 picture at another size, as a copy."""
    rows, columns = picture.shape
    h = rows * 2 // 3
    out = np.empty((height * 3 // 2, width), np.uint8)
    out[:height] = cv2.resize(picture[:h], (width, height), interpolation=cv2.INTER_LINEAR)
    chroma = picture[h:].reshape(h // 2, columns // 2, 2)
    out[height:] = cv2.resize(chroma, (width // 2, height // 2), interpolation=cv2.INTER_LINEAR).reshape(height // 2, width)
    return out


class Spare:
    """A renderer that is opened in a thread when it is first wanted, so that no frame waits for it."""

    def __init__(self, open_it: Callable[[], Renderer]) -> None:
        self._open_it = open_it
        self._thread: threading.Thread | None = None
        self._ready: Renderer | None = None

    def get(self) -> Renderer | None:
        """The renderer; None while it is being opened, and for good if that failed (which is logged)."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._open, name="spare", daemon=True)
            self._thread.start()
        return self._ready

    def _open(self) -> None:
        try:
            self._ready = self._open_it()
        except Exception as error:  # noqa: BLE001 - a thread's top level; without it the drawn face goes on
            log.warning("the idle loop cannot be shown, the smallest rung serves: %s", error)
