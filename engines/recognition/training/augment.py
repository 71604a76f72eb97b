"""A recording as a shop would have heard it: other speeds, rooms, microphones, levels, and noise of several kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engines.recognition.training.corpora import NOISES, ROOMS

__all__ = ["Shop", "load"]

RATE = 16_000
Sound = NDArray[np.float32]


def load(path: Path) -> Sound:
    """Mono, 16 kHz, full scale 1.0. Raises soundfile's error."""
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Sound = sound.mean(axis=1)
    return mono if rate == RATE else np.asarray(soxr.resample(mono, rate, RATE), np.float32)


class Shop:
    """Noises and rooms under `data`, and the other visitors (`voices`: sounds of speech to make babble of)."""

    def __init__(self, data: Path, voices: Sequence[Sound]) -> None:
        rooms = sorted(data.glob(ROOMS))
        self._rooms = [_unit(load(path)) for path in rooms]
        files = sorted(path for folder in NOISES for path in (data / folder).glob("*") if path.suffix in {".flac", ".wav"})
        self._noises = [load(path) for path in files if path not in rooms]
        self._voices = list(voices)

    def hear(self, sound: Sound, rng: np.random.Generator) -> Sound:
        """`sound` at another speed, in a room, with noise at 0 to 25 dB, through a microphone, at another level, silence around it."""
        rng_speed = float(rng.uniform(0.88, 1.14))
        sound = np.asarray(soxr.resample(sound, RATE, RATE / rng_speed), np.float32)
        sound = np.pad(sound, (int(rng.uniform(0, 0.4) * RATE), int(rng.uniform(0.02, 0.6) * RATE)))
        if rng.random() < 0.45:
            room = self._rooms[rng.integers(len(self._rooms))] if self._rooms and rng.random() < 0.4 else _room(rng)
            sound = _convolve(sound, room)
        if rng.random() < 0.8:
            noise = self._noise(len(sound), rng)
            db = float(rng.uniform(0.0, 25.0))
            sound = sound + noise * np.float32(np.sqrt(_loud(sound) / (_loud(noise) + 1e-12) / 10 ** (db / 10)))
        if rng.random() < 0.4:
            sound = _microphone(sound, rng)
        level = np.float32(10 ** (rng.uniform(-32.0, -1.0) / 20))
        heard: Sound = (sound / (np.abs(sound).max() + 1e-9) * level).astype(np.float32)
        return heard

    def _noise(self, length: int, rng: np.random.Generator) -> Sound:
        kind = rng.random()
        if kind < 0.25 and self._voices:
            babble = np.zeros(length, np.float32)
            for _ in range(int(rng.integers(1, 7))):
                voice = self._voices[rng.integers(len(self._voices))]
                babble += _piece(voice / (np.sqrt(_loud(voice)) + 1e-9), length, rng) * np.float32(rng.uniform(0.3, 1.0))
            return _convolve(babble, _room(rng))
        if kind < 0.4:  # coloured noise
            spectrum = np.fft.rfft(rng.standard_normal(length))
            spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** rng.uniform(0.0, 1.0)
            return np.fft.irfft(spectrum, length).astype(np.float32)
        noise = _piece(self._noises[rng.integers(len(self._noises))], length, rng)
        if rng.random() < 0.3:
            noise = noise + _piece(self._noises[rng.integers(len(self._noises))], length, rng)
        return noise


def _unit(room: Sound) -> Sound:
    scaled: Sound = room / (np.abs(room).max() + 1e-9)
    return scaled


def _loud(sound: Sound) -> float:
    """Energy of the louder half of its 20 ms: pauses do not count."""
    frames = np.square(sound[: max(len(sound) // 320, 1) * 320].reshape(-1, 320) if len(sound) >= 320 else sound[None]).mean(axis=1)
    return float(np.sort(frames)[len(frames) // 2 :].mean())


def _piece(sound: Sound, length: int, rng: np.random.Generator) -> Sound:
    return np.resize(np.roll(sound, -int(rng.integers(len(sound)))), length)


def _convolve(sound: Sound, room: Sound) -> Sound:
    size = 1 << (len(sound) + len(room) - 1).bit_length()
    both = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(room, size), size)[: len(sound)]
    return both.astype(np.float32)


def _room(rng: np.random.Generator) -> Sound:
    """A made-up room: the direct sound, and a decaying tail that is 2 to 14 dB under it (0.15 to 0.7 s to fall by 60 dB)."""
    decay = float(rng.uniform(0.15, 0.7))
    length = int(decay * RATE)
    tail = rng.standard_normal(length) * 10 ** (-3.0 * np.arange(length) / length)
    tail[: int(0.003 * RATE)] = 0.0
    tail *= np.sqrt(10 ** (-rng.uniform(2.0, 14.0) / 10) / np.square(tail).sum())
    tail[0] = 1.0
    return tail.astype(np.float32)


def _microphone(sound: Sound, rng: np.random.Generator) -> Sound:
    """A tilt of up to 6 dB per octave-pair, a lower or an upper limit of what passes, now and then clipping."""
    spectrum = np.fft.rfft(sound)
    hertz = np.linspace(0.0, RATE / 2, len(spectrum))
    gain = (np.maximum(hertz, 60.0) / 1000.0) ** rng.uniform(-0.4, 0.4)
    if rng.random() < 0.5:
        gain /= 1.0 + (rng.uniform(40.0, 250.0) / np.maximum(hertz, 1.0)) ** 4
    if rng.random() < 0.4:
        gain /= 1.0 + (hertz / rng.uniform(3300.0, 7500.0)) ** 8
    heard = np.fft.irfft(spectrum * gain, len(sound)).astype(np.float32)
    if rng.random() < 0.15:
        top = np.float32(np.abs(heard).max() * rng.uniform(0.2, 0.7))
        heard = np.clip(heard, -top, top)
    return heard
