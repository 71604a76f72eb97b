"""What was said in the order recordings, whose labels tell only what was meant: forced choice among the ways to say just that."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engines.recognition.training.augment import load
from engines.recognition.training.corpora import Clip

__all__ = ["fold_of", "order_clips", "transcripts"]

_LEADS = ("brew", "can i get", "can i have", "i want", "get me", "give me", "i'd like", "make me", "may i have")
_KINDS, _EXTRAS = ("size", "roast", "numberOfShots"), ("milkAmount", "sugarAmount")


def fold_of(stem: str, folds: int) -> int:
    """Which of `folds` parts a recording belongs to; never changes."""
    return zlib.crc32(stem.encode()) % folds


def order_clips(data: Path, kept: Path) -> list[Clip]:
    """The order recordings under `data` with their words, which are worked out once and then read from the JSON file `kept`."""
    folder = data / "speech" / "coffee-orders"
    if not kept.is_file():
        kept.write_text(json.dumps(transcripts(folder), indent=0), encoding="utf-8")
    found = json.loads(kept.read_text(encoding="utf-8"))
    return [Clip(f"coffee-orders/{stem}", folder / f"{stem}.flac", text, "", "orders", "orders") for stem, text in sorted(found.items())]


def transcripts(folder: Path) -> dict[str, str]:
    """Words by recording (stem) of `folder`, as pocketsphinx hears them when only the labelled slots can be said, in any order."""
    from pocketsphinx import Config, Decoder, get_model_path

    models = Path(get_model_path()) / "en-us"
    settings = Config(
        hmm=str(models / "en-us"),
        dict=str(models / "cmudict-en-us.dict"),
        samprate=16000,
        loglevel="FATAL",
        lm=None,
        beam=1e-80,
        wbeam=1e-60,
        pbeam=1e-80,
    )
    decoder = Decoder(settings)
    found = {}
    for number, (name, entry) in enumerate(sorted(json.loads((folder / "label.json").read_text(encoding="utf-8")).items())):
        path = folder / f"{Path(name).stem}.flac"
        if not path.is_file():
            continue
        decoder.add_jsgf_string(f"g{number}", _grammar({slot: value.strip() for slot, value in entry["slots"].items()}))
        decoder.activate_search(f"g{number}")
        decoder.start_utt()
        decoder.process_raw((np.clip(load(path), -1, 1) * 32767).astype("<i2").tobytes(), False, True)
        decoder.end_utt()
        if decoder.hyp():
            found[path.stem] = decoder.hyp().hypstr
    return found


def _grammar(slots: Mapping[str, str]) -> str:
    mods = " | ".join(" ".join(some) for some in itertools.permutations(slots[kind] for kind in _KINDS if kind in slots))
    extras = [slots[kind] for kind in _EXTRAS if kind in slots]
    more = " | ".join("with " + " and ".join(some) for some in itertools.permutations(extras)) if extras else ""
    return (
        f"#JSGF V1.0; grammar g; public <o> = [{' | '.join(_LEADS)}] [a | an] {f'({mods})' if mods else ''} "
        f"{slots['coffeeDrink']} {f'({more})' if more else ''};"
    )
