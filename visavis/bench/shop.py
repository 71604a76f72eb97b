"""Another shop: how many recorded sentences does the kiosk understand with a pack that was written for them, and nothing else changed?

The recordings (a folder like rhasspy-test-en) have a JSON beside each: its text, intent and slots. Right is a sentence whose intent and
slots all equal the JSON's, heard as `visavis.bench.hearing` says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engines.voice_activity import select as select_activity
from runtime.conversation.domain import speech_domain
from runtime.conversation.understanding import Understander
from runtime.packs import PackError
from runtime.packs import load as load_pack
from visavis.bench.hearing import Kiosk, Outcome, always, load, quantiles, recognisers, sounds

__all__ = ["PACK", "labels_of", "run"]

PACK = Path(__file__).resolve().parents[2] / "tests" / "packs" / "smart-home"
"""The pack for the sentences of rhasspy-test-en; in the source tree only."""


def run(
    *,
    data: Path,
    pack: Path = PACK,
    engine: str = "auto",
    model: Path | None = None,
    weights: Path | None = None,
    seed: int = 1,
    limit: int | None = None,
) -> dict[str, Any]:
    """Measure `engine` ("all": each that works here) with `pack` on the labelled recordings in `data` (the folder itself, or one that has
    speech/rhasspy-test-en in it). The figures of the best come first, those of each under `engines`.

    `weights` for the ears instead of the shipped ones; `seed` draws the training sentences, `limit` takes the first recordings only.
    Raises EngineError, OSError, ValueError.
    """
    folder = data / "speech" / "rhasspy-test-en" if (data / "speech").is_dir() else data
    wanted = labels_of(folder)
    clips = [(path.stem, load(path)) for path in sounds(folder) if path.stem in wanted][:limit]
    if not clips:
        raise ValueError(f"no recordings with a JSON (text, intent, slots) beside them in {folder}")
    try:
        shop = load_pack(pack)
    except PackError as error:
        raise ValueError(f"{pack}: {error}") from error
    domain, understand, activity = speech_domain(shop, seed=seed), Understander(shop), select_activity().activity
    chosen, skipped = recognisers(engine, model, weights)
    engines: dict[str, dict[str, Any]] = {}
    for one in chosen:
        one.engine.prepare(domain)
        kiosk = Kiosk(always(one), activity, understand)
        outcomes = [kiosk.whole(clip) for clip in clips]
        missed = [found for found in outcomes if not (found.sure and (found.intent, found.slots) == wanted[found.name][1:])]
        engines[one.name] = {
            "accuracy": 1 - len(missed) / len(outcomes),
            "sentences": len(outcomes),
            "words_right": sum(found.text == wanted[found.name][0] for found in outcomes) / len(outcomes),
            "rtf": kiosk.rtf,
            "finish_ms": quantiles(kiosk.finish_s),
            "missed": [_miss(found, wanted[found.name][0]) for found in missed],
        }
    best = chosen[0].name
    lines = [[name, f"{of['accuracy']:.3f}", f"{of['words_right']:.3f}", f"{of['rtf']:.3f}"] for name, of in engines.items()]
    misses = [[name, miss["said"], miss["heard"], miss["understood"]] for name, of in engines.items() for miss in of["missed"]]
    tables = [
        (f"sentences understood, intent and every slot right ({len(clips)})", ["", "right", "word for word", "CPU s per s"], lines),
        *([("not understood", ["", "said", "heard", "understood"], misses)] if misses else []),
    ]
    return {**engines[best], "engine": best, "engines": engines, "skipped": skipped, "tables": tables}


def labels_of(folder: Path) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Text, intent and slots by stem, from the JSON files in the folder. Raises OSError."""
    rows = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return {name: (row["text"], row["intent"]["name"], row["slots"]) for name, row in rows.items() if "intent" in row}


def _miss(found: Outcome, said: str) -> dict[str, Any]:
    meant = f"{found.intent or 'nothing'} {' '.join(f'{name}={value}' for name, value in found.slots.items())}".strip()
    understood = meant if found.sure or found.intent is None else f"{meant}, not sure"
    return {"name": found.name, "said": said, "heard": found.text, "understood": understood, "confidence": found.confidence}
