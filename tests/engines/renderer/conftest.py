"""The shipped face, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.renderer import AvatarPack, load_pack

STOCK = Path(__file__).resolve().parents[3] / "engines" / "avatars" / "stock"


@pytest.fixture(scope="session")
def stock() -> Path:
    """The folder of the stock pack."""
    return STOCK


@pytest.fixture(scope="session")
def pack() -> AvatarPack:
    return load_pack(STOCK)
