"""Soft changes between rungs, and a spare that nobody waits for."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from engines.animation.card import Card
from engines.renderer import Renderer, Rung
from runtime.rungs import Fade, Ladder, Spare
from tests.support.harness import LIMIT_S

pytestmark = pytest.mark.unit


def flat(size: int, luma: int, chroma: int) -> np.ndarray:
    """A picture of one colour."""
    out = np.full((size * 3 // 2, size), luma, np.uint8)
    out[size:] = chroma
    return out


def test_a_fade_goes_from_the_one_to_the_other_and_ends() -> None:
    """Brightness and colour move steadily, whatever the sizes; after it pictures are left alone."""
    fade = Fade()
    fade.begin(flat(64, 200, 90), 32, 32)
    lumas, chromas = [], []
    for _ in range(Fade.FRAMES + 2):
        out = flat(32, 20, 150)
        fade.blend(out)
        assert len(np.unique(out[:32])) == len(np.unique(out[32:])) == 1
        lumas.append(int(out[0, 0]))
        chromas.append(int(out[40, 0]))
    assert lumas == sorted(lumas, reverse=True)
    assert chromas == sorted(chromas)
    assert lumas[0] > 150
    assert lumas[-3:] == [pytest.approx(40, abs=1), 20, 20]


def test_a_picture_keeps_its_places_when_its_size_changes() -> None:
    """What was left stays left, in brightness and colour."""
    last = flat(64, 0, 0)
    last[:64, :32], last[64:, :32] = 200, 100
    fade = Fade()
    fade.begin(last, 128, 128)
    out = flat(128, 0, 0)
    fade.blend(out)
    for plane, left in ((out[:128], 150), (out[128:], 75)):
        assert plane[:, 10].min() > left
        assert plane[:, 120].max() == 0


def test_a_spare_is_there_when_it_is_there() -> None:
    """Nobody waits for it while it is opened, and it is opened once."""
    may, asked = threading.Event(), []
    card = Card()

    def slow() -> Renderer:
        asked.append(1)
        assert may.wait(LIMIT_S)
        return card

    spare = Spare(slow)
    assert spare.get() is None
    assert spare.get() is None
    may.set()
    assert spare._thread is not None
    spare._thread.join(LIMIT_S)
    assert spare.get() is card
    assert asked == [1]


def test_a_spare_that_cannot_be_opened_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line, and no renderer."""

    def broken() -> Renderer:
        raise OSError("no such clip")

    spare = Spare(broken)
    spare.get()
    assert spare._thread is not None
    spare._thread.join(LIMIT_S)
    assert spare.get() is None
    assert [record.message for record in caplog.records] == ["the idle loop cannot be shown, the smallest rung serves: no such clip"]


def test_a_better_rung_waits_for_quiet() -> None:
    """However calm the machine, the picture does not change in the middle of a word."""
    ladder = Ladder((Rung("big", 512, 512), Rung("small", 256, 256)), 0.04)
    for _ in range(20):
        ladder.note(0.05, late=True)
    assert ladder.rung == 1
    for _ in range(2 * Ladder.CALM):
        ladder.note(0.003, late=False, quiet=False)
    assert ladder.rung == 1
    ladder.note(0.003, late=False)
    assert ladder.rung == 0
