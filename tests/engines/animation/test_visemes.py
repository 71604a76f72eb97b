"""Each phoneme of either alphabet has its shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.animation import VISEMES, sounds


@pytest.mark.parametrize(
    ("phoneme", "visemes"),
    [
        ("m", ["PP"]), ("ˈaɪ", ["aa", "ih"]), ("tʃ", ["CH"]), ("əl", ["ax", "LL"]), ("ɔːɹ", ["ao", "RR"]), ("ˌəʊ", ["ax", "uh"]),
        ("iə", ["ih", "ax"]), ("n̩", ["nn"]), ("ʔ", []), ("", []), ("v", ["FF"]), ("θ", ["TH"]), ("t͡ʃ", ["CH"]),
        ("AY1", ["aa", "ih"]), ("CH", ["CH"]), ("pau", []), ("HH", ["hh"]), ("DH", ["TH"]), ("B", ["PP"]), ("ao", ["ao"]),
    ],
)  # fmt: skip
def test_shapes(phoneme: str, visemes: list[str]):
    """IPA and ARPAbet lead to the same visemes; marks and pauses have none."""
    assert visemes == [s.viseme for s in sounds(phoneme)]


@pytest.mark.parametrize(("phoneme", "stress"), [("ˈiː", 2), ("ˌiː", 1), ("iː", 0), ("IY1", 2), ("IY2", 1), ("IY0", 0), ("ˈt", 0)])
def test_stress_belongs_to_vowels(phoneme: str, stress: int):
    """Both alphabets' stress marks are read, on vowels only."""
    assert {stress} == {s.stress for s in sounds(phoneme)}


@given(st.text(max_size=8))
def test_any_symbol_is_survived(symbol: str):
    """Whatever an engine calls a phoneme: known visemes, shares that add up, no exception."""
    found = sounds(symbol)
    assert all(s.viseme in VISEMES for s in found)
    assert not found or abs(sum(s.share for s in found) - 1) < 1e-6
