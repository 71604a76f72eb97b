"""Written text becomes what a person would say, and every spoken letter knows its written word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.synthesis._spoken import MAX_SENTENCE, sentences, spoken


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("£2.40", "2 pounds 40"),
        ("£1", "1 pound"),
        ("£0.80 or 80p", "80 pence or 80 pence"),
        ("£1,200", "1200 pounds"),
        ("€10", "10 euros"),
        ("$3.05", "3 dollars 5"),
        ("at 9:30", "at 9 30"),
        ("at 9:05", "at 9 oh 5"),
        ("9:00–18:00", "9 o clock to 6 PM"),
        ("9 a.m. to 12:30 pm.", "9 AM to 12 30 PM."),
        ("Mon–Fri, Sat.", "Monday to Friday, Saturday."),
        ("he sat in the sun", "he sat in the sun"),
        ("500ml and 1 kg", "500 millilitres and 1 kilogram"),
        ("3-4 days", "3 to 4 days"),
        ("flat-white", "flat-white"),
        ("0800 123 456", "0 8 0 0, 1 2 3, 4 5 6"),
        ("Dr. Lee", "Doctor Lee"),
        ("No. 5, #12", "number 5, number 12"),
        ("1/2 pint", "a half pint"),
        ("20 %", "20 %"),
    ],
)
def test_reads_as_people_do(written: str, said: str):
    """Prices, times, ranges, units and abbreviations are spoken as people speak them."""
    assert said == spoken(written).text


def test_decoration_is_silent():
    """Markdown and emoji are not read out."""
    assert spoken("**Bold** 😀 _move_").text.split() == ["Bold", "move"]


def test_a_sentence_ends_where_people_hear_it_end():
    """Abbreviations and prices do not end a sentence; lines do."""
    assert list(sentences("Hello! Dr. Smith pays £3.50. Bye\nnow.")) == ["Hello!", "Dr. Smith pays £3.50.", "Bye", "now."]


@given(st.text())
def test_every_letter_has_an_origin(text: str):
    """Whatever is written: each spoken letter belongs to a letter of it, in order, and nothing raises."""
    said = spoken(text)
    assert len(said.text) == len(said.origin)
    assert list(said.origin) == sorted(said.origin)
    assert all(0 <= o < len(text) for o in said.origin)


@given(st.text(max_size=900))
def test_sentences_keep_the_words(text: str):
    """No sentence is too long or empty, and no letter or digit gets lost."""
    found = list(sentences(text))
    assert all(0 < len(s) <= MAX_SENTENCE for s in found)
    assert [c for c in text if c.isalnum()] == [c for c in "".join(found) if c.isalnum()]


def test_words_keep_their_written_form():
    """Captions show "£2.40" at the time at which "2 pounds 40" begins."""
    written = "That is £2.40 please"
    said = spoken(written)
    starts = {i: 100 * i for i, c in enumerate(said.text) if i == 0 or said.text[i - 1] == " "}
    words = said.words(written, starts)
    assert [w for w, _ in words] == ["That", "is", "£2.40", "please"]
    assert 100 * said.text.index("2 pounds") == words[2][1]
    assert 100 * said.text.index("please") == words[3][1]


def test_a_store_s_own_pronunciations():
    """Words that a pack explains are said as it says, and still shown as written."""
    said = spoken("One Crema, please", {"crema": "kremma"})
    assert said.text == "One kremma, please"
    assert ("Crema,", 4) in said.words("One Crema, please", {4: 4})
