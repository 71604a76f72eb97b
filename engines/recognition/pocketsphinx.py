"""pocketsphinx: small, offline, in every installation. Holds the GIL while it decodes, so it lives alone in its process."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

from engines.errors import EngineError, EngineMissing, ModelError
from engines.recognition._languagemodel import write_trigram
from engines.recognition._pronounce import pronounce
from engines.recognition._types import RATE, HeardWord, Hypothesis, Pcm, SpeechDomain

__all__ = ["PocketsphinxRecogniser"]

_FRAME = RATE // 100
_VARIANT = re.compile(r"\(\d+\)$")
_LOOKS = 2  # earlier partial results that must agree before words count as stable
_DISCOUNT = 0.1  # less understands a few more orders, and takes more than one in thirty other sentences for an order
# Two best Gaussians of a state instead of four, and a narrower second pass: as right on the recorded orders, a third cheaper at the end.
_FASTER = {"topn": 2, "fwdflatbeam": 1e-48, "fwdflatwbeam": 1e-20, "fwdflatsfwin": 15}
_STEEPNESS, _EVEN = 8.0, 0.55  # mean posterior of the words → confidence; 0.5 keeps all but 1 in 50 understood orders
_HINT_BASE = 3000  # sentences of the domain beside as many answers to what was asked: building such a model takes 0.3 s


class PocketsphinxRecogniser:
    """Trigram search over the domain's words.

    Each utterance is decoded with the cepstral mean (microphone, room, voice) that the ones before it left. Decoding from the start when
    the guess was bad, or in one go with the utterance's own mean, is no better on the recorded orders and doubles the cost.
    """

    def __init__(self, model: Path | None = None) -> None:
        """`model`: folder with an acoustic model and a CMUdict (`en-us/`, `cmudict-en-us.dict`); None: the wheel's own.

        Raises EngineMissing, ModelError.
        """
        try:
            import pocketsphinx
        except ImportError:
            raise EngineMissing("pocketsphinx is not installed: pip install pocketsphinx") from None
        self._sphinx = pocketsphinx
        root = model or Path(pocketsphinx.get_model_path()) / "en-us"
        self._hmm, self._dictionary = root / "en-us", root / "cmudict-en-us.dict"
        # Checked here because the library crashes or prints on some missing files.
        for path in (self._hmm / "mdef", self._hmm / "means", self._dictionary):
            if not path.is_file():
                raise ModelError(f"{path} is missing: reinstall pocketsphinx, or correct recognition.model")
        self._decoder: Any = None
        self._hints: set[str] = set()
        self._expected = ""
        self._running = False
        self._earlier: list[list[str]] = []

    def prepare(self, domain: SpeechDomain) -> None:
        """Build dictionary and language models of the domain, one model per hint. Raises EngineError."""
        self.cancel()
        spoken = {word for line in (*domain.sentences, *(s for lines in domain.hints.values() for s in lines)) for word in line.split()}
        sounds = pronounce(spoken | set(domain.vocabulary), self._dictionary, domain.pronunciations)
        sayable = [line for line in domain.sentences if all(word in sounds for word in line.split())]
        if not sayable:
            raise EngineError("pocketsphinx: the experience pack gives no sentence that it could listen for")
        with tempfile.TemporaryDirectory(prefix="visavis-words-") as folder:
            lexicon = Path(folder) / "words.dict"
            lexicon.write_text("\n".join(_entries(sounds)) + "\n", encoding="utf-8")
            model = Path(folder) / "words.arpa"
            self._decoder = self._load(lexicon)
            for hint in ("", *domain.hints):
                answers = [line for line in domain.hints.get(hint, ()) if all(word in sounds for word in line.split())]
                base = sayable[:_HINT_BASE] if answers else sayable
                write_trigram(model, [*base, *(answers * max(1, len(base) // max(1, len(answers))))], sounds, _DISCOUNT)
                self._decoder.add_lm_file(f"hint {hint}", str(model))
        self._hints, self._expected = {"", *domain.hints}, ""

    def _load(self, lexicon: Path) -> Any:
        settings = self._sphinx.Config(
            samprate=RATE, hmm=str(self._hmm), dict=str(lexicon), lm=None, loglevel="FATAL", cmn="live", **_FASTER
        )
        try:
            return self._sphinx.Decoder(settings)
        except RuntimeError as error:
            raise ModelError(f"pocketsphinx cannot load {self._hmm} ({error}): reinstall pocketsphinx") from None

    def begin(self) -> None:
        """A new utterance; EngineError before `prepare`."""
        if self._decoder is None:
            raise EngineError("pocketsphinx: prepare() was not called")
        self.cancel()
        self._earlier = []
        self._decoder.activate_search(f"hint {self._expected}")
        self._decoder.start_utt()
        self._running = True

    def feed(self, pcm: Pcm) -> None:
        """Decode on; costs about a twentieth of the sound's length."""
        if not self._running:
            raise EngineError("pocketsphinx: feed() without begin()")
        self._decoder.process_raw(pcm.tobytes())

    def partial(self) -> Hypothesis:
        """The best words so far; `stable` is what three looks in a row agreed on, the newest word left out."""
        if not self._running:
            return Hypothesis()
        words = _words(self._decoder.seg() or ())
        spoken = [word.text for word in words]
        agreed = spoken[:-1]
        for earlier in self._earlier:
            agreed = [ours for ours, _ in takewhile(lambda pair: pair[0] == pair[1], zip(agreed, earlier, strict=False))]
        enough = len(self._earlier) == _LOOKS
        self._earlier = [*self._earlier, spoken][-_LOOKS:]
        return Hypothesis(" ".join(spoken), tuple(words), 0.0, len(" ".join(agreed)) if enough else 0)

    def finish(self) -> Hypothesis:
        """All passes over the whole utterance: a fiftieth of its length."""
        if not self._running:
            return Hypothesis()
        self._decoder.end_utt()
        self._running = False
        words = _words(self._decoder.seg() or ())
        text = " ".join(word.text for word in words)
        return Hypothesis(text, tuple(words), _confidence(words), len(text))

    def cancel(self) -> None:
        """Drop the utterance."""
        if self._running:
            self._decoder.end_utt()
            self._running = False

    def expect(self, hint: str) -> None:
        """Listen for answers to `hint` from the next utterance on."""
        self._expected = hint if hint in self._hints else ""


def _entries(sounds: dict[str, list[str]]) -> list[str]:
    """Lines of a pronouncing dictionary; further variants are numbered."""
    return [f"{word}({n}) {phones}" if n > 1 else f"{word} {phones}" for word, all_ in sounds.items() for n, phones in enumerate(all_, 1)]


def _words(segments: Iterable[Any]) -> list[HeardWord]:
    """The words among the segments: no silences, no noises, no numbers of variants."""
    return [
        HeardWord(_VARIANT.sub("", segment.word), segment.start_frame * _FRAME, (segment.end_frame + 1) * _FRAME, min(1.0, segment.prob))
        for segment in segments
        if segment.word[0] not in "<[("
    ]


def _confidence(words: list[HeardWord]) -> float:
    """From the words' posterior probabilities in the lattice. Acoustic scores add nothing to them on recorded people."""
    if not words:
        return 0.0
    sure = sum(word.confidence for word in words) / len(words)
    return 1.0 / (1.0 + math.exp(-_STEEPNESS * (sure - _EVEN)))
