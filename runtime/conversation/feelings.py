"""How the visitor seems to feel, by their words: what they say is answered with a face that fits before the answer has a word of its own.

Only plain signs count, in English; without one, and in another language, there is no feeling, and the face stays as it is.
"""

from __future__ import annotations

import re

__all__ = ["feeling"]

_ANGRY = """ridiculous terrible awful useless stupid annoying annoyed angry rubbish horrible hate worst disgusting outrageous unacceptable
complain complaint complaining|fed up|too slow|waited ages|waiting for ages|waited forever|waiting forever|does not work|is not working"""
_SAD = """sad disappointed disappointing stolen worried afraid crying hurt
|i lost|we lost|i have lost|we have lost|i've lost|i'm lost|we're lost|am lost|are lost|can not find|could not find"""
_SURPRISED = """wow whoa unbelievable|no way|oh my"""
_HAPPY = """thanks great lovely perfect wonderful excellent brilliant awesome fantastic amazing delicious glad cheers
|thank you|love it|love that|love this|well done|good job|very nice|how nice"""
_NOT = frozenset(("not", "no", "never", "hardly"))
_NEAR = 3
"""So many words before a sign may turn it round: "not a very lovely"."""
_SHORT = (("cannot", "can not"), ("can't", "can not"), ("won't", "will not"), ("n't", " not"))


def _signs(text: str) -> tuple[tuple[str, ...], ...]:
    single, *phrases = text.replace("\n", " ").split("|")
    return tuple((word,) for word in single.split()) + tuple(tuple(phrase.split()) for phrase in phrases)


_SIGNS = {"angry": _signs(_ANGRY), "sad": _signs(_SAD), "surprised": _signs(_SURPRISED), "happy": _signs(_HAPPY)}


def feeling(text: str) -> str:
    """`angry`, `sad`, `surprised` or `happy`, "" for none; of several the first in this order. What is denied does not count, but praise
    that is denied is a complaint ("that was not great"), save for "no thanks".
    """
    plain = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    for short, long in _SHORT:
        plain = plain.replace(short, long)
    words = re.findall(r"[a-z']+", plain)
    found = set()
    for name, signs in _SIGNS.items():
        for sign in signs:
            for at in range(len(words) - len(sign) + 1):
                if tuple(words[at : at + len(sign)]) != sign:
                    continue
                before = words[max(0, at - _NEAR) : at]
                if not _NOT.intersection(before):
                    found.add(name)
                elif name == "happy" and sign[0] not in {"thanks", "thank", "cheers"} and "no" not in before:
                    found.add("angry")
    return next((name for name in _SIGNS if name in found), "")
