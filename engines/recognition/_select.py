"""Which recogniser serves on this machine."""

from __future__ import annotations

from pathlib import Path

from engines.errors import EngineError
from engines.recognition._types import Recogniser, Selection
from engines.recognition.pocketsphinx import PocketsphinxRecogniser
from engines.recognition.vosk import VoskRecogniser

__all__ = ["ENGINES", "select"]

ENGINES = ("vosk", "ears", "pocketsphinx")
"""Best first."""
_NOT_FETCHED = "no model has been fetched: 'visavis models fetch vosk-small-en' gets one"


def select(preference: str = "auto", model_path: Path | None = None, weights: Path | None = None) -> Selection:
    """The best recogniser that works: `preference` is "auto" or one of ENGINES; those before it are left out, those after it stand in.

    `model_path`: a Vosk model's folder, None if there is none; `weights`: another phone head for the ears. An engine that does not work
    here is reported in `why_not` and the next one serves. Raises EngineError when none does.
    """
    why_not: list[tuple[str, str]] = []
    if preference not in {"auto", *ENGINES}:
        why_not.append((preference, f"not in this version: it has {', '.join(ENGINES)}"))
    first = ENGINES.index(preference) if preference in ENGINES else 0
    why_not += [(name, f"{preference} is preferred") for name in ENGINES[:first]]
    for name in ENGINES[first:]:
        try:
            return Selection(_make(name, model_path, weights), name, tuple(why_not))
        except EngineError as error:
            why_not.append((name, str(error)))
    raise EngineError("no recogniser works on this machine: " + "; ".join(f"{name}: {why}" for name, why in why_not))


def _make(name: str, model_path: Path | None, weights: Path | None) -> Recogniser:
    if name == "pocketsphinx":
        return PocketsphinxRecogniser()
    if name == "ears":
        # Here and not above: vosk brings a Kaldi of its own, and the two cannot live in one process.
        from engines.recognition.ears import EarsRecogniser

        return EarsRecogniser(weights=weights)
    if model_path is None:
        raise EngineError(_NOT_FETCHED)
    return VoskRecogniser(model_path)
