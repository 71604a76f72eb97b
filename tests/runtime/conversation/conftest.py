"""The shipped pack, loaded once."""

from __future__ import annotations

import pytest

from runtime.config import Config
from runtime.packs import Pack, load


@pytest.fixture(scope="session")
def pack() -> Pack:
    """The coffee bar."""
    return load(Config().pack_path)
