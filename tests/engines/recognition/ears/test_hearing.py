"""From sound to phones as it comes: the stream's bookkeeping with a stand-in for the network, and the network itself on hard sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.errors import EngineError, ModelError
from engines.models import locate
from engines.recognition.ears import WEIGHTS
from engines.recognition.ears.alphabet import CLASSES
from engines.recognition.ears.encoder import FRAME, FRAMES
from engines.recognition.ears.hearing import SETTLED, Phones, PhoneStream
from tests.engines.recognition.speech import say


class Ruler:
    """Stands for the network: class 0 of a frame is its first sample, class 1 the frames heard after it, class 2 those heard before it."""

    def __init__(self) -> None:
        self.passes = 0

    def __call__(self, audio: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.passes += 1
        assert 0 < len(audio) <= FRAMES * FRAME
        assert len(audio) % FRAME == 0
        found = np.zeros((len(audio) // FRAME, CLASSES), np.float32)
        found[:, 0] = audio[::FRAME]
        found[:, 1] = np.arange(len(found))[::-1]
        found[:, 2] = np.arange(len(found))
        return found, found[:, :1]


def sound(frames: int, rest: int = 0) -> NDArray[np.int16]:
    """Every frame begins with its own number."""
    pcm = np.zeros(frames * FRAME + rest, np.int16)
    pcm[::FRAME] = np.arange(len(pcm[::FRAME]))
    return pcm


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 130_000), st.booleans()), max_size=12))
def test_any_pieces_give_each_frame_once_and_in_its_place(pieces: list[tuple[int, bool]]) -> None:
    """However the sound is cut and whenever it is looked at: all whole frames in order, settled ones with a second behind them."""
    pcm = sound(sum(size for size, _ in pieces) // FRAME + 1)
    stream, at = PhoneStream(Ruler()), 0  # type: ignore[arg-type]
    for size, look in pieces:
        stream.feed(pcm[at : at + size])
        at += size
        assert stream.new >= 0
        if look:
            found = stream.look()
            assert stream.new == 0
            assert found[:, 0].tolist() == list(range(at // FRAME))
            assert stream.settled == max(0, at // FRAME - SETTLED)
            assert (found[: stream.settled, 1] >= SETTLED).all()
    assert len(stream.look()) == at // FRAME


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1500))
def test_sound_that_comes_at_once_is_heard_with_what_was_before_it(frames: int) -> None:
    """No settled frame but those of the beginning stands at the edge of a window, where the network knows nothing of the sound before."""
    stream = PhoneStream(Ruler())  # type: ignore[arg-type]
    stream.feed(sound(frames))
    found = stream.look()
    assert (found[:, 2] >= np.minimum(np.arange(frames), SETTLED)).all()


def test_settled_frames_are_never_heard_again() -> None:
    """Later looks add to what was settled and change none of it; a look at nothing new costs no pass."""
    ruler = Ruler()
    stream = PhoneStream(ruler)  # type: ignore[arg-type]
    pcm, before, settled = sound(700), np.empty((0, CLASSES), np.float32), 0
    for at in range(0, len(pcm), 960):
        stream.feed(pcm[at : at + 960])
        found = stream.look()
        assert np.array_equal(found[:settled], before[:settled])
        before, settled = found, stream.settled
    passes = ruler.passes
    assert np.array_equal(stream.look(), before)
    assert ruler.passes == passes


def test_ten_minutes_without_a_pause_keep_no_more_than_the_phones() -> None:
    """Sound that no pass will hear again is let go; what stays is 40 numbers for each frame."""
    stream = PhoneStream(Ruler())  # type: ignore[arg-type]
    for second in range(600):
        stream.feed(np.full(50 * FRAME, second, np.int16))
        if second % 2:
            stream.look()
    assert stream._sound.nbytes <= 30 * 16_000 * 2
    found = stream.look()
    assert found.shape == (30_000, CLASSES)
    assert found[::50, 0].tolist() == list(range(600))


def test_nothing_fed_is_no_frames() -> None:
    """An empty buffer, and less than a frame, are heard as nothing."""
    ruler = Ruler()
    stream = PhoneStream(ruler)  # type: ignore[arg-type]
    assert stream.look().shape == (0, CLASSES)
    stream.feed(np.empty(0, np.int16))
    stream.feed(np.ones(FRAME - 1, np.int16))
    assert stream.look().shape == (0, CLASSES)
    assert (stream.new, stream.settled, ruler.passes) == (0, 0, 0)


@pytest.fixture(scope="module")
def phones() -> Phones:
    """The network as it ships; skips where the turn model is not in the model store."""
    try:
        return Phones(locate("smart-turn"), WEIGHTS)
    except EngineError as error:
        pytest.skip(str(error))


def listen(phones: Phones, pcm: NDArray[np.int16], piece: int | None = None) -> NDArray[np.float32]:
    """Log probabilities of `pcm`, looked at after each `piece`."""
    stream = PhoneStream(phones)
    for at in range(0, len(pcm), piece or len(pcm)):
        stream.feed(pcm[at : at + (piece or len(pcm))])
        stream.look()
    return stream.look()


def alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Share of frames in which the same class is best."""
    return float((one.argmax(axis=1) == other.argmax(axis=1)).mean())


def test_speech_is_heard_alike_in_pieces_and_at_once(phones: Phones) -> None:
    """All of it, as probabilities; the same sounds but for a few frames at changes from one to the next."""
    pcm = np.concatenate([say("can i have a large latte please"), say("where are the toilets"), say("what time do you close")])
    whole = listen(phones, pcm)
    assert len(whole) == len(pcm) // FRAME
    assert np.allclose(np.exp(whole).sum(axis=1), 1.0, atol=1e-4)
    assert alike(whole, listen(phones, pcm, 9_999)) > 0.93


def test_silence_is_no_sound_of_speech(phones: Phones) -> None:
    """Digital zero, and a quiet room: blanks in nearly every frame."""
    for pcm in (np.zeros(3 * 16_000, np.int16), np.random.default_rng(1).normal(0, 3, 3 * 16_000).astype(np.int16)):
        found = listen(phones, pcm)
        assert np.isfinite(found).all()
        assert (found.argmax(axis=1) == 0).mean() > 0.9


def test_a_microphone_with_an_offset_hears_the_same(phones: Phones) -> None:
    """DC as cheap sound cards have it changes few frames."""
    pcm = say("can i have a large latte please")
    assert alike(listen(phones, pcm), listen(phones, np.clip(pcm.astype(int) + 1500, -32768, 32767).astype(np.int16))) > 0.9


def test_clipping_and_whisper_levels_are_finite_and_much_alike(phones: Phones) -> None:
    """Four times too loud, or a fiftieth of the level: still probabilities, and mostly the same sounds."""
    pcm = say("can i have a large latte please").astype(float)
    pcm *= 16_000 / np.abs(pcm).max()
    usual = listen(phones, pcm.astype(np.int16))
    for factor, least in ((4.0, 0.7), (0.02, 0.75)):
        found = listen(phones, np.clip(pcm * factor, -32768, 32767).astype(np.int16))
        assert np.isfinite(found).all()
        assert alike(usual, found) > least


def test_full_scale_square_wave_is_finite(phones: Phones) -> None:
    """The loudest sound that there is."""
    found = listen(phones, np.where(np.arange(32_000) // 40 % 2, 32767, -32768).astype(np.int16))
    assert np.isfinite(found).all()


def test_broken_weights_are_one_clear_line(tmp_path: Path) -> None:
    """A file that is no network, one cut off, one that is missing: refused in words, each naming the file."""
    cases = {"text.onnx": b"version https://git-lfs.github.com/spec/v1\n", "half.onnx": WEIGHTS.read_bytes()[:100_000], "none.onnx": None}
    for name, content in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=name) as told:
            Phones(tmp_path, tmp_path / name)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(("inputs", "outputs", "name"), [(384, 40, "layers"), (1152, 41, "layers"), (1152, 40, "input")])
def test_a_network_of_another_kind_is_refused(tmp_path: Path, inputs: int, outputs: int, name: str) -> None:
    """Another width, another number of phones, another input: the line says that it is no head for this version."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = numpy_helper.from_array(np.zeros((inputs, outputs), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", [name, "w"], ["phones"])],
        "other",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "frames", inputs])],
        [helper.make_tensor_value_info("phones", TensorProto.FLOAT, [1, "frames", outputs])],
        [weight],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="not a phone head for this version") as told:
        Phones(tmp_path, tmp_path / "other.onnx")
    assert "\n" not in str(told.value)


def test_a_turn_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A missing file, no network, and another network: one line that says what to fetch."""
    (tmp_path / "text.onnx").write_text("no model")
    for path in (tmp_path / "none.onnx", tmp_path / "text.onnx", WEIGHTS):
        with pytest.raises(ModelError, match="models fetch smart-turn") as told:
            Phones(path, WEIGHTS)
        assert "\n" not in str(told.value)
