"""What the end-of-turn judges hear: Whisper's log-mel spectrogram, and the melody of the last half second of speech.

Both are plain numpy on int16 audio of 16 kHz. The spectrogram follows Whisper's published definition (25 ms periodic Hann window, 10 ms
hop, 80 Slaney mel bands, log10, 8 decades of range), because the turn model was trained on it; only frames that hold sound are
transformed, which makes a short utterance cheaper than a full window.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["RATE", "WINDOW", "Melody", "hertz", "log_mel", "melody"]

RATE = 16_000
WINDOW = 8 * RATE
"""Samples that the turn model hears at once."""

_FFT, _HOP, _BANDS = 400, 160, 80
_FLOOR = 1e-10


def _mel_matrix() -> NDArray[np.float32]:
    """Triangular Slaney filters of unit area, (201 bins, 80 bands)."""
    step = np.log(6.4) / 27.0  # above 1 kHz the scale is logarithmic, below it is linear: 15 mel are 1 kHz
    top = 15.0 + np.log(RATE / 2 / 1000.0) / step
    mels = np.linspace(0.0, top, _BANDS + 2)
    hertz = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp(step * (mels - 15.0)))
    bins = np.linspace(0.0, RATE / 2, _FFT // 2 + 1)
    width = np.diff(hertz)
    slope = hertz[None, :] - bins[:, None]
    triangle = np.maximum(0.0, np.minimum(-slope[:, :-2] / width[:-1], slope[:, 2:] / width[1:]))
    return (triangle * (2.0 / (hertz[2:] - hertz[:-2]))).astype(np.float32)


_MEL = _mel_matrix()
_HANN = np.hanning(_FFT + 1)[:-1].astype(np.float32)


def log_mel(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    """The last 8 s of `audio` as (80, 800) log-mel features; shorter audio gets silence in front, as the turn model was trained.

    The wave is brought to zero mean and unit variance over the whole window, silence in front included.
    """
    sound = audio[-WINDOW:].astype(np.float32) / 32768.0
    lead = WINDOW - len(sound)
    mean = np.float32(sound.sum(dtype=np.float64) / WINDOW)
    variance = np.float32(np.square(sound, dtype=np.float64).sum() / WINDOW) - mean * mean
    wave = np.empty(WINDOW + _FFT, np.float32)
    half = _FFT // 2
    wave[half : half + lead] = 0.0
    wave[half + lead : half + WINDOW] = sound
    wave[:half] = wave[half + 1 : 2 * half + 1][::-1]
    wave[half + WINDOW :] = wave[WINDOW - 1 : WINDOW + half - 1][::-1]
    wave -= mean
    wave /= np.sqrt(variance + np.float32(1e-7))
    # Frames [0, quiet) see only the constant in front: one transform serves them all.
    quiet = max(0, (lead - half) // _HOP)
    frames = sliding_window_view(wave, _FFT)[:WINDOW:_HOP]
    power = np.empty((WINDOW // _HOP, _BANDS), np.float32)
    first = max(0, quiet - 1)
    spectrum = np.fft.rfft(frames[first:] * _HANN)
    power[first:] = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ _MEL
    power[:first] = power[first]
    np.maximum(power, _FLOOR, out=power)
    np.log10(power, out=power)
    np.maximum(power, power.max() - 8.0, out=power)
    return np.ascontiguousarray(((power + 4.0) / 4.0).T)


class Melody(NamedTuple):
    """How the voice moved before it went quiet."""

    pitch_fall: float  # semitones by which the last voiced 150 ms lie below the speaker's median so far; 0 where nothing was voiced
    pitch_slope: float  # semitones per second over the last voiced 300 ms
    energy_fall: float  # dB by which the last 150 ms lie below the median speech level
    voiced_tail: float  # ms of voiced sound without a break at the end: a long last vowel


_PITCH_FRAME, _PITCH_HOP = 640, 160
_LOWEST_HZ, _HIGHEST_HZ = 70, 420
_LISTEN = 2 * RATE


def melody(audio: NDArray[np.int16]) -> Melody:
    """The melody of `audio`, which ends with the last sample of speech; the last 2 s are looked at."""
    sound = audio[-_LISTEN:].astype(np.float32)
    if len(sound) < 2 * _PITCH_FRAME:
        return Melody(0.0, 0.0, 0.0, 0.0)
    frames = sliding_window_view(sound, _PITCH_FRAME)[(len(sound) - _PITCH_FRAME) % _PITCH_HOP :: _PITCH_HOP]
    level = 10.0 * np.log10(np.square(frames).mean(axis=1) + 1.0)
    pitch = hertz(frames)
    loud = level > np.percentile(level, 90) - 25.0
    energy_fall = float(np.median(level[loud]) - level[-15:].mean())
    voiced = np.flatnonzero((pitch > 0) & loud)
    if len(voiced) < 8:
        return Melody(0.0, 0.0, energy_fall, 0.0)
    tones = 12.0 * np.log2(pitch[voiced])
    last = tones[-15:]
    recent = voiced >= voiced[-1] - 30
    slope = float(np.polyfit(voiced[recent] * 0.01, tones[recent], 1)[0]) if recent.sum() >= 5 else 0.0
    breaks = np.flatnonzero(np.diff(voiced) > 3)
    tail = len(voiced) - (breaks[-1] + 1 if len(breaks) else 0)
    return Melody(float(np.median(tones) - np.median(last)), float(np.clip(slope, -60, 60)), energy_fall, 10.0 * tail)


def hertz(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hertz of each 40 ms frame by normalised autocorrelation, 0 where it is not voiced."""
    centred = frames - frames.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * _PITCH_FRAME)
    correlation = np.fft.irfft(spectrum.real**2 + spectrum.imag**2)[:, : RATE // _LOWEST_HZ + 1]
    # A lag has fewer products to sum than lag 0: without this the shortest period always wins.
    correlation /= correlation[:, :1] + 1.0
    correlation *= _PITCH_FRAME / (_PITCH_FRAME - np.arange(correlation.shape[1]))
    low = RATE // _HIGHEST_HZ
    lag = low + correlation[:, low:].argmax(axis=1)
    strength = correlation[np.arange(len(lag)), lag]
    return np.where(strength > 0.5, RATE / lag, 0.0).astype(np.float32)
