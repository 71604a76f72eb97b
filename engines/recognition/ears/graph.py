"""From words that may follow each other to the graph that sound is searched over: CTC ∘ lexicon ∘ n-gram, as one transducer.

Input labels are classes + 1 (what kaldi-decoder reads from the matrix of scores), output labels are words. One class more than the phones
is OTHER: any sound at all, at a price per frame; the word <other> is made of it and may stand wherever a word may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kaldifst

from engines.recognition.ears.alphabet import BLANK, CLASSES, phone_ids
from engines.recognition.ears.ngram import END, NGram

__all__ = ["OTHER", "OTHER_WORD", "WordGraph", "build"]

OTHER = CLASSES
OTHER_WORD = "<other>"
_BACKOFF = "#0"


@dataclass(frozen=True)
class WordGraph:
    """The searched transducer, its words by output label (0: none), and how each sounds (classes)."""

    fst: Any
    words: tuple[str, ...]
    sounds: Mapping[str, tuple[tuple[int, ...], ...]]
    model: NGram
    states: int
    arcs: int


def build(model: NGram, sounds: Mapping[str, Sequence[str]], scale: float, other_cost: float, word_cost: float) -> WordGraph:
    """The graph of `model`, whose words are said as in `sounds` (CMUdict's notation, words without any are left out).

    `scale` multiplies the model's costs; `other_cost` (nats) is added where <other> begins, `word_cost` for each word.
    """
    classes = {word: tuple(dict.fromkeys(tuple(phone_ids(one)) for one in ways)) for word, ways in sounds.items()}
    names = ("<eps>", *sorted(classes), OTHER_WORD, _BACKOFF)
    number = {word: label for label, word in enumerate(names)}
    grammar = _grammar(model, number, scale, other_cost, word_cost)
    lexicon, first_extra, extras = _lexicon({number[w]: ways for w, ways in classes.items()}, number[OTHER_WORD], number[_BACKOFF])
    kaldifst.arcsort(lexicon, sort_type="olabel")
    kaldifst.arcsort(grammar, sort_type="ilabel")
    both = kaldifst.compose(lexicon, grammar)
    both = kaldifst.determinize_star(both, use_log=False) or both
    kaldifst.minimize_encoded(both)
    _forget(both, first_extra, extras)
    kaldifst.arcsort(both, sort_type="ilabel")
    topology = _topology()
    kaldifst.arcsort(topology, sort_type="olabel")
    whole = kaldifst.compose(topology, both)
    kaldifst.connect(whole)
    kaldifst.arcsort(whole, sort_type="ilabel")
    states = whole.num_states
    arcs = sum(whole.num_arcs(state) for state in range(states))
    return WordGraph(kaldifst.StdConstFst(whole), tuple(names), {**classes, OTHER_WORD: ((OTHER,),)}, model, states, arcs)


def _grammar(model: NGram, number: Mapping[str, int], scale: float, other_cost: float, word_cost: float) -> Any:
    fst = kaldifst.StdVectorFst()
    state = {context: fst.add_state() for context in model.arcs}
    fst.start = state[model.start]
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


def _lexicon(sounds: Mapping[int, Sequence[tuple[int, ...]]], other: int, backoff: int) -> tuple[Any, int, int]:
    """(transducer of classes + 1 to words, first label that only tells homophones apart, how many of those there are)."""
    fst = kaldifst.StdVectorFst()
    start = fst.add_state()
    fst.start = start
    fst.set_final(start, 0.0)
    first = OTHER + 2
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
    fst.add_arc(start, kaldifst.StdArc(first, backoff, 0.0, start))
    return fst, first, most + 1


def _chain(fst: Any, start: int, labels: Sequence[int], word: int) -> None:
    at = start
    for index, label in enumerate(labels):
        to = start if index == len(labels) - 1 else fst.add_state()
        fst.add_arc(at, kaldifst.StdArc(label, word if index == 0 else 0, 0.0, to))
        at = to


def _forget(fst: Any, first: int, count: int) -> None:
    """Labels that only told words apart become silent."""
    extra = range(first, first + count)
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


def _topology() -> Any:
    """CTC: a class may last, blanks may stand between, the same phone twice needs one."""
    fst = kaldifst.StdVectorFst()
    blank = fst.add_state()
    fst.start = blank
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
