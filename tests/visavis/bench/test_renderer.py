"""`visavis bench renderer`: every rung of the face that serves here, with the keys that are reported."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from visavis.bench.renderer import run
from visavis.bench.report import BenchError

pytestmark = pytest.mark.unit
STOCK = Path(__file__).resolve().parents[3] / "engines" / "avatars" / "stock"


def test_every_rung_is_measured_and_the_cores_are_given_back() -> None:
    """Quantiles and cores for 512, 384 and 256; afterwards this process may run where it could before."""
    before = os.sched_getaffinity(0)
    result = run(frames=4, pack=STOCK)
    (rungs,) = (backend["rungs"] for backend in result["backends"].values())
    assert list(rungs) == ["512", "384", "256"]
    for figures in rungs.values():
        assert 0 < figures["ms_p50"] <= figures["ms_p95"] <= figures["ms_p99"]
        assert figures["cores"] > 0
    assert result["busy_neighbours"] == len(before) - 1
    assert os.sched_getaffinity(0) == before


def test_a_broken_pack_is_told(tmp_path: Path) -> None:
    """One line that names the file."""
    pack = Path(shutil.copytree(STOCK, tmp_path / "pack"))
    (pack / "plate.png").unlink()
    with pytest.raises(BenchError, match=r"plate\.png: cannot be read"):
        run(pack=pack)
