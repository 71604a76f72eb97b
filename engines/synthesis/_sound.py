"""What every clip has in common, whatever made it: no silence before its first sound, no clicks, one level, a pause that fits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engines.synthesis._types import Clip, Pcm, TimedPhoneme, TimedWord

__all__ = ["active_rms", "finish", "gain_for"]

LEVEL = 0.1
"""RMS of the voiced parts of every voice, of full scale: -20 dBFS, the level of speech in broadcasts and telephony."""
CEILING = 0.94
_KNEE = 0.7
_FRAME_S = 0.005
_LEAD_S = 0.004
_FADE_S = 0.003
_QUIET = 0.006
"""Of the clip's peak (-44 dB): below it is silence, above it an /f/ or /θ/ of espeak-ng."""
_PAUSES = (("…", 0.34), (".", 0.28), ("!", 0.28), ("?", 0.30), (":", 0.2), (";", 0.2), (",", 0.14), ("-", 0.12), ("–", 0.12))


def active_rms(samples: NDArray[np.float32], rate: int) -> float:
    """RMS of the frames of 20 ms within 30 dB of the loudest; `samples` of full scale 1."""
    n = rate // 50
    frames = samples[: len(samples) // n * n].reshape(-1, n)
    power = np.square(frames).mean(1) if len(frames) else np.zeros(1)
    return float(np.sqrt(power[power >= power.max() * 1e-3].mean()))


def gain_for(samples: NDArray[np.float32], rate: int) -> float:
    """The gain that brings a voice to LEVEL, measured on a sentence: one per voice, as one per clip would make the loudness jump."""
    return LEVEL / max(active_rms(samples, rate), 1e-4)


def finish(
    text: str,
    samples: NDArray[np.float32],
    rate: int,
    gain: float,
    phonemes: Iterable[TimedPhoneme],
    words: Iterable[TimedWord],
) -> Clip:
    """A clip from what the engine gave, timed in samples of `samples`; trims both ends and moves the timing with them."""
    first, last = _sounding(samples, rate)
    tail = round(rate * next((s for mark, s in _PAUSES if text.rstrip("\"'”’) ").endswith(mark)), 0.05))
    heard = _limit(samples[first:last] * np.float32(gain))
    n = min(round(_FADE_S * rate), len(heard) // 2)
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / max(n, 1))).astype(np.float32)
    heard[:n] *= ramp
    heard[len(heard) - n :] *= ramp[::-1]
    pcm: Pcm = np.concatenate([(heard * 32767).astype(np.int16), np.zeros(tail, np.int16)])
    size = len(heard)
    timed = [TimedPhoneme(p.symbol, min(max(p.start - first, 0), size), min(max(p.end - first, 0), size)) for p in phonemes]
    kept = [p for p in timed if p.end > p.start]
    if tail:
        kept.append(TimedPhoneme("", size, size + tail))
    return Clip(text, pcm, tuple(kept), tuple(TimedWord(w.text, min(max(w.start - first, 0), size)) for w in words))


def _sounding(samples: NDArray[np.float32], rate: int) -> tuple[int, int]:
    """First and last sample of the sound, with a little room; an entirely silent clip is empty."""
    n = max(1, round(_FRAME_S * rate))
    peaks = np.abs(np.pad(samples, (0, -len(samples) % n)).reshape(-1, n)).max(1)
    loud = np.flatnonzero(peaks > _QUIET * peaks.max(initial=0.0))
    if not len(loud):
        return 0, 0
    room = round(_LEAD_S * rate)
    return max(0, int(loud[0]) * n - room), min(len(samples), (int(loud[-1]) + 1) * n + room)


def _limit(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Peaks above the knee bend towards the ceiling instead of clipping."""
    over = np.abs(samples) > _KNEE
    if over.any():
        room = CEILING - _KNEE
        samples[over] = np.sign(samples[over]) * (_KNEE + room * np.tanh((np.abs(samples[over]) - _KNEE) / room))
    return samples
