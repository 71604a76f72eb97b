"""General English for the ears: the frequent words and the telling pairs of the language model that the pocketsphinx wheel brings."""

from __future__ import annotations

import lzma
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from engines.errors import ModelError
from engines.recognition._pronounce import CMUDICT, read_dictionary

__all__ = ["WORDS", "write_talk"]

WORDS, PAIRS = 10_000, 60_000
_LOST = 1000  # n-grams that may be missing at the end
_WORD = re.compile(r"[a-z][a-z']*")
# pocketsphinx 5.1 crashes while it writes the trigrams of this model: in a process of its own that costs the last pairs, those of "zz…".
# Config and LogMath must outlive the model, which does not keep them.
_EXPORT = (
    "import pocketsphinx as p; config, log = p.Config(), p.LogMath(); "
    "p.NGramModel(config, log, p.get_model_path() + '/en-us/en-us.lm.bin').write({out!r}, p.NGramModel.str_to_type('arpa'))"
)


def write_talk(out: Path, words: int = WORDS, pairs: int = PAIRS) -> int:
    """Write the model as `engines.recognition.ears.talk` reads it; returns its size in bytes. Raises ModelError.

    Words must have a pronunciation. Of the pairs those stay that would change most if the second word had its own probability only.
    """
    with tempfile.TemporaryDirectory(prefix="visavis-talk-") as folder:
        arpa = Path(folder) / "en.arpa"
        subprocess.run([sys.executable, "-c", _EXPORT.format(out=str(arpa))], check=False, capture_output=True)
        if not arpa.is_file():
            raise ModelError("pocketsphinx' language model cannot be read: reinstall pocketsphinx")
        alone = {word: (log, back) for log, (word,), back in _section(arpa, 1)}
        sayable = read_dictionary(CMUDICT, [word for word in alone if _WORD.fullmatch(word)])
        kept = {*sorted(sayable, key=lambda word: (-alone[word][0], word))[:words], "<s>", "</s>"}
        found = [
            (10 ** (alone[before][0] + log) * abs(log - alone[before][1] - alone[word][0]), before, word, log)
            for log, (before, word), _ in _section(arpa, 2)
            if before in kept and word in kept
        ]
    after: dict[str, list[str]] = defaultdict(list)
    for _, before, word, log in sorted(found, reverse=True)[:pairs]:
        after[before].append(f"{word}:{log:.1f}")
    lines = [f"{word} {alone[word][0]:.2f}" for word in sorted(kept - {"<s>"}, key=lambda word: (-alone[word][0], word))]
    text = "\n".join((*lines, "", *(f"{before} {' '.join(rest)}" for before, rest in sorted(after.items()))))
    out.write_bytes(lzma.compress(text.encode(), preset=9))
    return out.stat().st_size


def _section(arpa: Path, order: int) -> Iterator[tuple[float, tuple[str, ...], float]]:
    """(log10 P, words, log10 back-off weight) of all n-grams of one order. Raises ModelError where more than _LOST of them are missing."""
    count = wanted = 0
    inside = False
    with arpa.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(f"ngram {order}="):
                wanted = int(line.partition("=")[2])
            elif line.startswith("\\"):
                if inside:
                    break
                inside = line.startswith(f"\\{order}-grams:")
            elif inside and line.strip():
                log, *rest = line.split()
                if len(rest) < order:  # cut off
                    break
                count += 1
                yield float(log), tuple(rest[:order]), float(rest[order]) if len(rest) > order else 0.0
    if not wanted or count < wanted - _LOST:
        raise ModelError(f"pocketsphinx' language model was written with {count} of {wanted} {order}-grams")
