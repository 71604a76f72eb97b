"""Finding facts: the right one for other wordings, none for what nobody wrote."""

from __future__ import annotations

import pytest

from runtime.conversation.knowledge import ANSWERED, Knowledge, spoken_price
from runtime.packs import Pack

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def knowledge(pack: Pack) -> Knowledge:
    """The coffee bar's."""
    return Knowledge(pack)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("where's the loo", "toilets"),
        ("Where are the toilets, please?", "toilets"),
        ("what time do you close today", "nine to seven"),
        ("when do you shut", "nine to seven"),
        ("are you open on boxing day", "Boxing Day"),
        ("do you sell umbrellas", "main entrance"),
        ("where is the toy departement", "third floor"),
        ("wheelchair access", "step-free"),
        ("can i pay with american express", "bank card"),
        ("are there nuts in the mocha", "nuts"),
        ("is the cappuccino gluten free", "no gluten"),
        ("how much does a large latte cost", "three pounds ten"),
        ("i lost my keys", "Lost property"),
        ("what cakes have you got", "arrot cake"),
    ],
)
def test_questions_find_their_answer(knowledge: Knowledge, question: str, words: str) -> None:
    """In other words, with a misspelling, with words around them."""
    best = knowledge.search(question)[0]
    assert best.score >= ANSWERED
    assert words in best.answer


@pytest.mark.parametrize(
    "question",
    [
        "who won the world cup",
        "what is the capital of france",
        "tell me about the weather",
        "turn on the garage light",
        "how do i get to the airport",
        "how old are you",
        "",
        "what",
        "the of and",
        "') OR 1=1 --",
        'NEAR("a" "b")',
    ],
)
def test_what_nobody_wrote_is_not_answered(knowledge: Knowledge, question: str) -> None:
    """Also when the question looks like a query language."""
    assert all(passage.score < ANSWERED for passage in knowledge.search(question))


def test_every_question_of_the_pack_finds_its_own_answer(pack: Pack, knowledge: Knowledge) -> None:
    """Word for word: score 1."""
    for entry in pack.knowledge:
        for question in entry.questions:
            found = knowledge.search(question)[0]
            assert (found.score, found.answer) == (1.0, entry.answer), question


@pytest.mark.parametrize(
    ("amount", "currency", "words"),
    [
        (3.2, "£", "three pounds twenty"),
        (1.0, "£", "one pound"),
        (0.4, "£", "forty pence"),
        (12.05, "€", "twelve euros five"),
        (2.0, "kr", "two kr"),
    ],
)
def test_prices_are_spoken(amount: float, currency: str, words: str) -> None:
    """A voice cannot read £3.20."""
    assert spoken_price(amount, currency) == words
