"""Is what the visitor says over the avatar's voice an interruption? Words against backchannels, echo and noise."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from runtime.packs import Pack

__all__ = ["GRUNTS", "Overlap", "OverlapRules", "judge_overlap", "overlap_rules", "tokens"]

GRUNTS = frozenset("ah ahem eh er erm ha haha hm hmm huh mhm mm mmm oh ooh uh uhuh um wow".split())
"""Sounds that hold no floor whatever was asked; "yes" is a backchannel only while no question is open."""

_WORD = re.compile(r"[a-z0-9']+")


class Overlap(Enum):
    """What speech over the avatar's voice is, as far as can be told now."""

    UNSURE = "unsure"
    DISTANT = "distant"
    BACKCHANNEL = "backchannel"
    ECHO = "echo"
    INTERRUPTION = "interruption"


@dataclass(frozen=True, slots=True)
class OverlapRules:
    """Word lists come from the pack; times in milliseconds of voiced speech, confidences 0..1 (0: the recogniser does not judge)."""

    backchannels: frozenset[str] = frozenset({"okay", "ok", "yes", "yeah", "yep", "right", "sure", "good", "great", "i", "see"})
    stop_words: frozenset[str] = frozenset({"stop", "wait", "quiet", "enough", "cancel"})
    long_word: int = 4  # letters: a shorter word of the avatar's own is what a recogniser makes of coughs
    stop_ms: float = 240.0  # voiced time that makes a stop word believable
    words_ms: float = 300.0  # … two words
    word_ms: float = 480.0  # … one word
    sustained_ms: float = 510.0  # voiced time that needs no words
    longest_word_ms: float = 600.0  # of a backchannel: "okay" fills no more
    sure: float = 0.9  # words so confident need less time, and no lasting voice …
    sure_words_ms: float = 200.0  # … if they are two
    doubtful: float = 0.03  # … and under this they count as none …
    hopeless: float = 0.01  # … backchannels only under this: a doubtful okay is still an okay
    fading_db: float = 12.0  # a voice so much under its own peak may be over: a short word, unless it comes back
    distant_db: float = 8.5  # a voice so much softer than the visitor's was is another's, or the avatar's own …
    distant_words_db: float = 12.5  # … unless two words of it are …
    clear: float = 0.85  # … as confident as this
    worded: float = 0.85  # chance by the sound alone that words are said: from here on they need not be understood …
    worded_ms: float = 280.0  # … after so much of it …
    unworded: float = 0.7  # … and under this no words are believed …
    hum: float = 0.5  # … and nothing else that lasts
    near: float = 0.98  # words so sure are the visitor's own even if they are softer
    grunts: frozenset[str] = field(default=GRUNTS)


def overlap_rules(pack: Pack, sustained_ms: float) -> OverlapRules:
    """The rules with the pack's words. Stop words are only those that stop by themselves: "be" of "be quiet" says nothing yet."""
    said = [tokens(phrase) for kind in ("stop", "wait") if kind in pack.talk for phrase in pack.spoken(kind)]
    stops = frozenset(words[0] for words in said if len(words) == 1)
    backchannels = frozenset(word for phrase in pack.backchannels for word in tokens(phrase))
    return OverlapRules(backchannels=backchannels, stop_words=stops | OverlapRules().stop_words, sustained_ms=sustained_ms)


def tokens(text: str) -> tuple[str, ...]:
    """Lower-case words of `text`, without punctuation: "Mm-hm." gives ("mm", "hm")."""
    return tuple(_WORD.findall(text.lower()))


def judge_overlap(
    rules: OverlapRules, text: str, voiced_ms: float, *, spoken: Iterable[str], question_open: bool, ended: bool,
    confidence: float = 0.0, worded: float = -1.0, softer_db: float = 0.0, fallen_db: float = 0.0,
) -> Overlap:  # fmt: skip
    """Judge speech of `voiced_ms` understood as `text` while the avatar says `spoken` (its words so far and the next few).

    `worded`: the chance by the sound alone that somebody here says words (-1: not known). `question_open`: the avatar is asking something,
    so "yes" answers it. `ended`: the speech is over and `text` is final.
    `softer_db`: how much softer it is than what this visitor said before (0: not known); `fallen_db`: how much it is under its own peak.
    """
    words = heard = tokens(text)
    allowed = rules.grunts if question_open else rules.grunts | rules.backchannels
    if 0.0 < confidence < (rules.hopeless if allowed.issuperset(words) else rules.doubtful):
        words = ()
    said = set(spoken)
    foreign = [word for word in words if word not in said]
    # One word of their own makes the rest theirs, too: everybody says "have" and "a".
    content = [word for word in words if word not in allowed] if any(word not in allowed for word in foreign) else []
    lasting = voiced_ms if fallen_db < rules.fading_db else 0.0
    stop = any(word in rules.stop_words for word in foreign) and voiced_ms >= rules.stop_ms
    known = worded >= 0.0
    clear = (len(content) >= 2 and confidence >= rules.clear) or worded >= rules.near
    if softer_db > (rules.distant_words_db if clear else rules.distant_db):  # from afar even a sure "enough" is a guess
        return Overlap.DISTANT
    if known and worded < rules.unworded and not ended:
        content = []
    answer = ended and question_open and (not known or worded >= rules.hum)
    if stop or (content and (answer or _believable(rules, content, voiced_ms, lasting, confidence))):
        return Overlap.INTERRUPTION
    if words and not foreign and (len(words) > 1 or len(words[0]) >= rules.long_word):
        return Overlap.ECHO
    own = heard and allowed.issuperset(heard)
    if not own and not ended and worded >= rules.worded and voiced_ms >= rules.worded_ms:
        return Overlap.INTERRUPTION
    # Where there are too few words for the time, something else was said.
    hum = known and worded < rules.hum
    longest_ms = rules.longest_word_ms * sum(word in allowed for word in words)
    if not content and not ended and not hum and lasting >= max(rules.sustained_ms, longest_ms):
        return Overlap.INTERRUPTION
    return Overlap.BACKCHANNEL if ended or (words and not content) else Overlap.UNSURE


def _believable(rules: OverlapRules, content: list[str], voiced_ms: float, lasting_ms: float, confidence: float) -> bool:
    """Whether the words are enough, or sound has lasted long enough with them."""
    if lasting_ms >= (rules.words_ms if len(content) >= 2 else rules.word_ms):
        return True
    # A lone word is as often what a recogniser makes of "oh" or "good", however sure it is.
    return len(content) >= 2 and confidence >= rules.sure and voiced_ms >= rules.sure_words_ms
