"""The n-gram: probabilities that are some, ends that make sense, hints that change the answer's first words and nothing else."""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import ModelError
from engines.recognition.ears.ngram import END, NGram, ngram
from engines.recognition.ears.talk import Talk, read

WORDS = ("a", "b", "c", "d", "e")
lines = st.lists(st.sampled_from(WORDS), max_size=4).map(tuple)
corpora = st.lists(st.tuples(lines, st.sampled_from((1.0, 2.0, 7.0))), min_size=1, max_size=8)
answers = st.dictionaries(st.sampled_from(("size", "milk")), st.lists(lines, min_size=1, max_size=3), max_size=2)


@st.composite
def talks(draw: st.DrawFn) -> Talk:
    """General talk over the same words, one more, and the end of a sentence."""
    known = (*WORDS, "f", END)
    shares = draw(st.lists(st.floats(0.05, 1.0), min_size=len(known), max_size=len(known)))
    words = {word: share / sum(shares) for word, share in zip(known, shares, strict=True)}
    after = st.dictionaries(st.sampled_from(known), st.floats(0.01, 0.15), max_size=4)
    return Talk(words, draw(st.dictionaries(st.sampled_from((*WORDS, "f", "<s>")), after, max_size=4)))


def chance(model: NGram, context: tuple[str, ...], word: str) -> float:
    """P(word | context), by arcs and steps back as the grammar is searched."""
    cost = 0.0
    while True:
        for arc in model.arcs[context]:
            if arc.word == word:
                return math.exp(-cost - arc.cost)
        if context not in model.backoff:
            return 0.0
        step, context = model.backoff[context]
        cost += step


def costs(model: NGram, words: tuple[str, ...], hint: str = "") -> list[float]:
    """The cost of each word after those before it, and of the end."""
    context, found = model.starts[hint], []
    for word in (*words, END):
        found.append(-math.log(chance(model, context, word)))
        while word not in {arc.word for arc in model.arcs[context]}:
            context = model.backoff[context][1]
        context = next(arc.to for arc in model.arcs[context] if arc.word == word)
    return found


@settings(max_examples=120, deadline=None)
@given(corpora, st.sets(st.sampled_from((*WORDS, "x", "y"))), answers, st.none() | talks())
def test_after_any_context_something_follows(
    corpus: list[tuple[tuple[str, ...], float]], vocabulary: set[str], asked: dict[str, list[tuple[str, ...]]], talk: Talk | None
) -> None:
    """The chances of all words and of the end sum to 1 in every context, with and without talk and answers; none is above 1."""
    everything = vocabulary | set(WORDS) | {word for found in asked.values() for line in found for word in line}
    model = ngram(corpus, everything, asked, talk)
    possible = everything | {END, "f"}
    for context in model.arcs:
        chances = [chance(model, context, word) for word in possible]
        assert max(chances) <= 1.0 + 1e-9
        assert sum(chances) == pytest.approx(1.0, abs=2e-3)


@settings(max_examples=60, deadline=None)
@given(corpora, st.none() | talks())
def test_every_arc_and_step_leads_somewhere(corpus: list[tuple[tuple[str, ...], float]], talk: Talk | None) -> None:
    """No arc ends in a context that does not exist; every step back is to a shorter one, and the last is the empty one."""
    model = ngram(corpus, WORDS, talk=talk)
    assert all(arc.to in model.arcs for arcs in model.arcs.values() for arc in arcs)
    assert all(len(shorter) < len(context) and shorter in model.arcs for context, (_, shorter) in model.backoff.items())
    assert set(model.arcs) - set(model.backoff) == {()}


ORDERS = [
    *("a large latte", "a small latte", "a large latte with oat milk", "a small mocha with sugar", "a large latte please"),
    *("a large mocha", "where are the toilets", "what time do you close", "a small one please", "yes please", "no thank you"),
]
ANSWERS = {"size": ["large", "small", "a large one please"], "milk": ["oat milk", "with oat milk"]}


@pytest.fixture(scope="module")
def model() -> NGram:
    """A small shop, with general talk."""
    split = {hint: [line.split() for line in found] for hint, found in ANSWERS.items()}
    vocabulary = {word for line in (*ORDERS, *ANSWERS["size"], "cappuccino") for word in line.split()}
    return ngram([(line.split(), 20.0) for line in ORDERS], vocabulary, split, read(), share=0.1)


def test_a_sentence_can_end_where_sentences_end(model: NGram) -> None:
    """Thus "a large latte" may be all; "a large latte with" and "where are the" go on."""
    assert model.end_chance("a large latte".split()) > 0.3
    assert model.end_chance("where are the toilets".split()) > 0.5
    for unfinished in ("a large latte with", "a large", "where are the", "a small mocha with"):
        assert model.end_chance(unfinished.split()) < 0.05


def test_ends_after_words_that_nobody_foresaw(model: NGram) -> None:
    """Any words have a chance to be all that is said, none a chance above 1."""
    for said in ("", "latte latte latte", "qwertz", "with with", "the weather is nice"):
        assert 0.0 <= model.end_chance(said.split()) <= 1.0


def test_what_was_asked_makes_its_answers_cheaper(model: NGram) -> None:
    """So "large" is likely after the question for the size, and less so out of nothing, or after the question for milk."""
    for answer, hint, other in (("large", "size", "milk"), ("oat", "milk", "size"), ("small", "size", "")):
        asked, usual = (-math.log(chance(model, model.starts[one], answer)) for one in (hint, other))
        assert asked < usual - 1.0


def test_a_question_changes_nothing_after_two_words(model: NGram) -> None:
    """Whoever answers something else pays at the beginning, and is then heard as ever."""
    for said in ("a large latte with oat milk", "where are the toilets", "a small one please", "large latte", "the weather is large"):
        free, asked = costs(model, tuple(said.split())), costs(model, tuple(said.split()), "size")
        assert asked[2:] == pytest.approx(free[2:])


def test_an_unknown_question_asks_nothing(model: NGram) -> None:
    """The chance of an end is that of no question."""
    assert model.end_chance(["large"], "no such hint") == model.end_chance(["large"])


def test_words_without_a_sentence_can_be_said(model: NGram) -> None:
    """A vocabulary word has a chance everywhere, small as it may be."""
    assert all(0.0 < chance(model, context, "cappuccino") < 0.2 for context in model.arcs)


def test_general_talk_knows_what_the_shop_does_not(model: NGram) -> None:
    """Frequent English words have a chance; they are no part of the pack."""
    assert chance(model, (), "because") > 0.0
    assert chance(ngram([(["a"], 1.0)], ()), (), "because") == 0.0


@pytest.mark.parametrize(
    "content",
    [b"no xz at all", b"", lzma.compress(b""), lzma.compress(b"word\n"), lzma.compress(b"a 400\n"), lzma.compress(b"a \xff\n")],
    ids=["no archive", "empty file", "empty text", "no number", "beyond numbers", "no text"],
)
def test_a_damaged_file_of_talk_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with it: a ModelError that names the file."""
    path = tmp_path / "talk.txt.xz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="reinstall visavis") as told:
        read(path)
    assert "\n" not in str(told.value)


def test_half_a_file_of_talk_is_one_clear_line(tmp_path: Path) -> None:
    """A download that broke off is told like a missing file."""
    whole = lzma.compress(b"a -1.0\n</s> -1.0\n\na a:-0.5\n")
    (tmp_path / "half.xz").write_bytes(whole[:-20])
    for name in ("half.xz", "none.xz"):
        with pytest.raises(ModelError, match=name):
            read(tmp_path / name)
