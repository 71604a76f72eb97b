"""Is the microphone itself all right? What a technician should know before visitors complain that the kiosk is deaf."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["TROUBLES", "Microphone"]

TROUBLES = {
    "mic-dead": "the microphone delivers nothing but silence: is it muted, or is another input selected?",
    "mic-clipping": "the microphone is overdriven: turn its level down",
    "mic-offset": "the microphone's signal has a constant offset: check the sound card or the cable",
    "mic-quiet": "visitors are hardly audible: turn the microphone's level up or move it closer",
}
"""Code → one line for the technician."""

_WINDOW = 5 * 16_000


class Microphone:
    """Looks at five seconds at a time; `troubles` holds one line per fault that those showed, by its code."""

    def __init__(self) -> None:
        self.troubles: frozenset[str] = frozenset()
        self._clear()

    def _clear(self) -> None:
        self._samples = self._clipped = 0
        self._sum = 0.0
        self._silent = True
        self._speech_peak_db = -100.0
        self._speech_frames = 0

    def hear(self, frame: NDArray[np.int16], probability: float, level_db: float) -> bool:
        """Take a frame with its P(speech) and loudness in dBFS. True when `troubles` has changed."""
        self._samples += len(frame)
        self._sum += float(frame.sum(dtype=np.int64))
        low, high = int(frame.min()), int(frame.max())
        self._silent = self._silent and low == high
        if high >= 32_767 or low <= -32_768:
            self._clipped += int(np.count_nonzero((frame >= 32_767) | (frame <= -32_768)))
        if probability >= 0.5:
            self._speech_frames += 1
            self._speech_peak_db = max(self._speech_peak_db, level_db)
        return self._samples >= _WINDOW and self._conclude()

    def _conclude(self) -> bool:
        found = {code for code in ("mic-quiet",) if code in self.troubles}  # only speech can tell that it is cured
        if self._silent:
            found.add("mic-dead")
        if self._clipped > self._samples * 0.002:
            found.add("mic-clipping")
        if not self._silent and abs(self._sum / self._samples) > 0.03 * 32768:
            found.add("mic-offset")
        if self._speech_frames >= 15:
            found.discard("mic-quiet")
            if self._speech_peak_db < -48.0:
                found.add("mic-quiet")
        self._clear()
        changed = frozenset(found) != self.troubles
        self.troubles = frozenset(found)
        return changed
