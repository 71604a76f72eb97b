"""How the mouth looks for each sound: the viseme recipes of the stock face, and from which phonemes they come.

IPA (espeak-ng, Piper, our own voice) and ARPAbet (flite, CMU dictionaries) are both read here and nowhere else.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VISEMES", "Sound", "Viseme", "sounds"]


class Viseme(NamedTuple):
    """Control weights (a name without _L/_R means both sides) and how the sound behaves among its neighbours.

    `yields`: 0 keeps its own lips, 1 takes those of the vowels around it. `holds`: the contact lasts through the whole sound (lips, teeth).
    `smile`: how much of the resting smile stays.
    """

    weights: dict[str, float]
    yields: float = 0.0
    holds: bool = False
    smile: float = 0.7
    vowel: bool = False


VISEMES: dict[str, Viseme] = {
    "PP": Viseme({"mouthPress": 0.35, "mouthRollUpper": 0.18, "mouthRollLower": 0.22}, holds=True, smile=0.5),
    # The lower lip reaches 3 px (at 512) over the edge of the upper teeth; twice as far, as a still f was first drawn, it is bitten off.
    "FF": Viseme({"mouthUpperUp": 0.34, "mouthRollLower": 0.36, "jawOpen": 0.06, "mouthShrugLower": 0.05}, holds=True, smile=0.4),
    "TH": Viseme({"jawOpen": 0.18, "mouthLowerDown": 0.28, "mouthUpperUp": 0.22, "mouthStretch": 0.1, "tongueUp": 0.7}, yields=0.15),
    "DD": Viseme({"jawOpen": 0.14, "mouthLowerDown": 0.26, "mouthUpperUp": 0.16, "mouthStretch": 0.1, "tongueUp": 0.85}, yields=0.35),
    "LL": Viseme({"jawOpen": 0.20, "mouthLowerDown": 0.26, "mouthUpperUp": 0.16, "mouthStretch": 0.1, "tongueUp": 0.9}, yields=0.4),
    "kk": Viseme({"jawOpen": 0.20, "mouthLowerDown": 0.20, "mouthUpperUp": 0.10, "mouthStretch": 0.15}, yields=0.55),
    "CH": Viseme(
        {"mouthFunnel": 0.55, "mouthPucker": 0.20, "jawOpen": 0.08, "mouthShrugUpper": 0.10, "tongueUp": 0.4}, yields=0.1, smile=0.2
    ),
    "SS": Viseme({"jawOpen": 0.05, "mouthStretch": 0.35, "mouthLowerDown": 0.30, "mouthUpperUp": 0.15, "tongueUp": 0.3}, yields=0.25),
    "nn": Viseme({"jawOpen": 0.13, "mouthLowerDown": 0.20, "mouthUpperUp": 0.12, "tongueUp": 0.9}, yields=0.35),
    "RR": Viseme({"mouthPucker": 0.35, "mouthFunnel": 0.30, "jawOpen": 0.12, "tongueUp": 0.3}, yields=0.3, smile=0.3),
    "WW": Viseme({"mouthPucker": 0.85, "mouthFunnel": 0.25, "jawOpen": 0.05}, smile=0.1),
    "YY": Viseme({"jawOpen": 0.12, "mouthStretch": 0.30, "mouthLowerDown": 0.26, "mouthUpperUp": 0.16}, yields=0.3),
    "hh": Viseme({"jawOpen": 0.20, "mouthLowerDown": 0.20, "mouthUpperUp": 0.12}, yields=0.85),
    "aa": Viseme({"jawOpen": 0.55, "mouthLowerDown": 0.25, "mouthUpperUp": 0.20, "mouthStretch": 0.1}, vowel=True),
    "ae": Viseme({"jawOpen": 0.44, "mouthLowerDown": 0.28, "mouthUpperUp": 0.22, "mouthStretch": 0.25}, vowel=True),
    "ah": Viseme({"jawOpen": 0.36, "mouthLowerDown": 0.24, "mouthUpperUp": 0.16, "mouthStretch": 0.1}, vowel=True),
    "ax": Viseme({"jawOpen": 0.24, "mouthLowerDown": 0.20, "mouthUpperUp": 0.12, "mouthStretch": 0.1}, yields=0.25, vowel=True),
    "er": Viseme({"jawOpen": 0.24, "mouthFunnel": 0.25, "mouthPucker": 0.15, "mouthLowerDown": 0.15}, smile=0.4, vowel=True),
    "E": Viseme({"jawOpen": 0.28, "mouthStretch": 0.35, "mouthLowerDown": 0.30, "mouthUpperUp": 0.20}, vowel=True),
    "ih": Viseme({"jawOpen": 0.18, "mouthStretch": 0.30, "mouthSmile": 0.10, "mouthLowerDown": 0.30, "mouthUpperUp": 0.20}, vowel=True),
    "oh": Viseme({"jawOpen": 0.35, "mouthFunnel": 0.45, "mouthPucker": 0.35}, smile=0.2, vowel=True),
    "ao": Viseme({"jawOpen": 0.45, "mouthFunnel": 0.35, "mouthPucker": 0.20, "mouthLowerDown": 0.10}, smile=0.3, vowel=True),
    "ou": Viseme({"mouthPucker": 0.80, "mouthFunnel": 0.30, "jawOpen": 0.12}, smile=0.1, vowel=True),
    "uh": Viseme({"mouthPucker": 0.50, "mouthFunnel": 0.30, "jawOpen": 0.18}, smile=0.2, vowel=True),
}

_IPA = {
    "PP": "pbmɓɱ",
    "FF": "fvʋɸβ",
    "TH": "θð",
    "DD": "tdɾʈɖ",
    "LL": "lɫɬɭɮʎ",
    "kk": "kɡgŋqɢxɣχçʁɴ",
    "CH": "ʃʒʂʐɕʑ",
    "SS": "szʦʣ",
    "nn": "nɲɳ",
    "RR": "ɹrɻʀɽ",
    "WW": "wʍɥ",
    "YY": "jʝ",
    "hh": "hɦħʕ",
    "aa": "aɑɶ",
    "ae": "æ",
    "ah": "ʌɐ",
    "ax": "əɘᵊ",
    "er": "ɜɚɝɞ",
    "E": "eɛ",
    "ih": "iɪɨᵻ",
    "oh": "oøœɵ",
    "ao": "ɔɒ",
    "ou": "uyʉɯ",
    "uh": "ʊʏɤ",
}
_BY_LETTER = {letter: viseme for viseme, letters in _IPA.items() for letter in letters}
_AFFRICATES = {"tʃ": "CH", "dʒ": "CH", "tɕ": "CH", "dʑ": "CH", "ts": "SS", "dz": "SS"}

_ARPABET = {
    "AA": "aa", "AE": "ae", "AH": "ah", "AO": "ao", "AW": "aa uh", "AX": "ax", "AXR": "er", "AY": "aa ih", "B": "PP", "CH": "CH", "D": "DD",
    "DH": "TH", "DX": "DD", "EH": "E", "ER": "er", "EY": "E ih", "F": "FF", "G": "kk", "HH": "hh", "IH": "ih", "IX": "ih", "IY": "ih",
    "JH": "CH", "K": "kk", "L": "LL", "M": "PP", "N": "nn", "NG": "kk", "OW": "oh uh", "OY": "ao ih", "P": "PP", "R": "RR", "S": "SS",
    "SH": "CH", "T": "DD", "TH": "TH", "UH": "uh", "UW": "ou", "V": "FF", "W": "WW", "Y": "YY", "Z": "SS", "ZH": "CH",
}  # fmt: skip
_PAUSES = frozenset({"PAU", "SIL", "SP", "SPN", "BRTH", "H#", "_", "^", "$"})


class Sound(NamedTuple):
    """One step of the mouth inside a phoneme: a key of VISEMES, its share of the time, and the stress on it (0 none, 1 second, 2 main)."""

    viseme: str
    share: float
    stress: int


def sounds(phoneme: str) -> tuple[Sound, ...]:
    """The steps of `phoneme` in IPA (stress and length marks allowed, several letters, such as "ˈaɪ", "əl") or ARPAbet ("AY1").

    () for a pause or a mark without a shape of its own.
    """
    stress = 2 if "ˈ" in phoneme else 1 if "ˌ" in phoneme else 0
    bare = phoneme.strip().rstrip("012")
    if bare.upper() in _PAUSES or not bare:
        return ()
    if bare.isascii() and bare.upper() in _ARPABET and (bare.isupper() or len(bare) > 1):
        digit = phoneme.strip()[-1]
        stress = 2 if digit == "1" else 1 if digit == "2" else 0
        found = _ARPABET[bare.upper()].split()
    else:
        found = _letters(bare)
    return tuple(Sound(v, 1 / len(found), stress if VISEMES[v].vowel else 0) for v in found)


def _letters(ipa: str) -> list[str]:
    found, i = [], 0
    bare = ipa.replace("͡", "").replace("͜", "")
    while i < len(bare):
        pair = _AFFRICATES.get(bare[i : i + 2])
        viseme = pair or _BY_LETTER.get(bare[i])
        if viseme:
            found.append(viseme)
        elif bare[i].isalpha() and bare[i] not in "ʔːˑˈˌʰʲʷˠˤʼ":
            found.append("ax")  # a sound that we do not know opens the mouth a little
        i += 2 if pair else 1
    return found
