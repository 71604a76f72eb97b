# SPDX-License-Identifier: Apache-2.0
"""Draw the control vectors of the training set.

``plan(count, seed)`` returns a shuffled list, so that any prefix is a fair sample of the whole:

    speech    35 %  a blend of two visemes x intensity x smile, little head movement
    eyes      20 %  blink ladder (0, .25, .5, .75, 1) and a 7 x 5 gaze grid, with jitter
    emotion   10 %  brow and emotion recipes over light speech
    head      30 %  yaw +-14, pitch +-8, roll +-6 grid x speech; in half of them the gaze stays on the viewer
    extreme    5 %  single-control sweeps and strong combinations

Units are those of ``rig``: weights 0..1, angles in degrees.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engines.studio.rig import CONTROLS, INDEX, RANGES, vector

VISEMES = {
    "sil": vector(),
    "PP": vector(mouthPress=0.35, mouthRollUpper=0.18, mouthRollLower=0.22),
    "FF": vector(mouthUpperUp=0.50, mouthRollLower=0.60, jawOpen=0.07, mouthShrugLower=0.15),
    "TH": vector(jawOpen=0.18, mouthLowerDown=0.28, mouthUpperUp=0.22, mouthStretch=0.1, tongueUp=0.7),
    "DD": vector(jawOpen=0.14, mouthLowerDown=0.26, mouthUpperUp=0.16, mouthStretch=0.1, tongueUp=0.85),
    "kk": vector(jawOpen=0.20, mouthLowerDown=0.20, mouthUpperUp=0.10, mouthStretch=0.15),
    "CH": vector(mouthFunnel=0.55, mouthPucker=0.20, jawOpen=0.08, mouthShrugUpper=0.10, tongueUp=0.4),
    "SS": vector(jawOpen=0.05, mouthStretch=0.35, mouthLowerDown=0.30, mouthUpperUp=0.15, tongueUp=0.3),
    "nn": vector(jawOpen=0.13, mouthLowerDown=0.20, mouthUpperUp=0.12, tongueUp=0.9),
    "RR": vector(mouthPucker=0.35, mouthFunnel=0.30, jawOpen=0.12, tongueUp=0.3),
    "aa": vector(jawOpen=0.55, mouthLowerDown=0.25, mouthUpperUp=0.20, mouthStretch=0.1),
    "E": vector(jawOpen=0.28, mouthStretch=0.35, mouthLowerDown=0.30, mouthUpperUp=0.20),
    "ih": vector(jawOpen=0.18, mouthStretch=0.30, mouthSmile=0.20, mouthLowerDown=0.30, mouthUpperUp=0.20),
    "oh": vector(jawOpen=0.35, mouthFunnel=0.45, mouthPucker=0.35),
    "ou": vector(mouthPucker=0.80, mouthFunnel=0.30, jawOpen=0.12),
}
IDLE = vector(
    mouthSmile=0.26, mouthDimple=0.06, mouthShrugLower=0.1, browInnerUp=0.16, browOuterUp=0.06, cheekSquint=0.12, eyeSquint=0.06
)  # friendly; the little shrug closes the lips, which the rest shape leaves 1 px apart
EMOTIONS = (
    vector(mouthSmile=0.8, cheekSquint=0.55, eyeSquint=0.25, mouthDimple=0.2, mouthUpperUp=0.2),  # joy
    vector(mouthSmile=0.45, cheekSquint=0.25, browInnerUp=0.2, browOuterUp=0.15),  # friendly
    vector(browInnerUp=0.8, browOuterUp=0.8, eyeWide=0.6, jawOpen=0.15),  # surprise
    vector(browInnerUp=0.8, mouthFrown=0.45, mouthShrugLower=0.25, eyeSquint=0.15),  # sorry
    vector(browDown=0.6, eyeSquint=0.3, mouthPress=0.25),  # stern
    vector(browDown_L=0.5, browOuterUp_R=0.8, browInnerUp_R=0.3, mouthSmile_R=0.25),  # sceptical
    vector(browOuterUp_L=0.8, browDown_R=0.4, mouthLeft=0.3, eyeSquint_R=0.25),  # thinking
    vector(noseSneer=0.6, browDown=0.35, mouthUpperUp=0.3),  # disgust
    vector(mouthPress=0.5, mouthShrugUpper=0.3, mouthShrugLower=0.4, browInnerUp=0.4, mouthDimple=0.3),  # shrug
    vector(cheekPuff=0.6, browInnerUp=0.3, mouthPucker=0.2),  # puff
)
CATEGORIES = ("speech", "eyes", "emotion", "head", "extreme")
SHARES = (0.35, 0.20, 0.10, 0.30, 0.05)
SWEEP = tuple(n for n in CONTROLS if n not in ("yaw", "pitch", "roll", "gazeYaw", "gazePitch"))
MOUTH = [INDEX[n] for n in CONTROLS if n.startswith(("mouth", "jaw", "tongue"))]


class Plan(NamedTuple):
    """Controls (n, 51) float32, category (n,) uint8 into CATEGORIES, test (n,) bool."""

    controls: np.ndarray
    category: np.ndarray
    test: np.ndarray


def _add(v: np.ndarray, value: float, name: str, asymmetry: float = 0.0) -> None:
    for n, s in ((name, 0.0),) if name in INDEX else ((name + "_L", asymmetry), (name + "_R", -asymmetry)):
        v[INDEX[n]] += max(0.0, value + s)


def _smile(rng: np.random.Generator, v: np.ndarray, top: float) -> None:
    s = rng.random() ** 1.3 * top
    _add(v, s, "mouthSmile", rng.normal(0, 0.04))
    _add(v, 0.5 * s, "cheekSquint")
    _add(v, 0.25 * s, "eyeSquint")
    _add(v, 0.2 * s, "mouthDimple")


def _speech(rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    """A moment between two visemes, with a smile and small independent deviations."""
    names = list(VISEMES)
    a, b = rng.choice(len(names), 2)
    t, gain = rng.random() ** 2, rng.uniform(0.35, 1.2) * scale
    v = gain * ((1 - t) * VISEMES[names[a]] + t * VISEMES[names[b]])
    busy = [i for i in MOUTH if v[i] > 0]
    v[busy] *= rng.uniform(0.75, 1.25, len(busy))
    if rng.random() < 0.7:
        _smile(rng, v, 0.75)
    for p, top, name in (
        (0.10, 0.4, "mouthFrown"),
        (0.10, 0.4, "mouthShrugLower"),
        (0.10, 0.3, "mouthShrugUpper"),
        (0.05, 0.4, "mouthLeft"),
        (0.05, 0.4, "mouthRight"),
        (0.04, 0.4, "jawLeft"),
        (0.04, 0.4, "jawRight"),
        (0.06, 0.4, "jawForward"),
        (0.15, 0.3, "mouthDimple"),
        (0.10, 0.3, "mouthPress"),
        (0.06, 0.4, "tongueUp"),
    ):
        if rng.random() < p:
            _add(v, top * rng.random(), name)
    if rng.random() < 0.08:
        v[INDEX["mouthClose"]] = rng.uniform(0.3, 1.0) * v[INDEX["jawOpen"]]
    return v


def _upper(rng: np.random.Generator, v: np.ndarray, blink: float = 0.12, gaze: float = 5.0) -> None:
    """Brows, a possible blink and a little gaze."""
    for p, top, name in (
        (0.35, 0.5, "browInnerUp"),
        (0.3, 0.5, "browOuterUp"),
        (0.15, 0.5, "browDown"),
        (0.12, 0.4, "eyeWide"),
        (0.15, 0.4, "eyeSquint"),
        (0.05, 0.4, "noseSneer"),
    ):
        if rng.random() < p:
            _add(v, top * rng.random(), name, rng.normal(0, 0.03))
    if rng.random() < blink:
        _add(v, rng.choice([1.0, rng.random()]), "eyeBlink")
    v[INDEX["gazeYaw"]], v[INDEX["gazePitch"]] = rng.normal(0, [gaze, 0.7 * gaze])


def _nod(rng: np.random.Generator, v: np.ndarray, sd: float = 1.5) -> None:
    v[INDEX["yaw"]], v[INDEX["pitch"]], v[INDEX["roll"]] = rng.normal(0, [sd, 0.8 * sd, 0.6 * sd])


def _make(kind: str, k: int, rng: np.random.Generator) -> np.ndarray:  # noqa: C901 - one branch per category
    if kind == "speech":
        v = _speech(rng)
        _upper(rng, v)
        _nod(rng, v)
    elif kind == "eyes":
        v = _speech(rng, 0.5) if rng.random() < 0.4 else IDLE * rng.uniform(0, 1.4)
        _upper(rng, v, blink=0.0, gaze=0.0)
        if k % 5 < 2:
            _add(
                v,
                np.clip((0, 0.25, 0.5, 0.75, 1)[k // 5 % 5] + rng.normal(0, 0.06), 0, 1),
                "eyeBlink",
                rng.normal(0, 0.03) if rng.random() < 0.5 else 0.0,
            )
        elif rng.random() < 0.15:
            _add(v, rng.random(), "eyeBlink")
        cell = rng.integers(35) if k % 5 < 2 else k // 5 % 35
        v[INDEX["gazeYaw"]] = (cell % 7 - 3) * 8 + rng.uniform(-4, 4)
        v[INDEX["gazePitch"]] = (cell // 7 - 2) * 7.5 + rng.uniform(-3.5, 3.5)
        _nod(rng, v)
    elif kind == "emotion":
        v = rng.uniform(0.3, 1.1) * EMOTIONS[k % len(EMOTIONS)] + (_speech(rng, 0.6) if rng.random() < 0.6 else 0)
        _upper(rng, v)
        _nod(rng, v, 2.5)
    elif kind == "head":
        v = _speech(rng)
        _upper(rng, v)
        cell = k % 105
        v[INDEX["yaw"]] = (cell % 7 - 3) * 4 + rng.uniform(-2, 2)
        v[INDEX["pitch"]] = (cell // 7 % 5 - 2) * 3.2 + rng.uniform(-1.6, 1.6)
        v[INDEX["roll"]] = (cell // 35 - 1) * 4 + rng.uniform(-2, 2)
        if rng.random() < 0.5:
            v[INDEX["gazeYaw"]] -= v[INDEX["yaw"]]
            v[INDEX["gazePitch"]] -= v[INDEX["pitch"]]
    elif k % 3:
        v = IDLE * rng.choice([0.0, 1.0])
        name = SWEEP[(k - k // 3) % len(SWEEP)]
        pair = name[:-2] if name[-2:] in ("_L", "_R") and rng.random() < 0.4 else name
        if name == "mouthClose":
            _add(v, 0.6, "jawOpen")
        if name == "tongueUp":
            _add(v, rng.uniform(0.1, 0.5), "jawOpen")
        _add(v, rng.choice([0.5, 1.0]) * (0.6 if name == "mouthClose" else 1.0), pair)
    else:
        v = 1.2 * _speech(rng) + rng.uniform(0, 0.6) * EMOTIONS[rng.integers(len(EMOTIONS))]
        _upper(rng, v, 0.2, 12)
        _nod(rng, v, 6)
    return v


def plan(count: int, seed: int, test_every: int = 20) -> Plan:
    """The shuffled list of ``count`` control vectors; every ``test_every``-th index is a test frame."""
    rng = np.random.default_rng(seed)
    sizes = np.floor(np.array(SHARES) * count).astype(int)
    sizes[0] += count - sizes.sum()
    rows, kinds = [], []
    for c, (kind, size) in enumerate(zip(CATEGORIES, sizes, strict=True)):
        for k in rng.permutation(size):
            v = _make(kind, int(k), rng)
            lo, hi = RANGES.T
            if kind != "extreme":
                hi = np.where(np.arange(len(CONTROLS)) == INDEX["jawOpen"], 0.8, hi)
            rows.append(np.clip(v, lo, hi))
            kinds.append(c)
    order = rng.permutation(count)
    return Plan(
        np.array(rows, np.float32)[order],
        np.array(kinds, np.uint8)[order],
        np.arange(count) % test_every == 0 if test_every else np.ones(count, bool),
    )
