"""Whether the voice rises right now, as at the end of a question: cheap enough for every frame of 32 ms."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from engines.voice_activity.features import hertz

__all__ = ["Rising"]

_WINDOW = 640
_SPAN = 10  # frames: 320 ms
_ENOUGH = 6


class Rising:
    """Takes the sound of one voice frame by frame and tells how far its pitch rose lately."""

    def __init__(self) -> None:
        self._tones: deque[float] = deque(maxlen=_SPAN)  # semitones; NaN where nothing is voiced
        self._tail = np.zeros(0, np.int16)

    def forget(self) -> None:
        """The next frame is the first of another utterance."""
        self._tones.clear()
        self._tail = np.zeros(0, np.int16)

    def hear(self, frame: NDArray[np.int16]) -> float:
        """Semitones from the beginning to the end of the last 320 ms (medians of three frames: a steady glide reads as two thirds of its
        size), negative where the pitch fell; 0 while too little is voiced.
        """
        self._tail = np.concatenate((self._tail, frame))[-_WINDOW:]
        if len(self._tail) == _WINDOW:
            pitch = float(hertz(self._tail[None].astype(np.float32))[0])
            self._tones.append(self._tone(pitch) if pitch > 0 else np.nan)
        tones = np.array(self._tones)
        voiced = np.flatnonzero(np.isfinite(tones))
        # The newest frame must be voiced: what rose before a pause is over.
        if len(voiced) < _ENOUGH or voiced[-1] != len(tones) - 1:
            return 0.0
        return float(np.median(tones[voiced[-3:]]) - np.median(tones[voiced[:3]]))

    def _tone(self, pitch: float) -> float:
        """In semitones, in the octave of the tone before: a period is easily taken for two, no voice jumps that far between two frames."""
        tone = 12 * math.log2(pitch)
        before = next((one for one in reversed(self._tones) if math.isfinite(one)), tone)
        return tone + 12 * round((before - tone) / 12)
