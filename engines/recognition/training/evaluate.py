"""How many phones a head gets wrong on people it never heard: the best class of each frame, repeats and blanks dropped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.recognition.ears.alphabet import BLANK
from engines.recognition.ears.hearing import Phones, PhoneStream
from engines.recognition.training.augment import load
from engines.recognition.training.corpora import clips, dictionary_for, phones_of

__all__ = ["edits", "greedy", "phone_errors"]


def greedy(logp: NDArray[np.float32]) -> list[int]:
    """Phones of (frames, CLASSES) log probabilities without any knowledge of words."""
    best = logp.argmax(axis=1)
    return [int(one) for one in best[np.r_[True, best[1:] != best[:-1]]] if one != BLANK] if len(best) else []


def edits(wanted: Sequence[object], found: Sequence[object]) -> int:
    """Levenshtein distance."""
    row = list(range(len(found) + 1))
    for i, one in enumerate(wanted, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (one != other))
    return row[-1]


def phone_errors(phones: Phones, data: Path, part: str, limit: int | None = None) -> dict[str, Any]:
    """Phone error rate over `part` of the corpora: `phone_errors`, `recordings`, and both again by `groups`."""
    recordings = list(clips(data, part))[:: 1 if limit is None else max(1, sum(1 for _ in clips(data, part)) // limit)]
    dictionary = dictionary_for([one.text for one in recordings])
    wrong: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in recordings:
        wanted = phones_of(one.text, dictionary)
        if wanted is None:
            continue
        stream = PhoneStream(phones)
        stream.feed(np.clip(np.rint(load(one.path) * 32767.0), -32768, 32767).astype(np.int16))
        for count, value in enumerate((edits(wanted, greedy(stream.look())), len(wanted), 1)):
            wrong[one.group][count] += value
    groups = {group: {"phone_errors": bad / total, "recordings": count} for group, (bad, total, count) in sorted(wrong.items())}
    bad, total, count = (sum(row[at] for row in wrong.values()) for at in range(3))
    return {"phone_errors": bad / max(1, total), "recordings": count, "groups": groups}
