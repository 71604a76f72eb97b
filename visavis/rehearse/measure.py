"""What room.wav says: pure functions over samples (mono float32 in -1..1 at `rate`); positions in samples, times in ms.

Everything is judged in frames of FRAME_MS. Speech lasts from the first to the last frame within SPEECH_DB of the clean clip's peak frame,
the recording's own noise left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = [
    "DUCK_DB", "FRAME_MS", "ONSET_MS", "OVER_FLOOR_DB", "SILENT_DB", "SILENT_MS", "SPEECH_DB", "Quantiles",
    "duck_at", "envelope_lag", "gain_track", "levels_db", "locate", "quantiles", "silent_at", "slope_per_hour",
    "sound_end", "sound_start", "speech_bounds",
]  # fmt: skip

FRAME_MS = 10
SPEECH_DB = 30.0
"""A frame that is so much below the peak frame no longer counts as sound of it."""
OVER_FLOOR_DB = 6.0
"""A frame that is less above the softest twentieth of the recording is its noise."""
ONSET_MS = 40
"""A shorter sound is a click or a breath."""
SILENT_DB = -60.0
SILENT_MS = 150
DUCK_DB = 12.0
_FLOOR_DB = -120.0
_SURELY_DB = 20.0  # a clip without any pause has no floor to go by: what is so near its peak is speech
_GAIN_WINDOW = 2  # frames: a 20 ms window slides by 10 ms
_AUDIBLE_DB = -45.0  # of the reference: below that a ratio says nothing

Samples = npt.NDArray[np.float32]
Levels = npt.NDArray[np.float64]


class Quantiles(msgspec.Struct, frozen=True):
    """p50, p95, p99 and extremes of `n` values; NaN-free: None where there were no values."""

    n: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    p999: float | None = None
    lowest: float | None = None
    highest: float | None = None


def quantiles(values: Sequence[float] | npt.NDArray[np.float64]) -> Quantiles:
    """The quantiles of `values` (linear between neighbours), rounded to 0.01."""
    if not len(values):
        return Quantiles(0)
    p50, p95, p99, p999, low, high = (round(float(v), 2) for v in np.quantile(np.asarray(values, float), [0.5, 0.95, 0.99, 0.999, 0, 1]))
    return Quantiles(len(values), p50, p95, p99, p999, low, high)


def levels_db(samples: Samples, rate: int) -> Levels:
    """RMS of each whole frame in dBFS, at least -120."""
    size = rate * FRAME_MS // 1000
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    power = np.mean(frames * frames, axis=1)
    return np.asarray(10.0 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10))), dtype=np.float64)


def speech_bounds(clip: Samples, rate: int) -> tuple[int, int]:
    """First and one past the last sample of the frames within SPEECH_DB of the clip's peak frame. ValueError if it is silent.

    A frame less than OVER_FLOOR_DB above the recording's softest twentieth counts as its noise: a microphone that hums 28 dB under its
    speaker has not begun to speak. Nor has a click or a breath before the first word, shorter than ONSET_MS (as in the bench of turns).
    """
    level = levels_db(clip, rate)
    if not len(level) or level.max() <= SILENT_DB:
        raise ValueError("the clip holds no sound")
    noise = min(float(np.percentile(level, 5)) + OVER_FLOOR_DB, level.max() - _SURELY_DB)
    loud = level >= max(level.max() - SPEECH_DB, noise)
    lasting = np.flatnonzero(np.convolve(loud, np.ones(ONSET_MS // FRAME_MS), "valid") > ONSET_MS // FRAME_MS - 0.5)
    sounds = np.flatnonzero(loud)
    size = rate * FRAME_MS // 1000
    return int(lasting[0] if len(lasting) else sounds[0]) * size, int(sounds[-1] + 1) * size


def locate(clip: Samples, recording: Samples, start: int, stop: int) -> tuple[int, float]:
    """Where in recording[start:stop] the clip begins (sample index in the recording, may run past `stop`), and how alike it is
    (normalised correlation, 1 = the same up to a gain). ValueError if the stretch is empty.
    """
    start = max(0, start)
    stretch = recording[start : stop + len(clip)].astype(np.float64)
    shape = clip.astype(np.float64)
    if len(stretch) < 2:
        raise ValueError("nothing to search in")
    n = 1 << (len(stretch) + len(shape)).bit_length()
    product = np.fft.irfft(np.fft.rfft(stretch, n) * np.conj(np.fft.rfft(shape, n)), n)[: max(1, min(len(stretch), stop - start))]
    energy = np.concatenate([[0.0], np.cumsum(stretch * stretch)])
    ends = np.minimum(np.arange(len(product)) + len(shape), len(stretch))
    own = float(np.sum(shape * shape))
    # A stretch much quieter than any real playing of the clip would divide noise by nothing.
    norms = np.sqrt(np.maximum(energy[ends] - energy[np.arange(len(product))], own * 1e-6) * own)
    likeness = product / np.maximum(norms, 1e-12)
    best = int(np.argmax(likeness))
    return start + best, float(likeness[best])


def sound_start(level: Levels, after: int, until: int) -> int | None:
    """First frame in [after, until) within SPEECH_DB of the loudest there, None where all is silent."""
    stretch = level[max(0, after) : until]
    if not len(stretch) or stretch.max() <= SILENT_DB:
        return None
    return max(0, after) + int(np.argmax(stretch >= max(stretch.max() - SPEECH_DB, SILENT_DB)))


def sound_end(level: Levels, after: int, until: int) -> int | None:
    """One past the last frame in [after, until) within SPEECH_DB of the loudest there, None where all is silent."""
    stretch = level[max(0, after) : until]
    if not len(stretch) or stretch.max() <= SILENT_DB:
        return None
    return max(0, after) + int(np.flatnonzero(stretch >= max(stretch.max() - SPEECH_DB, SILENT_DB))[-1]) + 1


def silent_at(level: Levels, after: int, until: int | None = None) -> int | None:
    """First frame from `after` on with which SILENT_MS or more of silence (below SILENT_DB) begin, None if it never gets so."""
    need = SILENT_MS // FRAME_MS
    run = 0
    for index in range(max(0, after), len(level) if until is None else min(until, len(level))):
        run = run + 1 if level[index] < SILENT_DB else 0
        if run == need:
            return index - need + 1
    return None


def gain_track(played: Samples, heard: Samples, rate: int) -> Levels:
    """Level of `heard` over `played` (aligned, same length) in dB for each frame, over 20 ms; NaN where the voice itself is quiet."""
    size = min(len(played), len(heard))
    reference, result = levels_db(played[:size], rate), levels_db(heard[:size], rate)
    power_r, power_h = 10 ** (reference / 10), 10 ** (result / 10)
    kernel = np.ones(_GAIN_WINDOW) / _GAIN_WINDOW
    smooth_r, smooth_h = (np.convolve(p, kernel, mode="full")[: len(p)] for p in (power_r, power_h))
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = 10 * np.log10(smooth_h / smooth_r)
    gain[10 * np.log10(np.maximum(smooth_r, 1e-12)) < _AUDIBLE_DB] = np.nan
    return np.asarray(gain, dtype=np.float64)


_PAUSE_FRAMES = 4
"""Of the voice's own quiet, over which the moment of a duck cannot be told."""


def duck_at(gain: Levels, onset: int, before: int = 50) -> int | None:
    """First frame from `onset` on where the gain is DUCK_DB below its median over the `before` frames ahead of the onset and still is at
    the next frame that can be judged; None if never, if nothing can be compared, or if the voice made a pause of its own until then, in
    which nobody can tell when it was turned down.
    """
    usual = gain[max(0, onset - before) : onset]
    usual = usual[np.isfinite(usual)]
    if not len(usual):
        return None
    limit = float(np.median(usual)) - DUCK_DB
    onset = max(0, onset)
    judged = [i for i in range(onset, len(gain)) if np.isfinite(gain[i])]
    for before_it, here, following in zip([onset, *judged], judged, [*judged[1:], None]):  # noqa: B905 - `judged` is the shortest
        if gain[here] <= limit and (following is None or gain[following] <= limit):
            return here if here - before_it <= _PAUSE_FRAMES else None
    return None


def envelope_lag(times_ms: Levels, opening: Levels, envelope: Levels, step_ms: float, reach_ms: float = 200.0) -> tuple[float, float]:
    """By how many ms the mouth (opening at `times_ms`) is later than the sound (`envelope`, one value each `step_ms` from time 0), and the
    correlation at that lag. ValueError where either does not move.
    """
    if len(times_ms) < 10 or np.std(opening) < 1e-9 or np.std(envelope) < 1e-9:
        raise ValueError("nothing moves: no lag can be found")
    grid = np.arange(len(envelope)) * step_ms
    best = (0.0, -2.0)
    for lag in np.arange(-reach_ms, reach_ms + 1, 5.0):
        shifted = np.interp(times_ms - lag, grid, envelope)
        if np.std(shifted) < 1e-9:
            continue
        likeness = float(np.corrcoef(shifted, opening)[0, 1])
        if likeness > best[1]:
            best = (float(lag), likeness)
    return best


def slope_per_hour(times_s: Sequence[float], values: Sequence[float]) -> float:
    """Least-squares slope of `values` over time, per hour; 0 for fewer than two points."""
    if len(times_s) < 2:
        return 0.0
    return float(np.polyfit(np.asarray(times_s), np.asarray(values), 1)[0] * 3600)
