"""From written text to what is said: prices, times, units, abbreviations, and which written word each spoken letter belongs to.

English only: these are the readings that espeak-ng and Piper (which asks espeak-ng) get wrong, such as "£2.40" (it says "pound two
point four zero") and "9:00 am" ("nine zero zero am"). Plain numbers are left to espeak-ng.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

__all__ = ["Spoken", "sentences", "spoken"]

MAX_SENTENCE = 240
"""Characters after which even a text without a full stop is cut, so that nobody waits long for the first sound."""

_MONEY = {"£": ("pound", "pounds", "pence"), "$": ("dollar", "dollars", "cents"), "€": ("euro", "euros", "cents")}
_UNITS = {
    "ml": "millilitre", "cl": "centilitre", "l": "litre", "g": "gram", "kg": "kilogram", "mg": "milligram", "mm": "millimetre",
    "cm": "centimetre", "m": "metre", "km": "kilometre", "min": "minute", "mins": "minute", "h": "hour", "hrs": "hour",
    "kcal": "kilocalorie", "oz": "ounce", "°": "degree", "°C": "degree",
}  # fmt: skip
_DAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "thur": "Thursday", "thurs": "Thursday",
    "fri": "Friday", "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip
_SHORT = {
    "e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "approx.": "approximately", "incl.": "including", "dr.": "Doctor",
    "mr.": "Mister", "mrs.": "Missus", "ms.": "Miz", "vs.": "versus", "&": "and", "½": "a half", "¼": "a quarter", "¾": "three quarters",
    "+": "plus", "@": "at", "=": "equals", "w/o": "without", "w/": "with",
}  # fmt: skip
_DAY = rf"(?:{'|'.join(sorted(_DAYS, key=len, reverse=True))})"
_ON = r"to\b|and\b|\d|[–—-]"
_TIME = r"(?:[01]?\d|2[0-4])[:.][0-5]\d"


def _money(m: re.Match[str]) -> str:
    one, many, parts = _MONEY[m[1]]
    whole, rest = int(m[2].replace(",", "")), int(m[3] or 0)
    if not whole and rest:
        return f"{rest} {parts}"
    return f"{whole} {one if whole == 1 else many}" + (f" {rest}" if rest else "")


def _clock(m: re.Match[str]) -> str:
    hour, minute, half = int(m[1]), int(m[2]), (m[3] or "").lower()
    if not half and (hour, minute) in {(0, 0), (24, 0)}:
        return "midnight"
    if not half and hour > 12:
        half, hour = "p", hour - 12
    tail = {"": "", "a": " AM", "p": " PM"}[half[:1]]
    if not minute:
        return f"{hour}{tail or ' o clock'}"
    return f"{hour} {f'oh {minute}' if minute < 10 else minute}{tail}"


def _day(m: re.Match[str]) -> str:
    return _DAYS[m[1].lower()] if m[1][0].isupper() else m[0]  # "sat" and "sun" are words, too


def _digits(m: re.Match[str]) -> str:
    groups = re.split(r"[^0-9]+", m[0].lstrip("+"))
    return ("plus " if m[0].startswith("+") else "") + ", ".join(" ".join(g) for g in groups if g)


def _unit(m: re.Match[str]) -> str:
    return f"{m[1]} {_UNITS[m[2]]}{'' if m[1] == '1' else 's'}"


# Order matters: a telephone number is no range, a range of times is split before the times are read.
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?<![\d.,£$€])(?:\+|0)\d[\d]*(?:[ -]\d{2,})+(?![\d:.])|(?<![\d.,])0\d{6,}(?!\d)"), _digits),
    (re.compile(r"(?:(?<=\d)|(?<=[ap]m)|(?<=[ap]\.m\.))\s?[–—-]\s?(?=[£$€]?\d)", re.IGNORECASE), lambda _: " to "),
    (re.compile(rf"(?<=\b[a-z]{{3}})\s?[–—-]\s?(?={_DAY}\b)", re.IGNORECASE), lambda _: " to "),
    (re.compile(r"([£$€])\s?(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{2}))?(?![\d.]\d)"), _money),
    (re.compile(r"\b(\d+)p\b"), lambda m: f"{m[1]} pence"),
    (re.compile(rf"\b(?={_TIME})(\d{{1,2}}):(\d{{2}})(?:\s?([ap])(?:\.m\.|m\b))?", re.IGNORECASE), _clock),
    (re.compile(r"\b(\d{1,2})\s?([ap])(?:\.m\.|m\b)", re.IGNORECASE), lambda m: f"{m[1]} {m[2].upper()}M"),
    (re.compile(r"\b(\d+(?:\.\d+)?)\s?(°C|°|ml|cl|kg|mg|g|mm|cm|km|mins|min|hrs|kcal|oz|l|m|h)(?![\w'’])"), _unit),
    (re.compile(r"(?<!\d)1/2(?!\d)"), lambda _: "a half"),
    (re.compile(r"(?<!\d)1/4(?!\d)"), lambda _: "a quarter"),
    (re.compile(r"\b24/7\b"), lambda _: "24 7"),
    (re.compile(r"\bNo\.\s?(?=\d)|#(?=\d)", re.IGNORECASE), lambda _: "number "),
    (re.compile(rf"\b({_DAY})\b(?:\.(?=\s*(?:,|{_ON}))|(?=\s*(?:[,.;:!?)]|$|{_ON})))", re.IGNORECASE), _day),
    (re.compile(r"(?<![\w.])(?:(?:e\.g|i\.e|etc|approx|incl|dr|mrs?|ms|vs)\.|w/o|w/)", re.IGNORECASE), lambda m: _SHORT[m[0].lower()]),
    (re.compile(r"[&½¼¾+@=]"), lambda m: f" {_SHORT[m[0]]} "),
    (re.compile(r"(?<=\s)[–—]|[–—](?=\s)"), lambda _: ","),
)  # fmt: skip


@dataclass(frozen=True)
class Spoken:
    """`text` is for the voice; letter i of it belongs to letter `origin[i]` of what was written."""

    text: str
    origin: tuple[int, ...]

    def words(self, written: str, starts: dict[int, int]) -> tuple[tuple[str, int], ...]:
        """(word of `written`, sample) from `starts`: position in the spoken text → sample. A word without a sound of its own (a dash)
        begins with the one before it.
        """
        at = sorted((self.origin[min(k, len(self.origin) - 1)], v) for k, v in starts.items()) if self.origin else []
        found, last = [], 0
        for word in re.finditer(r"\S+", written):
            inside = [v for o, v in at if word.start() <= o < word.end()]
            last = max(last, min(inside)) if inside else last
            found.append((word[0], last))
        return tuple(found)


def spoken(written: str, pronunciations: Mapping[str, str] = MappingProxyType({})) -> Spoken:
    """What is said for `written`; `pronunciations` are a store's own (word → how to say it) and come first.

    Decoration (markdown, emoji, control characters) is silent.
    """
    text = "".join(_silent(c) for c in written)
    origin = list(range(len(text)))
    own: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
        (re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE), partial(_as_told, said))
        for word, said in pronunciations.items()
        if word
    ]
    for pattern, replace in (*own, *_RULES):
        parts, source, end = [], [], 0
        for m in pattern.finditer(text):
            new = replace(m)
            parts += [text[end : m.start()], new]
            source += origin[end : m.start()]
            source += [origin[m.start() + i * (m.end() - m.start()) // len(new)] for i in range(len(new))]
            end = m.end()
        if parts:
            text, origin = "".join([*parts, text[end:]]), source + origin[end:]
    return Spoken(text, tuple(origin))


def _as_told(said: str, _: re.Match[str]) -> str:
    return said


def _silent(c: str) -> str:
    """Keeps every position: what must not be said becomes a space."""
    if c in "*_`~|<>\\^[]{}" or unicodedata.category(c) in {"So", "Sk", "Cs", "Cc", "Cf", "Cn", "Co", "Mn"}:
        return " " if c != "°" else c
    return c


_END = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+(?=[\"'“‘(]?[A-Z0-9£$€])|\n+")
_NO_END = re.compile(r"(?:\b(?:dr|mr|mrs|ms|st|no|vs|approx|incl|e\.g|i\.e)\.)$", re.IGNORECASE)


def sentences(written: str) -> Iterator[str]:
    """The sentences of `written`, none empty, none longer than MAX_SENTENCE characters."""
    start = 0
    for m in _END.finditer(written):
        if m[0].strip() or "\n" in m[0] or not _NO_END.search(written[start : m.start()]):
            yield from _pieces(written[start : m.end()].strip())
            start = m.end()
    yield from _pieces(written[start:].strip())


def _pieces(sentence: str) -> Iterator[str]:
    while len(sentence) > MAX_SENTENCE:
        cut = max(sentence.rfind(", ", MAX_SENTENCE // 3, MAX_SENTENCE) + 1, 0) or sentence.rfind(" ", 1, MAX_SENTENCE)
        cut = cut if cut > 0 else MAX_SENTENCE
        yield sentence[:cut].rstrip()
        sentence = sentence[cut:].lstrip()
    if any(c.isalnum() for c in sentence):
        yield sentence
