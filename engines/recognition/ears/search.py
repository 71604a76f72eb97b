"""The best words for a matrix of scores: beam search over a word graph (kaldi-decoder), with where each word lies and how well it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import kaldi_decoder
import kaldifst
import numpy as np
from numpy.typing import NDArray

from engines.recognition.ears.alphabet import BLANK, CLASSES
from engines.recognition.ears.graph import OTHER, OTHER_WORD, WordGraph

__all__ = ["Found", "Heard", "Search", "scores"]


@dataclass(frozen=True)
class Heard:
    """A word, its frames [start, end), and how much worse per frame it fits than any sounds would (nats, 0 is best)."""

    word: str
    start: int
    end: int
    misfit: float


@dataclass(frozen=True)
class Found:
    """The best path: its words (with <other>), its cost, and whether a sentence can end there."""

    words: tuple[Heard, ...]
    cost: float
    final: bool


def scores(logp: NDArray[np.float32], blank_penalty: float, other_penalty: float) -> NDArray[np.float32]:
    """(frames, CLASSES + 1) for the search: CTC's blank takes all doubt, so it pays `blank_penalty` nats; the last column is any sound."""
    found = np.empty((len(logp), CLASSES + 1), np.float32)
    found[:, :CLASSES] = logp
    found[:, BLANK] -= blank_penalty
    found[:, OTHER] = found[:, :CLASSES].max(axis=1) - other_penalty
    return found


class Search:
    """Searches one graph; one thread."""

    def __init__(self, graph: WordGraph, beam: float = 13.0, most: int = 2500) -> None:
        self._graph = graph
        self._options = kaldi_decoder.FasterDecoderOptions(beam=beam, max_active=most)

    def best(self, matrix: NDArray[np.float32], *, ended: bool) -> Found:
        """Words for `matrix` (see `scores`). `ended`: nothing follows, so a sentence that can end there is preferred."""
        if not len(matrix):
            return Found((), 0.0, final=False)
        decoder = kaldi_decoder.FasterDecoder(self._graph.fst, self._options)
        decoder.decode(kaldi_decoder.DecodableCtc(matrix))
        final = decoder.reached_final()
        found, path = decoder.get_best_path(use_final_probs=ended and final)
        if not found:
            return Found((), float("inf"), final=False)
        labels, outputs, cost = _walk(path)
        return Found(tuple(self._words(matrix, labels, outputs)), cost, final)

    def _words(self, matrix: NDArray[np.float32], labels: Sequence[int], outputs: Sequence[int]) -> list[Heard]:
        """Words with their frames. The graph tells a word late or early, so its sounds are found again among those of the path."""
        said: list[tuple[int, int, int]] = []  # (class, first frame, frame after the last)
        for frame, label in enumerate(labels):
            kind = label - 1
            if kind == BLANK:
                continue
            if said and said[-1][0] == kind and said[-1][2] == frame:
                said[-1] = (kind, said[-1][1], frame + 1)
            else:
                said.append((kind, frame, frame + 1))
        names = [self._graph.words[label] for label in outputs]
        parts = self._split([kind for kind, _, _ in said], names)
        best = matrix[:, :CLASSES].max(axis=1)
        taken = matrix[np.arange(len(labels)), np.asarray(labels) - 1]
        heard, at = [], 0
        for name, count in zip(names, parts, strict=True):
            start, end = (said[at][1], said[at + count - 1][2]) if count else (said[at - 1][2] if at else 0,) * 2
            misfit = float((best[start:end] - taken[start:end]).mean()) if end > start else 0.0
            heard.append(Heard(name, start, end, misfit))
            at += count
        return heard

    def _split(self, kinds: Sequence[int], names: Sequence[str]) -> list[int]:
        """How many of the sounds `kinds` belong to each of `names`; the last, which may be cut off, takes what is left."""
        ends: list[dict[int, int]] = [{0: 0}]  # sounds used → sounds used before this word
        for name in names:
            reached: dict[int, int] = {}
            for used in ends[-1]:
                for way in self._graph.sounds[name]:
                    whole = tuple(kinds[used : used + len(way)])
                    if whole == way or (name == OTHER_WORD and whole[:1] == way):
                        reached.setdefault(used + len(way), used)
            if not reached:
                break
            ends.append(reached)
        counts: list[int] = []
        used = max(ends[-1])
        for reached in reversed(ends[1:]):
            counts.append(used - reached[used])
            used = reached[used]
        counts.reverse()
        rest = len(kinds) - sum(counts)
        if len(counts) < len(names):
            counts += [rest] + [0] * (len(names) - len(counts) - 1)
        return counts


def _walk(path: Any) -> tuple[list[int], list[int], float]:
    """(input label of each frame, output labels, cost) of a linear lattice."""
    labels, outputs, cost = [], [], 0.0
    state = path.start
    while True:
        arcs = list(kaldifst.ArcIterator(path, state)) if path.num_arcs(state) else []
        if not arcs:
            break
        arc = arcs[0]
        if arc.ilabel:
            labels.append(arc.ilabel)
        if arc.olabel:
            outputs.append(arc.olabel)
        cost += arc.weight.value1 + arc.weight.value2
        state = arc.nextstate
    return labels, outputs, cost
