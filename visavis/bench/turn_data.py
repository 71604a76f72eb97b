"""Recorded people as turns: where they paused, where they were done, and what a judge could have heard at each moment.

A recording is one turn. Every silence of at least 100 ms in it is a pause: the ones inside are holds, the one at its end is the end of
the turn (the method of livekit/eot-bench). Where speech stops is read from the loudness of the whole recording, never from the product's
own voice activity.

Many recordings end a few hundredths of a second after the last word. What a judge hears after that is made noise, and it must not be told
an end by it: in every pause of a recording, holds too, the recorded silence lasts as long as the one at its end, then the noise goes on.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engines.voice_activity import Heard, Melody, melody
from visavis.rehearse.measure import ONSET_MS, OVER_FLOOR_DB, SPEECH_DB

__all__ = ["OFFSETS_MS", "Ends", "Judge", "Pause", "Recording", "Turn", "listen", "load", "recordings", "spans"]

RATE = 16_000
OFFSETS_MS = (100, 200, 320, 480, 800)
"""How long a silence has lasted when the judge is asked, as the listener does it."""
_BLOCK = RATE // 100
_LEAD = RATE // 2  # sound before the onset that the judge hears too

Judge = Callable[[NDArray[np.int16], int], Heard]
"""(16 kHz sound that ends now, first silent sample of it) → what the turn model makes of it: SmartTurn.hear."""
Ends = Callable[["Recording", NDArray[np.int16]], float]
"""(recording, its sound from the onset up to a pause) → P(a sentence can end here | the words), or -1 where that is not known."""


class Recording(msgspec.Struct, frozen=True):
    """One file of one person speaking; `speaker`: the file's name where the corpus does not tell, the sentence where there is but one."""

    corpus: str
    speaker: str
    path: Path

    @property
    def held_out(self) -> bool:
        """Whether this speaker's recordings score (True) or fit (False): by a hash of the name, so it never changes."""
        return zlib.crc32(f"{self.corpus}/{self.speaker}".encode()) % 2 == 1


class Pause(msgspec.Struct, frozen=True):
    """A silence: ms since the onset at which it began, its length (inf at the end of the turn), and what was heard then."""

    start_ms: float
    length_ms: float
    speech_ms: float  # voiced time before it
    longest_ms: float  # longest pause of this turn before it
    raw: tuple[float, ...]  # the turn model's P(complete) at OFFSETS_MS, as far as the silence lasted
    melody: Melody
    inner: tuple[NDArray[np.float32], ...] = ()  # and what its encoder heard, Heard.inner
    ends: float = -1.0  # P(a sentence can end here | the words), -1: not known

    @property
    def ends_turn(self) -> bool:
        """Whether the person was done."""
        return self.length_ms == float("inf")


class Turn(msgspec.Struct, frozen=True):
    """A recording's pauses in order; the last ends the turn."""

    corpus: str
    speaker: str
    name: str
    held_out: bool
    pauses: tuple[Pause, ...]


def recordings(data: Path) -> Iterator[Recording]:
    """All recordings of single people under `data`/speech, in a fixed order."""
    speech = data / "speech"
    for path in sorted((speech / "coffee-orders").glob("*.flac")):
        yield Recording("coffee-orders", path.stem, path)
    for path in sorted((speech / "rhasspy-test-en").rglob("*")):
        # Those without a JSON begin with another product's wake phrase: two turns, not one.
        if path.suffix in {".flac", ".wav"} and path.with_suffix(".json").is_file():
            yield Recording("rhasspy-test-en", path.stem, path)
    for corpus in ("kathleen-full", "speechocean"):
        table = speech / corpus / "text.tsv"
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as lines:
                for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                    # One reader, who read many sentences twice: both readings fit, or both score.
                    speaker = row.get("speaker") or Path(row["file"]).stem.rpartition("_")[0]
                    yield Recording(corpus, speaker, speech / corpus / row["file"])


def load(path: Path) -> NDArray[np.int16]:
    """`path` as 16 kHz mono int16."""
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = sound.mean(axis=1)
    if rate != RATE:
        mono = soxr.resample(mono, rate, RATE)
    pcm: NDArray[np.int16] = np.clip(np.rint(mono * 32767.0), -32768, 32767).astype(np.int16)
    return pcm


def spans(audio: NDArray[np.int16]) -> list[tuple[int, int]]:
    """Stretches of speech [start, end) in samples, with at least 100 ms of quiet between them.

    Quiet is 30 dB under the loudest 10 ms (or 6 dB over the floor of the recording, whichever is louder).
    """
    blocks = audio[: len(audio) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).astype(np.float32)
    if not len(blocks):
        return []
    blocks -= blocks.mean()
    level = 10.0 * np.log10(np.square(blocks).mean(axis=1) + 1.0)
    loud = level > max(level.max() - SPEECH_DB, np.percentile(level, 5) + OVER_FLOOR_DB)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], loud.astype(np.int8), [0]))))
    found: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2):
        if found and start - found[-1][1] < 10:
            found[-1] = (found[-1][0], int(end))
        elif end - start >= ONSET_MS * RATE // 1000 // _BLOCK or (found and start - found[-1][1] < 10):  # shorter is a click or a breath
            found.append((int(start), int(end)))
    return [(start * _BLOCK, end * _BLOCK) for start, end in found]


def listen(recording: Recording, judge: Judge, seed: int = 0, ends: Ends | None = None) -> Turn | None:
    """Play `recording` to `judge` as the listener would: at each pause, at OFFSETS_MS. None where no speech was found."""
    audio = load(recording.path)
    talk = spans(audio)
    if not talk or sum(end - start for start, end in talk) < RATE // 5:
        return None
    room = _room(audio, np.random.default_rng([seed, zlib.crc32(recording.path.name.encode())]))
    recorded = len(audio) - talk[-1][1]
    onset, pauses, longest, speech = talk[0][0], [], 0.0, 0.0
    begin = max(0, onset - _LEAD)
    for index, (start, end) in enumerate(talk):
        speech += (end - start) * 1000 / RATE
        last = index == len(talk) - 1
        length = float("inf") if last else (talk[index + 1][0] - end) * 1000 / RATE
        heard = []
        for silent in (ms * RATE // 1000 for ms in OFFSETS_MS if ms <= length):
            real = min(silent, recorded)
            heard.append(judge(np.concatenate((audio[begin : end + real], room[: silent - real])), end - begin))
        pauses.append(
            Pause(
                (end - onset) * 1000 / RATE,
                length,
                speech,
                longest,
                tuple(look.probability for look in heard),
                melody(audio[begin:end]),
                tuple(look.inner for look in heard),
                ends(recording, audio[onset:end]) if ends else -1.0,
            )
        )
        longest = max(longest, 0.0 if last else length)
    return Turn(recording.corpus, recording.speaker, recording.path.stem, recording.held_out, tuple(pauses))


def _room(audio: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    """A second of noise as loud as the quietest twentieth of `audio`: a room that goes on, so that an end is not a cut to nothing."""
    blocks = audio[: len(audio) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).astype(np.float32)
    floor = float(np.sqrt(np.percentile(np.square(blocks - blocks.mean()).mean(axis=1), 5)))
    return np.clip(np.rint(rng.normal(0.0, max(floor, 0.5), RATE)), -32768, 32767).astype(np.int16)
