"""The recorded speech that the ears learn from, and which part of it they never see.

Splits are by speaker (speechocean) or sentence (Kathleen's), by a hash of the name, so that they never change: `train`, `tune` (blank
penalty, weights of the search, confidence) and `test` (reported). No order recording is in any of them, and no recording of the kitchen
whose noise the benchmark adds.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.recognition._pronounce import CMUDICT, read_dictionary

__all__ = ["NOISES", "ROOMS", "SPEECH", "Clip", "clips", "dictionary_for", "phones_of", "words_of"]

SPEECH = ("speechocean", "kathleen-full")
NOISES = ("noise/speech-commands", "noise/rirs")
"""Folders of noise to train with. Not noise/kitchen: the benchmark's."""
ROOMS = "noise/rirs/rir*"
_TWENTIETHS = {1: "test", 3: "test", 2: "tune"}  # odd ones are held out by the end-of-turn benchmark too
_TAKE = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Clip:
    """One recording with its words; `group` names people who are alike, where the corpus tells."""

    name: str
    path: Path
    text: str
    speaker: str
    part: str
    group: str


def clips(data: Path, part: str | None = None) -> Iterator[Clip]:
    """All recordings with transcripts under `data`/speech, those of `part` ("train", "tune", "test") or all. Raises OSError."""
    for corpus in SPEECH:
        with (data / "speech" / corpus / "text.tsv").open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                stem = Path(row["file"]).stem
                speaker = row.get("speaker") or _TAKE.sub("", stem)
                its_part = _TWENTIETHS.get(zlib.crc32(f"{corpus}/{speaker}".encode()) % 20, "train")
                if part in (None, its_part):
                    path = data / "speech" / corpus / row["file"]
                    yield Clip(f"{corpus}/{stem}", path, row["text"], speaker, its_part, _group(row.get("age") or ""))


def _group(age: str) -> str:
    if not age:
        return "kathleen, native adult"
    return "mandarin accent, child (to 12)" if int(age) <= 12 else "mandarin accent, 13 and older"


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return [word for part in re.sub(r"[^a-z' ]", " ", text.lower()).split() if (word := part.strip("'"))]


def phones_of(text: str, dictionary: Mapping[str, list[str]]) -> list[int] | None:
    """Classes of the usual pronunciation of `text`; None where a word has none or nothing was said."""
    from engines.recognition.ears.alphabet import phone_ids  # here: recordings are listed where vosk is measured, too

    found: list[int] = []
    for word in words_of(text):
        if word not in dictionary:
            return None
        found += phone_ids(dictionary[word][0])
    return found or None


def dictionary_for(texts: list[str]) -> dict[str, list[str]]:
    """Pronunciations of all words in `texts`. Raises ModelError."""
    return read_dictionary(CMUDICT, {word for text in texts for word in words_of(text)})
