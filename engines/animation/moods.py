"""What a face feels and does with its words: moods, and the tags with which a reply asks for them.

A tag is a name in square brackets before the word that it is for: "[sorry] We are out of oat milk. [happy] [nod] But there is soy!"
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["CUES", "MIRRORED", "MOODS", "PLACES", "TAGS", "Tag", "take_tags"]

MOODS: dict[str, dict[str, float]] = {
    "neutral": {},
    "friendly": {"mouthSmile": 0.12, "cheekSquint": 0.1, "browInnerUp": 0.04, "browOuterUp": 0.05},
    "happy": {"mouthSmile": 0.34, "mouthDimple": 0.08, "cheekSquint": 0.32, "eyeSquint": 0.14, "browOuterUp": 0.06},
    "surprised": {"browInnerUp": 0.42, "browOuterUp": 0.48, "eyeWide": 0.34},
    "sorry": {
        "browInnerUp": 0.42,
        "browOuterUp": -0.06,
        "mouthSmile": -0.2,
        "mouthFrown": 0.18,
        "eyeSquint": 0.06,
        "pitch": 1.4,
        "roll": 1.2,
    },
    "serious": {"browDown": 0.24, "mouthSmile": -0.16, "mouthPress": 0.1, "eyeSquint": 0.06},
    "doubtful": {"browDown_L": 0.3, "browOuterUp_R": 0.45, "browInnerUp_R": 0.14, "mouthSmile_R": 0.08, "mouthFrown_L": 0.08, "roll": -1.4},
}
"""Control weights and degrees on top of the resting face (a name without _L/_R means both sides). None of them parts lips that meet."""

MIRRORED = {"happy": "happy", "surprised": "surprised", "sad": "sorry", "angry": "sorry"}
"""The mood in which to meet a visitor of that mood; any other is met as neutral."""

CUES = {"nod": 0.75, "shake": 0.9, "brow": 0.7, "glance": 0.9, "smile": 2.6}
"""Short reactions and how long they last (s): a nod, a shake of the head, a lift of the brows, a look of attention, a smile of the eyes."""

PLACES = {"screen": (6.0, 10.0), "away": (-11.0, -5.0)}
"""Where there is something to look at (yaw, pitch): what the page shows lies below the face, or right of it; away is past the visitor."""

TAGS = frozenset({*MOODS, *CUES, *PLACES})
_TAG = re.compile(r"\[([a-z]+)\]\s*")


class Tag(NamedTuple):
    """One of TAGS, and the number of the word before which it stands."""

    name: str
    word: int


def take_tags(text: str) -> tuple[str, tuple[Tag, ...]]:
    """`text` without its tags, and the tags in order. What is in brackets and no tag stays."""
    kept, tags, at = "", [], 0
    for found in _TAG.finditer(text):
        if found[1] not in TAGS:
            continue
        kept += text[at : found.start()]
        at = found.end()
        tags.append(Tag(found[1], len(kept.split())))
    return (kept + text[at:]).strip() if tags else text, tuple(tags)
