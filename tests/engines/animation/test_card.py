"""The drawn face moves with its controls and never fails."""

from __future__ import annotations

import numpy as np
import pytest

from engines.animation.card import Card


def _picture(card: Card, **values: float) -> np.ndarray:
    controls = card.idle.copy()
    for name, value in values.items():
        controls[card.controls.index(name)] = value
    out = np.empty((576, 384), np.uint8)
    card.draw(controls, out)
    return out


@pytest.mark.parametrize("name", Card().controls)
def test_every_control_shows(name: str):
    """Each control it claims changes the picture."""
    card = Card()
    high = card.ranges[card.controls.index(name), 1]
    extra = {} if "mouth" not in name else {"jawOpen": 0.0}
    assert not np.array_equal(_picture(card), _picture(card, **{**extra, name: high}))


def test_equal_controls_equal_pictures():
    """The card keeps no state of its own."""
    assert np.array_equal(_picture(Card()), _picture(Card()))


def test_nonsense_is_survived():
    """NaN and values out of range are drawn as something sensible."""
    card = Card()
    out = np.empty((576, 384), np.uint8)
    card.draw(np.full(len(card.controls), np.nan, np.float32), out)
    card.draw(np.full(len(card.controls), 1e9, np.float32), out)
    assert np.ptp(out) > 50


def test_background_is_full_range_bt709():
    """The corner has the colour it was given."""
    card = Card()
    card.set_background((255, 255, 255))
    white = _picture(card)
    assert (white[0, 0], white[384, 0], white[384, 1]) == (255, 128, 128)
    card.set_background(np.full((4, 4, 3), (0, 0, 255), np.uint8))
    blue = _picture(card)
    assert 16 <= blue[0, 0] <= 20
    assert blue[384, 0] == 255


def test_wrong_place_is_refused():
    """Another shape is a mistake of the caller."""
    with pytest.raises(ValueError, match="384"):
        Card().draw(Card().idle, np.empty((100, 100), np.uint8))
