"""Spoken sentences for tests, made here so that they need no recordings."""

from __future__ import annotations

import numpy as np
import soxr

from engines.recognition import RATE, HeardWord, Hypothesis, Recogniser, SpeechDomain
from engines.synthesis import EspeakSynthesiser

DOMAIN = SpeechDomain(
    sentences=(
        *("can i have a large latte please", "can i have a small mocha please", "a large mocha with oat milk"),
        *("where are the toilets", "what time do you close", "yes please", "no thank you", "make that a small one"),
    )
    * 20,
    vocabulary=("cappuccino",),
    pronunciations={"mocha": "mocka"},
    hints={"size": ("small", "large", "a small one please", "large please")},
)


def say(text: str) -> np.ndarray:
    """`text` in espeak-ng's voice with 300 ms of near silence around it: int16, 16 kHz."""
    voice = EspeakSynthesiser("en-us", 150)
    sound = np.concatenate([clip.pcm for clip in voice.speak(text)])
    quiet = np.random.default_rng(1).normal(0, 3, 3 * RATE // 10)
    resampled = soxr.resample(sound.astype(np.float32), voice.rate, RATE)
    return np.concatenate((quiet, resampled, quiet)).astype(np.int16)


def decode(engine: Recogniser, pcm: np.ndarray, piece: int = 960) -> tuple[list[Hypothesis], Hypothesis]:
    """The partial hypotheses on the way, and the final one."""
    engine.begin()
    partials = []
    for at in range(0, len(pcm), piece):
        engine.feed(pcm[at : at + piece])
        partials.append(engine.partial())
    return partials, engine.finish()


def in_order(words: tuple[HeardWord, ...], length: int) -> bool:
    """Whether the words follow each other inside the sound."""
    edges = [edge for word in words for edge in (word.start, word.end)]
    return edges == sorted(edges) and (not edges or (edges[0] >= 0 and edges[-1] <= length + RATE // 10))
