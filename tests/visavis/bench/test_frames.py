"""The benchmark of the renderer measures every rung of the shipped avatar."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.renderer import load_pack
from runtime.config import Config
from visavis.bench import frames
from visavis.bench.report import BenchError


def test_every_rung_is_measured():
    """Each rung has all stages, and the parts add up to the frame."""
    result = frames.run(frames=6)
    assert list(result["rungs"]) == [r.name for r in load_pack(Config().avatar_path).rungs]
    for stages in result["rungs"].values():
        assert stages["frame_ms"].n == 6
        assert stages["draw_ms"].lowest > 0
        assert stages["frame_ms"].highest >= stages["draw_ms"].highest


def test_an_unreadable_avatar_cannot_be_measured(tmp_path: Path):
    """One line says why."""
    with pytest.raises(BenchError, match="avatar"):
        frames.run(frames=1, avatar=tmp_path)
