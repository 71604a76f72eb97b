"""The ruler for lips: it separates open from closed, or says that it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visavis.rehearse.frames import frame_rgb
from visavis.rehearse.mouth import separates

pytestmark = pytest.mark.unit


def test_open_and_closed_are_separated_only_where_they_differ() -> None:
    """Wider than 95 % of the closed ones, with enough of both."""
    closed = np.linspace(0.0, 0.01, 30)
    assert separates(closed, np.linspace(0.02, 0.06, 30))
    assert not separates(closed, closed)
    assert not separates(closed, np.array([0.05]))


def test_landmarks_separate_the_parted_lips_of_a_speaker_from_closed_ones(shared: Path) -> None:
    """A clip with known words: the silence at its end is closed (before the first word the talker breathes in), the vowels are open."""
    import av

    from engines.vision.landmarks import FaceLandmarker

    landmarker = FaceLandmarker(shared / "models" / "face-landmarker" / "face_landmarker.task")
    clip = shared / "data" / "faces" / "grid" / "id2_vcd_swwp2s.mpg"
    rows = [line.split() for line in clip.with_name("swwp2s.align").read_text().splitlines()]
    quiet = [(int(a) // 1000, int(b) // 1000) for a, b, word in rows if word == "sil"]
    with av.open(str(clip)) as video:
        widths = [landmarker.mouth_opening(frame.to_ndarray(format="rgb24")) for frame in video.decode(video=0)]
    closed = np.array([w for i, w in enumerate(widths) if quiet[-1][0] + 5 <= i])
    spoken = np.array([w for i, w in enumerate(widths) if not any(a <= i < b for a, b in quiet)])
    widest = np.sort(spoken)[-len(spoken) // 3 :]
    assert separates(closed, widest)


def test_grey_and_colour_come_out_of_nv12_as_they_went_in() -> None:
    """Full-range BT.709: luma 128 without chroma is grey, the red of the tables is red."""
    grey = np.full((6, 4), 128, np.uint8)
    assert frame_rgb(grey).tolist() == [[[128, 128, 128]] * 4] * 4
    red = np.vstack([np.full((4, 4), 54, np.uint8), np.tile(np.array([99, 255], np.uint8), (2, 2))])
    assert np.abs(frame_rgb(red)[0, 0].astype(int) - [255, 0, 0]).max() <= 2
