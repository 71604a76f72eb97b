"""From a pack to what the recogniser listens for."""

from __future__ import annotations

from engines.language.words import normalise
from engines.recognition import SpeechDomain
from runtime.conversation.phrases import sample_sentences, slot_values, vocabulary
from runtime.notation import parse
from runtime.packs import Pack, Slot

__all__ = ["CONFIRM", "SENTENCES", "speech_domain"]

CONFIRM = "confirm"
"""The hint while the kiosk waits for a yes or a no; the other hints are names of slots."""
SENTENCES = 12_000
"""Sentences drawn from the pack: more change neither the words nor their order noticeably."""


def speech_domain(pack: Pack, *, sentences: int = SENTENCES, seed: int = 1) -> SpeechDomain:
    """All that visitors are expected to say to `pack`. The same pack and seed give the same domain."""
    hints = {slot.name: _answers(slot) for tool in pack.tools for slot in tool.slot}
    hints[CONFIRM] = tuple(sentence for talk in ("yes", "no", "cancel") for sentence in map(_spoken, pack.spoken(talk)) if sentence)
    return SpeechDomain(
        sentences=tuple(filter(None, sample_sentences(pack, sentences, seed))),
        vocabulary=tuple(vocabulary(pack)),
        pronunciations=_respellings(pack),
        hints=hints,
    )


def _answers(slot: Slot) -> tuple[str, ...]:
    """What may follow the question for `slot`."""
    values = [said for said, _, _ in slot_values(slot)]
    values += [_spoken(said) for text in slot.none for said in parse(text).expand()]
    return tuple(f"{lead}{said}{close}" for said in values for lead in ("", "a ", "with ") for close in ("", " please"))


def _spoken(text: str) -> str:
    return " ".join(normalise(text))


def _respellings(pack: Pack) -> dict[str, str]:
    """The pack's pronunciations word by word; "Wi-Fi" is two words to a recogniser, and so is "why fye"."""
    found: dict[str, str] = {}
    for written, said in pack.pronunciations.items():
        words, parts = normalise(written), said.lower().split()
        if len(words) == 1:
            found[words[0]] = " ".join(parts)
        elif len(words) == len(parts):
            found.update(zip(words, parts, strict=True))
    return found
