"""Sentences that visitors may say: spoken form, every kind, seeded, and understood."""

from __future__ import annotations

import pytest

from runtime.conversation.phrases import sample_sentences, vocabulary
from runtime.conversation.tools import Understander
from runtime.packs import Pack

pytestmark = pytest.mark.unit


def test_sentences_are_in_spoken_form_and_the_same_for_a_seed(pack: Pack) -> None:
    """Lower case, no digits, no punctuation but apostrophes."""
    sentences = sample_sentences(pack, 400, seed=3)
    assert sentences == sample_sentences(pack, 400, seed=3)
    assert sentences != sample_sentences(pack, 400, seed=4)
    assert all(sentence and all(char.isalpha() or char in " '" for char in sentence) for sentence in sentences)
    assert all(sentence == sentence.lower() for sentence in sentences)


def test_all_kinds_of_talk_are_in_them(pack: Pack) -> None:
    """Orders, questions, corrections, answers, agreement."""
    sentences = set(sample_sentences(pack, 4000, seed=1))
    assert {"yes", "no", "stop"} <= sentences
    assert any(sentence.startswith("where are the") for sentence in sentences)
    assert any(sentence.startswith(("make that", "actually", "i meant")) for sentence in sentences)
    assert any(sentence.startswith(("remove", "leave out", "i don't want")) for sentence in sentences)
    assert any(sentence.endswith((" just one", " just two", " just three")) for sentence in sentences)
    for words in ("light roast small", "small light roast", "double shot dark roast", "dark roast double shot"):
        assert any(words in sentence for sentence in sentences), words


def test_their_words_are_in_the_vocabulary(pack: Pack) -> None:
    """What can be sampled can be looked up by a recogniser."""
    words = set(vocabulary(pack))
    assert {word for sentence in sample_sentences(pack, 2000, seed=2) for word in sentence.split()} <= words


def test_sampled_orders_are_understood(pack: Pack) -> None:
    """Nearly half of the sentences are orders, and the reader finds them again."""
    read = Understander(pack)
    sentences = sample_sentences(pack, 1000, seed=5)
    assert sum(read(sentence).intent is not None for sentence in sentences) > 450
