"""The visitor's voice and what recordings become before they are played.

Texts are spoken by flite (voices kal, kal16, awb, rms, slt) or by espeak-ng (`en-us+f3` and the like), never by the avatar's voice.
What was spoken once is kept as Ogg Opus in a folder `voices` beside the scenario, so that a rehearsal sounds the same without flite.
`mm-hm`, `uh-huh`, `cough`, `knock` and `laughter` are made here, from numbers.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visavis.rehearse.errors import MissingProgram, ScenarioError
from visavis.rehearse.room import RATE

__all__ = ["FLITE", "MADE", "Samples", "at_level", "made", "read", "say", "voice_path"]

Samples = npt.NDArray[np.float32]
FLITE = ("kal", "kal16", "awb", "rms", "slt")
MADE = ("mm-hm", "uh-huh", "cough", "knock", "laughter")
_STORED_RATE = 24_000
_PEAK = 0.97


def voice_path(folder: Path, voice: str, text: str) -> Path:
    """Where the spoken `text` is kept below the scenario's `folder`."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
    digest = hashlib.blake2b(f"{voice}\n{text}".encode(), digest_size=3).hexdigest()
    return folder / "voices" / f"{voice.replace('+', '-')}_{slug}_{digest}.ogg"


def say(text: str, voice: str, folder: Path) -> Samples:
    """`text` spoken, mono at RATE: from the folder's store, else made now. Raises MissingProgram, ScenarioError."""
    kept = voice_path(folder, voice, text)
    if kept.is_file():
        return read(kept)
    return _resample(*speak(text, voice))


def speak(text: str, voice: str) -> tuple[Samples, int]:
    """`text` spoken now by `voice`: samples and their rate. Raises MissingProgram, ScenarioError (unknown voice)."""
    with tempfile.TemporaryDirectory(prefix="visavis-voice-") as folder:
        wav = Path(folder) / "spoken.wav"
        if voice in FLITE:
            program = shutil.which("flite")
            if not program:
                raise MissingProgram(f"flite is not installed, so the voice {voice!r} cannot say {text!r}: apt install flite")
            command = [program, "-voice", voice, "-t", text, "-o", str(wav)]
        else:
            command = [sys.executable, "-m", "visavis.rehearse._espeak", voice, text, str(wav)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not wav.is_file():
            raise ScenarioError(f"voice {voice!r} did not speak: {(done.stderr.strip() or 'no sound').splitlines()[-1]}")
        import soundfile

        samples, rate = soundfile.read(wav, dtype="float32")
        return samples, int(rate)


def read(path: Path, from_s: float = 0.0, length_s: float = 0.0) -> Samples:
    """A recording, or a cut of it with 5 ms fades, mono at RATE. Raises ScenarioError."""
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise ScenarioError(f"{path}: cannot be read as sound: {error}") from error
    mono = samples.mean(axis=1)
    begin = round(from_s * rate)
    cut = mono[begin : begin + round(length_s * rate)] if length_s else mono[begin:]
    if not len(cut):
        raise ScenarioError(f"{path}: is shorter than {from_s} s")
    return _faded(_resample(cut, rate)) if from_s or length_s else _resample(cut, rate)


def at_level(samples: Samples, level_db: float) -> Samples:
    """Scaled so that its loudest second (or all of it, if shorter) has an RMS of `level_db` dBFS; never clipped."""
    window = min(len(samples), RATE)
    total = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    power = (total[window:] - total[:-window]) / window
    loudest = float(np.sqrt(max(float(power.max()), 1e-12)))
    gain = min(10 ** (level_db / 20) / loudest, _PEAK / max(float(np.abs(samples).max()), 1e-6))
    return np.asarray(samples * np.float32(gain), dtype=np.float32)


def _resample(samples: Samples, rate: int) -> Samples:
    if rate == RATE:
        return samples.astype(np.float32)
    import soxr

    return np.asarray(soxr.resample(samples, rate, RATE), dtype=np.float32)


def _faded(samples: Samples) -> Samples:
    edge = min(RATE // 200, len(samples) // 2)
    ramp = np.linspace(0, 1, edge, dtype=np.float32)
    samples = samples.copy()
    samples[:edge] *= ramp
    samples[len(samples) - edge :] *= ramp[::-1]
    return samples


def made(name: str, seed: int = 0) -> Samples:
    """One of MADE, a little different for every seed; mono at RATE. ValueError for another name."""
    rng = np.random.default_rng([seed, MADE.index(name)])
    if name == "cough":
        return _cough(rng)
    if name == "knock":
        return _knock(rng)
    if name == "laughter":
        return _laughter(rng)
    return _hum(rng, breath=name == "uh-huh")


def _times(seconds: float) -> npt.NDArray[np.float64]:
    return np.arange(round(seconds * RATE)) / RATE


def _band(noise: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.float64]:
    spectrum = np.fft.rfft(noise)
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    spectrum *= np.exp(-0.5 * (np.log(np.maximum(hertz, 1) / np.sqrt(low * high)) / (0.5 * np.log(high / low))) ** 2)
    return np.asarray(np.fft.irfft(spectrum, len(noise)), dtype=np.float64)


def _cough(rng: np.random.Generator) -> Samples:
    bursts = []
    for length in rng.uniform(0.14, 0.26, size=int(rng.integers(1, 3))):
        t = _times(length)
        bursts += [
            _band(rng.standard_normal(len(t)), 400, 2500) * (1 - np.exp(-t / 0.006)) * np.exp(-t / (length / 3.5)),
            np.zeros(RATE // 12),
        ]
    return np.concatenate(bursts).astype(np.float32)


def _knock(rng: np.random.Generator) -> Samples:
    t = _times(0.12)
    one = _band(rng.standard_normal(len(t)), 90, 600) * np.exp(-t / 0.015)
    gap = np.zeros(round(rng.uniform(0.1, 0.25) * RATE))
    return np.concatenate([one, gap, one * 0.8]).astype(np.float32)


def _hum(rng: np.random.Generator, *, breath: bool) -> Samples:
    """Two humps of a low nasal tone, rising, as in `mm-hm`; with a breath between them as in `uh-huh`."""
    f0 = rng.uniform(110, 210)
    t = _times(rng.uniform(0.42, 0.55))
    middle = t[-1] * rng.uniform(0.42, 0.5)
    pitch = f0 * np.where(t < middle, 1.0, rng.uniform(1.15, 1.3))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = (270, 650) if not breath else (620, 1200)
    tone = np.zeros(len(t))
    for harmonic in range(1, 16):
        hertz = f0 * harmonic
        weight = sum(np.exp(-0.5 * ((hertz - f) / 130) ** 2) for f in formants) + 0.15 / harmonic
        tone += weight * np.sin(harmonic * phase)
    envelope = np.exp(-0.5 * ((t - middle * 0.5) / 0.075) ** 2) + np.exp(-0.5 * ((t - (middle + t[-1]) * 0.5) / 0.085) ** 2)
    if breath:
        tone += _band(rng.standard_normal(len(t)), 800, 3000) * 6 * np.exp(-0.5 * ((t - middle) / 0.025) ** 2)
    return np.asarray(tone * envelope, dtype=np.float32)


def _laughter(rng: np.random.Generator) -> Samples:
    """Breathy vowels, five a second, each lower and softer than the one before."""
    f0, gain, notes = rng.uniform(180, 300), 1.0, []
    for _ in range(int(rng.integers(3, 6))):
        t = _times(rng.uniform(0.09, 0.13))
        phase = 2 * np.pi * np.cumsum(f0 * (1 - 0.8 * t)) / RATE
        tone = sum(np.exp(-0.5 * ((n * f0 - 800) / 400) ** 2) * np.sin(n * phase) for n in range(1, 12))
        breath = _band(rng.standard_normal(len(t)), 700, 3500)
        notes += [
            gain * (np.asarray(tone) + 4 * breath) * np.sin(np.pi * t / t[-1]),
            0.3 * gain * _band(rng.standard_normal(RATE // 12), 700, 3500),
        ]
        f0, gain = f0 * 0.93, gain * 0.85
    return np.concatenate(notes).astype(np.float32)
