"""The benchmark of the renderer measures every rung of the shipped avatar."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from engines.renderer import _select, load_pack
from runtime.config import Config
from visavis.bench import frames
from visavis.bench.report import BenchError


def test_every_rung_is_measured(monkeypatch: pytest.MonkeyPatch):
    """Drawn by the CPU alone: each rung has all stages, and the parts add up to the frame."""
    monkeypatch.setattr(_select, "find_gpu", lambda: pytest.fail("the figures are those of the CPU"))
    result = frames.run(frames=6)
    assert result["renderer"] == "onnxruntime"
    assert not [t for t in threading.enumerate() if t.name == "gpu"]
    assert list(result["rungs"]) == [r.name for r in load_pack(Config().avatar_path).rungs]
    for stages in result["rungs"].values():
        assert stages["frame_ms"].n == 6
        assert stages["draw_ms"].lowest > 0
        assert stages["frame_ms"].highest >= stages["draw_ms"].highest


def test_an_unreadable_avatar_cannot_be_measured(tmp_path: Path):
    """One line says why."""
    with pytest.raises(BenchError, match="avatar"):
        frames.run(frames=1, avatar=tmp_path)
