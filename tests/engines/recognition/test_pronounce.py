"""Where the sounds of words come from."""

from __future__ import annotations

from pathlib import Path

import pocketsphinx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ModelError
from engines.recognition._pronounce import arpabet, pronounce, read_dictionary

CMUDICT = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
PHONES = set("AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split())


def test_dictionary_gives_all_variants() -> None:
    """A word with several pronunciations keeps them, the usual one first."""
    assert read_dictionary(CMUDICT, ["a"])["a"] == ["AH", "EY"]


def test_missing_dictionary_is_one_clear_line(tmp_path: Path) -> None:
    """The file and the remedy are named."""
    with pytest.raises(ModelError, match=r"none\.dict cannot be read.*reinstall pocketsphinx"):
        read_dictionary(tmp_path / "none.dict", ["a"])


def test_unknown_words_are_spelt_by_espeak() -> None:
    """A word that no dictionary has still gets English phones, and the right ones."""
    assert pronounce(["jewellery"], CMUDICT, {})["jewellery"] == ["JH UW AH L R IY"]


def test_respelling_adds_a_pronunciation() -> None:
    """The pack's way to say a word counts beside the dictionary's."""
    assert pronounce(["mocha"], CMUDICT, {"mocha": "mock ah"})["mocha"] == ["M OW K AH", "M AA K AA"]


def test_respelling_serves_words_without_entry() -> None:
    """Words of a respelling that are no words themselves are spelt out."""
    assert pronounce(["wyfy"], CMUDICT, {"wyfy": "why fye"})["wyfy"] == ["W AY F AY"]


@pytest.mark.parametrize(("ipa", "phones"), [("lˈɑːteɪ", "L AA T EY"), ("tʃˈɪɹz", "CH IH R Z"), ("dʒˈɔɪ", "JH OY"), ("xʘ", "")])
def test_ipa_becomes_arpabet(ipa: str, phones: str) -> None:
    """Diphthongs and affricates are one phone; a sound outside English makes the word unsayable rather than wrong."""
    assert arpabet(ipa) == phones


@given(st.text(max_size=12))
def test_arpabet_knows_only_the_decoder_s_phones(text: str) -> None:
    """Whatever comes in, nothing but CMU phones comes out: the decoder refuses all others."""
    assert set(arpabet(text).split()) <= PHONES
