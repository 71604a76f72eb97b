"""Which voice serves on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engines.errors import EngineError, EngineMissing
from engines.synthesis._espeak import VOICE, WORDS_PER_MINUTE, EspeakSynthesiser
from engines.synthesis._piper import PiperSynthesiser
from engines.synthesis._types import Selection

__all__ = ["select"]

ENGINES = ("piper", "espeak")


def select(
    preference: str = "auto",
    model: Path | None = None,
    *,
    speaker: str = "",
    rate: float = 1.0,
    pronunciations: Mapping[str, str] | None = None,
) -> Selection:
    """The best voice that works: `preference` is "auto" or one of ENGINES, `model` a Piper voice (.onnx), None if none was fetched.

    `speaker` is the engine's own name of a voice ("" its default), `rate` its speed (1.0 the voice's own),
    `pronunciations` a store's own: word → how to say it.

    A preferred engine that does not work here is reported in `why_not` and the next one serves.
    Raises EngineError when none does, or for an unknown preference.
    """
    if preference not in {"auto", *ENGINES}:
        raise EngineError(f"voice engine {preference!r} is unknown: use auto, {' or '.join(ENGINES)}")
    why_not: list[tuple[str, str]] = []
    if preference == "espeak":
        why_not.append(("piper", "espeak is preferred"))
    elif model is None:
        why_not.append(("piper", "no voice has been fetched: 'visavis models fetch' gets one"))
    else:
        try:
            return Selection(PiperSynthesiser(model, speaker=speaker, rate=rate, pronunciations=pronunciations), f"piper {model.stem}")
        except EngineError as error:
            why_not.append(("piper", str(error)))
    try:
        return Selection(_espeak(speaker, rate, pronunciations, why_not), "espeak-ng", tuple(why_not))
    except EngineError as error:
        reasons = "; ".join(f"{name}: {why}" for name, why in [*why_not, ("espeak", str(error))])
        raise EngineError(f"no voice works on this machine: {reasons}") from error


def _espeak(speaker: str, rate: float, pronunciations: Mapping[str, str] | None, why_not: list[tuple[str, str]]) -> EspeakSynthesiser:
    pace = round(WORDS_PER_MINUTE * rate)
    try:
        return EspeakSynthesiser(speaker or VOICE, pace, pronunciations=pronunciations)
    except EngineMissing:
        raise
    except EngineError as error:  # the speaker of another engine, or misspelt: speak anyway, and say so
        why_not.append(("espeak", str(error)))
        return EspeakSynthesiser(VOICE, pace, pronunciations=pronunciations)
