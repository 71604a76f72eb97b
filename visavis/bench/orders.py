"""Spoken orders: how many of the recorded coffee orders does the kiosk understand, with every slot right, and what else becomes an order?

The recognisers are prepared as the kiosk prepares them: all tools, questions, corrections and small talk of the shipped pack, nothing of
the benchmark; recordings are heard as `visavis.bench.hearing` says. Accepted is an order whose intent and slots all equal the label, as
in the table that the peers published. Noise is mixed as they did: scaled by the loudest frames, read on from clip to clip.

Part of the settings was chosen on half of the recordings (`tuned_half`: an even SHA-256 of the name); the other half is reported beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.voice_activity import select as select_activity
from runtime.config import Config, environment
from runtime.conversation.domain import speech_domain
from runtime.conversation.understanding import Understander
from runtime.packs import load as load_pack
from visavis.bench.hearing import FRAME, Clip, Kiosk, Outcome, always, by_folds, load, quantiles, recognisers, sounds
from visavis.bench.suppression import Suppressor

__all__ = ["PEERS", "mixed", "run"]

PEERS = {
    "Picovoice Rhino": {6: 0.96, 9: 0.97, 12: 0.98, 15: 0.99, 18: 0.99, 21: 0.99, 24: 0.99},
    "IBM Watson": {6: 0.72, 9: 0.84, 12: 0.89, 15: 0.93, 18: 0.95, 21: 0.95, 24: 0.96},
    "Microsoft LUIS": {6: 0.86, 9: 0.89, 12: 0.90, 15: 0.91, 18: 0.92, 21: 0.93, 24: 0.93},
    "Amazon Lex": {6: 0.80, 9: 0.84, 12: 0.85, 15: 0.87, 18: 0.87, 21: 0.87, 24: 0.88},
    "Google Dialogflow": {6: 0.70, 9: 0.78, 12: 0.78, 15: 0.80, 18: 0.81, 21: 0.82, 24: 0.83},
}
"""Published by Picovoice (speech-to-intent-benchmark) for all 619 recordings, kitchen noise; SNR in dB → accepted."""
_NEGATIVES = ("rhasspy-test-en", "kathleen", "azure-samples")
_HELD_OUT = "speechocean"  # of this only the recordings that no training hears

Labels = Mapping[str, tuple[str, dict[str, str]]]


def run(
    *,
    data: Path,
    negatives: Sequence[Path] | None = None,
    noise: Path | None = None,
    snr: Sequence[float] = (24.0, 12.0, 6.0),
    engine: str = "auto",
    model: Path | None = None,
    weights: Path | None = None,
    folds: Path | None = None,
    suppressor: Path | None = None,
    seed: int = 1,
    limit: int | None = None,
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Measure `engine` ("all": each that works here) on the orders in `data` (a folder like coffee-orders, or one that has
    speech/coffee-orders in it). The figures of the best come first, those of each under `engines`.

    `negatives` (folders) and `noise` (a recording or a folder of them) default to those beside the orders, else those of VISAVIS_SHARED;
    `snr` in dB; `weights` for the ears instead of the shipped ones; `folds` (JSON, stem of a recording → file of weights) has the ears
    hear each order with weights that never saw it; `suppressor` is a GTCRN network that takes out the noise before; `seed` draws the
    kiosk's training sentences, `limit` takes the first recordings only, of the orders and of each kind of other speech.

    Raises EngineError, OSError, ValueError.
    """
    folder, root = _places(data)
    labels = json.loads((folder / "label.json").read_text(encoding="utf-8"))
    clips = [(path.stem, load(path)) for path in sounds(folder) if f"{path.stem}.wav" in labels][:limit]
    if not clips:
        raise ValueError(f"no labelled recordings in {folder}")
    wanted = {name: _label(labels[f"{name}.wav"]) for name, _ in clips}
    noises = noise or root / "noise" / "kitchen"
    loud = np.concatenate([load(path) for path in ([noises] if noises.is_file() else sounds(noises))]) if snr else np.empty(0)
    pack = load_pack(Config().pack_path)
    domain, understand, activity = speech_domain(pack, seed=seed), Understander(pack), select_activity().activity
    chosen, skipped = recognisers(engine, model, weights)
    others = {name: paths[:limit] for name, paths in _other_speech(root, negatives).items()}
    suppress = Suppressor(suppressor) if suppressor else None

    def quieted(them: Iterable[Clip]) -> Iterator[Clip]:
        return ((name, suppress(sound)) for name, sound in them) if suppress else iter(them)

    engines: dict[str, dict[str, Any]] = {}
    for one in chosen:
        one.engine.prepare(domain)
        crossed = folds if one.name == "ears" else None
        kiosk = Kiosk(by_folds(crossed, list(wanted), one, domain) if crossed else always(one), activity, understand)
        noisy = ((f"{level:g}", quieted(mixed(clips, loud, level))) for level in snr)
        engines[one.name] = _figures(kiosk, list(quieted(clips)), noisy, wanted, others) | {"cross_validated": crossed is not None}
    best = chosen[0].name
    result = {**engines[best], "engine": best, "engines": engines, "skipped": skipped, "tables": _tables(engines, skipped)}
    if json_file:
        json_file.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def _figures(
    kiosk: Kiosk, clips: Sequence[Clip], noisy: Iterable[tuple[str, Iterable[Clip]]], wanted: Labels, others: Mapping[str, Sequence[Path]]
) -> dict[str, Any]:
    """What one recogniser makes of the orders, of the orders in noise, and of other speech."""
    clean = [kiosk.whole(clip) for clip in clips]
    in_noise = {level: [kiosk.whole(clip) for clip in at_level] for level, at_level in noisy}
    rtf = kiosk.rtf
    taken = {name: [path.stem for path in paths if _becomes_order(kiosk, path)] for name, paths in others.items()}
    total = sum(len(paths) for paths in others.values())
    return {
        "accuracy": _accuracy(clean, wanted),
        "accuracy_tuned_half": _accuracy([one for one in clean if _tuned(one.name)], wanted),
        "accuracy_other_half": _accuracy([one for one in clean if not _tuned(one.name)], wanted),
        "by_snr": {level: _accuracy(outcomes, wanted) for level, outcomes in in_noise.items()},
        "orders_accepted": _share([one.sure for one in clean]),
        "orders_accepted_by_snr": {level: _share([one.sure for one in outcomes]) for level, outcomes in in_noise.items()},
        "false_orders": sum(len(names) for names in taken.values()) / max(1, total),
        "false_orders_by": {name: [len(taken[name]), len(paths)] for name, paths in others.items()},
        "non_orders": total,
        "false_order_files": [name for names in taken.values() for name in names],
        "rtf": rtf,
        "finish_ms": quantiles(kiosk.finish_s),
        "orders": len(clips),
        "missed": [one.name for one in clean if not _right(one, wanted)],
    }


def mixed(clips: Sequence[Clip], noise: NDArray[np.float64], snr_db: float) -> Iterator[Clip]:
    """The clips with noise, the way of Picovoice's benchmark: SNR of the loudest frames, the noise read on from clip to clip."""
    at = 0
    for name, sound in clips:
        piece = np.take(noise, np.arange(at, at + len(sound)), mode="wrap")
        at += len(sound)
        scale = np.sqrt(_peak(sound) / max(_peak(piece) * 10 ** (snr_db / 10), 1e-12))
        yield name, sound + scale * piece


def _peak(sound: NDArray[np.float64]) -> float:
    """Energy of the loudest frame."""
    return float(np.square(sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)).mean(axis=1).max(initial=0.0))


def _places(data: Path) -> tuple[Path, Path]:
    """Where the orders lie, and the data folder with other speech and noise."""
    folder = data if (data / "label.json").is_file() else data / "speech" / "coffee-orders"
    if not (folder / "label.json").is_file():
        raise ValueError(f"no label.json in {data} nor in {folder}")
    root = folder.parent.parent
    return folder, root if (root / "noise").is_dir() else environment().shared / "data"


def _other_speech(root: Path, negatives: Sequence[Path] | None) -> dict[str, list[Path]]:
    """Recordings that are no orders, by folder."""
    if negatives is not None:
        return {folder.name: sounds(folder) for folder in negatives}
    # Not above: it loads the ears' decoder, after which vosk could not be tried.
    from engines.recognition.training.corpora import SPEECH, clips

    found = {name: sounds(root / "speech" / name) for name in _NEGATIVES}
    if all((root / "speech" / name / "text.tsv").is_file() for name in SPEECH):
        found[_HELD_OUT] = [clip.path for clip in clips(root, "test") if clip.name.startswith(f"{_HELD_OUT}/")]
    return {name: paths for name, paths in found.items() if paths}


def _label(row: dict[str, Any]) -> tuple[str, dict[str, str]]:
    return row["intent"], {name: value.strip() for name, value in row["slots"].items()}


def _becomes_order(kiosk: Kiosk, path: Path) -> bool:
    return any(outcome.sure for outcome in kiosk.each((path.stem, load(path))))


def _right(outcome: Outcome, wanted: Labels) -> bool:
    return outcome.sure and (outcome.intent, outcome.slots) == wanted[outcome.name]


def _accuracy(outcomes: Sequence[Outcome], wanted: Labels) -> float:
    """Share of the utterances that became the order on their label."""
    return _share([_right(outcome, wanted) for outcome in outcomes])


def _share(true: Sequence[bool]) -> float:
    return sum(true) / max(1, len(true))


def _tuned(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2 == 0


def _tables(engines: Mapping[str, dict[str, Any]], skipped: Mapping[str, str]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) for people."""
    first, *_ = engines.values()
    levels = list(first["by_snr"])
    ours = [
        [
            f"visavis · {name}{' (cross-validated)' if of['cross_validated'] else ''}",
            *(f"{value:.3f}" for value in (of["accuracy"], *of["by_snr"].values())),
        ]
        for name, of in engines.items()
    ]
    rows = [[peer, "", *(f"{row[round(float(at))]:.2f}" if float(at) in row else "" for at in levels)] for peer, row in PEERS.items()]

    def share(title: str, *keys: str) -> list[str]:
        cells = []
        for of in engines.values():
            found: Any = of
            for key in keys:
                found = found[key]
            cells.append(f"{found[0]} of {found[1]}" if isinstance(found, list) else f"{found:.3f}")
        return [title, *cells]

    beside = [
        share("clean, half that settings were chosen on", "accuracy_tuned_half"),
        share("clean, other half", "accuracy_other_half"),
        share("orders that became an order at all", "orders_accepted"),
        *(share(f"… at {at} dB", "orders_accepted_by_snr", at) for at in levels),
        share(f"other speech taken for an order ({first['non_orders']} recordings)", "false_orders"),
        *(share(f"… {name}", "false_orders_by", name) for name in first["false_orders_by"]),
        share("CPU seconds per second of speech", "rtf"),
        [
            "final text after the end, ms CPU, p50 / p95",
            *(f"{of['finish_ms']['p50']} / {of['finish_ms']['p95']}" for of in engines.values()),
        ],
    ]
    tables = [
        (
            f"orders accepted, intent and every slot right ({first['orders']} recordings; peers: published, all 619)",
            ["", "clean", *(f"{at} dB" for at in levels)],
            [*ours, *rows],
        ),
        ("beside it", ["", *engines], beside),
    ]
    if skipped:
        tables.append(("does not work here", ["", "why"], [[name, why] for name, why in skipped.items()]))
    return tables
