"""The benchmark of the lips: its ruler is right about poses that are known, and it notices lips that come late or never."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.renderer import load_pack
from engines.studio import rig
from runtime.config import Config
from runtime.packs import load as load_shop
from visavis.bench import lips
from visavis.bench._lips import CLOSED_PX, TEETH_PX, Anatomy, Event, Heard, contacts, judge
from visavis.bench._lips_drawn import line_between

STEP = 0.004


@pytest.fixture(scope="module")
def anatomy(shared: Path) -> Anatomy:
    """The stock rig's lips and teeth, by the stock pack's controls."""
    return Anatomy(shared / "avatar", load_pack(Config().avatar_path).controls)


def _pose(**weights: float) -> np.ndarray:
    names = load_pack(Config().avatar_path).controls
    by_name = dict(zip(rig.CONTROLS, rig.vector(weights), strict=True))
    return np.array([[by_name[name] for name in names]], np.float32)


def test_the_ruler_agrees_with_the_whole_rig(anatomy: Anatomy, shared: Path):
    """For poses of the training set the gap is that of the posed mesh's landmarks, the head turned straight."""
    whole = rig.Rig(str(shared / "avatar" / "rig" / "ict_facekit_rig.npz"))
    labels = np.load(shared / "avatar" / "controls.npz")
    values = labels["values"][:20].copy()
    values[:, -3:] = 0
    gap, _ = anatomy.measure(values)
    for one, value in zip(gap, values, strict=True):
        marks = whole.landmarks68(whole.pose(value))
        assert one == pytest.approx(max(marks[b, 1] - marks[a, 1] for a, b in ((61, 67), (62, 66), (63, 65))), abs=0.01)


def test_known_mouths(anatomy: Anatomy):
    """The resting face and a pressed m are closed, plain zeros are not; f shows the teeth on the lip, an a shows neither."""
    rest = load_pack(Config().avatar_path).idle[None]
    closed = _pose(mouthPress=0.35, mouthRollUpper=0.18, mouthRollLower=0.22)
    on_teeth = _pose(mouthUpperUp=0.34, mouthRollLower=0.36, jawOpen=0.06, mouthShrugLower=0.05)
    gap, bite = anatomy.measure(np.concatenate([rest, closed, _pose(), on_teeth, _pose(jawOpen=0.5)]))
    assert list(gap <= CLOSED_PX) == [True, True, False, False, False]
    assert (gap[3] > TEETH_PX, bite[3] >= 0, bite[4] >= 0) == (True, True, False)


def test_neighbours_share_a_contact():
    """In "from my five" m and m are one closure, f and v their own; t asks for none."""
    sounds = [("f", 0.0, 0.1), ("ɒ", 0.1, 0.2), ("m", 0.2, 0.3), ("m", 0.3, 0.4), ("aɪ", 0.4, 0.5), ("t", 0.5, 0.6), ("v", 0.6, 0.7)]
    found = contacts(Heard(*sound, -20.0) for sound in sounds)
    assert [(event.kind, event.start, event.end, len(event.phonemes)) for event in found] == [
        ("FF", 0.0, 0.1, 1),
        ("PP", 0.2, 0.4, 2),
        ("FF", 0.6, 0.7, 1),
    ]


def _judged(gap: np.ndarray, times: np.ndarray, shown: np.ndarray | None = None) -> tuple[tuple[bool, ...], bool, float]:
    event = Event("PP", 1.0, 1.08, (Heard("m", 1.0, 1.08, -20.0),))
    shown = np.ones(len(times), bool) if shown is None else shown
    (found,) = judge([event], times, gap, np.zeros(len(times)), shown, 0.04)
    return found.reached, found.drawn, found.offset


def test_what_became_of_a_closure():
    """In time, 50 ms late, never, and between the frames: each is told."""
    times = np.arange(0.5, 1.5, STEP)
    apart = np.clip(np.abs(times - 1.04) - 0.03, 0, 0.05) * 100
    reached, drawn, offset = _judged(apart, times)
    assert (reached, drawn) == ((True,), True)
    assert abs(offset) <= STEP
    late = np.clip(np.abs(times - 1.09) - 0.03, 0, 0.05) * 100
    assert _judged(late, times)[2] == pytest.approx(0.05, abs=STEP)
    assert _judged(np.clip(np.abs(times - 1.2) - 0.03, 0, 0.05) * 100, times)[:2] == ((False,), False)
    assert _judged(apart + 1, times)[:2] == ((False,), False)
    shown = np.zeros(len(times), bool)
    shown[np.abs(times - 1.0).argmin() :: 1000] = True
    assert _judged(np.clip(np.abs(times - 1.04) - 0.01, 0, 0.05) * 100, times, shown)[:2] == ((True,), False)


def test_the_line_parts_closed_from_open():
    """It lies between the two kinds; without one of them there is none."""
    assert 0.2 < line_between(np.array([0.0, 0.1, 0.2]), np.array([0.3, 0.5])) < 0.3
    assert line_between(np.array([0.0, 0.1, 0.9]), np.array([0.3, 0.5, 0.6])) < 0.3
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        line_between(np.zeros(0), np.array([0.3]))


def test_sentences_are_drawn_by_seed():
    """As many as wanted, of the pack and of the dictionary, the same for the same seed."""
    shop = load_shop(Config().pack_path)
    one, same, other = (lips.spoken_lines(shop, seed, 21) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one) == len(other) == 21
    assert sum(line in {entry.answer for entry in shop.knowledge} or "," in line or "'" in line for line in one) > 0
    assert not any("{" in line or "[" in line for line in one)


def test_the_shipped_face_is_measured(shared: Path):
    """All figures are there, and say that closures are reached and read as such (how often: `visavis bench lips`)."""
    result = lips.run(data=shared / "avatar", limit=4, frames=12)
    for pace in result["curves"].values():
        assert pace["lips"]["phonemes"] >= pace["lips"]["contacts"] > 0
        assert pace["lips"]["reached"] > 0.9
        assert pace["lip_and_teeth"]["reached"] > 0.9
        assert pace["lips"]["off_ms"].p50 < 40
    assert result["ruler"]["closed"] > 0
    assert result["drawn"]["lips"] == 12
    assert result["drawn"]["lips_agree"] > 0.7
    assert result["drawn"]["without_a_face"] == 0
    assert all(len(line) == len(head) for _, head, lines in result["tables"] for line in lines)


def test_a_folder_without_a_rig_is_told(tmp_path: Path):
    """Which file is missing."""
    with pytest.raises(ValueError, match=r"rig/ict_facekit_rig\.npz is missing"):
        lips.run(data=tmp_path)
