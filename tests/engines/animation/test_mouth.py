"""The mouth says what is heard: contacts close, vowels open at their centre, silence is the resting face."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.animation import VISEMES, Animator, Phone
from tests.engines.animation.conftest import IDLE, LIPS, NAMES, RANGES

OPEN = ("jawOpen", "mouthLowerDown_L", "mouthUpperUp_R")


def _frames(animator: Animator, phones: list[Phone], fps: int, offset: float) -> list[tuple[float, np.ndarray]]:
    track = animator.speak(phones)
    times = np.arange(offset - 0.4, phones[-1][2] + 0.6, 1 / fps)
    return [(float(t), animator.frame(float(t) + 10, track=track, position=float(t), posture="speaking")) for t in times]


@pytest.mark.parametrize("fps", [25, 30, 40])
@pytest.mark.parametrize("sound", ["m", "b", "p"])
@pytest.mark.parametrize("length", [0.055, 0.07, 0.12])
def test_lips_meet_within_the_sound(animator: Animator, at: dict[str, int], fps: int, sound: str, length: float):
    """For m, b, p some frame within the phoneme shows closed lips, however the frames fall."""
    phones = [("ˈɑː", 0.0, 0.15), (sound, 0.15, 0.15 + length), ("ˈɑː", 0.15 + length, 0.3 + length)]
    for offset in np.arange(0, 1 / fps, 0.006):
        inside = [f for t, f in _frames(animator, phones, fps, offset) if 0.15 - 0.008 <= t <= 0.15 + length]
        closed = [f for f in inside if f[[at[n] for n in OPEN]].max() < 1e-6 and f[at["mouthPress_L"]] > 0.3]
        assert closed


@pytest.mark.parametrize("sound", ["f", "v"])
def test_teeth_on_the_lip(animator: Animator, at: dict[str, int], sound: str):
    """F and v roll the lower lip under the upper teeth and keep the jaw nearly shut."""
    phones = [("ˈiː", 0.0, 0.12), (sound, 0.12, 0.2), ("ˈiː", 0.2, 0.32)]
    frame = animator.frame(0, track=animator.speak(phones), position=0.16)
    assert _bites(frame, at)


@pytest.mark.parametrize("vowel", ["oʊ", "uː", "ʊ", "ɔː", "AO1"])
def test_rounding_never_parts_lips_that_meet(animator: Animator, at: dict[str, int], vowel: str):
    """Before and after a round vowel the lips of b are pushed forward, but no funnel, jaw or lip weight opens them."""
    phones = [(vowel, 0.0, 0.15), ("b", 0.15, 0.22), (vowel, 0.22, 0.37)]
    frame = animator.frame(0, track=animator.speak(phones), position=0.18)
    assert frame[at["mouthPucker"]] > 0.03
    assert max(frame[at[n]] for n in (*OPEN, "mouthFunnel", "mouthShrugUpper")) < 1e-6


def _bites(frame: np.ndarray, at: dict[str, int]) -> bool:
    """Whether lip and teeth are as the recipe for f has them."""
    recipe = VISEMES["FF"].weights
    return all(abs(frame[at.get(n, at.get(f"{n}_L", -1))] - weight) < 0.02 for n, weight in recipe.items())


def _seen(animator: Animator, at: dict[str, int], phones: list[Phone], offset: float) -> tuple[bool, bool]:
    """Whether some frame at 25 fps shows the lips closed, and some the teeth on the lip, no more than 60 ms away from `phones`."""
    inside = [f for t, f in _frames(animator, phones, 25, offset) if phones[0][2] - 0.06 <= t <= phones[-1][1] + 0.06]
    lips = [f for f in inside if max(f[at[n]] for n in (*OPEN, "mouthFunnel")) < 1e-6 and f[at["mouthPress_L"]] > 0.3]
    teeth = [f for f in inside if _bites(f, at)]
    return bool(lips), bool(teeth)


@pytest.mark.parametrize("cluster", ["mf", "fm", "pf", "vb"])
@pytest.mark.parametrize("length", [0.015, 0.03, 0.06])
def test_contacts_beside_each_other_are_both_seen(animator: Animator, at: dict[str, int], cluster: str, length: float):
    """In "comfort", "from five" and "of mine", however fast, frames show the lips closed and the teeth on the lip."""
    ends = [0.15 + length, 0.15 + 2 * length]
    phones = [("ˈɑː", 0.0, 0.15), (cluster[0], 0.15, ends[0]), (cluster[1], *ends), ("ˈɑː", ends[1], ends[1] + 0.15)]
    for offset in np.arange(0, 0.04, 0.005):
        assert _seen(animator, at, phones, offset) == (True, True)


def test_three_contacts_in_a_row_keep_their_order(animator: Animator, at: dict[str, int]):
    """In "of him, perfect" said very fast, v, m and f are each reached, in this order."""
    phones = [("ɒ", 0, 0.05), ("v", 0.05, 0.07), ("m", 0.07, 0.09), ("f", 0.09, 0.11), ("ɪ", 0.11, 0.2)]
    track = animator.speak(phones)
    frames = [animator.frame(0, track=track, position=t) for t in np.arange(-0.05, 0.2, 0.002)]
    teeth = [_bites(f, at) for f in frames]
    lips = [f[at["mouthPress_L"]] > 0.3 and f[at["mouthUpperUp_L"]] < 0.02 for f in frames]
    closed = np.flatnonzero(lips)
    assert len(closed)
    assert any(teeth[: closed[0]])
    assert any(teeth[closed[-1] :])


@pytest.mark.parametrize("length", [0.06, 0.08])
def test_a_fast_vowel_between_contacts_is_seen(animator: Animator, at: dict[str, int], length: float):
    """In a hurried "pub" the mouth opens between p and b."""
    track = animator.speak([("p", 0.0, 0.05), ("ʌ", 0.05, 0.05 + length), ("b", 0.05 + length, 0.1 + length)])
    assert max(animator.frame(0, track=track, position=t)[at["jawOpen"]] for t in np.arange(0, 0.1 + length, 0.002)) > 0.15


@pytest.mark.parametrize("pause", [0.03, 0.08, 0.12, 0.3])
def test_contacts_across_words_and_clauses(animator: Animator, at: dict[str, int], pause: float):
    """In "stop, please" the lips stay closed over a short pause, and meet again after a long one."""
    phones = [
        ("ˈɑː", 0.0, 0.2),
        ("p", 0.2, 0.27),
        ("", 0.27, 0.27 + pause),
        ("p", 0.27 + pause, 0.34 + pause),
        ("iː", 0.34 + pause, 0.6 + pause),
    ]
    track = animator.speak(phones)
    for begin in (0.2, 0.27 + pause):
        frame = animator.frame(0, track=track, position=begin + 0.035)
        assert max(frame[at[n]] for n in OPEN) < 1e-6
        assert frame[at["mouthPress_L"]] > 0.3
    between = [animator.frame(0, track=track, position=0.27 + x * pause) for x in (0.2, 0.5, 0.8)]
    assert max(f[at["jawOpen"]] for f in between) < 0.01


def test_the_jaw_follows_loudness(animator: Animator, at: dict[str, int]):
    """A loud vowel opens the mouth wider than a soft one, within bounds; where loudness is not known, stress decides."""

    def jaw(level: float, symbol: str = "ˈɑː") -> float:
        track = animator.speak([Phone("h", 0, 0.05), Phone(symbol, 0.05, 0.25, level)])
        return float(animator.frame(0, track=track, position=0.14)[at["jawOpen"]])

    levels = [jaw(level) for level in (-60, -25, -19, -15, 0)]
    assert levels == sorted(levels)
    assert 0.5 * levels[2] < levels[0] < levels[1] < 0.9 * levels[2] < levels[2] < levels[3]
    assert levels[-1] <= 1.25 * levels[2]
    assert jaw(np.nan) > jaw(np.nan, "ɑː") > 0.3


def test_times_that_are_no_numbers_are_left_out(animator: Animator):
    """A phoneme without a proper time does not spoil the others."""
    good = [("m", 0.0, 0.1), ("ˈɑː", 0.1, 0.3)]
    bad = [("f", np.nan, 0.05), ("f", -np.inf, 0.02), *good, ("f", 0.3, np.inf), ("f", 0.3, 0.3), ("f", 0.3, np.nan)]
    one, other = animator.speak(good), animator.speak(bad)
    assert all(np.array_equal(one.at(t), other.at(t)) for t in np.arange(-0.3, 0.7, 0.01))


@pytest.mark.parametrize("sound", ["θ", "l", "d", "n"])
def test_the_tongue_rises(animator: Animator, at: dict[str, int], sound: str):
    """TH, L, D, N lift the tongue to the teeth."""
    phones = [("ˈɑː", 0.0, 0.15), (sound, 0.15, 0.22), ("ˈɑː", 0.22, 0.35)]
    assert animator.frame(0, track=animator.speak(phones), position=0.185)[at["tongueUp"]] > 0.6


@pytest.mark.parametrize("length", [0.08, 0.12, 0.2, 0.3])
def test_opening_peaks_at_the_vowel_s_centre(animator: Animator, at: dict[str, int], length: float):
    """No lag: the jaw is widest within 20 ms of the vowel's centre."""
    track = animator.speak([("m", 0.0, 0.08), ("ˈɑː", 0.08, 0.08 + length), ("m", 0.08 + length, 0.16 + length)])
    times = np.arange(0, 0.16 + length, 0.002)
    jaw = [animator.frame(float(t), track=track, position=float(t))[at["jawOpen"]] for t in times]
    assert abs(times[int(np.argmax(jaw))] - (0.08 + length / 2)) < 0.02
    assert max(jaw) > 0.3


def test_rounding_is_anticipated(animator: Animator, at: dict[str, int]):
    """The t of "two" is rounder than the t of "tea"."""
    pucker = [
        animator.frame(0, track=animator.speak([("t", 0.0, 0.07), (vowel, 0.07, 0.2)]), position=0.035)[at["mouthPucker"]]
        for vowel in ("ˈuː", "ˈiː")
    ]
    assert pucker[0] > pucker[1] + 0.1


def test_the_mouth_prepares(animator: Animator, at: dict[str, int]):
    """The jaw moves before the first sound, by no more than 120 ms."""
    track = animator.speak([("ˈɑː", 1.0, 1.2)])
    assert 0.88 <= track.start < 1.0
    assert animator.frame(0, track=track, position=1.0)[at["jawOpen"]] > 0.02


def test_rest_is_the_idle_mouth_bit_by_bit(animator: Animator):
    """Outside of speech, between sentences included, the mouth is exactly the pack's, in every posture."""
    track = animator.speak([("h", 0.0, 0.06), ("ˈaɪ", 0.06, 0.3), ("", 0.3, 1.0), ("j", 1.0, 1.06), ("uː", 1.06, 1.3)])
    animator.cue("smile", 5.0)
    animator.cue("nod", 5.5)
    for i, posture in enumerate(["idle", "attentive", "listening", "thinking", "speaking"] * 40):
        for position in (-0.2, 0.6, 1.6):
            frame = animator.frame(i / 25, track=track, position=position, posture=posture)
            assert np.array_equal(frame[LIPS], IDLE[LIPS])


def test_cut_closes_the_mouth_smoothly(animator: Animator):
    """An interrupted mouth goes on from where it was and is at rest 130 ms later."""
    track = animator.speak([("ˈɑː", 0.0, 0.3), ("ˈiː", 0.3, 0.6)])
    cut = track.cut(0.15)
    assert np.allclose(track.at(0.1499), cut.at(0.1501), atol=0.02)
    assert np.array_equal(cut.at(0.29), IDLE[MOUTH])
    assert np.array_equal(track.cut(5.0).at(5.1), IDLE[MOUTH])


MOUTH = [i for i, n in enumerate(NAMES) if n.startswith(("mouth", "jaw", "tongue", "cheekPuff"))]


@pytest.mark.parametrize("fps", [25, 30, 40])
def test_no_jumps(animator: Animator, fps: int):
    """Between two frames no mouth weight changes by more than 0.75, not even in "papapa" and "wow"."""
    phones, t = [], 0.0
    for symbol, length in [("p", 0.06), ("ɐ", 0.07)] * 4 + [("w", 0.08), ("ˈaʊ", 0.2), ("f", 0.07), ("iː", 0.1), ("m", 0.06), ("ˈɑː", 0.2)]:
        phones.append((symbol, t, t + length))
        t += length
    frames = np.array([f for _, f in _frames(animator, phones, fps, 0.0)])
    assert np.abs(np.diff(frames[:, LIPS], axis=0)).max() < 0.75


_SYMBOLS = st.sampled_from(["m", "ˈɑː", "", "f", "əl", "ˈaɪ", "t", "w", "AH0", "p", "??", "ʃ", "ɹ"])


@given(st.lists(st.tuples(_SYMBOLS, st.floats(0, 0.5), st.floats(0, 0.3)), max_size=20), st.floats(-1, 12), st.floats(-1e4, 1e4))
def test_ranges_are_kept(sounds: list[tuple[str, float, float]], position: float, yaw: float):
    """Any phonemes with any gaps, any position, any target: every control stays within its range."""
    phones, t = [], 0.0
    for symbol, length, gap in sounds:
        phones.append((symbol, t, t + length))
        t += length + gap
    face = Animator(NAMES, RANGES, IDLE, seed=1)
    track = face.speak(phones)
    for step in range(3):
        frame = face.frame(step / 25, track=track, position=position + step / 25, posture="speaking", target=(yaw, yaw))
        assert np.isfinite(frame).all()
        assert (frame >= RANGES[:, 0]).all()
        assert (frame <= RANGES[:, 1]).all()
    assert np.array_equal(face.frame(9, track=track, position=track.end + 1)[LIPS], IDLE[LIPS])
