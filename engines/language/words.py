"""Text as words: one spelling for what people type, what recognisers write and what packs declare; and how alike words sound."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["forget", "normalise", "number_words", "similarity", "sound", "stem"]

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_ABBREVIATIONS = {"oz": "ounce", "ounces": "ounce", "ok": "okay", "pls": "please", "thx": "thanks"}
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+")
_FOLD = str.maketrans({"\u2019": "'", "\u2018": "'", "`": "'", "-": " ", "é": "e", "è": "e", "ê": "e", "à": "a", "ï": "i"})


def number_words(number: int) -> str:
    """How to say a whole number from 0 to 999999."""
    if number < 20:
        return _UNITS[number]
    if number < 100:
        rest = number % 10
        return _TENS[number // 10] + (f" {_UNITS[rest]}" if rest else "")
    if number < 1000:
        rest = number % 100
        return f"{_UNITS[number // 100]} hundred" + (f" and {number_words(rest)}" if rest else "")
    rest = number % 1000
    return f"{number_words(number // 1000)} thousand" + (f" {'and ' if rest < 100 else ''}{number_words(rest)}" if rest else "")


def normalise(text: str) -> list[str]:
    """Lower-case words without punctuation, numbers as words: "A 12oz latte, please!" → a twelve ounce latte please."""
    words: list[str] = []
    for word in _WORD.findall(text.lower().translate(_FOLD)):
        if word.isdecimal():
            words += (number_words(int(word)) if len(word) <= 6 else " ".join(_UNITS[int(digit)] for digit in word)).split()
        else:
            words.append(_ABBREVIATIONS.get(word, word))
    return words


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """The word without its commonest English endings, so that plural and singular meet; not linguistically right, only consistent."""
    word = word.removesuffix("'s").replace("'", "")
    for ending, least in (("ies", 3), ("ing", 4), ("ed", 4), ("es", 4), ("s", 3), ("e", 4), ("y", 4)):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= least:
            return word[: -len(ending)]
    return word


@lru_cache(maxsize=4096)
def similarity(said: str, meant: str) -> float:
    """How alike two words look and sound, 0 to 1 (1: the same)."""
    if said == meant:
        return 1.0
    return 0.5 * _alike(said, meant) + 0.5 * _alike(sound(said), sound(meant))


_SOUND_RULES = tuple(
    (re.compile(pattern), sound)
    for pattern, sound in (
        (r"^(kn|gn)", "n"),
        (r"^wr", "r"),
        (r"ph", "f"),
        (r"gh", ""),
        (r"t?ch|sh", "s"),
        (r"ck|q|x|c(?=[aou])|c(?=[^eiyh]|$)", "k"),
        (r"c(?=[eiy])", "s"),
        (r"z", "s"),
        (r"th", "t"),
        (r"d", "t"),
        (r"b", "p"),
        (r"v", "f"),
        (r"[aeiouyhw]+", "a"),
        (r"(.)\1+", r"\1"),
    )
)


@lru_cache(maxsize=8192)
def sound(word: str) -> str:
    """A rough phonetic key: consonant classes, vowels as one."""
    for pattern, key in _SOUND_RULES:
        word = pattern.sub(key, word)
    return word


def forget() -> None:
    """Let go of all words that were looked at: some of them a visitor said."""
    for kept in (stem, similarity, sound):
        kept.cache_clear()


def _alike(a: str, b: str) -> float:
    """1 - edit distance / longer length."""
    longest = max(len(a), len(b))
    if not longest:
        return 1.0
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return 1 - row[-1] / longest
