"""Fixtures that every test folder may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# A busy machine makes an example slow, which says nothing about the code. And the same examples in each run: what turns red is the
# change's doing. `make test ARGS=--hypothesis-profile=explore` looks for new ones.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real speech, noise, faces and models (VISAVIS_SHARED, default ../shared); skips where there is none."""
    path = Path(os.environ.get("VISAVIS_SHARED", ROOT.parent / "shared"))
    if not (path / "data").is_dir():
        pytest.skip(f"no shared data at {path}: set VISAVIS_SHARED")
    return path


@pytest.fixture(scope="session")
def torch() -> Any:
    """PyTorch; skips where it is not installed. What is trained with it is imported in the test, so that the rest runs without."""
    return pytest.importorskip("torch", reason="PyTorch comes with the extra 'studio'")
