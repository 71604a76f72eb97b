"""The ears: our own recogniser. A pass of the turn model's encoder six times a second, phones, and a search over the pack's words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from engines.errors import EngineError
from engines.models import cache_dir, locate
from engines.recognition._pronounce import CMUDICT, pronounce
from engines.recognition._types import HeardWord, Hypothesis, Pcm, SpeechDomain
from engines.recognition.ears.encoder import FRAME
from engines.recognition.ears.graph import OTHER_WORD, build
from engines.recognition.ears.hearing import Phones, PhoneStream
from engines.recognition.ears.ngram import END, NGram, ngram
from engines.recognition.ears.search import Found, Heard, Search, scores
from engines.recognition.ears.talk import read
from engines.recognition.ears.worded import LEAD, Worded

__all__ = ["WEIGHTS", "EarsRecogniser", "Tuning"]

WEIGHTS = Path(__file__).with_name("ears.onnx")
"""The phone head that ships."""
_EVERY = 8  # new frames that are worth a pass: 160 ms …
_EVERY_EARLY = 4  # … and at an utterance's beginning, when the avatar may have to stop
_EARLY = LEAD + 35  # frames, 700 ms after the onset: later there are words to judge by
_LOOKS = 2  # passes that must agree before settled words count as stable
_ALTERNATIVES = 4
_NOTHING = Found(())


@dataclass(frozen=True)
class Tuning:
    """Numbers of the search. Penalty, scale and share were chosen on half of the order recordings (`tuned_half` of `visavis bench orders`)
    and on sentences of the `tune` part of the corpora, the confidence on the latter and on all orders: `even_sound` was set with the
    reported orders in view (1.5 understands half a per cent fewer of them, 1.6 to 1.9 the same).
    """

    order: int = 3
    share: float = 0.05  # of all that is said, what is general talk
    blank_penalty: float = 3.5
    other_penalty: float = 1.5
    other_cost: float = 9.0
    scale: float = 1.5
    word_cost: float = 0.0
    beam: float = 13.0
    most: int = 2500
    even: float = 2.8  # nats per sound that the pack's words may cost beyond mere sounds, until they are as likely wrong as right …
    allowance: float = 10.0  # … after these, which any sentence costs: else a "no" would never be sure
    steepness: float = 2.8
    even_sound: float = 1.6  # the same for the misfit of the sounds alone
    steepness_sound: float = 5.0


class EarsRecogniser:
    """Phones of the utterance so far, and the best words for them in the domain's graph."""

    def __init__(
        self,
        turn_model: Path | None = None,
        weights: Path | None = None,
        tuning: Tuning | None = None,
        cache: Path | None = None,
    ) -> None:
        """`turn_model`: None, the one in the model store; `weights`: None, those that ship; `cache`: a folder for graphs, None: beside the
        models. Raises EngineMissing, ModelError.
        """
        self._tuning = tuning or Tuning()
        self._worded = Worded.load()
        self._phones = Phones(turn_model or locate("smart-turn"), weights or WEIGHTS)
        self._cache = cache or cache_dir() / "graphs"
        self._search: Search | None = None
        self._model: NGram | None = None
        self._own: frozenset[str] = frozenset()  # words of the domain
        self._expected = self._asked = ""
        self._stream: PhoneStream | None = None
        self._found = _NOTHING
        self._odds: list[float] = []  # of words, at each early look
        self._earlier: list[list[str]] = []

    def prepare(self, domain: SpeechDomain) -> None:
        """Build the domain's graph (about a second for a shop). Words that nobody can pronounce are left out. Raises EngineError."""
        self.cancel()
        said = Counter(domain.sentences)
        words = {word for line in (*said, *(s for lines in domain.hints.values() for s in lines)) for word in line.split()}
        self._own = frozenset(words.union(domain.vocabulary))
        talk = read()
        sounds = pronounce(words.union(domain.vocabulary, talk.words) - {END}, CMUDICT, domain.pronunciations)
        sayable = [(line.split(), float(count)) for line, count in said.items() if all(word in sounds for word in line.split())]
        if not sayable:
            raise EngineError("ears: the experience pack gives no sentence that they could listen for")
        answers = {
            hint: [line.split() for line in lines if all(word in sounds for word in line.split())] for hint, lines in domain.hints.items()
        }
        tuning = self._tuning
        asked = {hint: lines for hint, lines in answers.items() if lines}
        self._model = ngram(sayable, sounds, asked, talk, order=tuning.order, share=tuning.share)
        graph = build(self._model, sounds, tuning.scale, tuning.other_cost, tuning.word_cost, self._cache)
        self._search, self._expected = Search(graph, tuning.beam, tuning.most), ""

    def begin(self) -> None:
        """A new utterance; EngineError before `prepare`."""
        if self._search is None:
            raise EngineError("ears: prepare() was not called")
        self._stream = PhoneStream(self._phones)
        self._found, self._earlier, self._asked = _NOTHING, [], self._expected
        self._odds = []

    def feed(self, pcm: Pcm) -> None:
        """More sound; nothing is computed yet."""
        if self._stream is None:
            raise EngineError("ears: feed() without begin()")
        self._stream.feed(pcm)

    def partial(self) -> Hypothesis:
        """The best words so far; a pass only when there is enough new sound for one."""
        if self._stream is None:
            return Hypothesis()
        if self._stream.new >= (_EVERY_EARLY if self._stream.frames <= _EARLY else _EVERY):
            self._found, _ = self._look(self._stream, ended=False)
            spoken = [heard.word for heard in self._found.words if heard.end <= self._stream.settled]
            self._earlier = [*self._earlier, spoken][-_LOOKS:]
        agreed = self._earlier[-1] if self._earlier else []
        for earlier in self._earlier:
            agreed = [ours for ours, _ in takewhile(lambda pair: pair[0] == pair[1], zip(agreed, earlier, strict=False))]
        stable = len(" ".join(word for word in agreed if word != OTHER_WORD)) if len(self._earlier) == _LOOKS else 0
        return self._hypothesis(stable, ())

    def finish(self) -> Hypothesis:
        """One pass over what is new, and the search to its end."""
        if self._stream is None:
            return Hypothesis()
        self._found, others = self._look(self._stream, ended=True)
        self._stream = None
        return self._hypothesis(None, others)

    def cancel(self) -> None:
        """Drop the utterance."""
        self._stream = None

    def expect(self, hint: str) -> None:
        """Listen for answers to `hint` from the next utterance on."""
        self._expected = hint if self._model is not None and hint in self._model.starts else ""

    def _look(self, stream: PhoneStream, *, ended: bool) -> tuple[Found, tuple[str, ...]]:
        """The best path for all sound so far and, where it `ended`, other texts."""
        assert self._search is not None
        tuning = self._tuning
        matrix = scores(stream.look(), tuning.blank_penalty, tuning.other_penalty)
        if LEAD < stream.frames <= _EARLY:
            self._odds.append(self._worded.odds(stream.layers))
        found = self._search.best(matrix, self._asked, ended=ended)
        if not ended or not found.words:
            return found, ()
        ranked = self._search.alternatives(matrix, _ALTERNATIVES, self._asked)
        texts = dict.fromkeys(_text(words) for words, _ in ranked)
        return found, tuple(text for text in texts if text and text != _text(heard.word for heard in found.words))

    def _hypothesis(self, stable: int | None, others: tuple[str, ...]) -> Hypothesis:
        spoken = self._found.words
        words = tuple(self._word(heard) for heard in spoken if heard.word != OTHER_WORD)
        text = " ".join(word.text for word in words)
        settled = len(text) if stable is None else min(stable, len(text))
        return Hypothesis(text, words, self._confidence(), settled, self._ends(spoken), others, self._words_here())

    def _words_here(self) -> float:
        """P(words are said here) by the early looks, each newer one counting as much as all before it; -1 without any."""
        if not self._odds:
            return -1.0
        total = self._odds[0]
        for odds in self._odds[1:]:
            total = (total + odds) / 2
        return _logistic(total)

    def _ends(self, spoken: Sequence[Heard]) -> float:
        """P(a sentence can end after these words) by the pack's sentences; -1 where one of the last two is no word of the pack."""
        if self._model is None or not spoken or any(heard.word not in self._own for heard in spoken[-2:]):
            return -1.0
        since = max((number for number, heard in enumerate(spoken, 1) if heard.word not in self._own), default=0)
        return self._model.end_chance([heard.word for heard in spoken[since:]], self._asked if not since else "")

    def _word(self, heard: Heard) -> HeardWord:
        return HeardWord(heard.word, heard.start * FRAME, heard.end * FRAME, self._by_sound((heard,)))

    def _confidence(self) -> float:
        """0..1; 0 without words. The sounds must fit; where most words are the pack's, all that they cost counts, too: who means them says
        them as the pack does. General talk is dear however well it is heard.
        """
        words, tuning = self._found.words, self._tuning
        if not words:
            return 0.0
        by_sound = self._by_sound(words)
        if sum(heard.word in self._own for heard in words) * 2 < len(words):
            return by_sound
        cost = max(self._found.surplus - tuning.allowance, 0.0) / sum(heard.sounds for heard in words)
        return min(by_sound, _logistic(tuning.steepness * (tuning.even - cost)))

    def _by_sound(self, words: Sequence[Heard]) -> float:
        misfit = sum(heard.misfit for heard in words) / sum(heard.sounds for heard in words)
        return _logistic(self._tuning.steepness_sound * (self._tuning.even_sound - misfit))


def _logistic(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(score, -30.0), 30.0)))


def _text(words: Iterable[str]) -> str:
    return " ".join(word for word in words if word != OTHER_WORD)
