"""A neural voice: Piper (VITS in ONNX), when a store has fetched one.

piper-tts is GPL-3.0-or-later (it links espeak-ng); it is an optional extra and imported only here.
A sentence is one inference that cannot be interrupted: cancelling waits for one sentence at most, so the callers send clauses.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines.errors import EngineError, EngineMissing, ModelError
from engines.synthesis import _sound
from engines.synthesis._espeak import EspeakSynthesiser
from engines.synthesis._spoken import Spoken, sentences, spoken
from engines.synthesis._types import Clip, TimedPhoneme, TimedWord

__all__ = ["PiperSynthesiser"]

_REFERENCE = "The quick brown fox jumps over the lazy dog."
_SILENT = frozenset("^$_ ,.!?;:…\"'()-–—")
_STRESS = "ˈˌ"
_LENGTH = "ːˑ"


class PiperSynthesiser:
    """Speaks with the Piper voice `model` (an .onnx with its .onnx.json beside it), `speaker` by its name there, "" the voice's first.

    Raises EngineMissing without the package piper-tts, ModelError when a file is missing, corrupt or no Piper voice.
    """

    def __init__(
        self, model: Path, *, speaker: str = "", rate: float = 1.0, pronunciations: Mapping[str, str] | None = None, threads: int = 1
    ) -> None:
        self._pronunciations = dict(pronunciations or {})
        self._voice, self._how = _load(model, threads)
        self._how.length_scale = self._voice.config.length_scale / rate
        if speaker:
            self._how.speaker_id = _speaker(self._voice.config.speaker_id_map, speaker, model)
        self._timing: EspeakSynthesiser | None = None
        self._gain = 1.0
        self._gain = self._loudness(model)

    @property
    def rate(self) -> int:
        """Samples per second, as the voice's configuration says."""
        return int(self._voice.config.sample_rate)

    def speak(self, text: str) -> Iterator[Clip]:
        """Speak `text`, one clip per sentence as Piper sees it."""
        for sentence in sentences(text):
            said = spoken(sentence, self._pronunciations)
            chunks = list(self._chunks(said.text))
            if not chunks:
                continue
            samples = np.concatenate([c.audio_float_array for c in chunks])
            phonemes = _aligned(chunks) or self._estimated(said.text, len(samples))
            words = (TimedWord(*word) for word in said.words(sentence, _word_starts(said, phonemes)))
            timed = tuple(p for p in phonemes if p.symbol != " ")
            yield _sound.finish(sentence, samples, self.rate, self._gain, timed, words)

    def _chunks(self, text: str) -> Iterator[Any]:
        try:
            yield from self._voice.synthesize(text, self._how, include_alignments=True)
        except Exception as error:  # piper and onnxruntime raise their own kinds
            raise EngineError(f"piper: the voice failed on a text of {len(text)} characters: {_line(error)}") from error

    def _loudness(self, model: Path) -> float:
        samples = [c.audio_float_array for c in self._chunks(spoken(_REFERENCE).text)]
        if not samples or not np.isfinite(samples[0]).all() or np.abs(samples[0]).max(initial=0.0) < 1e-4:
            raise ModelError(f"piper voice {model}: it makes no sound: fetch it again with 'visavis models fetch'")
        return _sound.gain_for(np.concatenate(samples), self.rate)

    def _estimated(self, text: str, size: int) -> list[TimedPhoneme]:
        """Voices without alignment: espeak-ng's timing of the same text, stretched to this sound."""
        if self._timing is None:
            self._timing = EspeakSynthesiser()
        raw = self._timing.raw(text)
        scale = size / max(len(raw.samples), 1)
        starts = {round(s * scale) for s in raw.words.values()}
        timed = [TimedPhoneme(p.symbol, round(p.start * scale), round(p.end * scale)) for p in raw.phonemes]
        return list(itertools.chain.from_iterable(([TimedPhoneme(" ", p.start, p.start), p] if p.start in starts else [p]) for p in timed))


def _load(model: Path, threads: int) -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import piper
        from piper.config import PiperConfig
        from piper.patch_voice_with_alignment import add_alignment_output
    except ImportError as error:
        raise EngineMissing("piper: the package piper-tts is not installed: pip install 'visavis[piper]'") from error
    config = model.with_name(model.name + ".json")
    for path in (model, config):
        if not path.is_file():
            raise ModelError(f"piper voice {model}: {path.name} is missing: fetch it with 'visavis models fetch'")
    try:
        settings = PiperConfig.from_dict(json.loads(config.read_text(encoding="utf-8")))
        graph = onnx.load(str(model))
    except Exception as error:  # json, protobuf and missing keys each have their own
        raise ModelError(f"piper voice {model}: no valid Piper voice ({_line(error)}): fetch it again") from error
    with contextlib.suppress(ValueError):  # no single Ceil node, or already patched: the voice serves as it is
        add_alignment_output(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other nodes need the cores
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(f"piper voice {model}: ONNX Runtime refuses it ({_line(error)}): fetch it again") from error
    return piper.PiperVoice(session=session, config=settings), piper.SynthesisConfig(normalize_audio=False)


def _speaker(known: dict[str, int], name: str, model: Path) -> int:
    if name not in known:
        raise EngineError(f"piper voice {model.name} has no speaker {name!r}: it has {', '.join(sorted(known)) or 'one only'}")
    return known[name]


def _aligned(chunks: list[Any]) -> list[TimedPhoneme]:
    """Phonemes by the voice's own durations, stress joined to its vowel, word boundaries as " "; [] when a chunk has none."""
    timed: list[TimedPhoneme] = []
    at = 0
    for chunk in chunks:
        if not chunk.phoneme_alignments:
            return []
        stress, begun = "", at
        for part in chunk.phoneme_alignments:
            symbol, end = part.phoneme, at + int(part.num_samples)
            if symbol in _STRESS:
                stress, begun = symbol, at
            elif symbol in _LENGTH and timed:
                timed[-1] = TimedPhoneme(timed[-1].symbol + symbol, timed[-1].start, end)
            elif symbol == " ":
                timed.append(TimedPhoneme(" ", at, end))
            else:
                timed.append(TimedPhoneme("" if symbol in _SILENT else stress + symbol, begun if stress else at, end))
                stress = ""
            at = end
    return timed


def _word_starts(said: Spoken, phonemes: list[TimedPhoneme]) -> dict[int, int]:
    """Position in the spoken text → sample. Exact where as many groups of phonemes as words came out, else spread by letters."""
    places = [i for i, c in enumerate(said.text) if not c.isspace() and (i == 0 or said.text[i - 1].isspace()) and _sounds(said.text, i)]
    groups, fresh = [], True
    for p in phonemes:
        if p.symbol == " ":
            fresh = True
        elif p.symbol and fresh:
            groups.append(p.start)
            fresh = False
    if len(groups) == len(places):
        return dict(zip(places, groups, strict=True))
    sounding = [p for p in phonemes if p.symbol.strip()]
    if not sounding:
        return dict.fromkeys(places, 0)
    first, last = sounding[0].start, sounding[-1].end
    return {i: first + (last - first) * i // max(len(said.text), 1) for i in places}


def _sounds(text: str, at: int) -> bool:
    """Whether the word at `at` has a letter or digit: a lone dash is no group of phonemes."""
    word = text[at:].split(maxsplit=1)[0]
    return any(c.isalnum() for c in word)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
