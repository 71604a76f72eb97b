"""The engines with their real networks, where `visavis models fetch --default` has brought them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from engines.errors import ModelError
from engines.models import locate
from engines.voice_activity import (
    INNER,
    Energy,
    HeadJudge,
    Hearing,
    Kind,
    MelodyJudge,
    ModelJudge,
    Silero,
    SmartTurn,
    TurnHead,
    block_levels,
    select,
)

FRAME = 512


def model(name: str) -> Path:
    try:
        return locate(name)
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture
def speech(shared):
    """A sentence that a person speaks, 16 kHz."""
    return soundfile.read(shared / "data/speech/azure-samples/whatstheweatherlike.flac", dtype="int16")[0]


def probabilities(engine, audio):
    return np.array([engine.probability(audio[at : at + FRAME]) for at in range(0, len(audio) - FRAME + 1, FRAME)])


def test_silero_hears_a_person_and_no_noise(speech):
    """Speech in most frames of a sentence, none in noise as loud; after a reset the same again."""
    silero = Silero(model("silero-vad"))
    first = probabilities(silero, speech)
    noise = np.random.default_rng(0).normal(0, speech.std(), 32_000).astype(np.int16)
    silero.reset()
    assert (first > 0.5).mean() > 0.4
    assert (probabilities(silero, noise) > 0.5).mean() < 0.05
    silero.reset()
    assert np.array_equal(probabilities(silero, speech), first)


@pytest.fixture
def orders(shared):
    """Ten orders that people spoke: (sound, a place in their middle, end of speech)."""
    from visavis.bench.turn_data import load, spans

    found = []
    for path in sorted((shared / "data/speech/coffee-orders").glob("*.flac"))[:10]:
        audio = load(path)
        talk = spans(audio)
        start, end = talk[0][0], talk[-1][1]
        found.append((audio, start + (end - start) * 9 // 20, end))
    return found


def test_smart_turn_tells_a_whole_order_from_half(orders):
    """Whole orders sound finished, cut ones do not."""
    turn = SmartTurn(model("smart-turn"))
    assert np.median([turn.probability(audio[: end + 3200]) for audio, _, end in orders]) > 0.8
    assert np.median([turn.probability(audio[:middle]) for audio, middle, _ in orders]) < 0.3


def test_the_judges_say_so_too(orders):
    """With our head, with the model and with the melody alone, a whole order is on average judged more complete than a cut one."""
    turn = SmartTurn(model("smart-turn"))
    for judge in (HeadJudge(turn, TurnHead.load()), ModelJudge(turn), MelodyJudge()):
        whole = [judge.complete(audio[: end + 1600], end, 0.0) for audio, _, end in orders]
        cut = [judge.complete(audio[: middle + 1600], middle, 0.0) for audio, middle, _ in orders]
        assert np.mean(whole) > np.mean(cut)


@pytest.mark.parametrize("engine", [Silero, SmartTurn])
def test_a_file_that_is_no_model(engine, tmp_path):
    """Anything else than its model is refused in one line that names the file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError) as caught:
        engine(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_other_model_is_refused():
    """Silero's file is no Smart Turn model, and the other way round."""
    with pytest.raises(ModelError, match="not a Smart Turn"):
        SmartTurn(model("silero-vad"))
    with pytest.raises(ModelError, match="not a Silero"):
        Silero(model("smart-turn"))


def test_without_files_the_rest_serves(tmp_path):
    """An empty store gives the engines that need none, and one line for each that is missing."""
    chosen = select(tmp_path)
    assert (chosen.activity.name, chosen.judge.name) == ("energy", "melody")
    assert len(chosen.why) == 2
    assert all("visavis models fetch" in line and "\n" not in line for line in chosen.why)


def test_our_head_serves_where_the_model_is():
    """With the models in the store, our own head judges."""
    model("silero-vad")
    model("smart-turn")
    chosen = select()
    assert (chosen.activity.name, chosen.judge.name, chosen.why) == ("silero", "turn-head", ())


def _missing(path):
    path.unlink()


def _text(path):
    path.write_bytes(b"not an archive")


def _short(path):
    np.savez(path, inner=np.zeros(7), seen=np.zeros(7))


def _holes(path):
    np.savez(path, inner=np.full(INNER, np.nan), seen=np.zeros(7))


def _other(path):
    np.savez(path, weights=np.zeros(7))


@pytest.mark.parametrize("broken", [_missing, _text, _short, _holes, _other])
def test_a_broken_head_leaves_the_model_to_judge(broken, tmp_path):
    """Without usable weights the turn model's own verdict serves, and one line says which file is to blame."""
    model("smart-turn")
    path = tmp_path / "head.npz"
    TurnHead.load().save(path)
    broken(path)
    chosen = select(head=path)
    assert chosen.judge.name == "smart-turn"
    (line,) = [line for line in chosen.why if str(path) in line]
    assert "turn head" in line
    assert "\n" not in line


def test_another_version_of_the_model_judges_without_our_head(tmp_path):
    """A Smart Turn whose inner layers have other names still judges; its `hear` has no inner layers, and the head refuses it."""
    path = tmp_path / "renamed.onnx"
    path.write_bytes(model("smart-turn").read_bytes().replace(b"add_390", b"add_39x"))
    turn = SmartTurn(path)
    assert not turn.deep
    assert turn.hear(np.zeros(16_000, np.int16), 8000).inner.shape == (0,)
    with pytest.raises(ModelError, match=r"v3\.2"):
        HeadJudge(turn, TurnHead.load())


def test_a_look_gives_the_probability_and_the_inner_layers(orders):
    """The inner layers come from the same pass as the published probability, and depend on where the silence began."""
    turn = SmartTurn(model("smart-turn"))
    audio, _, end = orders[0]
    one, other = turn.hear(audio[: end + 3200], end), turn.hear(audio[: end + 3200], end - 3200)
    assert one.probability == other.probability == turn.probability(audio[: end + 3200])
    assert one.inner.shape == (INNER,)
    assert np.isfinite(one.inner).all()
    assert not np.array_equal(one.inner, other.inner)


def test_energy_follows_the_room():
    """A voice 25 dB over the room is speech; the same room getting 10 dB louder for good is speech for a while only."""
    rng = np.random.default_rng(1)
    room = rng.normal(0, 60, 5 * 16_000)
    voice = rng.normal(0, 60 * 10 ** (25 / 20), 16_000)
    energy = Energy()
    assert (probabilities(energy, room.astype(np.int16)) > 0.5).mean() < 0.02
    assert (probabilities(energy, voice.astype(np.int16)) > 0.5).mean() > 0.98
    louder = rng.normal(0, 60 * 10 ** (14 / 20), 10 * 16_000).astype(np.int16)
    after = probabilities(energy, louder)
    assert after[:20].mean() > 0.5
    assert after[-20:].mean() < 0.3


def hear(engine, audio, *, guarded=False):
    """(sample at which it was noticed, what) for a whole recording."""
    hearing, seen = Hearing(), []
    for at in range(0, len(audio) - FRAME + 1, FRAME):
        frame = audio[at : at + FRAME]
        found = hearing.step(engine.probability(frame), block_levels(frame), at + FRAME, guarded=guarded)
        seen += [(at + FRAME, noticed) for noticed in found]
    return seen


def test_orders_are_heard_where_they_are(shared):
    """20 orders spoken by people: each is heard; onset and end lie where the loudness of the recording has them, and are noticed soon."""
    from visavis.bench.turn_data import load, spans

    silero = Silero(model("silero-vad"))
    late_on, late_off, off_by = [], [], []
    for path in sorted((shared / "data/speech/coffee-orders").glob("*.flac"))[:20]:
        audio = load(path)
        talk = spans(audio)
        audio = np.concatenate((np.zeros(8000, np.int16), audio, np.zeros(16_000, np.int16)))
        start, end = talk[0][0] + 8000, talk[-1][1] + 8000
        silero.reset()
        seen = hear(silero, audio)
        onset = next(entry for entry in seen if entry[1].kind is Kind.ONSET)
        silence = [entry for entry in seen if entry[1].kind is Kind.SILENCE][-1]
        late_on.append((onset[0] - start) / 16)
        late_off.append((silence[0] - end) / 16)
        off_by.append(abs(silence[1].index - end) / 16)
    assert np.median(late_on) <= 120
    assert np.median(late_off) <= 150
    assert np.median(off_by) <= 40


def test_echo_does_not_interrupt_but_a_person_does(shared):
    """While the avatar speaks: what an echo canceller leaves of it is nobody; a person alone is; the raw microphone would not do."""
    silero = Silero(model("silero-vad"))
    onsets = {}
    for path in sorted((shared / "data/echo/dtln-aec").glob("*.flac")):
        silero.reset()
        *_, kind = path.stem.split("_")
        case = next(name for name in ("farend", "nearend", "doubletalk") if name in path.stem)
        seen = hear(silero, soundfile.read(path, dtype="int16")[0], guarded=True)
        onsets[case, kind] = sum(noticed.kind is Kind.ONSET for _, noticed in seen)
    assert onsets["farend", "processed"] == 0
    assert onsets["nearend", "processed"] >= 1
    assert onsets["doubletalk", "processed"] >= 1
    assert onsets["farend", "mic"] >= 1  # no threshold replaces the canceller
