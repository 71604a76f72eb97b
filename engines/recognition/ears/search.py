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

_LATTICE_BEAM = 9.0
_IMPOSSIBLE = -1e4
_USUAL = 4  # frames of a sound


@dataclass(frozen=True)
class Heard:
    """A word, its frames [start, end), how many sounds it has, and how much worse they fit than whatever sounds best (nats, 0 is best)."""

    word: str
    start: int
    end: int
    sounds: int
    misfit: float


@dataclass(frozen=True)
class Found:
    """The best path: its words (with <other>), and what it costs beyond mere sounds (nats)."""

    words: tuple[Heard, ...]
    surplus: float = 0.0


def scores(logp: NDArray[np.float32], blank_penalty: float, other_penalty: float) -> NDArray[np.float32]:
    """(frames, CLASSES + 1) for the search: CTC's blank takes all doubt, so it pays `blank_penalty` nats; the last column is any sound."""
    found = np.empty((len(logp), CLASSES + 1), np.float32)
    found[:, :CLASSES] = logp
    found[:, BLANK] -= blank_penalty
    found[:, OTHER] = found[:, :CLASSES].max(axis=1) - other_penalty
    return found


def _asked(matrix: NDArray[np.float32], hints: int, asked: int) -> NDArray[np.float32]:
    """`matrix` behind one frame in which nothing but the class `asked` is possible."""
    found = np.full((len(matrix) + 1, OTHER + 1 + hints), _IMPOSSIBLE, np.float32)
    found[1:, : OTHER + 1] = matrix
    found[0, asked] = 0.0
    return found


class Search:
    """Searches one graph; one thread."""

    def __init__(self, graph: WordGraph, beam: float = 13.0, most: int = 2500) -> None:
        self._graph = graph
        self._options = kaldi_decoder.FasterDecoderOptions(beam=beam, max_active=most)
        self._lattice = kaldi_decoder.LatticeSimpleDecoderConfig(beam=_LATTICE_BEAM, lattice_beam=_LATTICE_BEAM)

    def best(self, matrix: NDArray[np.float32], hint: str = "", *, ended: bool) -> Found:
        """Words for `matrix` (see `scores`), said after the question `hint`.

        `ended`: nothing follows, so a sentence that can end there is preferred.
        """
        if not len(matrix):
            return Found(())
        decoder = kaldi_decoder.FasterDecoder(self._graph.fst, self._options)
        decoder.decode(self._decodable(matrix, hint))
        found, path = decoder.get_best_path(use_final_probs=ended and decoder.reached_final())
        if not found:
            return Found(())
        _, labels, outputs, weight = kaldifst.get_linear_symbol_sequence(path)  # silent ones left out: one label per frame
        cost = weight.value1 + weight.value2
        return Found(tuple(self._words(matrix, labels[1:], outputs)), cost + float(matrix[:, :CLASSES].max(axis=1).sum()))

    def alternatives(self, matrix: NDArray[np.float32], count: int, hint: str = "") -> list[tuple[tuple[str, ...], float]]:
        """Up to `count` word sequences for the whole of `matrix`, best first, each with its cost."""
        decoder = kaldi_decoder.LatticeSimpleDecoder(self._graph.fst, self._lattice)
        if not len(matrix) or not decoder.decode(self._decodable(matrix, hint)):
            return []
        words = _words_only(decoder.get_raw_lattice()[1].to_str())
        kaldifst.rmepsilon(words)
        ranked = kaldifst.shortest_path(kaldifst.determinize(words), n=count)
        found = []
        for first in kaldifst.ArcIterator(ranked, ranked.start) if ranked.num_states else ():
            labels, cost, arc = [], 0.0, first
            while True:
                cost += arc.weight.value
                if arc.olabel:
                    labels.append(arc.olabel)
                if not ranked.num_arcs(arc.nextstate):
                    break
                arc = next(iter(kaldifst.ArcIterator(ranked, arc.nextstate)))
            found.append((tuple(self._graph.words[label] for label in labels), cost))
        return sorted(found, key=lambda one: one[1])

    def _decodable(self, matrix: NDArray[np.float32], hint: str) -> Any:
        hints = self._graph.hints
        return kaldi_decoder.DecodableCtc(_asked(matrix, len(hints), hints.get(hint, hints[""])))

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
            # <other> is made of no sounds of its own: it counts as many as would fill its time.
            sounds = (end - start) // _USUAL if name == OTHER_WORD else count
            heard.append(Heard(name, start, end, max(sounds, 1), float((best[start:end] - taken[start:end]).sum())))
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


def _words_only(lattice: str) -> Any:
    """The acceptor of words in a raw lattice, given as text (from, to, input, output, "graph,acoustic" costs; or a final state)."""
    lines = []
    for row in lattice.splitlines():
        parts = row.split()
        cost = sum(map(float, parts[-1].split(","))) if "," in parts[-1] else 0.0
        lines.append(f"{parts[0]} {parts[1]} {parts[3]} {parts[3]} {cost}" if len(parts) >= 4 else f"{parts[0]} {cost}")
    return kaldifst.compile("\n".join(lines) + "\n", acceptor=False)
