"""vosk (Kaldi): better than pocketsphinx where its model of some 40 MB has been fetched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engines.errors import EngineError, EngineMissing, ModelError
from engines.recognition._types import RATE, HeardWord, Hypothesis, Pcm, SpeechDomain

__all__ = ["VoskRecogniser"]

_ELSEWHERE = "[unk]"  # Kaldi's word for all that is outside the grammar
# Either the lookahead pair or one static graph; all that a model of any kind must have. A git-lfs pointer is smaller than any of them.
_ALWAYS = ("am/final.mdl",)
_GRAPHS = (("graph/HCLr.fst", "graph/Gr.fst"), ("graph/HCLG.fst",), ("HCLr.fst", "Gr.fst"), ("HCLG.fst",))
_SMALLEST = 200  # bytes


class VoskRecogniser:
    """A Vosk model that hears the domain's sentences, where it can take a grammar, else whatever it knows."""

    def __init__(self, model: Path) -> None:
        """`model`: the unpacked folder. Raises EngineMissing, ModelError."""
        self._lookahead = _check(model)
        if "kaldi_decoder" in sys.modules:
            raise EngineError("the ears were loaded in this process, and their Kaldi and vosk's cannot share one")
        try:
            import vosk
        except ImportError:
            raise EngineMissing("vosk is not installed: pip install 'visavis[vosk]'") from None
        vosk.SetLogLevel(-1)
        self._vosk = vosk
        try:
            self._model = vosk.Model(str(model))
        except Exception as error:  # noqa: BLE001  vosk raises bare Exception
            raise ModelError(f"{model}: vosk cannot load it ({error}): run 'visavis models verify'") from None
        self._grammars: dict[str, str] = {}
        self._expected = ""
        self._stream: Any = None
        self._results: list[dict[str, Any]] = []

    def prepare(self, domain: SpeechDomain) -> None:
        """Keep the domain's sentences as grammars; words that the model does not know are left out by vosk itself."""
        self.cancel()
        sentences = tuple(dict.fromkeys((*domain.sentences, *domain.vocabulary)))
        self._grammars = {hint: _grammar((*sentences, *answers)) for hint, answers in {"": (), **domain.hints}.items()}

    def begin(self) -> None:
        """A new utterance."""
        self.cancel()
        if self._lookahead and self._grammars:
            self._stream = self._vosk.KaldiRecognizer(self._model, RATE, self._grammars.get(self._expected, self._grammars[""]))
        else:
            self._stream = self._vosk.KaldiRecognizer(self._model, RATE)
        self._stream.SetWords(True)
        self._results = []

    def feed(self, pcm: Pcm) -> None:
        """Decode on. vosk ends a result at pauses of its own choice: they are put together again."""
        if self._stream is None:
            raise EngineError("vosk: feed() without begin()")
        if self._stream.AcceptWaveform(pcm.tobytes()):
            self._results.append(json.loads(self._stream.Result()))

    def partial(self) -> Hypothesis:
        """What was said so far; what came before a pause is stable."""
        if self._stream is None:
            return Hypothesis()
        # Without times: partial words with times come only when the utterance is nearly over.
        running = json.loads(self._stream.PartialResult()).get("partial", "").split()
        settled = _words(self._results)
        words = settled + [HeardWord(word) for word in running if word != _ELSEWHERE]
        return Hypothesis(_text(words), tuple(words), 0.0, len(_text(settled)))

    def finish(self) -> Hypothesis:
        """Flush the decoder."""
        if self._stream is None:
            return Hypothesis()
        results = [*self._results, json.loads(self._stream.FinalResult())]
        self._stream = None
        heard = [word for result in results for word in result.get("result", ())]
        words = _words(results)
        text = _text(words)
        # Whatever lay outside the grammar counts as wholly doubtful.
        sure = sum(word["conf"] for word in heard if word["word"] != _ELSEWHERE) / max(1, len(heard))
        return Hypothesis(text, tuple(words), min(1.0, sure), len(text))

    def cancel(self) -> None:
        """Drop the utterance."""
        self._stream = None

    def expect(self, hint: str) -> None:
        """Listen for answers to `hint` as well, from the next utterance on."""
        self._expected = hint


def _check(model: Path) -> bool:
    """Whether the model takes a grammar at run time. Raises ModelError when files are missing: the library only says "failed"."""
    if not model.is_dir():
        raise ModelError(f"{model} is no folder with a Vosk model: run 'visavis models fetch vosk-small-en'")
    missing = [name for name in _ALWAYS if not _real(model / name) and not _real(model / Path(name).name)]
    graph = next((names for names in _GRAPHS if all(_real(model / name) for name in names)), None)
    if graph is None:
        missing.append(" and ".join(_GRAPHS[0]))
    if missing or graph is None:
        raise ModelError(f"{model} is no whole Vosk model ({', '.join(missing)} missing or too small): run 'visavis models verify'")
    return len(graph) > 1


def _real(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > _SMALLEST


def _grammar(sentences: tuple[str, ...]) -> str:
    return json.dumps([*sentences, _ELSEWHERE])


def _words(results: list[dict[str, Any]]) -> list[HeardWord]:
    return [
        HeardWord(word["word"], round(word["start"] * RATE), round(word["end"] * RATE), min(1.0, word.get("conf", 1.0)))
        for result in results
        for word in result.get("result", ())
        if word["word"] != _ELSEWHERE
    ]


def _text(words: list[HeardWord]) -> str:
    return " ".join(word.text for word in words)
