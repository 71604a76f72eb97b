"""Do the lips do what is heard? In virtual time, over many sentences of the embedded voice (espeak-ng, with its own phoneme times).

Control curves: every 4 ms the animator's controls are put on the rig (`visavis.bench._lips`), whose lips and teeth tell whether m b p
close, whether f v bring the lower lip to the upper teeth, and when. `in_a_frame` asks the same of the frames at 25 per second only.
`late_ms` is by how much a closure is tightest later than the middle of its sounds, `off_ms` the same without its sign. Sentences are those
of the demo's pack, and others of words drawn from the pronunciation dictionary, so that any sound meets any other; two of them make a
turn. `fast` is the same at 300 words a minute.

Drawn frames: moments of those sentences are drawn by the avatar pack as in the kiosk, and FaceLandmarker says whether the lips are closed.
Where it draws the line is found on rendered frames of the rig (`data`), one half for the line, the other half to tell how often the ruler
itself is right. It does not see a gap of 1 px: that lips really met, only the curves can tell.
"""

from __future__ import annotations

import importlib.resources
import lzma
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.animation import Animator, Phone, levels_db, take_tags
from engines.renderer import load_pack, select
from engines.synthesis import EspeakSynthesiser
from engines.synthesis import sentences as sentences_of
from runtime.config import Config, environment
from runtime.packs import Pack
from runtime.packs import load as load_shop
from visavis.bench._lips import Anatomy, Event, Heard, contacts, judge, vowels
from visavis.bench._lips_drawn import Moment, Ruler, agreement
from visavis.rehearse.measure import quantiles

__all__ = ["DATA", "run", "spoken_lines"]

DATA = "avatar"
"""The folder of VISAVIS_SHARED that has the rig and its rendered frames."""
PACES = {"normal": 168, "fast": 300}
"""Words per minute."""
_STEP_S, _EVERY = 0.004, 10  # a frame at 25 fps is each tenth step
_WORDS = 8
_LEAD_S = 0.3
_DICTIONARY = "cmudict-en-us.dict.xz"


class Turn(NamedTuple):
    """Two sentences said one after the other: their phonemes, and what the animator makes of them every _STEP_S; `shown` are frames."""

    phonemes: list[Heard]
    times: NDArray[np.float64]
    controls: NDArray[np.float32]
    shown: NDArray[np.bool_]


def run(*, data: Path, seed: int = 1, limit: int = 240, frames: int = 400, pack: Path | None = None) -> dict[str, Any]:
    """Measure with the avatar pack at `pack` (default: the configured one) and the rig and rendered frames in `data`: `limit` sentences,
    `frames` drawn moments of each kind. Raises EngineError, OSError, ValueError.
    """
    avatar = load_pack(pack or Config().avatar_path)
    anatomy = Anatomy(data, avatar.controls)
    ruler = Ruler(data, environment().shared / "models" / "face-landmarker" / "face_landmarker.task", anatomy, frames, seed)
    lines = spoken_lines(load_shop(Config().pack_path), seed, limit)
    paces: dict[str, Any] = {}
    moments: dict[str, list[Moment]] = {}
    for name, words_per_minute in PACES.items():
        animator = Animator(avatar.controls, avatar.ranges, avatar.idle, seed)
        rng = np.random.default_rng(seed)
        turns = [_turn(animator, part, rng) for part in _said(EspeakSynthesiser(words_per_minute=words_per_minute), lines)]
        paces[name] = _curves(turns, anatomy, moments, rng)
    face = select(avatar)
    drawn = agreement(face.engine, moments, ruler, frames, seed)
    result = {"sentences": len(lines), "curves": paces, "ruler": ruler.figures, "drawn": {"renderer": face.name, **drawn}}
    return result | {"tables": _tables(result)}


def spoken_lines(shop: Pack, seed: int, limit: int) -> list[str]:
    """`limit` sentences: those of the pack in a random order, at most half, the others of words of the dictionary."""
    texts = [text for wordings in (shop.say.greeting, shop.say.farewell, shop.say.unsure, shop.say.staff_called) for text in wordings]
    texts += [entry.answer for entry in shop.knowledge]
    known = sorted({sentence for text in texts if "{" not in text for sentence in sentences_of(take_tags(text)[0])})
    rng = random.Random(seed)
    rng.shuffle(known)
    known = known[: limit // 2]
    source = importlib.resources.files("engines.recognition") / _DICTIONARY
    words = re.findall(r"^([a-z]{2,})\s", lzma.decompress(source.read_bytes()).decode("utf-8"), re.MULTILINE)
    drawn = [" ".join(rng.choices(words, k=_WORDS)).capitalize() + rng.choice(".?!") for _ in range(limit - len(known))]
    return [line for pair in zip(known, drawn, strict=False) for line in pair] + drawn[len(known) :]


def _said(voice: EspeakSynthesiser, lines: Sequence[str]) -> Iterator[list[Heard]]:
    """The phonemes of each two lines on the line of their turn (s)."""
    for k in range(0, len(lines), 2):
        phonemes: list[Heard] = []
        at = 0
        for clip in voice.speak(" ".join(lines[k : k + 2])):
            levels = levels_db(clip.pcm, ((p.start, p.end) for p in clip.phonemes))
            phonemes += [
                Heard(p.symbol, (at + p.start) / voice.rate, (at + p.end) / voice.rate, level)
                for p, level in zip(clip.phonemes, levels, strict=True)
            ]
            at += len(clip.pcm)
        yield phonemes


def _turn(animator: Animator, phonemes: list[Heard], rng: np.random.Generator) -> Turn:
    track = animator.speak(Phone(*phoneme) for phoneme in phonemes)
    times = np.arange(-_LEAD_S, phonemes[-1].end + _LEAD_S, _STEP_S)
    begin = float(rng.uniform(0, 3600))
    controls = np.array([animator.frame(begin + t, track=track, position=t, posture="speaking") for t in times.tolist()])
    shown = np.zeros(len(times), bool)
    shown[rng.integers(_EVERY) :: _EVERY] = True
    return Turn(phonemes, times, controls, shown)


def _curves(turns: Sequence[Turn], anatomy: Anatomy, moments: dict[str, list[Moment]], rng: np.random.Generator) -> dict[str, Any]:
    """The figures of one pace; adds to `moments` what shall be drawn: closures, bites and everything else, as their controls are."""
    reached: dict[str, list[bool]] = {"PP": [], "FF": []}
    drawn: dict[str, list[bool]] = {"PP": [], "FF": []}
    late: list[float] = []
    loud: list[tuple[str, float, float]] = []
    for turn in turns:
        gap, bite = anatomy.measure(turn.controls)
        events = contacts(turn.phonemes)
        for event, found in zip(events, judge(events, turn.times, gap, bite, turn.shown, _STEP_S * _EVERY), strict=True):
            reached[event.kind] += found.reached
            drawn[event.kind].append(found.drawn)
            late += [found.offset * 1000] if event.kind == "PP" else []
            nearest = _nearest(turn, event)
            moments.setdefault(event.kind, []).append(Moment(turn.controls[nearest], float(gap[nearest])))
        for at in rng.choice(np.flatnonzero(turn.shown), 4):
            moments.setdefault("any", []).append(Moment(turn.controls[at], float(gap[at])))
        for shape, vowel in vowels(turn.phonemes):
            inside = (turn.times >= vowel.start) & (turn.times <= vowel.end)
            loud.append((shape, vowel.level_db, float(gap[inside].max(initial=0.0))))
    return {
        "lips": _shares(reached["PP"], drawn["PP"]) | {"late_ms": quantiles(late), "off_ms": quantiles(np.abs(late))},
        "lip_and_teeth": _shares(reached["FF"], drawn["FF"]),
        "opening_by_loudness": {"vowels": len(loud), "correlation": _within_shapes(loud)},
    }


def _shares(reached: list[bool], drawn: list[bool]) -> dict[str, float]:
    return {
        "phonemes": len(reached),
        "reached": float(np.mean(reached)) if reached else 0.0,
        "contacts": len(drawn),
        "in_a_frame": float(np.mean(drawn)) if drawn else 0.0,
    }


def _nearest(turn: Turn, event: Event) -> int:
    """The frame that is shown nearest to the middle of `event`."""
    shown = np.flatnonzero(turn.shown)
    return int(shown[np.abs(turn.times[shown] - (event.start + event.end) / 2).argmin()])


def _within_shapes(loud: Sequence[tuple[str, float, float]]) -> float:
    """The correlation of level and opening after each vowel's own mean was taken from both: an a is wider than an i at any loudness."""
    shapes = np.array([shape for shape, _, _ in loud])
    values = np.array([(level, opening) for _, level, opening in loud], float)
    for shape in set(shapes.tolist()):
        values[shapes == shape] -= values[shapes == shape].mean(axis=0)
    return float(np.corrcoef(values.T)[0, 1])


def _tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) for people."""
    paces, drawn, ruler = result["curves"], result["drawn"], result["ruler"]

    def row(label: str, part: str, share: str, count: str) -> list[str]:
        return [label, *(f"{of[part][share]:.3f} of {of[part][count]}" for of in paces.values())]

    curves = [
        row("m b p: lips met", "lips", "reached", "phonemes"),
        row("m b p: seen in a frame", "lips", "in_a_frame", "contacts"),
        ["m b p: tightest off the middle of the sound, ms p50 / p95 / most", *(_spread(of["lips"]["off_ms"]) for of in paces.values())],
        row("f v: lip on the teeth", "lip_and_teeth", "reached", "phonemes"),
        row("f v: seen in a frame", "lip_and_teeth", "in_a_frame", "contacts"),
        ["vowels: correlation of opening and loudness", *(f"{of['opening_by_loudness']['correlation']:.2f}" for of in paces.values())],
    ]
    frames = [
        ["rendered frames: closed read as closed", f"{ruler['closed_right']:.3f} of {ruler['closed']}"],
        ["rendered frames: open read as open", f"{ruler['open_right']:.3f} of {ruler['open']}"],
        ["drawn m b p: closed read as closed", f"{drawn['lips_agree']:.3f} of {drawn['lips']}"],
        ["drawn f v: read as open", f"{drawn['lip_and_teeth_agree']:.3f} of {drawn['lip_and_teeth']}"],
        ["drawn at any moment: read as the controls say", f"{drawn['any_agree']:.3f} of {drawn['any']}"],
    ]
    return [
        (f"control curves on the rig, {result['sentences']} sentences", ["", *paces], curves),
        (f"frames drawn by {drawn['renderer']} at rung {drawn['rung']}, read by FaceLandmarker", ["", "share"], frames),
    ]


def _spread(of: Any) -> str:
    return f"{of.p50:.0f} / {of.p95:.0f} / {of.highest:.0f}"
