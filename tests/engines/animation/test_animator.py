"""The face around the mouth is alive, smooth and repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from engines.animation import Animator
from tests.engines.animation.conftest import IDLE, NAMES, RANGES

POSTURES = ("idle", "attentive", "listening", "thinking", "speaking")


def _run(animator: Animator, seconds: float, fps: int = 25, posture: str = "idle") -> np.ndarray:
    return np.array([animator.frame(i / fps, posture=posture) for i in range(round(seconds * fps))])


def test_same_seed_same_face():
    """Two animators with one seed agree in every frame; another seed does not."""
    one, same, other = (_run(Animator(NAMES, RANGES, IDLE, seed=s), 8) for s in (5, 5, 6))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("posture", POSTURES)
def test_blinks(animator: Animator, at: dict[str, int], posture: str):
    """8 to 32 blinks a minute, each seen fully closed at 25 fps, open otherwise."""
    lids = _run(animator, 60, posture=posture)[:, at["eyeBlink_L"]]
    begins = np.flatnonzero((lids[1:] > 0) & (lids[:-1] == 0))
    assert 8 <= len(begins) <= 32
    for begin in begins:
        assert lids[begin : begin + 8].max() == 1.0
    assert (lids > 0).mean() < 0.15


def test_gaps_between_blinks_vary(animator: Animator, at: dict[str, int]):
    """Blinks come at 2 to 6 s, not like a clock."""
    lids = _run(animator, 120)[:, at["eyeBlink_L"]]
    gaps = np.diff(np.flatnonzero((lids[1:] > 0) & (lids[:-1] == 0))) / 25
    assert gaps.std() > 0.4
    assert np.median(gaps) > 2


@pytest.mark.parametrize("fps", [25, 30])
def test_head_and_brows_move_smoothly(animator: Animator, at: dict[str, int], fps: int):
    """Through all postures and reactions the head turns less than 1.5 degrees and the brows less than 0.2 from frame to frame."""
    frames = []
    for i in range(20 * fps):
        t = i / fps
        if i % (2 * fps) == 0:
            for cue in ("nod", "brow", "glance", "smile"):
                animator.cue(cue, t)
        frames.append(animator.frame(t, posture=POSTURES[int(t) % 5], target=(8.0 * (int(t) % 3 - 1), 2.0)))
    steps = np.abs(np.diff(np.array(frames), axis=0)).max(0)
    assert max(steps[at[n]] for n in ("yaw", "pitch", "roll")) < 1.5
    assert max(steps[at[n]] for n in ("browInnerUp_L", "browOuterUp_R", "browDown_L", "eyeWide_L", "cheekSquint_L")) < 0.2


def test_never_frozen(animator: Animator):
    """Idle, the face moves in every second."""
    frames = _run(animator, 20)
    assert all(np.ptp(frames[i : i + 25], axis=0).max() > 0.05 for i in range(0, 500, 25))


def test_eye_contact_is_held_while_the_head_moves(animator: Animator, at: dict[str, int]):
    """When attentive, gaze and head add up to the visitor's place."""
    frames = np.array([animator.frame(i / 25, posture="listening", target=(6.0, 1.0)) for i in range(250)])[25:]
    aim = frames[:, at["gazeYaw"]] + frames[:, at["yaw"]]
    assert np.abs(aim - 6).max() < 2.5
    assert np.ptp(frames[:, at["yaw"]]) > 0.3


def test_thinks_with_averted_eyes(animator: Animator, at: dict[str, int]):
    """In thought the eyes go aside and up, within half a second."""
    _run(animator, 2, posture="listening")
    frames = np.array([animator.frame(2 + i / 25, posture="thinking") for i in range(100)])[12:]
    assert np.abs(frames[:, at["gazeYaw"]]).min() > 3
    assert frames[:, at["gazePitch"]].max() < 0


def test_a_nod_goes_down_at_once(animator: Animator, at: dict[str, int]):
    """The head is on its way down 100 ms after the cue."""
    _run(animator, 2, posture="listening")
    before = animator.frame(2.0, posture="listening")[at["pitch"]]
    animator.cue("nod", 2.0)
    after = [animator.frame(2.0 + i / 25, posture="listening")[at["pitch"]] for i in range(1, 6)]
    assert max(after[:3]) > before + 0.8
    assert max(after) > before + 1.5


def test_a_glance_is_seen_within_100_ms(animator: Animator, at: dict[str, int]):
    """Attention shows in eyes and brows at once."""
    _run(animator, 2, posture="attentive")
    calm = animator.frame(2.0, posture="attentive")
    animator.cue("glance", 2.0)
    seen = animator.frame(2.1, posture="attentive")
    assert seen[at["eyeWide_L"]] > calm[at["eyeWide_L"]] + 0.1
    assert seen[at["browInnerUp_L"]] > calm[at["browInnerUp_L"]] + 0.05


def test_speaking_moves_head_and_brows(animator: Animator, at: dict[str, int]):
    """Stressed syllables show in head and brows."""
    phones = [p for k in range(6) for p in (("m", k * 0.5, k * 0.5 + 0.1), ("ˈɑː", k * 0.5 + 0.1, k * 0.5 + 0.5))]
    track, still = animator.speak(phones), Animator(NAMES, RANGES, IDLE, seed=3)
    talk = np.array([animator.frame(i / 25, track=track, position=i / 25, posture="speaking") for i in range(75)])
    quiet = np.array([still.frame(i / 25, posture="speaking") for i in range(75)])
    assert np.abs(talk - quiet)[:, at["pitch"]].max() > 0.5
    assert np.abs(talk - quiet)[:, at["browInnerUp_L"]].max() > 0.05


def test_a_jump_in_time_is_survived(animator: Animator):
    """After hours without frames, or a step back, the next frame is whole."""
    for t in (0.0, 7200.0, 3.0, 3.0):
        frame = animator.frame(t, posture="thinking")
        assert np.isfinite(frame).all()
        assert (frame >= RANGES[:, 0]).all()
        assert (frame <= RANGES[:, 1]).all()


def test_unknown_reaction_is_refused(animator: Animator):
    """A misspelt cue is a mistake of the caller."""
    with pytest.raises(ValueError, match="wink"):
        animator.cue("wink", 0.0)


def test_a_pack_with_few_controls():
    """A face that only has a jaw and a blink is animated as far as it goes."""
    face = Animator(["jawOpen", "eyeBlink_L"], np.array([[0, 1], [0, 1]], np.float32), np.zeros(2, np.float32))
    frames = [face.frame(i / 25, track=face.speak([("ˈɑː", 0.0, 0.4)]), position=i / 25) for i in range(200)]
    assert np.max(frames, axis=0)[0] > 0.4
    assert np.max(frames, axis=0)[1] == 1.0
