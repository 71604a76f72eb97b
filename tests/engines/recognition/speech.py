"""Spoken sentences for tests: flite's voice, kept beside the model that it trained (tests/models/vosk-tiny/build.py says which)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from engines.recognition import RATE, HeardWord, Hypothesis, Recogniser, SpeechDomain

SPOKEN = Path(__file__).resolve().parents[2] / "models" / "vosk-tiny" / "spoken"
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
    """`text` as it was kept, with near silence around it: int16, 16 kHz."""
    sound, rate = soundfile.read(SPOKEN / f"{text.replace(' ', '_')}.flac", dtype="int16")
    assert rate == RATE
    noise = np.random.default_rng(1).normal(0, 3, len(sound))
    return np.clip(sound + noise, -32768, 32767).astype(np.int16)


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
