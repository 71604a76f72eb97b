"""From sentences to intent and slots: every order of the benchmark's grammar, none of what is no order."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path

import pytest

from engines.language import DialogueState
from runtime.conversation.tools import Understander, understand
from runtime.packs import Pack

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def read(pack: Pack) -> Understander:
    """One understander for all."""
    return Understander(pack)


def _grammar(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Expressions and slots of coffee_maker.yaml (its own notation: [a, b] one of, $slot:slot)."""
    text = path.read_text(encoding="utf-8")
    slots: dict[str, list[str]] = {}
    name = ""
    for line in text[text.index("  slots:") :].splitlines()[1:]:
        if found := re.match(r"    (\w+):", line):
            name = found[1]
        elif found := re.match(r'      - "(.*)"', line):
            slots.setdefault(name, []).append(found[1])
    return re.findall(r'- "(\[brew.*)"', text), slots


def test_every_order_of_the_benchmark_grammar_is_understood(read: Understander, shared: Path) -> None:
    """Intent and all slots, canonical values equal to the labels, from correct transcripts."""
    expressions, slots = _grammar(shared / "data/speech/coffee-orders/coffee_maker.yaml")
    rng = random.Random(7)
    wrong = []
    assert len(expressions) >= 80
    for expression in expressions * 8:
        meant: dict[str, str] = {}

        def value(found: re.Match[str], meant: dict[str, str] = meant) -> str:
            return meant.setdefault(found[1], rng.choice(slots[found[1]]))

        text = re.sub(r"\[([^\]]*)\]", lambda found: rng.choice(found[1].split(", ")), expression)
        text = re.sub(r"\$(\w+):\w+", value, text)
        understood = read(text)
        if (understood.intent, understood.slots) != ("orderDrink", meant):
            wrong.append((text, meant, understood))
    assert wrong == []


def test_the_labels_are_values_of_the_pack(pack: Pack, shared: Path) -> None:
    """What the recordings are labelled with can be said to this pack."""
    labels = json.loads((shared / "data/speech/coffee-orders/label.json").read_text())
    values = {(slot.name, s.value) for slot in Understander(pack).tools[0].slots for s in slot.surfaces}
    used = {(slot, value.strip()) for label in labels.values() for slot, value in label["slots"].items()}
    assert used <= values


def test_read_sentences_and_home_commands_are_no_orders(read: Understander, shared: Path) -> None:
    """At most one in a hundred transcripts of other speech passes for an order."""
    speech = shared / "data/speech"
    texts = {json.loads(path.read_text())["text"] for path in (speech / "rhasspy-test-en").glob("*.json")}
    with (speech / "kathleen-full/text.tsv").open(encoding="utf-8") as file:
        texts |= {row["text"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    taken = [text for text in sorted(texts) if read(text).intent]
    assert len(texts) > 500
    assert len(taken) <= len(texts) / 100, taken


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("Can I get a large latte with oat milk, please?", {"coffeeDrink": "latte", "size": "large", "milkAmount": "oat milk"}),
        ("medium medium roast latte", {"coffeeDrink": "latte", "size": "medium", "roast": "medium roast"}),
        ("a drip coffee with a bit of milk", {"coffeeDrink": "drip coffee", "milkAmount": "a bit of milk"}),
        ("i'd like a coffee", {"coffeeDrink": "coffee"}),
        ("could i please have an iced coffee with two sugars", {"coffeeDrink": "iced coffee", "sugarAmount": "two sugars"}),
        ("give me a decaf flat white", {"coffeeDrink": "flat white", "decaf": "decaf"}),
        ("double espresso please", {"coffeeDrink": "espresso", "numberOfShots": "double shot"}),
        ("can i have a large expresso with skin milk", {"coffeeDrink": "espresso", "size": "large", "milkAmount": "skim milk"}),
        ("can i get a cap a chino", {"coffeeDrink": "cappuccino"}),
        ("i want a 12oz americano", {"coffeeDrink": "americano", "size": "twelve ounce"}),
        ("um hello i'd like to have a tall i mean a large mocha", {"coffeeDrink": "mocha", "size": "large"}),
        ("black coffee no sugar", {"coffeeDrink": "coffee"}),
        ("get me an oat latte", {"coffeeDrink": "latte", "milkAmount": "oat milk"}),
    ],
)
def test_orders_as_people_say_them(read: Understander, text: str, slots: dict[str, str]) -> None:
    """Longest phrases win, misheard words are mended, what is refused is left out."""
    understood = read(text)
    assert (understood.intent, understood.slots) == ("orderDrink", slots)
    assert 0 < understood.confidence <= 1


@pytest.mark.parametrize(
    "text",
    [
        "turn on the garage light",
        "make the bedroom light green",
        "is the cappuccino gluten free",
        "how much is a large latte",
        "what's in the mocha",
        "do you have oat milk",
        "where are the toilets",
        "that's the way i want to be",
        "the coffee was cold when she came back to the house",
        "",
        "...",
        "milk the cow",
        "i want to go home",
    ],
)
def test_what_is_no_order(read: Understander, text: str) -> None:
    """Questions, commands to a house, talk that mentions coffee."""
    assert read(text).intent is None


@pytest.mark.parametrize(
    ("asked", "known", "text", "slots"),
    [
        ("roast", {"coffeeDrink": "latte"}, "medium", {"size": "medium"}),
        ("size", {"coffeeDrink": "latte"}, "the big one", {"size": "large"}),
        ("milkAmount", {"coffeeDrink": "latte"}, "the oat one please", {"milkAmount": "oat milk"}),
        ("", {"coffeeDrink": "latte", "sugarAmount": "two sugars"}, "actually three", {"sugarAmount": "three sugars"}),
        ("numberOfShots", {"coffeeDrink": "latte"}, "two", {"numberOfShots": "double shot"}),
    ],
)
def test_short_answers_are_read_by_what_was_asked(
    read: Understander, asked: str, known: dict[str, str], text: str, slots: dict[str, str]
) -> None:
    """In the middle of an order a word is enough."""
    assert read(text, DialogueState("orderDrink", known, asked)).slots == slots


def test_understand_is_the_same_for_a_single_sentence(pack: Pack) -> None:
    """The function and the object agree."""
    assert understand(pack, "a small latte").slots == {"coffeeDrink": "latte", "size": "small"}
