"""Connected talk: of the words people say without any shop in mind, how many are heard wrong?

Recordings and texts are those of the `test` split of `engines.recognition.training.corpora`, whose speakers and sentences no training
heard. Each recording is transcribed whole. Word errors are substitutions, deletions and insertions per spoken word, over all recordings
of a group. The baseline is pocketsphinx as its wheel brings it: general language model, its whole CMUdict, default search.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, EngineMissing
from engines.recognition import RATE, Recogniser, SpeechDomain
from engines.recognition.training.corpora import SPEECH, Clip, clips, words_of
from visavis.bench.hearing import load, pcm_of

__all__ = ["TALKERS", "Setting", "errors", "general_sphinx", "general_talk", "heard_by", "run"]

Transcribe = Callable[[NDArray[np.int16]], str]
"""A whole recording, 16 kHz, to text."""


class Setting(NamedTuple):
    """What an engine may need to be made ready for connected talk: the data folder, and weights instead of the shipped ones."""

    data: Path
    weights: Path | None = None


def general_sphinx(_setting: Setting) -> Transcribe:
    """The baseline: general language model, whole dictionary. Raises EngineMissing."""
    try:
        from pocketsphinx import Decoder
    except ImportError:
        raise EngineMissing("pocketsphinx is not installed: pip install pocketsphinx") from None
    decoder = Decoder(samprate=RATE, loglevel="FATAL")

    def transcribe(pcm: NDArray[np.int16]) -> str:
        decoder.start_utt()
        decoder.process_raw(pcm.tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return found.hypstr if found else ""

    return transcribe


def heard_by(recogniser: Recogniser, domain: SpeechDomain) -> Transcribe:
    """One of our recognisers, prepared for `domain`. Raises EngineError."""
    recogniser.prepare(domain)

    def transcribe(pcm: NDArray[np.int16]) -> str:
        recogniser.begin()
        recogniser.feed(pcm)
        return recogniser.finish().text

    return transcribe


def general_talk(data: Path) -> SpeechDomain:
    """Connected talk: the sentences that the ears were trained with. Raises OSError."""
    return SpeechDomain(tuple(" ".join(words_of(clip.text)) for clip in clips(data, "train")))


def _ears(setting: Setting) -> Transcribe:
    from engines.recognition.ears import EarsRecogniser

    return heard_by(EarsRecogniser(weights=setting.weights), general_talk(setting.data))


TALKERS: dict[str, Callable[[Setting], Transcribe]] = {"ears": _ears, "pocketsphinx": general_sphinx}
"""Engines that hear connected talk, best first; each raises EngineError where it does not work."""


def run(*, data: Path, engine: str = "all", weights: Path | None = None, seed: int = 1, limit: int | None = None) -> dict[str, Any]:
    """Measure `engine` (one of TALKERS, or "all" that work here) on the recordings under `data`/speech. The figures of the best come
    first, those of each under `engines`.

    `weights` for the ears instead of the shipped ones; `limit` draws so many recordings of each group (with `seed`).
    Raises EngineError, OSError, ValueError.
    """
    missing = [str(data / "speech" / name / "text.tsv") for name in SPEECH if not (data / "speech" / name / "text.tsv").is_file()]
    if missing:
        raise ValueError(f"no recordings with transcripts: {' and '.join(missing)} missing")
    if engine not in {"all", *TALKERS}:
        raise ValueError(f"no engine {engine!r} hears connected talk: known are {', '.join(TALKERS)}, all")
    groups = _groups(data, seed, limit)
    engines: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    for name in TALKERS if engine == "all" else (engine,):
        try:
            transcribe = TALKERS[name](Setting(data, weights))
        except EngineError as error:
            skipped[name] = str(error)
            continue
        engines[name] = _figures(transcribe, groups)
    if not engines:
        raise EngineError("; ".join(f"{name}: {why}" for name, why in skipped.items()))
    best, figures = next(iter(engines.items()))
    return {**figures, "engine": best, "engines": engines, "skipped": skipped, "tables": _tables(engines, skipped)}


def errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """The fewest words to substitute, leave out and put in that make one of the other (Levenshtein)."""
    row = np.arange(len(heard) + 1)
    for at, word in enumerate(said, start=1):
        kept = np.minimum(row[1:] + 1, row[:-1] + np.array([word != other for other in heard], dtype=int))
        row = np.minimum.accumulate(np.concatenate(([at], kept)) - np.arange(len(row))) + np.arange(len(row))
    return int(row[-1])


def _groups(data: Path, seed: int, limit: int | None) -> dict[str, list[Clip]]:
    """The recordings to transcribe, by group."""
    found: dict[str, list[Clip]] = {}
    for clip in clips(data, "test"):
        if words_of(clip.text):
            found.setdefault(clip.group, []).append(clip)
    rng = random.Random(seed)
    return {name: rng.sample(those, min(limit or len(those), len(those))) for name, those in sorted(found.items())}


def _figures(transcribe: Transcribe, groups: dict[str, list[Clip]]) -> dict[str, Any]:
    """Word errors by group and over all, and what they cost."""
    found: dict[str, dict[str, Any]] = {}
    wrong = words = 0
    heard_s = spent_s = 0.0
    for name, those in groups.items():
        group_wrong = group_words = 0
        for clip in those:
            pcm, said = pcm_of(load(clip.path)), words_of(clip.text)
            began = time.process_time()
            heard = words_of(transcribe(pcm))
            spent_s += time.process_time() - began
            heard_s += len(pcm) / RATE
            group_wrong += errors(said, heard)
            group_words += len(said)
        found[name] = {"word_errors": group_wrong / max(1, group_words), "words": group_words, "recordings": len(those)}
        wrong, words = wrong + group_wrong, words + group_words
    return {"groups": found, "word_errors": wrong / max(1, words), "words": words, "rtf": spent_s / max(heard_s, 1e-9)}


def _tables(engines: dict[str, dict[str, Any]], skipped: dict[str, str]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) for people."""
    first, *_ = engines.values()
    rows = [
        [name, str(of["recordings"]), str(of["words"]), *(f"{engine['groups'][name]['word_errors']:.3f}" for engine in engines.values())]
        for name, of in first["groups"].items()
    ]
    recordings = sum(of["recordings"] for of in first["groups"].values())
    rows += [
        ["all", str(recordings), str(first["words"]), *(f"{engine['word_errors']:.3f}" for engine in engines.values())],
        ["CPU seconds per second of speech", "", "", *(f"{engine['rtf']:.3f}" for engine in engines.values())],
    ]
    tables = [("word errors per spoken word, connected talk", ["", "recordings", "words", *engines], rows)]
    if skipped:
        tables.append(("does not work here", ["", "why"], [[name, why] for name, why in skipped.items()]))
    return tables
