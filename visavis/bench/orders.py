"""Spoken orders: how many of the recorded coffee orders does the kiosk understand, with every slot right, and what else becomes an order?

The recogniser is prepared as the kiosk prepares it: all tools, questions, corrections and small talk of the shipped pack, nothing of the
benchmark. Each recording goes through the kiosk's voice activity detection (an utterance begins 300 ms before the onset and ends 80 ms
into the silence), is fed in pieces of 60 ms, and its final text is understood out of nothing. Accepted is an order whose intent and slots
all equal the label, as in the table that the peers published. Noise is mixed as they did: scaled by the loudest frames, read on from clip
to clip.

Part of the settings was chosen on half of the recordings (`tuned_half`: an even SHA-256 of the name); the other half is reported beside it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engines.recognition import RATE, Recogniser, select
from engines.voice_activity import VoiceActivity
from engines.voice_activity import select as select_activity
from runtime.config import Config, environment
from runtime.conversation.domain import speech_domain
from runtime.conversation.understanding import Understander
from runtime.messages import SURE
from runtime.packs import load as load_pack

__all__ = ["PEERS", "Outcome", "mixed", "run", "utterances"]

PEERS = {
    "Picovoice Rhino": {6: 0.96, 9: 0.97, 12: 0.98, 15: 0.99, 18: 0.99, 21: 0.99, 24: 0.99},
    "IBM Watson": {6: 0.72, 9: 0.84, 12: 0.89, 15: 0.93, 18: 0.95, 21: 0.95, 24: 0.96},
    "Microsoft LUIS": {6: 0.86, 9: 0.89, 12: 0.90, 15: 0.91, 18: 0.92, 21: 0.93, 24: 0.93},
    "Amazon Lex": {6: 0.80, 9: 0.84, 12: 0.85, 15: 0.87, 18: 0.87, 21: 0.87, 24: 0.88},
    "Google Dialogflow": {6: 0.70, 9: 0.78, 12: 0.78, 15: 0.80, 18: 0.81, 21: 0.82, 24: 0.83},
}
"""Published by Picovoice (speech-to-intent-benchmark) for all 619 recordings, kitchen noise; SNR in dB → accepted."""
_NEGATIVES = ("rhasspy-test-en", "kathleen", "azure-samples")
_SOUNDS = {".flac", ".wav", ".ogg", ".opus"}
_FRAME = 512
_PIECE = 6 * RATE // 100
_BEFORE = 3 * RATE // 10
_AFTER = 8 * RATE // 100
_APART = RATE  # so much quiet makes two utterances of one recording
_SPEECH = 0.5

Pcm = NDArray[np.int16]
Clip = tuple[str, NDArray[np.float64]]


class Outcome(NamedTuple):
    """What became of one utterance."""

    name: str
    text: str
    confidence: float
    intent: str | None
    slots: dict[str, str]


def run(
    *,
    data: Path,
    negatives: Sequence[Path] | None = None,
    noise: Path | None = None,
    snr: Sequence[float] = (24.0, 12.0, 6.0),
    engine: str = "pocketsphinx",
    model: Path | None = None,
    seed: int = 1,
    limit: int | None = None,
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Measure `engine` on the orders in `data` (a folder like coffee-orders, or one that has speech/coffee-orders in it).

    `negatives` (folders) and `noise` (a recording or a folder of them) default to those beside the orders, else those of VISAVIS_SHARED;
    `snr` in dB; `seed` draws the kiosk's training sentences, `limit` takes the first recordings only.

    Raises EngineError, OSError, ValueError.
    """
    folder, root = _places(data)
    labels = json.loads((folder / "label.json").read_text(encoding="utf-8"))
    clips = [(path.stem, _load(path)) for path in _sounds(folder) if f"{path.stem}.wav" in labels][:limit]
    if not clips:
        raise ValueError(f"no labelled recordings in {folder}")
    wanted = {name: _label(labels[f"{name}.wav"]) for name, _ in clips}
    pack = load_pack(Config().pack_path)
    chosen = select(engine, model)
    chosen.engine.prepare(speech_domain(pack, seed=seed))
    kiosk = _Kiosk(chosen.engine, select_activity().activity, Understander(pack))

    clean = [kiosk.whole(clip) for clip in clips]
    noises = noise or root / "noise" / "kitchen"
    loud = np.concatenate([_load(path) for path in ([noises] if noises.is_file() else _sounds(noises))]) if snr else np.empty(0)
    by_snr = {f"{level:g}": _accepted([kiosk.whole(clip) for clip in mixed(clips, loud, level)], wanted) for level in snr}
    rtf = kiosk.spent_s / max(kiosk.heard_s, 1e-9)
    folders = [root / "speech" / name for name in _NEGATIVES] if negatives is None else list(negatives)
    others = [path for other in folders for path in _sounds(other)]
    taken = [path.stem for path in others if any(_is_order(outcome) for outcome in kiosk.each((path.stem, _load(path))))]
    figures = {
        "accuracy": _accepted(clean, wanted),
        "accuracy_tuned_half": _accepted([one for one in clean if _tuned(one.name)], wanted),
        "accuracy_other_half": _accepted([one for one in clean if not _tuned(one.name)], wanted),
        "by_snr": by_snr,
        "false_orders": len(taken) / max(1, len(others)),
        "non_orders": len(others),
        "false_order_files": taken,
        "rtf": rtf,
        "finish_ms": _quantiles(kiosk.finish_s),
        "orders": len(clips),
        "missed": [one.name for one in clean if not _right(one, wanted)],
    }
    result = {**figures, "engine": chosen.name, "engines": {chosen.name: figures}, "tables": _tables(chosen.name, figures)}
    if json_file:
        json_file.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


class _Kiosk:
    """Recording in, outcome out, as in the kiosk but in virtual time; counts what it cost."""

    def __init__(self, recogniser: Recogniser, activity: VoiceActivity, understand: Callable[[str], Any]) -> None:
        self._recogniser, self._activity, self._understand = recogniser, activity, understand
        self.heard_s = self.spent_s = 0.0
        self.finish_s: list[float] = []

    def whole(self, clip: Clip) -> Outcome:
        """The whole recording is one turn, pauses included."""
        pcm = _pcm(clip[1])
        spans = utterances(pcm, self._activity, len(pcm))
        return self._outcome(clip[0], pcm[slice(*spans[0])] if spans else pcm[:0])

    def each(self, clip: Clip) -> Iterator[Outcome]:
        """Every utterance of the recording by itself."""
        pcm = _pcm(clip[1])
        for start, end in utterances(pcm, self._activity, _APART):
            yield self._outcome(clip[0], pcm[start:end])

    def _outcome(self, name: str, pcm: Pcm) -> Outcome:
        began = time.process_time()
        self._recogniser.begin()
        for at in range(0, len(pcm), _PIECE):
            self._recogniser.feed(pcm[at : at + _PIECE])
        asked = time.process_time()
        found = self._recogniser.finish()
        done = time.process_time()
        self.spent_s += done - began
        self.heard_s += len(pcm) / RATE
        self.finish_s.append(done - asked)
        meant = self._understand(found.text)
        return Outcome(name, found.text, found.confidence, meant.intent, meant.slots)


def utterances(pcm: Pcm, activity: VoiceActivity, apart: int) -> list[tuple[int, int]]:
    """Where people speak: [start, end) with pre-roll, as the recogniser gets it; `apart` samples of quiet make two of one."""
    activity.reset()
    found: list[tuple[int, int]] = []
    for at in range(0, len(pcm) - _FRAME + 1, _FRAME):
        if activity.probability(pcm[at : at + _FRAME]) < _SPEECH:
            continue
        if found and at - found[-1][1] < apart:
            found[-1] = (found[-1][0], at + _FRAME)
        else:
            found.append((at, at + _FRAME))
    return [(max(0, start - _BEFORE), min(len(pcm), end + _AFTER)) for start, end in found]


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
    return float(np.square(sound[: len(sound) // _FRAME * _FRAME].reshape(-1, _FRAME)).mean(axis=1).max(initial=0.0))


def _places(data: Path) -> tuple[Path, Path]:
    """Where the orders lie, and the data folder with other speech and noise."""
    folder = data if (data / "label.json").is_file() else data / "speech" / "coffee-orders"
    if not (folder / "label.json").is_file():
        raise ValueError(f"no label.json in {data} nor in {folder}")
    root = folder.parent.parent
    return folder, root if (root / "noise").is_dir() else environment().shared / "data"


def _sounds(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SOUNDS)


def _load(path: Path) -> NDArray[np.float64]:
    """Mono at 16 kHz, full scale 1.0."""
    sound, rate = soundfile.read(path, dtype="float64", always_2d=True)
    mono: NDArray[np.float64] = sound.mean(axis=1)
    return mono if rate == RATE else np.asarray(soxr.resample(mono, rate, RATE), np.float64)


def _pcm(sound: NDArray[np.float64]) -> Pcm:
    return np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)


def _label(row: dict[str, Any]) -> tuple[str, dict[str, str]]:
    return row["intent"], {name: value.strip() for name, value in row["slots"].items()}


def _is_order(outcome: Outcome) -> bool:
    return outcome.intent is not None and outcome.confidence >= SURE


def _right(outcome: Outcome, wanted: dict[str, tuple[str, dict[str, str]]]) -> bool:
    return _is_order(outcome) and (outcome.intent, outcome.slots) == wanted[outcome.name]


def _accepted(outcomes: Sequence[Outcome], wanted: dict[str, tuple[str, dict[str, str]]]) -> float:
    """Share of the utterances that became the order on their label."""
    return sum(_right(outcome, wanted) for outcome in outcomes) / max(1, len(outcomes))


def _tuned(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2 == 0


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {"n": len(values)} | {f"p{q}": round(1000 * float(np.quantile(values, q / 100)), 1) for q in (50, 95, 99)}


def _tables(name: str, figures: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) for people."""
    levels = list(figures["by_snr"])
    ours = [f"visavis · {name}", f"{figures['accuracy']:.3f}", *(f"{value:.3f}" for value in figures["by_snr"].values())]
    rows = [[peer, "", *(f"{row[round(float(at))]:.2f}" if float(at) in row else "" for at in levels)] for peer, row in PEERS.items()]
    finish = figures["finish_ms"]
    return [
        (
            f"orders accepted, intent and every slot right ({figures['orders']} recordings; peers: published, all 619)",
            ["", "clean", *(f"{at} dB" for at in levels)],
            [ours, *rows],
        ),
        (
            "beside it",
            ["", name],
            [
                ["clean, half that settings were chosen on", f"{figures['accuracy_tuned_half']:.3f}"],
                ["clean, other half", f"{figures['accuracy_other_half']:.3f}"],
                ["other speech taken for an order", f"{figures['false_orders']:.3f} of {figures['non_orders']}"],
                ["CPU seconds per second of speech", f"{figures['rtf']:.3f}"],
                ["end of utterance to final text, ms CPU, p50 / p95", f"{finish['p50']} / {finish['p95']}"],
            ],
        ),
    ]
