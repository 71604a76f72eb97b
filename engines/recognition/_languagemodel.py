"""A back-off trigram from sentences, in the ARPA format that decoders read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engines.errors import EngineMissing

__all__ = ["write_trigram"]


def write_trigram(path: Path, sentences: Iterable[str], vocabulary: Iterable[str], discount: float) -> None:
    """Write the model of `sentences` to `path`; words of `vocabulary` that they do not have count once.

    `discount` is the share of probability that every context keeps for what never followed it. Raises EngineMissing.
    """
    try:
        from pocketsphinx.lm import ArpaBoLM
    except ImportError:
        raise EngineMissing("pocketsphinx is not installed: pip install pocketsphinx") from None
    lines = list(sentences)
    missing = set(vocabulary) - {word for line in lines for word in line.split()}
    model = ArpaBoLM(text="\n".join((*lines, *sorted(missing))), add_start=True, discount_mass=discount)
    model.compute()
    with path.open("w", encoding="utf-8") as file:
        model.write(file)
