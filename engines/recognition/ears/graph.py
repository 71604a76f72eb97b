"""From words that may follow each other to the graph that sound is searched over: CTC ∘ lexicon ∘ n-gram, as one transducer.

Input labels are classes + 1 (what kaldi-decoder reads from the matrix of scores), output labels are words. One class more than the phones
is OTHER: any sound at all, at a price per frame; the word <other> is made of it and may stand wherever a word may. Before the sound stands
one frame that says what was asked: a class of its own for each hint of the n-gram.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kaldifst

from engines.recognition.ears.alphabet import BLANK, CLASSES, phone_ids
from engines.recognition.ears.ngram import END, NGram

__all__ = ["OTHER", "OTHER_WORD", "WordGraph", "build"]

OTHER = CLASSES
OTHER_WORD = "<other>"
_BACKOFF = "#0"
_VERSION = 1  # of the way graphs are made: another makes kept ones void


@dataclass(frozen=True)
class WordGraph:
    """The searched transducer, its words by output label (0: none), how each sounds (classes), and the class of each hint."""

    fst: Any
    words: tuple[str, ...]
    sounds: Mapping[str, tuple[tuple[int, ...], ...]]
    hints: Mapping[str, int]


def build(
    model: NGram, sounds: Mapping[str, Sequence[str]], scale: float, other_cost: float, word_cost: float, cache: Path | None = None
) -> WordGraph:
    """The graph of `model`, whose words are said as in `sounds` (CMUdict's notation, words without any are left out).

    `scale` multiplies the model's costs; `other_cost` (nats) is added where <other> begins, `word_cost` for each word. `cache`: a folder
    that keeps the graph for the next start; whatever is wrong with it, the graph is made anew.
    """
    classes = {word: tuple(dict.fromkeys(tuple(phone_ids(one)) for one in ways)) for word, ways in sounds.items()}
    hints = {hint: OTHER + 1 + index for index, hint in enumerate(model.starts)}
    names = ("<eps>", *sorted(classes), OTHER_WORD, _BACKOFF, *(f"#{hint}" for hint in hints))
    number = {word: label for label, word in enumerate(names)}
    words = WordGraph(None, tuple(names), {**classes, OTHER_WORD: ((OTHER,),)}, hints)
    kept = None if cache is None else cache / f"{_key(model, words, scale, other_cost, word_cost)}.fst"
    if kept is not None and (found := _read(kept)) is not None:
        return replace(words, fst=found)
    grammar = _grammar(model, number, scale, other_cost, word_cost)
    silent = {number[_BACKOFF]: OTHER + len(hints) + 2} | {number[f"#{hint}"]: one + 1 for hint, one in hints.items()}
    lexicon, most = _lexicon({number[w]: ways for w, ways in classes.items()}, number[OTHER_WORD], silent)
    kaldifst.arcsort(lexicon, sort_type="olabel")
    kaldifst.arcsort(grammar, sort_type="ilabel")
    both = kaldifst.compose(lexicon, grammar)
    kaldifst.determinize_star(both)
    kaldifst.minimize_encoded(both)
    _forget(both, range(silent[number[_BACKOFF]], silent[number[_BACKOFF]] + most + 1))
    kaldifst.arcsort(both, sort_type="ilabel")
    topology = _topology(tuple(hints.values()))
    kaldifst.arcsort(topology, sort_type="olabel")
    whole = kaldifst.compose(topology, both)
    kaldifst.connect(whole)
    kaldifst.arcsort(whole, sort_type="ilabel")
    made = kaldifst.StdConstFst(whole)
    if kept is not None:
        _write(made, kept)
    return replace(words, fst=made)


def _key(model: NGram, words: WordGraph, *numbers: float) -> str:
    """Names a graph by all that it is made of."""
    digest = hashlib.sha256(repr((_VERSION, numbers, words.words, sorted(words.sounds.items()), words.hints)).encode())
    for context, arcs in model.arcs.items():
        digest.update(repr((context, arcs, model.backoff.get(context))).encode())
    return digest.hexdigest()[:32]


def _read(kept: Path) -> Any | None:
    """The graph in `kept` if it is whole: the library would end the process over a damaged one."""
    try:
        seal = kept.with_suffix(".sha256").read_text(encoding="ascii")
        if hashlib.sha256(kept.read_bytes()).hexdigest() == seal:
            return kaldifst.StdConstFst.read(str(kept))
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _write(graph: Any, kept: Path) -> None:
    """Keep `graph`, the only one in its folder; a disk that is full or read-only costs the next start some seconds, nothing else."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        for old in (*kept.parent.glob("*.fst"), *kept.parent.glob("*.sha256")):
            old.unlink()
        if not graph.write(str(kept)):  # half a graph shall have no seal
            kept.unlink(missing_ok=True)
            return
        kept.with_suffix(".sha256").write_text(hashlib.sha256(kept.read_bytes()).hexdigest(), encoding="ascii")
    except (OSError, RuntimeError):
        return


def _grammar(model: NGram, number: Mapping[str, int], scale: float, other_cost: float, word_cost: float) -> Any:
    fst = kaldifst.StdVectorFst()
    state = {context: fst.add_state() for context in model.arcs}
    fst.start = fst.add_state()
    for hint, context in model.starts.items():
        fst.add_arc(fst.start, kaldifst.StdArc(number[f"#{hint}"], 0, 0.0, state[context]))
    for context, arcs in model.arcs.items():
        for arc in arcs:
            if arc.word == END:
                fst.set_final(state[context], scale * arc.cost)
            elif (label := number.get(arc.word)) is not None:
                fst.add_arc(state[context], kaldifst.StdArc(label, label, scale * arc.cost + word_cost, state[arc.to]))
        if context in model.backoff:
            cost, shorter = model.backoff[context]
            fst.add_arc(state[context], kaldifst.StdArc(number[_BACKOFF], 0, scale * cost, state[shorter]))
    other = number[OTHER_WORD]
    fst.add_arc(state[()], kaldifst.StdArc(other, other, other_cost, state[()]))
    return fst


def _lexicon(sounds: Mapping[int, Sequence[tuple[int, ...]]], other: int, silent: Mapping[int, int]) -> tuple[Any, int]:
    """(transducer of classes + 1 to words, how many labels only tell homophones apart); `silent`: words without sound and their labels.

    The first of those labels follows the largest of `silent`.
    """
    fst = kaldifst.StdVectorFst()
    start = fst.add_state()
    fst.start = start
    fst.set_final(start, 0.0)
    first = max(silent.values())
    prefixes = {way[:n] for ways in sounds.values() for way in ways for n in range(1, len(way))}
    used: dict[tuple[int, ...], int] = {}
    most = 0
    for word, ways in sounds.items():
        for way in ways:
            labels = [one + 1 for one in way]
            if way in used or way in prefixes:
                used[way] = used.get(way, 0) + 1
                most = max(most, used[way])
                labels.append(first + used[way])
            else:
                used[way] = 0
            _chain(fst, start, labels, word)
    _chain(fst, start, [OTHER + 1, first + 1], other)
    most = max(most, 1)
    for word, label in silent.items():
        fst.add_arc(start, kaldifst.StdArc(label, word, 0.0, start))
    return fst, most


def _chain(fst: Any, start: int, labels: Sequence[int], word: int) -> None:
    at = start
    for index, label in enumerate(labels):
        to = start if index == len(labels) - 1 else fst.add_state()
        fst.add_arc(at, kaldifst.StdArc(label, word if index == 0 else 0, 0.0, to))
        at = to


def _forget(fst: Any, extra: range) -> None:
    """Labels that only told words apart become silent."""
    for state in kaldifst.StateIterator(fst):
        changed = False
        arcs = []
        for arc in kaldifst.ArcIterator(fst, state):
            label = 0 if arc.ilabel in extra else arc.ilabel
            changed |= label != arc.ilabel
            arcs.append(kaldifst.StdArc(label, arc.olabel, arc.weight, arc.nextstate))
        if changed:
            fst.delete_arcs(state, len(arcs))
            for arc in arcs:
                fst.add_arc(state, arc)


def _topology(hints: Sequence[int]) -> Any:
    """CTC: a class may last, blanks may stand between, the same phone twice needs one. Before it, one frame of one of `hints`."""
    fst = kaldifst.StdVectorFst()
    fst.start, blank = fst.add_state(), fst.add_state()
    for hint in hints:
        fst.add_arc(fst.start, kaldifst.StdArc(hint + 1, hint + 1, 0.0, blank))
    states = {label: fst.add_state() for label in range(1, OTHER + 1)}
    fst.set_final(blank, 0.0)
    fst.add_arc(blank, kaldifst.StdArc(BLANK + 1, 0, 0.0, blank))
    for label, state in states.items():
        fst.set_final(state, 0.0)
        fst.add_arc(blank, kaldifst.StdArc(label + 1, label + 1, 0.0, state))
        fst.add_arc(state, kaldifst.StdArc(label + 1, 0, 0.0, state))
        fst.add_arc(state, kaldifst.StdArc(BLANK + 1, 0, 0.0, blank))
        for other, to in states.items():
            if other != label:
                fst.add_arc(state, kaldifst.StdArc(other + 1, other + 1, 0.0, to))
    return fst
