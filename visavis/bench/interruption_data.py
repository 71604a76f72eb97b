"""What is said, and what only sounds, over the avatar's voice: the events of `visavis bench interruptions`.

Real words are beginnings of recordings of people. What is no interruption: words of people that only say "I listen" (cut out of sentences
at pauses), noises, voices far away (through a room's impulse response, 14 to 22 dB under a visitor), and the avatar's own voice through a
canceller that fails. Hums, coughs, laughter, knocks and single stop words exist only synthetic and carry `recorded` False.
"""

from __future__ import annotations

import csv
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import soxr
from numpy.typing import NDArray

from visavis.bench.turn_data import load, spans
from visavis.rehearse import measure, voices
from visavis.rehearse.room import RATE as ROOM_RATE

__all__ = [
    "LISTENING", "RATE", "RESIDUE_DB", "ROOM_DB", "Event", "beginning", "event", "events", "faded", "listening", "load_sound", "loud_piece",
    "microphone", "residue", "reverberated", "say",
]  # fmt: skip

RATE = 16_000
LEAD_S, TAIL_S = 1.2, 2.0
RESIDUE_DB = -55.0
"""Loudest second of what the canceller leaves of the avatar's voice (the recorded one is 20 dB softer than that)."""
ROOM_DB = -62.0
VISITOR_DB = -22.0
"""A visitor's usual level; one differs from the other by _OTHERS_DB, and from the last time by _OWN_DB (standard deviations)."""
_OWN_DB, _OTHERS_DB = 4.0, 3.0
SPOKEN = (
    "Our opening hours are nine in the morning to eight in the evening, and on Sundays from ten to five.",
    "We have espresso, cappuccino, latte, americano and mocha, in three sizes, and all of them with oat milk.",
    "The toy department is on the second floor, next to the escalator, just behind the books.",
)
"""What the avatar is saying; for an echo, what is heard of it."""
_AVATAR = ("en-us+m3", "en-us+f3")
LISTENING = frozenset("yes yeah okay right oh ah sure good".split())
_PIECE = RATE // 100
Sound = NDArray[np.float32]
T = TypeVar("T")


class Event(msgspec.Struct, frozen=True):
    """One sound over the avatar's voice. `sound`: 16 kHz mono, its `onset` the sample at which it is there."""

    kind: str
    name: str
    real: bool  # an interruption
    recorded: bool  # of people or things, not made
    sound: Sound
    onset: int
    level_db: float  # of its loudest second
    visitor_db: float  # of the loudest second of what the visitor had said before
    spoken: str = SPOKEN[0]
    source: str = ""  # the recording, where several events are cut out of one

    @property
    def tuned(self) -> bool:
        """Whether rules may be chosen by looking at this event: by a hash of its name (or its recording's), so it never changes."""
        return zlib.crc32((self.source or self.name).encode()) % 2 == 0


def events(data: Path, seed: int = 1, limit: int | None = None) -> list[Event]:
    """All events from the recordings under `data`, at most `limit` of each kind. Raises OSError, ValueError and the voices' errors."""
    found = []
    for make in (_words, _stops, _listening, _made, _spoken_hums, _noises, _far, _echo):
        of_kind: dict[str, int] = {}
        for one in make(data, random.Random(f"{seed}/{make.__name__}")):
            of_kind[one.kind] = of_kind.get(one.kind, 0) + 1
            if limit is None or of_kind[one.kind] <= limit:
                found.append(one)
    return found


def microphone(over: Event, residue: Sound, seed: int = 1) -> tuple[NDArray[np.int16], int]:
    """What the kiosk's microphone delivers, 16 kHz, and the sample of the event's onset in it."""
    rng = np.random.default_rng([seed, zlib.crc32(over.name.encode())])
    lead = round(LEAD_S * RATE)
    length = lead + len(over.sound) + round(TAIL_S * RATE)
    begin = int(rng.integers(0, len(residue)))
    sound = np.take(residue, np.arange(begin, begin + length), mode="wrap").astype(np.float64)
    sound += rng.normal(0.0, 10 ** (ROOM_DB / 20), length)
    sound[lead : lead + len(over.sound)] += over.sound
    return np.clip(np.rint(sound * 32767.0), -32768, 32767).astype(np.int16), lead + over.onset


def residue(data: Path) -> Sound:
    """What a real canceller left of a voice that nobody spoke over, at RESIDUE_DB."""
    (path,) = (data / "echo" / "dtln-aec").glob("*farend_singletalk_processed.flac")
    return _at_level(load_sound(path), RESIDUE_DB)


# --- interruptions


def _words(data: Path, rng: random.Random) -> Iterator[Event]:
    speech = data / "speech"
    rhasspy = [path for path in sorted((speech / "rhasspy-test-en").rglob("*.flac")) if path.with_suffix(".json").is_file()]
    sources = {
        "coffee orders": sorted((speech / "coffee-orders").glob("*.flac")),
        "rhasspy commands": rhasspy,
        "speechocean sentences": [path for path, words in _sentences(data, "speechocean", unseen=True) if len(words) >= 2],
        "kathleen sentences": sorted((speech / "kathleen").glob("*.flac")),
    }
    for kind, paths in sources.items():
        for path in _drawn(paths, 20, rng):
            yield event(kind, path.stem, beginning(load_sound(path), rng), rng.uniform(-26, -18), real=True, spoken=rng.choice(SPOKEN))


def beginning(sound: Sound, rng: random.Random) -> Sound:
    """The first one to two seconds of what is said in `sound`."""
    begin = _speech(sound)[0]
    return sound[max(0, begin - RATE // 20) :][: round(rng.uniform(1.2, 2.2) * RATE)]


def _stops(_data: Path, rng: random.Random) -> Iterator[Event]:
    for text in ("stop", "wait", "no no", "excuse me", "hold on"):
        for voice in ("slt", "rms", "awb", "kal16"):
            yield _synthetic("stop words", f"{text} {voice}", say(text, voice), rng, real=True, low=-26, high=-18)


# --- what is none


def _listening(data: Path, rng: random.Random) -> Iterator[Event]:
    for name, cut in _drawn(listening(data), 30, rng):
        yield event("backchannel words", name, cut, rng.uniform(-30, -20), real=False)


def listening(data: Path) -> list[tuple[str, Sound]]:
    """Recorded words that ask for nothing: first or last of a sentence, where a pause of 60 ms sets them apart; with their names."""
    found = []
    for corpus in ("speechocean", "kathleen-full"):
        for path, words in _sentences(data, corpus):
            for first in (True, False):
                word = words[0 if first else -1]
                if word in LISTENING and (cut := _apart(path, first=first)) is not None:
                    found.append((f"{word} {path.stem}", cut))
    return found


def _apart(path: Path, *, first: bool) -> Sound | None:
    """The first or last sound of a recording, if it is as long as such a word is (240 to 560 ms) and a pause parts it from the rest."""
    sound = load_sound(path)
    level = measure.levels_db(sound, RATE)
    if not first:
        level = level[::-1]
    loud = np.flatnonzero(level > level.max() - 30)
    quiet = level < level.max() - 25
    end = next((i for i in range(loud[0] + 10, min(loud[0] + 60, len(level) - 6)) if quiet[i : i + 6].all()), 0)
    if not 24 <= end - loud[0] <= 56:
        return None
    begin, until = max(0, loud[0] - 2) * _PIECE, (end + 2) * _PIECE
    cut: Sound = sound[begin:until] if first else sound[len(sound) - until : len(sound) - begin]
    return faded(cut)


def _made(_data: Path, rng: random.Random) -> Iterator[Event]:
    for name, count in (("mm-hm", 10), ("uh-huh", 8), ("cough", 8), ("laughter", 6), ("knock", 6)):
        for number in range(count):
            sound = soxr.resample(voices.made(name, rng.randrange(1 << 16)), ROOM_RATE, RATE)
            yield _synthetic(name, f"{name} {number}", np.asarray(sound, np.float32), rng)


def _spoken_hums(_data: Path, rng: random.Random) -> Iterator[Event]:
    for text in ("uh huh", "aha", "oh", "yeah", "okay", "right"):
        for voice in ("slt", "rms", "awb"):  # espeak-ng is not the same twice
            yield _synthetic("backchannel voices", f"{text} {voice}", say(text, voice), rng)


def _noises(data: Path, rng: random.Random) -> Iterator[Event]:
    sources = {
        "noises": (sorted((data / "noise" / "speech-commands").glob("*.flac")), 20),
        "street and room": (sorted((data / "noise" / "rirs").glob("noise*.flac")), 10),
        "kitchen": (sorted((data / "noise" / "kitchen").glob("*.flac")), 14),
    }
    for kind, (paths, count) in sources.items():
        for number in range(count):
            path = paths[number % len(paths)]
            # Every second one the loudest of eight places: mostly a recording of a tap or a street is even.
            begin, piece = loud_piece(load_sound(path), rng, loudest=number % 2 == 1)
            yield event(kind, f"{path.stem} {begin}", piece, rng.uniform(-32, -22), real=False, source=path.stem)


def loud_piece(sound: Sound, rng: random.Random, *, loudest: bool = True) -> tuple[int, Sound]:
    """Where half a second to one and a half begin, the loudest of eight places in `sound` or any, and that piece."""
    length = round(rng.uniform(0.4, 1.4) * RATE)
    places = [rng.randrange(0, len(sound) - length) for _ in range(8)]
    begin = max(places, key=lambda at: float(np.abs(sound[at : at + length]).max())) if loudest else places[0]
    return begin, faded(sound[begin : begin + length])


def _far(data: Path, rng: random.Random) -> Iterator[Event]:
    """Other people, some metres away: reverberated and 14 to 22 dB softer than a visitor."""
    rooms = [load_sound(path) for path in sorted((data / "noise" / "rirs").glob("rir*.*"))]
    azure = [data / "speech" / "azure-samples" / f"{name}.flac" for name in ("aboutSpeechSdk", "speechService", "katiesteve")]
    paths = _drawn([path for path, words in _sentences(data, "speechocean", unseen=True) if len(words) >= 5], 12, rng)
    for number, path in enumerate([*paths, *azure, *azure]):
        sound = load_sound(path)
        begin = rng.randrange(0, max(1, len(sound) - 2 * RATE))
        room = rooms[number % len(rooms)]
        yield event(
            "far voices", f"{path.stem} {begin}", reverberated(sound[begin : begin + 2 * RATE], room), rng.uniform(-42, -34), real=False
        )


def reverberated(piece: Sound, room: Sound) -> Sound:
    """`piece`, at most 2 s, in a room of that impulse response."""
    size = 1 << (2 * RATE + len(room)).bit_length()
    wet = np.fft.irfft(np.fft.rfft(piece, size) * np.fft.rfft(room, size), size)[: len(piece) + RATE // 4]
    return faded(wet.astype(np.float32))


def _echo(data: Path, rng: random.Random) -> Iterator[Event]:
    """The avatar's own voice where the canceller fails: recorded loudspeaker in a recorded room, and our voice with its words known."""
    (path,) = (data / "echo" / "dtln-aec").glob("*farend_singletalk_mic.flac")
    sound = load_sound(path)
    for number in range(10):
        begin = rng.randrange(0, len(sound) - 2 * RATE)
        yield event("echo", f"{path.stem} {begin}", faded(sound[begin : begin + 2 * RATE]), -46.0 + number, real=False)
    for number in range(8):
        text = SPOKEN[number % len(SPOKEN)]
        said = say(text, _AVATAR[number % 2])
        begin = rng.randrange(0, len(said) - 2 * RATE)
        cut = faded(said[begin : begin + 2 * RATE])
        yield _synthetic("echo of our voice", f"echo {number}", cut, rng, low=-46, high=-37, spoken=text)


# --- sounds


def _sentences(data: Path, corpus: str, *, unseen: bool = False) -> Iterator[tuple[Path, list[str]]]:
    """Recordings and their words; `unseen`: of speakers that the recogniser's training keeps for its test."""
    with (data / "speech" / corpus / "text.tsv").open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            if unseen and zlib.crc32(f"{corpus}/{row.get('speaker')}".encode()) % 20 not in (1, 3):
                continue
            yield data / "speech" / corpus / row["file"], re.findall(r"[a-z']+", row["text"].lower())


def event(
    kind: str, name: str, sound: Sound, level_db: float, *, real: bool, recorded: bool = True, spoken: str = SPOKEN[0], source: str = ""
) -> Event:
    """`sound` at a level, with its onset found, and how loud its visitor was before."""
    sound = _at_level(sound, level_db)
    onset = _speech(sound)[0] if real else measure.speech_bounds(sound, RATE)[0]
    # People speak a little louder or softer than the last time; who coughs, or stands farther away, is not measured by that.
    visitor = random.Random(name)
    visitor_db = level_db + visitor.gauss(0.0, _OWN_DB) if real else visitor.gauss(VISITOR_DB, _OTHERS_DB)
    return Event(kind, name, real, recorded, sound, onset, round(level_db, 1), round(visitor_db, 1), spoken, source)


def _synthetic(kind: str, name: str, sound: Sound, rng: random.Random, *, real: bool = False, low: float = -28, high: float = -20,
               spoken: str = SPOKEN[0]) -> Event:  # fmt: skip
    return event(f"{kind} (synthetic)", name, sound, rng.uniform(low, high), real=real, recorded=False, spoken=spoken)


def say(text: str, voice: str) -> Sound:
    """`text` spoken by a voice of visavis.rehearse.voices. Raises its errors."""
    sound, rate = voices.speak(text, voice)
    return np.asarray(soxr.resample(sound, rate, RATE), np.float32)


def load_sound(path: Path) -> Sound:
    """A recording, -1 to 1, at RATE."""
    sound: Sound = load(path).astype(np.float32) / np.float32(32768)
    return sound


def _speech(sound: Sound) -> tuple[int, int]:
    """Where the first word begins, and where the last ends: a click or a breath before it is none."""
    talk = spans((sound * np.float32(32767)).astype(np.int16))
    return (talk[0][0], talk[-1][1]) if talk else measure.speech_bounds(sound, RATE)


def _at_level(sound: Sound, level_db: float) -> Sound:
    """Like voices.at_level, at this module's rate: the RMS of the loudest second (or of all, if shorter) is `level_db` dBFS."""
    window = min(len(sound), RATE)
    total = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=np.float64))])
    loudest = float(np.sqrt(max(float((total[window:] - total[:-window]).max()) / window, 1e-14)))
    gain = min(10 ** (level_db / 20) / loudest, 0.97 / max(float(np.abs(sound).max()), 1e-7))
    return np.asarray(sound * np.float32(gain), np.float32)


def faded(sound: Sound) -> Sound:
    """With 5 ms of fade at each end."""
    edge = RATE // 200
    ramp = np.linspace(0, 1, edge, dtype=np.float32)
    sound = sound.copy()
    sound[:edge] *= ramp
    sound[-edge:] *= ramp[::-1]
    return sound


def _drawn(items: Sequence[T], count: int, rng: random.Random) -> list[T]:
    return rng.sample(items, min(count, len(items)))
