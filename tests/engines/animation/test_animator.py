"""The face around the mouth is alive, smooth and repeatable."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engines.animation import CUES, MOODS, PLACES, Animator, upper
from tests.engines.animation.conftest import IDLE, LIPS, NAMES, RANGES

POSTURES = ("idle", "attentive", "listening", "thinking", "speaking")


def _run(animator: Animator, seconds: float, fps: int = 25, posture: str = "idle") -> np.ndarray:
    return np.array([animator.frame(i / fps, posture=posture) for i in range(round(seconds * fps))])


@cache
def _ten_minutes(posture: str) -> np.ndarray:
    return _run(Animator(NAMES, RANGES, IDLE, seed=7), 600, posture=posture)


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
    gaps = np.diff(_begins(lids)) / 25
    assert gaps.std() > 0.4
    assert np.median(gaps) > 2


def _begins(lids: np.ndarray) -> np.ndarray:
    return np.flatnonzero((lids[1:] > 0) & (lids[:-1] == 0))


def test_blinks_come_as_often_as_the_posture_wants(at: dict[str, int]):
    """More while speaking than at rest, fewer in thought."""
    counts = {posture: len(_begins(_ten_minutes(posture)[:, at["eyeBlink_L"]])) / 10 for posture in ("thinking", "idle", "speaking")}
    assert 7 < counts["thinking"] < 0.85 * counts["idle"]
    assert 12 < counts["idle"] < 20
    assert 1.2 * counts["idle"] < counts["speaking"] < 30


@pytest.mark.parametrize(("degrees", "low", "high"), [(2.0, 0.0, 0.2), (22.0, 0.7, 1.0)])
def test_large_shifts_of_the_gaze_bring_a_blink(animator: Animator, at: dict[str, int], degrees: float, low: float, high: float):
    """Of thirty looks aside nearly each large one begins with a blink, a small one does not."""
    taken = 0
    for number in range(30):
        begin = 4.0 * number
        frames = [animator.frame(begin + i / 25, posture="attentive") for i in range(50)]
        if frames[-1][at["eyeBlink_L"]]:
            continue
        animator.look((degrees, 0.0), begin + 2.0, 2.0)
        frames = [animator.frame(begin + 2 + i / 25, posture="attentive") for i in range(50)]
        taken += max(f[at["eyeBlink_L"]] for f in frames[:6]) == 1.0
    assert low <= taken / 30 <= high


@pytest.mark.parametrize("posture", POSTURES)
def test_ten_minutes_do_not_loop(at: dict[str, int], posture: str):
    """No control that moves by itself is like itself some time before, at any distance from ten seconds to ten minutes."""
    frames = _ten_minutes(posture).astype(float)
    moving = np.flatnonzero(frames.std(axis=0) > 1e-5)
    assert {at[n] for n in ("yaw", "pitch", "roll", "gazeYaw", "gazePitch", "eyeBlink_L", "browInnerUp_L", "browOuterUp_R")} <= set(moving)
    centred = frames[:, moving] - frames[:, moving].mean(axis=0)
    spectrum = np.fft.rfft(centred, 2 * len(frames), axis=0)
    likeness = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[: len(frames)]
    likeness /= likeness[0]
    assert likeness[10 * 25 :].max() < 0.4


@pytest.mark.parametrize("posture", POSTURES)
def test_ten_minutes_do_not_rest(posture: str):
    """In none of six hundred seconds does the face stand still."""
    frames = _ten_minutes(posture)
    angles = frames[:, NAMES.index("gazeYaw") :]
    assert all(np.ptp(angles[i : i + 25], axis=0).max() > 0.05 for i in range(0, len(frames), 25))
    assert all(np.abs(np.diff(frames[i : i + 25], axis=0)).max(axis=1).min() > 0 for i in range(0, len(frames), 25))


@pytest.mark.parametrize("fps", [25, 30, 40])
def test_head_and_brows_move_smoothly(animator: Animator, at: dict[str, int], fps: int):
    """Through all postures and reactions the head turns less than 1.5 degrees and the brows less than 0.2 from frame to frame."""
    frames = []
    for i in range(20 * fps):
        t = i / fps
        if i % (2 * fps) == 0:
            for cue in CUES:
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


def test_a_posture_begins_gently(animator: Animator, at: dict[str, int]):
    """A change of posture is seen within 200 ms and done within 600, and no frame of it jumps: the first step is a small one."""
    _run(animator, 2, posture="attentive")
    calm = Animator(NAMES, RANGES, IDLE, seed=3)
    _run(calm, 2, posture="attentive")
    brow = []
    for i in range(25):
        thinking, attentive = animator.frame(2 + i / 25, posture="thinking"), calm.frame(2 + i / 25, posture="attentive")
        brow.append(float(thinking[at["browDown_L"]] - attentive[at["browDown_L"]]))
    steps = np.diff([0.0, *brow])
    assert brow[5] > 0.3 * brow[-1]
    assert brow[15] > 0.9 * brow[-1] > 0.1
    assert steps[0] < 0.5 * steps.max()
    assert steps.min() > -0.005


@pytest.mark.parametrize("mood", sorted(MOODS.keys() - {"neutral"}))
def test_a_mood_shows_and_passes(animator: Animator, mood: str):
    """It comes within a second without a jump, stays, and leaves the resting mouth exactly as it was."""
    other = Animator(NAMES, RANGES, IDLE, seed=3)
    felt = np.array([animator.frame(i / 25, mood=mood) - other.frame(i / 25) for i in range(100)])
    assert np.abs(felt[25]).max() > 0.05
    assert np.abs(felt[50:] - felt[50])[:, LIPS].max() < 0.01
    assert np.abs(np.diff(felt, axis=0)).max() < 0.35
    after = [animator.frame(4 + i / 25) for i in range(75)][-1]
    assert np.array_equal(after[LIPS], IDLE[LIPS])


@pytest.mark.parametrize("mood", sorted(MOODS))
@pytest.mark.parametrize("sound", ["m", "f"])
def test_no_mood_keeps_lips_from_meeting(animator: Animator, at: dict[str, int], mood: str, sound: str):
    """Happy or sorry, m is closed and f is on the teeth."""
    track = animator.speak([("ˈɑː", 0.0, 0.1), (sound, 0.1, 0.18), ("ˈɑː", 0.18, 0.3)])
    for i in range(50):
        frame = animator.frame(i / 25, track=track, position=0.14, mood=mood, posture="speaking")
    parting = ("jawOpen", "mouthLowerDown_L", "mouthFunnel", "mouthShrugUpper")
    if sound == "m":
        assert max(frame[at[n]] for n in (*parting, "mouthUpperUp_L")) < 1e-6
        assert frame[at["mouthPress_L"]] > 0.3
    else:
        assert frame[at["mouthRollLower"]] > 0.35
        assert frame[at["mouthUpperUp_L"]] > 0.33
        assert max(frame[at[n]] for n in parting) < 0.07


def test_the_visitor_s_mood_is_met(at: dict[str, int]):
    """Half of a visitor's joy comes back, sadness is met with sympathy; a mood of one's own wins."""

    def shown(**moods: str) -> np.ndarray:
        face = Animator(NAMES, RANGES, IDLE, seed=3)
        return np.array([face.frame(i / 25, **moods) for i in range(50)])[-1]

    calm, own = shown(), shown(mood="happy")
    smile = at["mouthSmile_L"]
    assert calm[smile] + 0.1 < shown(visitor="happy")[smile] < own[smile] - 0.1
    assert shown(visitor="sad")[at["browInnerUp_L"]] > calm[at["browInnerUp_L"]] + 0.15
    assert np.array_equal(shown(mood="happy", visitor="sad"), own)
    assert np.array_equal(shown(mood="grumpy", visitor="bored"), calm)


def test_looks_at_what_is_shown(animator: Animator, at: dict[str, int]):
    """The eyes are on the screen's place within 100 ms, the head turns there a little, and both come back to the visitor."""
    _run(animator, 2, posture="speaking")
    animator.look(PLACES["screen"], 2.0, 1.0)
    frames = np.array([animator.frame(2 + i / 25, posture="attentive") for i in range(60)])
    yaw, pitch = (frames[:, at[gaze]] + frames[:, at[head]] for gaze, head in (("gazeYaw", "yaw"), ("gazePitch", "pitch")))
    assert np.abs(yaw[3:25] - PLACES["screen"][0]).max() < 1.0
    assert np.abs(pitch[3:25] - PLACES["screen"][1]).max() < 1.0
    assert frames[20, at["pitch"]] > frames[0, at["pitch"]] + 1
    assert np.abs(np.array([yaw[35:], pitch[35:]])).max() < 2.5


_ANY = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(
    st.lists(st.tuples(_ANY, _ANY, _ANY, _ANY, st.sampled_from([*POSTURES, ""]), st.sampled_from([*MOODS, ""])), min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(["m", "ˈɑː", "f", ""]), _ANY, _ANY), max_size=5),
    st.sampled_from(sorted(CUES)),
    _ANY,
)
@example(
    [(0.0, 0.0, 0.0, 0.0, "idle", "neutral")], [("f", -281475010265088.0, -281474976710656.0), ("m", -281474976710656.0, 0.0)], "brow", 0.0
)
def test_nothing_spoils_the_face(
    calls: list[tuple[float, float, float, float, str, str]], phones: list[tuple[str, float, float]], cue: str, cue_at: float
):
    """Times, places and positions that are no numbers, or far out: every control is a number within its range, also afterwards."""
    face = Animator(NAMES, RANGES, IDLE, seed=2)
    face.cue(cue, cue_at)
    face.look((cue_at, cue_at), cue_at)
    track = face.speak(phones)
    frames = [
        face.frame(t, track=track, position=position, posture=posture, target=(yaw, pitch), mood=mood)
        for t, position, yaw, pitch, posture, mood in calls
    ]
    frames += [face.frame(1.0 + i / 25, posture="listening") for i in range(3)]
    for frame in frames:
        assert np.isfinite(frame).all()
        assert (frame >= RANGES[:, 0]).all()
        assert (frame <= RANGES[:, 1]).all()


def test_a_pack_s_broken_rest_does_not_leave(at: dict[str, int]):
    """Where the resting face is no number, 0 or the nearest value in range stands for it."""
    broken = IDLE.copy()
    broken[at["mouthSmile_L"]], broken[at["cheekPuff_L"]] = np.nan, np.inf
    frame = Animator(NAMES, RANGES, broken).frame(0.0)
    assert np.isfinite(frame).all()
    assert (frame[at["mouthSmile_L"]], frame[at["cheekPuff_L"]]) == (0.0, 1.0)


def test_an_hour_of_life_is_not_remembered():
    """What was made for minutes that have passed is forgotten, and what is in use is made once: memory ends growing within minutes."""
    caches = [upper._knots, upper._fixations, upper._breaths]
    face = Animator(NAMES, RANGES, IDLE, seed=11)
    for kept in caches:
        kept.cache_clear()
    for second in range(3600):
        face.frame(float(second), posture=("idle", "thinking", "speaking", "listening")[second // 5 % 4])
    minutes, streams = 60, 6
    assert sum(kept.cache_info().currsize for kept in caches) < 80
    assert upper._fixations.cache_info().misses <= streams * (minutes + 1)
    assert upper._breaths.cache_info().misses <= minutes + 1


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
