"""Fits the line by which the ears tell words from hums, coughs, noises and voices from afar: writes worded.npz.

python -m visavis.bench.interruption_fit DATA [OUT]

A quarter of an hour of one core. Words are beginnings of recordings that the ears are trained with and of made sentences; what is none is
made like the benchmark's (visavis.bench.interruption_data) but of other numbers, voices, people and places, and of recordings only the half
that rules may be chosen on. The benchmark's orders, commands and held-out speakers are in none of it. espeak-ng is not the same twice, so
neither is the last digit of the result.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from engines.models import locate
from engines.recognition.ears import worded
from engines.recognition.ears.encoder import FRAME, Encoder
from engines.recognition.training.corpora import clips, words_of
from engines.voice_activity import Hearing, Kind, VoiceActivity, block_levels
from engines.voice_activity import select as select_activity
from runtime.config import Config
from runtime.conversation.domain import speech_domain
from runtime.packs import load as load_pack
from visavis.bench.interruption_data import (
    LISTENING,
    RATE,
    Event,
    beginning,
    event,
    faded,
    listening,
    load_sound,
    loud_piece,
    microphone,
    residue,
    reverberated,
    say,
)  # fmt: skip
from visavis.bench.interruptions import PRE_ROLL
from visavis.rehearse import voices
from visavis.rehearse.room import RATE as ROOM_RATE

__all__ = ["Looks", "fit", "looks", "main", "sounds"]

SEED = 77
VOICES = ("kal", *(f"en-us+{name}" for name in ("m1", "m2", "m4", "m7", "m8", "f1", "f2", "f4", "f5")))
"""None of those that the benchmark or the avatar speaks with."""
HUMS = ("uh huh", "aha", "oh", "yeah", "okay", "right", "mm hmm", "ah", "yes", "oh yeah", "ok", "sure", "good", "hm", "I see")
STOPS = ("stop", "wait", "no no", "excuse me", "hold on", "stop it", "wait a minute", "sorry")
MADE = {"mm-hm": 70, "uh-huh": 90, "cough": 70, "laughter": 60, "knock": 50}
SHARES = {
    "words": 6.0, "made words": 2.0, "listening": 1.0, "hums": 1.2, "mm-hm": 0.6, "uh-huh": 1.0, "cough": 0.6, "laughter": 0.6,
    "knock": 0.4, "noise": 1.5, "far": 1.0,
}  # fmt: skip
"""What each kind weighs, however many there are of it."""
RIDGE = 0.05
_FRAME = 512  # of the voice activity
_TICK = RATE // 50
_EVERY = 2 * RATE // 25  # 80 ms between two looks
_UNTIL = round(0.64 * RATE)  # after the onset
_NEWTON = 8
Sound = NDArray[np.float32]


class Looks(NamedTuple):
    """What the encoder heard at every look at every sound."""

    seen: NDArray[np.float32]  # (n, SEEN)
    words: NDArray[np.bool_]  # (n,)
    kind: NDArray[np.str_]  # (n,)


def sounds(data: Path, seed: int = SEED) -> Iterator[Event]:
    """All that is learned from. Raises OSError and the voices' errors."""
    rng = random.Random(seed)
    for make in (_words, _hums, _noises, _far):
        yield from make(data, rng)


def _hums(data: Path, rng: random.Random) -> Iterator[Event]:
    for name, cut in listening(data):
        if _half(name):
            for number in range(6):
                yield _other("listening", f"{name} {number}", cut, rng, -32, -18)
    for kind, count in MADE.items():
        for number in range(count):
            made = soxr.resample(voices.made(kind, (1 << 17) + number), ROOM_RATE, RATE)
            yield _other(kind, f"{kind} {number}", np.asarray(made, np.float32), rng, -30, -18)
    for text in HUMS:
        for voice in VOICES:
            yield _other("hums", f"{text} {voice}", say(text, voice), rng, -30, -18)


def _noises(data: Path, rng: random.Random) -> Iterator[Event]:
    noise = data / "noise"
    for path in (*sorted((noise / "speech-commands").glob("*.flac")), *sorted((noise / "rirs").glob("noise*.flac"))):
        if _half(path.stem):
            sound = load_sound(path)
            for _ in range(25):
                begin, piece = loud_piece(sound, rng)
                yield _other("noise", f"{path.stem} {begin}", piece, rng, -34, -20)


def _far(data: Path, rng: random.Random) -> Iterator[Event]:
    rooms = [load_sound(path) for path in sorted((data / "noise" / "rirs").glob("rir*.*")) if _half(path.stem)]
    people = [clip.path for clip in clips(data, "train") if clip.name.startswith("speechocean")]
    for number, path in enumerate(rng.sample(people, min(200, len(people)))):
        sound = load_sound(path)
        begin = rng.randrange(0, max(1, len(sound) - 2 * RATE))
        wet = reverberated(sound[begin : begin + 2 * RATE], rooms[number % len(rooms)])
        yield _other("far", f"{path.stem} {begin}", wet, rng, -42, -32)


def _words(data: Path, rng: random.Random) -> Iterator[Event]:
    reported = {path.stem for path in (data / "speech" / "kathleen").glob("*.flac")}
    people: dict[str, list[Path]] = {}
    for clip in clips(data, "train"):
        said = words_of(clip.text)
        if clip.path.stem not in reported and said and said[0] not in LISTENING:
            people.setdefault(clip.name.partition("/")[0], []).append(clip.path)
    for corpus, count in (("speechocean", 1000), ("kathleen-full", 250)):
        for path in rng.sample(people[corpus], min(count, len(people[corpus]))):
            yield _word("words", f"{corpus} {path.stem}", beginning(load_sound(path), rng), rng)
    sentences = list(dict.fromkeys(speech_domain(load_pack(Config().pack_path)).sentences))
    for number, text in enumerate((*rng.sample(sentences, 80), *STOPS * 5)):
        voice = VOICES[number % len(VOICES)]
        yield _word("made words", f"{text} {voice} {number}", say(text, voice), rng)


def _word(kind: str, name: str, sound: Sound, rng: random.Random) -> Event:
    return event(kind, name, sound, rng.uniform(-30, -16), real=True)


def _other(kind: str, name: str, sound: Sound, rng: random.Random, low: float, high: float) -> Event:
    return event(kind, name, faded(sound), rng.uniform(low, high), real=False)


def _half(name: str) -> bool:
    return zlib.crc32(name.encode()) % 2 == 0


def looks(events: Iterable[Event], left: Sound, activity: VoiceActivity, encoder: Encoder) -> Looks:
    """Every event over what a canceller `left` of the avatar's voice, looked at as the recogniser does."""
    seen, words, kind = [], [], []
    for one in events:
        sound, _ = microphone(one, left, SEED)
        found = _utterance(sound, activity)
        if found is None:
            continue
        onset, told, end = found
        start = max(0, onset - PRE_ROLL)
        for at in range(told, min(onset + _UNTIL, end) + 1, _EVERY):
            frames = (at - start) // FRAME
            if frames > worded.LEAD + 2:
                seen.append(worded.seen(encoder(sound[start : start + frames * FRAME])[-frames:]))
                words.append(one.real)
                kind.append(one.kind)
    return Looks(np.array(seen), np.array(words), np.array(kind))


def _utterance(sound: NDArray[np.int16], activity: VoiceActivity) -> tuple[int, int, int] | None:
    """(onset, sample at which it is told, sample at which its silence is told) of the first voice in `sound`; None without one."""
    hearing, onset, told = Hearing(), -1, -1
    activity.reset()
    for end in range(_FRAME, len(sound) + 1, _FRAME):
        frame = sound[end - _FRAME : end]
        for noticed in hearing.step(activity.probability(frame), block_levels(frame), end, guarded=True):
            if noticed.kind is Kind.ONSET and onset < 0:
                onset, told = noticed.onset, -(-end // _TICK) * _TICK
            elif noticed.kind is Kind.SILENCE and onset >= 0:
                return onset, told, end
    return (onset, told, len(sound)) if onset >= 0 else None


def fit(found: Looks, ridge: float = RIDGE, shares: dict[str, float] | None = None) -> worded.Worded:
    """Logistic regression on standardised looks by Newton's method; `ridge` per unit of the mean loss."""
    counts, shares = Counter(found.kind.tolist()), shares or SHARES
    weight = np.array([shares[kind] / counts[kind] for kind in found.kind.tolist()])
    weight /= weight.sum()
    mean, scale = found.seen.mean(axis=0, dtype=np.float64), found.seen.std(axis=0, dtype=np.float64) + 1e-3
    inputs = np.column_stack(((found.seen - mean) / scale, np.ones(len(found.seen))))
    line = np.zeros(inputs.shape[1])
    penalty = np.full(len(line), 2 * ridge)
    penalty[-1] = 0.0
    for _ in range(_NEWTON):
        chance = 1.0 / (1.0 + np.exp(-np.clip(inputs @ line, -30.0, 30.0)))
        slope = inputs.T @ (weight * (chance - found.words)) + penalty * line
        curve = (inputs * (weight * chance * (1.0 - chance))[:, None]).T @ inputs + np.diag(penalty + 1e-9)
        line -= np.linalg.solve(curve, slope)
    return worded.Worded(mean, line[:-1] / scale, float(line[-1]))


def main(arguments: Sequence[str]) -> int:
    """Read DATA, write the line to OUT (else where it ships)."""
    if len(arguments) not in (1, 2):
        print(f"usage: python -m visavis.bench.interruption_fit DATA [OUT]; {len(arguments)} arguments given", file=sys.stderr)
        return 2
    data = Path(arguments[0])
    found = looks(sounds(data), residue(data), select_activity().activity, Encoder(locate("smart-turn")))
    print(f"{len(found.words)} looks, {int(found.words.sum())} of them at words")
    fit(found).save(*map(Path, arguments[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
