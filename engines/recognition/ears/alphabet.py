"""The sounds that the ears tell apart: CMUdict's 39 phones, and CTC's blank."""

from __future__ import annotations

__all__ = ["BLANK", "CLASSES", "PHONES", "phone_ids"]

PHONES = tuple(
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
)  # fmt: skip
BLANK = 0
CLASSES = len(PHONES) + 1
_ID = {phone: number for number, phone in enumerate(PHONES, 1)}


def phone_ids(pronunciation: str) -> list[int]:
    """Classes of a pronunciation in CMUdict's notation without stress, "L AA T EY". Raises KeyError for another sound."""
    return [_ID[phone] for phone in pronunciation.split()]
