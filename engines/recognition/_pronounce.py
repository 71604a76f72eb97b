"""How words sound, in the phones of CMUdict: from the dictionary, from a respelling, or from espeak-ng's IPA."""

from __future__ import annotations

import ctypes
import lzma
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from engines.errors import ModelError

__all__ = ["CMUDICT", "arpabet", "pronounce", "read_dictionary"]

CMUDICT = Path(__file__).with_name("cmudict-en-us.dict.xz")
"""CMUdict as pocketsphinx ships it, for engines that are there where pocketsphinx is not."""

# Longest first: diphthongs and affricates before their parts. Stress, length and ties are taken off before.
_PHONES = (
    ("aɪə", "AY AH"), ("aɪɚ", "AY ER"), ("aʊə", "AW ER"), ("ɪɹ", "IH R"), ("eɪ", "EY"), ("aɪ", "AY"), ("ɔɪ", "OY"),
    ("aʊ", "AW"), ("oʊ", "OW"), ("əʊ", "OW"), ("tʃ", "CH"), ("dʒ", "JH"), ("ɜ", "ER"), ("ɝ", "ER"), ("ɚ", "ER"),
    ("əl", "AH L"), ("iə", "IY AH"), ("eə", "EH R"), ("ʊə", "UH R"), ("i", "IY"), ("ɪ", "IH"), ("ᵻ", "IH"),
    ("ɛ", "EH"), ("e", "EH"), ("æ", "AE"), ("a", "AE"), ("ɑ", "AA"), ("ɒ", "AA"), ("ɔ", "AO"), ("o", "AO"),
    ("ʊ", "UH"), ("u", "UW"), ("ʌ", "AH"), ("ə", "AH"), ("ɐ", "AH"), ("p", "P"), ("b", "B"), ("t", "T"), ("d", "D"),
    ("ɾ", "T"), ("k", "K"), ("ɡ", "G"), ("g", "G"), ("f", "F"), ("v", "V"), ("θ", "TH"), ("ð", "DH"), ("s", "S"),
    ("z", "Z"), ("ʃ", "SH"), ("ʒ", "ZH"), ("h", "HH"), ("m", "M"), ("n", "N"), ("ŋ", "NG"), ("l", "L"), ("ɫ", "L"),
    ("ɹ", "R"), ("r", "R"), ("j", "Y"), ("w", "W"), ("x", "K"), ("ʔ", "T"),
)  # fmt: skip
_NO_SOUND = re.compile("[ˈˌːˑ‿͡.|̩̃ʲ_]")
_VARIANT = re.compile(r"\(\d+\)$")
_IPA, _UTF8, _SYNCHRONOUS, _DO_NOT_EXIT = 0x02, 1, 2, 0x8000


def read_dictionary(path: Path, words: Iterable[str]) -> dict[str, list[str]]:
    """The entries of a CMUdict file for `words` (all variants, best first). Raises ModelError."""
    wanted, found = set(words), dict[str, list[str]]()
    try:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
            for line in lines:
                word, _, phones = line.strip().partition(" ")
                if (word := _VARIANT.sub("", word)) in wanted:
                    found.setdefault(word, []).append(phones)
    except (OSError, UnicodeDecodeError, EOFError, lzma.LZMAError) as error:
        owner = "visavis" if path == CMUDICT else "pocketsphinx"
        raise ModelError(f"pronouncing dictionary {path} cannot be read ({error}): reinstall {owner}") from None
    return found


def pronounce(words: Iterable[str], dictionary: Path, respelt: Mapping[str, str]) -> dict[str, list[str]]:
    """Phones for each of `words`: those of the dictionary and of the respelling, else what espeak-ng makes of the letters.

    Words that nobody can say are left out. Raises ModelError when the dictionary cannot be read.
    """
    words = sorted(set(words))
    respelt = {word: respelt[word].lower() for word in words if word in respelt}
    entries = read_dictionary(dictionary, {*words, *(part for spelling in respelt.values() for part in spelling.split())})
    unknown = {part for word in words for part in respelt.get(word, word).split() if part not in entries}
    unknown |= {word for word in words if word not in entries and word not in respelt}
    spelled = _Speller().phones(unknown) if unknown else {}
    sounds: dict[str, list[str]] = {}
    for word in words:
        variants = list(entries.get(word, ()))
        if word in respelt:
            parts = [(entries.get(part) or [spelled.get(part, "")])[0] for part in respelt[word].split()]
            if all(parts):
                variants.append(" ".join(parts))
        elif not variants and spelled.get(word):
            variants.append(spelled[word])
        if variants:
            sounds[word] = list(dict.fromkeys(variants))
    return sounds


def arpabet(ipa: str) -> str:
    """CMUdict phones for an IPA word as espeak-ng writes it; "" if it has a sound that English has not."""
    rest, phones = _NO_SOUND.sub("", ipa.strip().replace(" ", "")), list[str]()
    while rest:
        for symbol, phone in _PHONES:
            if rest.startswith(symbol):
                phones.append(phone)
                rest = rest[len(symbol) :]
                break
        else:
            return ""
    return re.sub(r"\bER R\b(?= [A-Z])", "ER", " ".join(phones))


class _Speller:
    """espeak-ng as a letter-to-sound converter.

    Its state is global to the loaded library, so a copy of the file is loaded: a voice in the same process keeps its rate and language.
    """

    def __init__(self) -> None:
        self._library: ctypes.CDLL | None = None
        try:
            import espeakng_loader

            with tempfile.TemporaryDirectory(prefix="visavis-spell-") as folder:
                library = ctypes.CDLL(shutil.copy(espeakng_loader.get_library_path(), folder))
            data = espeakng_loader.get_data_path().encode()
        except (ImportError, OSError, RuntimeError):
            return  # words outside the dictionary then need a pronunciation in the pack
        if library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT) > 0 and library.espeak_SetVoiceByName(b"en-us") == 0:
            library.espeak_TextToPhonemes.restype = ctypes.c_char_p
            self._library = library

    def phones(self, words: Iterable[str]) -> dict[str, str]:
        """Phones by word; a word that cannot be spelt is missing."""
        if self._library is None:
            return {}
        return {word: phones for word in words if (phones := arpabet(self._ipa(word)))}

    def _ipa(self, word: str) -> str:
        assert self._library is not None
        text = ctypes.c_char_p(word.encode())
        said = self._library.espeak_TextToPhonemes(ctypes.byref(text), _UTF8, _IPA)
        return (said or b"").decode("utf-8", "replace")
