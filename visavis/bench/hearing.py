"""What the kiosk makes of a recording, in virtual time.

A recording goes through the kiosk's voice activity detection (an utterance begins 300 ms before the onset and ends 80 ms into the
silence) and is fed to the recogniser in pieces of 60 ms; the final text is understood out of nothing. What it costs is measured on every
fifth utterance, with a look at what was heard so far every 120 ms as in the kiosk: those looks take most of the time, and change no text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.recognition import ENGINES, RATE, Recogniser, Selection, SpeechDomain, select
from engines.voice_activity import VoiceActivity
from runtime.conversation.understanding import Understanding
from runtime.messages import SURE

__all__ = ["FRAME", "Clip", "Kiosk", "Outcome", "always", "by_folds", "load", "pcm_of", "quantiles", "recognisers", "sounds", "utterances"]

FRAME = 512
_SOUNDS = {".flac", ".wav", ".ogg", ".opus"}
_PIECE = 6 * RATE // 100
_LOOK = 2  # pieces from one partial transcript to the next …
_LOOKED_AT = 5  # … in one of so many utterances
_BEFORE = 3 * RATE // 10
_AFTER = 8 * RATE // 100
_APART = RATE  # so much quiet makes two utterances of one recording
_SPEECH = 0.5

Pcm = NDArray[np.int16]
Clip = tuple[str, NDArray[np.float64]]
Choice = Callable[[str], Recogniser]


class Outcome(NamedTuple):
    """What became of one utterance."""

    name: str
    text: str
    confidence: float
    intent: str | None
    slots: dict[str, str]

    @property
    def sure(self) -> bool:
        """Whether the kiosk would act on it: something was wanted, and it was heard well enough."""
        return self.intent is not None and self.confidence >= SURE


class Kiosk:
    """Recording in, outcome out; counts what it cost."""

    def __init__(self, recogniser: Choice, activity: VoiceActivity, understand: Callable[[str], Understanding]) -> None:
        """`recogniser`: the prepared one for a recording of this name."""
        self._recogniser, self._activity, self._understand = recogniser, activity, understand
        self.heard_s = self.spent_s = 0.0
        self.finish_s: list[float] = []
        self._number = -1

    @property
    def rtf(self) -> float:
        """CPU seconds per second of speech so far."""
        return self.spent_s / max(self.heard_s, 1e-9)

    def whole(self, clip: Clip) -> Outcome:
        """The whole recording is one turn, pauses included."""
        pcm = pcm_of(clip[1])
        spans = utterances(pcm, self._activity, len(pcm))
        return self._outcome(clip[0], pcm[slice(*spans[0])] if spans else pcm[:0])

    def each(self, clip: Clip) -> Iterator[Outcome]:
        """Every utterance of the recording by itself."""
        pcm = pcm_of(clip[1])
        for start, end in utterances(pcm, self._activity, _APART):
            yield self._outcome(clip[0], pcm[start:end])

    def _outcome(self, name: str, pcm: Pcm) -> Outcome:
        recogniser = self._recogniser(name)
        self._number += 1
        looked_at = self._number % _LOOKED_AT == 0
        began = time.process_time()
        recogniser.begin()
        for number, at in enumerate(range(0, len(pcm), _PIECE), start=1):
            recogniser.feed(pcm[at : at + _PIECE])
            if looked_at and number % _LOOK == 0:
                recogniser.partial()
        asked = time.process_time()
        found = recogniser.finish()
        done = time.process_time()
        if looked_at:
            self.spent_s += done - began
            self.heard_s += len(pcm) / RATE
            self.finish_s.append(done - asked)
        meant = self._understand(found.text)
        return Outcome(name, found.text, found.confidence, meant.intent, meant.slots)


def utterances(pcm: Pcm, activity: VoiceActivity, apart: int) -> list[tuple[int, int]]:
    """Where people speak: [start, end) with pre-roll, as the recogniser gets it; `apart` samples of quiet make two of one."""
    activity.reset()
    found: list[tuple[int, int]] = []
    for at in range(0, len(pcm) - FRAME + 1, FRAME):
        if activity.probability(pcm[at : at + FRAME]) < _SPEECH:
            continue
        if found and at - found[-1][1] < apart:
            found[-1] = (found[-1][0], at + FRAME)
        else:
            found.append((at, at + FRAME))
    return [(max(0, start - _BEFORE), min(len(pcm), end + _AFTER)) for start, end in found]


def recognisers(engine: str, model: Path | None = None, weights: Path | None = None) -> tuple[list[Selection], dict[str, str]]:
    """Those to measure, best first, and why others do not work here. `engine`: "all", or what `engines.recognition.select` takes.

    Raises EngineError when none works.
    """
    if engine != "all":
        return [select(engine, model, weights)], {}
    chosen: list[Selection] = []
    skipped: dict[str, str] = {}
    for name in ENGINES:
        try:
            found = select(name, model, weights)
        except EngineError as error:
            skipped[name] = str(error)
            continue
        if found.name == name:
            chosen.append(found)
        else:
            skipped[name] = dict(found.why_not).get(name, f"{found.name} serves in its place")
    if not chosen:
        raise EngineError("no recogniser works on this machine: " + "; ".join(f"{name}: {why}" for name, why in skipped.items()))
    return chosen, skipped


def always(chosen: Selection) -> Choice:
    """The same recogniser for all recordings."""
    return lambda _: chosen.engine


def by_folds(folds: Path, names: Sequence[str], otherwise: Selection, domain: SpeechDomain) -> Choice:
    """The recogniser for each recording: with the weights that never saw it, made when first wanted; `otherwise` for recordings that
    `folds` does not name.

    `folds` is JSON, stem of a recording → file of weights (beside it, or a whole path). Raises ValueError when it lacks one of `names`.
    """
    weights = json.loads(folds.read_text(encoding="utf-8"))
    lacking = [name for name in names if name not in weights]
    if lacking:
        raise ValueError(f"{folds}: names no weights for {lacking[0]} and {len(lacking) - 1} other recordings")
    made: dict[str, Recogniser] = {}

    def choice(name: str) -> Recogniser:
        file = weights.get(name)
        if file is None:
            return otherwise.engine
        if file not in made:
            found = select(otherwise.name, None, folds.parent / file)
            if found.name != otherwise.name:
                raise EngineError(f"{folds.parent / file}: {dict(found.why_not).get(otherwise.name, 'cannot be used')}")
            found.engine.prepare(domain)
            made[file] = found.engine
        return made[file]

    return choice


def sounds(folder: Path) -> list[Path]:
    """All recordings in the folder and below it, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SOUNDS)


def load(path: Path) -> NDArray[np.float64]:
    """Mono at 16 kHz, full scale 1.0."""
    sound, rate = soundfile.read(path, dtype="float64", always_2d=True)
    mono: NDArray[np.float64] = sound.mean(axis=1)
    return mono if rate == RATE else np.asarray(soxr.resample(mono, rate, RATE), np.float64)


def pcm_of(sound: NDArray[np.float64]) -> Pcm:
    """As 16-bit samples."""
    return np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """n, p50, p95 and p99 in ms."""
    if not seconds:
        return {"n": 0}
    return {"n": len(seconds)} | {f"p{q}": round(1000 * float(np.quantile(seconds, q / 100)), 1) for q in (50, 95, 99)}
