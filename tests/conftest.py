"""Fixtures that every test folder may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
