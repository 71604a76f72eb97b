"""Noise taken out before the ears hear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.errors import ModelError
from engines.recognition.ears import WEIGHTS
from visavis.bench.suppression import Suppressor


def test_noise_goes_and_a_voice_stays_in_its_place(shared: Path) -> None:
    """A recorded order in white noise: as long as before, nearer to the clean one, and the silence before it much softer."""
    from visavis.bench.hearing import load

    suppress = Suppressor(shared / "models/noise-suppression-gtcrn/gtcrn_simple.onnx")
    clean = np.pad(load(min((shared / "data/speech/coffee-orders").glob("*.flac"))), (16_000, 0))
    clean *= 0.3 / np.abs(clean).max()
    noisy = clean + np.random.default_rng(1).normal(0, 0.02, len(clean))
    found = suppress(noisy)
    assert len(found) == len(noisy)
    assert np.square(found - clean).mean() < 0.5 * np.square(noisy - clean).mean()
    assert np.abs(found[4000:15_000]).mean() < 0.3 * np.abs(noisy[4000:15_000]).mean()


def test_another_network_is_refused() -> None:
    """In one line that says what it is."""
    with pytest.raises(ModelError, match="no streaming GTCRN: it takes layers"):
        Suppressor(WEIGHTS)
