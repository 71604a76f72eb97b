"""The end-of-turn benchmark: its arithmetic on made-up turns, and a short run on recordings."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from engines.errors import ModelError
from engines.models import locate
from engines.voice_activity import Melody
from visavis.bench.turn_data import OFFSETS_MS, Pause, Turn, recordings, spans
from visavis.bench.turn_fit import fit, fit_wait
from visavis.bench.turns import LAG_MS, operating_points, run, score, taken_ms

FLAT = Melody(0.0, 0.0, 5.0, 100.0)
END = float("inf")


def pause(length_ms, raws):
    """A pause of that length with the model's verdicts."""
    return Pause(1000.0, length_ms, 1000.0, 0.0, tuple(raws), FLAT)


def turn(*pauses, corpus="a"):
    """A turn of these pauses."""
    return Turn(corpus, "s", "n", held_out=True, pauses=pauses)


def newest(pause, index):
    """The model's own verdict."""
    return pause.raw[index]


def test_spans_are_where_the_sound_is():
    """Two tones 300 ms apart are two spans; a gap of 50 ms joins them, a click does not make one."""
    rng = np.random.default_rng(0)

    def sound(gap_ms):
        parts = [np.zeros(8000), rng.normal(0, 3000, 8000), np.zeros(gap_ms * 16), rng.normal(0, 3000, 8000), np.zeros(8000)]
        return (np.concatenate(parts) + rng.normal(0, 3, sum(map(len, parts)))).astype(np.int16)

    assert spans(sound(300)) == [(8000, 16_000), (20_800, 28_800)]
    assert spans(sound(50)) == [(8000, 24_800)]
    clicked = sound(300)
    clicked[2000:2160] = 5000
    assert len(spans(clicked)) == 2
    assert spans(np.zeros(0, np.int16)) == []


def test_the_newest_verdict_counts_and_comes_late():
    """A turn is not taken before the first verdict is there; a surer verdict later takes it at once."""
    sure_later = pause(END, [0.1, 0.9])

    def gate(_pause, p):
        return 150.0 if p > 0.5 else 2000.0

    assert taken_ms(pause(END, [0.9]), newest, gate) == OFFSETS_MS[0] + LAG_MS
    assert taken_ms(sure_later, newest, gate) == OFFSETS_MS[1] + LAG_MS
    assert taken_ms(pause(END, [0.1]), newest, gate) == 2000.0


def test_cut_off_or_late():
    """A hold that is shorter than the wait is survived, a longer one is a cut-off; each corpus has the same weight."""
    short, long, end = pause(350.0, [0.1, 0.1, 0.1]), pause(900.0, [0.1] * 5), pause(END, [0.1] * 5)
    turns = [turn(short, end), turn(short, end), turn(long, end, corpus="b")]
    figures = score(turns, newest, lambda _pause, _p: 600.0)
    assert figures["false_cutoffs"] == 0.5
    assert figures["mean_delay_ms"] == figures["p50_delay_ms"] == 600.0
    assert score(turns, newest, lambda _pause, _p: 300.0)["false_cutoffs"] == 1.0


def test_operating_points():
    """The figures are the best within their budgets; the curve never gets worse with more time."""
    points = [
        {"mean_delay_ms": delay, "false_cutoffs": cut}
        for delay, cut in ((250.0, 0.2), (290.0, 0.12), (400.0, 0.15), (450.0, 0.05), (900.0, 0.01))
    ]
    found = operating_points(points)
    assert found["false_cutoffs_at_300ms"] == 0.12
    assert found["delay_at_5pct_ms"] == 450.0
    assert found["delay_at_10pct_ms"] == 450.0
    assert found["curve"] == [[250.0, 0.2], [290.0, 0.12], [450.0, 0.05], [900.0, 0.01]]
    assert operating_points(points[:1])["delay_at_5pct_ms"] is None


def test_the_fit_finds_what_tells_ends_from_holds():
    """Made-up turns in which only the turn model knows: its weight is large, and the wait keeps to its budget."""
    rng = np.random.default_rng(0)

    def one():
        hold = pause(900.0, rng.beta(2, 6, 5))
        return turn(hold, pause(END, rng.beta(6, 2, 5)))

    turns = [one() for _ in range(150)]
    found = fit(turns)
    assert found[1] > 0.8
    assert np.all(fit(turns, model=False)[1] == 0.0)
    _, figures = fit_wait(turns, list(found))
    assert figures["false_cutoffs"] <= 0.05
    assert figures["mean_delay_ms"] < 900


def test_a_run_on_recordings(shared, tmp_path):
    """A few recordings of each corpus give all figures; the same seed gives the same; the JSON holds what is returned."""
    try:
        locate("smart-turn")
    except ModelError as error:
        pytest.skip(str(error))
    report = run(shared / "data", tmp_path / "turns.json", seed=3, limit=2)
    assert report["turns"] == 8
    assert {"false_cutoffs_at_300ms", "delay_at_5pct_ms", "curve", "vad", "smart_turn", "ours", "shipped"} <= set(report)
    assert set(report["per_corpus"]) == {"coffee-orders", "kathleen-full", "rhasspy-test-en", "speechocean"}
    assert json.loads((tmp_path / "turns.json").read_text()) == json.loads(json.dumps(report))


def test_speakers_are_either_fitted_or_scored(shared):
    """About half of the recordings score, and no speaker is on both sides."""
    sides = {}
    for recording in recordings(shared / "data"):
        sides.setdefault((recording.corpus, recording.speaker), set()).add(recording.held_out)
    assert all(len(side) == 1 for side in sides.values())
    share = np.mean([True in side for side in sides.values()])
    assert 0.4 < share < 0.6


def test_no_recordings(tmp_path):
    """A folder without recordings is refused, not scored as zero."""
    (tmp_path / "speech").mkdir()
    soundfile.write(tmp_path / "speech/other.wav", np.zeros(100), 16_000)
    try:
        with pytest.raises(ValueError, match="no recordings"):
            run(tmp_path)
    except ModelError as error:
        pytest.skip(str(error))
