"""The loudness of phonemes is that of their samples alone."""

from __future__ import annotations

import numpy as np

from engines.animation import levels_db


def test_each_span_has_its_own_level():
    """A tone at half of full scale is at -9 dBFS, silence far below, and what is not there is not known."""
    tone = (16384 * np.sin(np.arange(1000) * 2 * np.pi / 50)).astype(np.int16)
    sound = np.concatenate([tone, np.zeros(1000, np.int16)])
    loud, half, quiet, empty, outside = levels_db(sound, [(0, 1000), (500, 1500), (1000, 2000), (30, 30), (5000, 6000)])
    assert abs(loud + 9.03) < 0.05
    assert abs(half + 12.04) < 0.05
    assert quiet < -90
    assert np.isnan([empty, outside]).all()
    assert abs(levels_db(sound, [(-500, 1000)])[0] - loud) < 1e-9
