"""What counts as a gap of the picture and as a break of the voice; the loudspeaker's clock."""

from __future__ import annotations

import pytest

from kiosk._protocol import END, FLUSH, PCM
from runtime.messages import VOICE_RATE
from visavis.chaos.hearing import Loudspeaker, Span, longest_gap, longest_silence

pytestmark = pytest.mark.unit
S = 1_000_000_000


def pcm(turn: int, index: int) -> tuple[int, int, int, int, float]:
    return PCM, 0, 0, turn, float(index)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 4, 8, 12, 16], (4, 8)),  # of equal ones the first, and it begins before the fault
        ([0, 4, 8, 9, 16], (9, 15)),
        ([4, 5], (5, 15)),  # nothing came any more
        ([], (5, 15)),
        ([14, 20], (5, 14)),
    ],
)
def test_the_longest_gap_of_the_picture(times: list[int], expected: tuple[int, int]) -> None:
    """It counts from the last frame before the fault, and up to now if nothing comes any more."""
    assert longest_gap(times, 5, 15) == expected


def test_a_break_of_the_voice_ends_in_sound() -> None:
    """The longest one after the fault; silence before it and after the last word is none."""
    spans = [Span(1, 0, 10, 0), Span(1, 14, 20, 0), Span(1, 29, 40, 0)]
    assert longest_silence(spans, 12, 100) == (20, 29)
    assert longest_silence(spans, 8, 25) == (10, 14)
    assert longest_silence(spans, 30, 100) == (30, 30)
    assert longest_silence([], 30, 100) == (30, 30)


def test_the_loudspeaker_plays_at_the_nominal_rate() -> None:
    """Chunks join while it plays; dry is told once; what comes later begins a new span."""
    speaker = Loudspeaker()
    assert speaker.take(pcm(3, 1000), VOICE_RATE, 10 * S) == [("started", {"turn": 3, "index": 1000, "ms": 10_000.0})]
    assert speaker.take(pcm(3, 1000 + VOICE_RATE), VOICE_RATE, 10 * S + 1) == []
    assert speaker.report(11 * S) == [("playhead", {"turn": 3, "index": 1000 + VOICE_RATE, "ms": 11_000.0, "playing": True})]
    assert speaker.take((END, 0, 0, 3, 0.0), 0, 11 * S) == []
    assert speaker.report(13 * S)[0][1] == {"turn": 3, "index": 1000 + 2 * VOICE_RATE, "ms": 13_000.0, "playing": False}
    assert speaker.report(14 * S) == []
    speaker.take(pcm(3, 5000), VOICE_RATE, 15 * S)
    assert [(span.begin_ns, span.end_ns) for span in speaker.spans] == [(10 * S, 12 * S), (15 * S, 16 * S)]


def test_a_flush_is_silent_at_once_and_says_where() -> None:
    """Only for the turn that sounds or an older one; else there was nothing to say."""
    speaker = Loudspeaker()
    speaker.take(pcm(3, 0), 2 * VOICE_RATE, S)
    assert speaker.take((FLUSH, 0, 0, 4, 0.0), 0, 2 * S) == [("silent", {"turn": 4, "index": VOICE_RATE, "ms": 2000.0})]
    assert not speaker.sounds(2 * S)
    assert speaker.take((FLUSH, 0, 0, 5, 0.0), 0, 3 * S) == [("silent", {"turn": 5, "index": -1, "ms": 3000.0})]
