"""Objectives are judged from what was done."""

from __future__ import annotations

import pytest

from runtime.conversation.objectives import reached
from runtime.packs import Pack

pytestmark = pytest.mark.unit


def test_objectives_are_reached_by_deeds_only(pack: Pack) -> None:
    """A tool done, a topic answered."""
    assert reached(pack.objectives, ()) == ()
    assert reached(pack.objectives, ("tool:orderDrink", "topic:departments")) == ("order", "directions")
    assert reached(pack.objectives, ("topic:opening",)) == ("informed",)
