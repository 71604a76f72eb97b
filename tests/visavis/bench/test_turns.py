"""The end-of-turn benchmark: its arithmetic on made-up turns, and a short run on recordings."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from engines.errors import ModelError
from engines.models import locate
from engines.voice_activity import INNER, Heard, Melody, calibrated
from engines.voice_activity.endpoint import ENDS
from visavis.bench.turn_data import OFFSETS_MS, Pause, Recording, Turn, listen, recordings, spans
from visavis.bench.turn_fit import FALSE_CUTOFFS, fit, fit_ends, fit_head, fit_wait, looks, out_of_fold
from visavis.bench.turns import LAG_MS, by_head, operating_points, run, score, seen, taken_ms

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
    _, figures = fit_wait(turns, lambda pause, index: calibrated(seen(pause, index), found))
    assert figures["false_cutoffs"] <= FALSE_CUTOFFS
    assert figures["mean_delay_ms"] < 900


def layered(rng, over, *, length_ms, speaker_shift=0.0):
    """A pause whose encoder knows: one unit of the pooled layer tells ends from holds, the turn model itself knows nothing."""
    inner = rng.normal(0.0, 1.0, (5, INNER)).astype(np.float32)
    inner[:, 7] = 4.0 * over + speaker_shift + rng.normal(0.0, 1.0, 5)
    return Pause(1000.0, length_ms, 1000.0, 0.0, (0.5,) * 5, FLAT, tuple(inner))


def test_the_head_finds_what_the_encoder_knows():
    """Made-up turns in which only an inner layer tells: the head judges speakers that it never saw far better than the turn model."""
    rng = np.random.default_rng(0)
    turns = [
        Turn("a", f"speaker {number // 2}", "n", False, (layered(rng, 0, length_ms=900.0), layered(rng, 1, length_ms=END)))
        for number in range(120)
    ]
    found = looks(turns)
    judged = out_of_fold(found, 8, 30.0)
    assert np.mean((judged > 0.5) == (found.over > 0.5)) > 0.9
    ours = by_head(fit_head(found, 8, 30.0))
    end, hold = turns[0].pauses[1], turns[0].pauses[0]
    assert ours(end, 0) > 0.6
    assert ours(hold, 0) < 0.4


def test_words_are_weighed_beside_the_sound():
    """Where the sound is undecided and the words know, they count against an end; `ends` of -1 is not counted."""
    rng = np.random.default_rng(0)

    def said(over, ends):
        return Pause(1000.0, END if over else 900.0, 1000.0, 0.0, (0.5,) * 5, FLAT, (), ends)

    turns = [turn(said(False, 0.001 if rng.random() < 0.3 else 0.5), said(True, 0.001 if rng.random() < 0.03 else 0.5)) for _ in range(100)]
    seldom, less = fit_ends(turns, newest)
    assert seldom == ENDS[0]
    assert less < -1.0
    with pytest.raises(ValueError, match="words"):
        fit_ends([turn(pause(END, [0.5]))], newest)


def test_ends_reach_the_judgement():
    """Words that cannot end lower what the head says, unknown ones leave it."""

    class Sure:
        def probability(self, _inner, _seen):
            return 0.8

    def with_words(ends):
        return Pause(1000.0, END, 1000.0, 0.0, (0.5,), FLAT, (np.zeros(INNER, np.float32),), ends)

    ours = by_head(Sure())
    unknown, ending, hanging = with_words(-1.0), with_words(0.9), with_words(0.005)
    assert ours(unknown, 0) == ours(ending, 0) == pytest.approx(0.8)
    assert ours(hanging, 0) < 0.7


@pytest.mark.parametrize("tail_ms", [60, 3000])
def test_the_end_sounds_like_the_holds(tail_ms, tmp_path):
    """After the recorded tail every pause goes on with the same made noise, so that nothing but the voice can tell an end from a hold."""
    rng = np.random.default_rng(0)
    room, voice = lambda ms: rng.normal(0, 3, 16 * ms), lambda ms: rng.normal(0, 3000, 16 * ms)
    sound = np.concatenate((room(500), voice(600), room(900), voice(600), room(tail_ms)))
    soundfile.write(tmp_path / "one.wav", sound.astype(np.int16), 16_000)
    asked = []

    def judge(audio, silent_from):
        asked.append(audio[silent_from:])
        return Heard(0.5, np.zeros(INNER, np.float32))

    found = listen(Recording("c", "s", tmp_path / "one.wav"), judge, ends=lambda _recording, audio: len(audio) / 16)
    assert [pause.length_ms for pause in found.pauses] == [900.0, END]
    assert [pause.ends for pause in found.pauses] == [600.0, 2100.0]
    assert [len(silence) // 16 for silence in asked] == [*OFFSETS_MS, *OFFSETS_MS]
    hold, end = asked[4], asked[9]
    if tail_ms < OFFSETS_MS[0]:
        assert np.array_equal(hold[16 * tail_ms :], end[16 * tail_ms :])
    else:
        assert not np.array_equal(hold, end)
    assert not np.array_equal(hold[: 16 * 50], end[: 16 * 50])


def test_a_run_on_recordings(shared, tmp_path):
    """A few recordings of each corpus give all figures; the same seed gives the same; the JSON holds what is returned."""
    try:
        locate("smart-turn")
    except ModelError as error:
        pytest.skip(str(error))
    report = run(shared / "data", tmp_path / "turns.json", seed=3, limit=2)
    assert report["turns"] == 8
    assert {
        "false_cutoffs_at_300ms",
        "delay_at_5pct_ms",
        "curve",
        "vad",
        "smart_turn",
        "calibrated",
        "ours",
        "shipped",
        "by_min_wait",
    } <= set(report)
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


def test_two_readings_of_a_sentence_are_on_one_side(shared):
    """The one reader of kathleen-full read many sentences twice: what was fitted is not scored in another reading."""
    sides = {}
    for recording in recordings(shared / "data"):
        if recording.corpus == "kathleen-full":
            sides.setdefault(recording.path.stem.rpartition("_")[0], set()).add(recording.held_out)
    assert len(sides) > 1000
    assert all(len(side) == 1 for side in sides.values())


def test_no_recordings(tmp_path):
    """A folder without recordings is refused, not scored as zero."""
    (tmp_path / "speech").mkdir()
    soundfile.write(tmp_path / "speech/other.wav", np.zeros(100), 16_000)
    try:
        with pytest.raises(ValueError, match="no recordings"):
            run(tmp_path)
    except ModelError as error:
        pytest.skip(str(error))
