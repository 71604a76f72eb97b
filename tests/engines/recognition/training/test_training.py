"""How the ears learn: what is heard in training, who is held out, and that a run that was stopped goes on as if it had not been."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.models import locate
from engines.recognition.ears import WEIGHTS
from engines.recognition.ears.alphabet import BLANK, CLASSES, phone_ids
from engines.recognition.ears.encoder import FRAME, FRAMES, WIDTH
from engines.recognition.training.augment import Shop, load
from engines.recognition.training.corpora import Clip, clips, dictionary_for, phones_of, words_of
from engines.recognition.training.encode import encode, layers_of, read_index
from engines.recognition.training.evaluate import edits, greedy
from engines.recognition.training.orders import fold_of
from tests.engines.recognition.speech import SPOKEN, say

SAID = ("can i have a large latte please", "where are the toilets", "what time do you close")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of the recordings, with little in it: forty speakers of three sentences, one noise, one room."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    for folder, name, sound in (
        ("noise/speech-commands", "hum.wav", rng.normal(0, 0.1, 40_000)),
        ("noise/rirs", "rir1.wav", rng.normal(0, 0.1, 800) * np.exp(-np.arange(800) / 100)),
    ):
        (root / folder).mkdir(parents=True)
        soundfile.write(root / folder / name, sound, 16_000)
    for corpus, header in (("speechocean", "file\tspeaker\tage\tseconds\ttext"), ("kathleen-full", "file\tseconds\ttext")):
        (root / "speech" / corpus).mkdir(parents=True)
        rows = [header]
        for number in range(40):
            text = SAID[number % 3]
            name = f"take{number}_1.flac"
            shutil.copy(SPOKEN / f"{text.replace(' ', '_')}.flac", root / "speech" / corpus / name)
            rows.append("\t".join([name, *([str(number // 2), "30"] if corpus == "speechocean" else []), "2.0", text]))
        (root / "speech" / corpus / "text.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def shop(data: Path) -> Shop:
    """The noises of `data`, and one voice for babble."""
    return Shop(data, [say(SAID[1]) / np.float32(32768)])


@pytest.mark.parametrize("seed", range(12))
def test_a_recording_is_heard_alike_for_the_same_seed(shop: Shop, seed: int) -> None:
    """The same sound twice, finite, never above full scale, as long as its speed and its pauses make it; the recording stays as it was."""
    sound = (say(SAID[0]) / 32768.0).astype(np.float32)
    before = sound.copy()
    heard = shop.hear(sound, np.random.default_rng(seed))
    assert np.array_equal(heard, shop.hear(sound, np.random.default_rng(seed)))
    assert np.array_equal(sound, before)
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() <= 1.0
    assert len(sound) / 1.15 <= len(heard) <= len(sound) / 0.87 + 16_000


def test_another_seed_hears_something_else(shop: Shop) -> None:
    """Copies differ."""
    sound = (say(SAID[0]) / 32768.0).astype(np.float32)
    one, other = (shop.hear(sound, np.random.default_rng(seed)) for seed in (1, 2))
    assert len(one) != len(other) or not np.array_equal(one, other)


@pytest.mark.parametrize("seed", range(12))
def test_silence_and_clicks_are_heard_as_numbers(shop: Shop, seed: int) -> None:
    """Nothing to scale noise by is no division by zero."""
    for sound in (np.zeros(8_000, np.float32), np.eye(1, 4_000, 2_000, dtype=np.float32)[0]):
        assert np.isfinite(shop.hear(sound, np.random.default_rng(seed))).all()


def test_recordings_of_any_rate_are_brought_to_one(tmp_path: Path) -> None:
    """Stereo at 44.1 kHz is mono at 16 kHz, the mean of both sides."""
    tone = np.sin(np.arange(44_100) * 2 * np.pi * 500 / 44_100)
    soundfile.write(tmp_path / "two.wav", np.stack([tone, np.zeros_like(tone)], axis=1) * 0.8, 44_100)
    found = load(tmp_path / "two.wav")
    assert len(found) == pytest.approx(16_000, abs=2)
    assert np.abs(found[2_000:-2_000]).max() == pytest.approx(0.4, abs=0.01)


def by_part(root: Path) -> dict[str, set[str]]:
    """Speakers of each part."""
    return {part: {f"{one.name.split('/')[0]} {one.speaker}" for one in clips(root, part)} for part in ("train", "tune", "test")}


def test_nobody_is_in_two_parts(data: Path) -> None:
    """Speakers are trained on, tuned on or tested on; together the parts are everyone."""
    parts = by_part(data)
    assert parts["train"]
    assert sum(map(len, parts.values())) == len(set.union(*parts.values()))
    assert sum(1 for part in parts for _ in clips(data, part)) == sum(1 for _ in clips(data)) == 80


def test_recorded_people_are_in_one_part_and_orders_in_none(shared: Path) -> None:
    """The real corpora: all three parts, nobody in two, and no order recording."""
    parts = by_part(shared / "data")
    assert all(parts.values())
    assert sum(map(len, parts.values())) == len(set.union(*parts.values()))
    assert not [one for one in clips(shared / "data") if "coffee-orders" in one.path.parts]


def test_parts_of_the_orders_never_change() -> None:
    """By the name alone: every part is used, and a name keeps its part."""
    names = [f"recording-{number}" for number in range(60)]
    assert {fold_of(name, 3) for name in names} == {0, 1, 2}
    assert fold_of("00e09cf0-a01d-453e-9b89-dc6e6d31d362", 3) == fold_of("00e09cf0-a01d-453e-9b89-dc6e6d31d362", 3)


def test_words_and_their_sounds() -> None:
    """Punctuation goes, apostrophes inside words stay; a word without pronunciation makes the text useless."""
    assert words_of("What's THIS, 'quoted'?") == ["what's", "this", "quoted"]
    known = dictionary_for(["a large latte", "qqqwwz"])
    assert phones_of("A latte!", known) == phone_ids(f"{known['a'][0]} {known['latte'][0]}")
    assert phones_of("a qqqwwz", known) is None
    assert phones_of("...", known) is None


def test_the_best_class_of_each_frame_makes_the_phones() -> None:
    """Repeats are one, blanks part them, no frames are no phones."""
    best = [BLANK, 3, 3, BLANK, 3, 7, 7, BLANK]
    assert greedy(np.eye(CLASSES, dtype=np.float32)[best]) == [3, 3, 7]
    assert greedy(np.empty((0, CLASSES), np.float32)) == []


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=7), st.lists(st.integers(0, 3), max_size=7), st.lists(st.integers(0, 3), max_size=7))
def test_edits_are_a_distance(one: list[int], two: list[int], three: list[int]) -> None:
    """None to itself, the same both ways, no detour is shorter."""
    assert edits(one, one) == 0
    assert edits(one, two) == edits(two, one) >= abs(len(one) - len(two))
    assert edits(one, three) <= edits(one, two) + edits(two, three)


def ruler(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    """Stands for the encoder: the first sample of each frame, and how many frames come after it; silence in front."""
    found = np.zeros((FRAMES, WIDTH), np.float32)
    heard = audio[-FRAMES * FRAME :][::FRAME]
    if len(heard):
        found[-len(heard) :, 0] = heard
    found[:, 1] = np.arange(FRAMES)[::-1]
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_200), st.integers(0, FRAME - 1), st.sampled_from((15, 25, 35, 50)))
def test_training_hears_each_frame_once_and_in_its_place(frames: int, rest: int, settled: int) -> None:
    """A sound of any length; all but the last `settled` frames with so much after them."""
    pcm = np.zeros(frames * FRAME + rest, np.int16)
    pcm[: frames * FRAME : FRAME] = np.arange(frames)
    found = layers_of(ruler, pcm, settled)  # type: ignore[arg-type]
    assert found[:, 0].tolist() == list(range(frames))
    assert (found[: max(0, frames - settled), 1] >= settled).all()


@pytest.fixture(scope="module")
def turn_model() -> Path:
    """The turn model's file; skips where it is not in the model store."""
    try:
        return locate("smart-turn")
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def spoken(data: Path, turn_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sentences as they are, encoded."""
    out = tmp_path_factory.mktemp("work") / "spoken-0"
    told: list[str] = []
    encode(SPOKEN_CLIPS, data, 0, out, turn_model, told.append)
    assert told
    return out


SPOKEN_CLIPS = [Clip(f"spoken/{n}", SPOKEN / f"{text.replace(' ', '_')}.flac", text, "flite", "train", "") for n, text in enumerate(SAID)]


def test_what_is_encoded_is_kept_and_not_done_again(spoken: Path, data: Path, turn_model: Path) -> None:
    """Frames of all recordings in one file, their phones beside it; a second call changes nothing."""
    index = read_index(spoken)
    assert [name for _, _, name in index] == [one.name for one in SPOKEN_CLIPS]
    assert index[0][1] == phones_of(SAID[0], dictionary_for(list(SAID)))
    layers = np.load(spoken.with_suffix(".npy"))
    assert layers.shape == (sum(frames for frames, _, _ in index), WIDTH)
    assert np.isfinite(layers).all()
    before = spoken.with_suffix(".npy").stat().st_mtime_ns
    encode([], data, 0, spoken, turn_model)
    assert spoken.with_suffix(".npy").stat().st_mtime_ns == before


def test_a_copy_is_the_same_whenever_it_is_made(data: Path, turn_model: Path, tmp_path: Path) -> None:
    """Alone or with others; a recording with a word that has no pronunciation is left out."""
    strange = Clip("spoken/x", SPOKEN_CLIPS[0].path, "can i have a qqqwwz", "flite", "train", "")
    encode([SPOKEN_CLIPS[1]], data, 1, tmp_path / "one", turn_model, lambda _: None)
    encode([strange, SPOKEN_CLIPS[1]], data, 1, tmp_path / "two", turn_model, lambda _: None)
    assert read_index(tmp_path / "one") == read_index(tmp_path / "two")
    assert np.array_equal(np.load(tmp_path / "one.npy"), np.load(tmp_path / "two.npy"))


PASSES = 5


def learn(spoken: Path, out: Path, tell: Callable[[str], None], passes: int = PASSES) -> None:
    """Train on each recording four times, so that a pass has some steps."""
    from engines.recognition.training.train import Settings, examples, train

    taught = {f"{name} {n}": copies for name, copies in examples([spoken]).items() for n in range(4)}
    train(taught, out, Settings(passes=passes, batch=300), tell=tell)


def state(torch: Any, path: Path) -> dict[str, Any]:
    """Weights as `train` writes them."""
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


@pytest.fixture(scope="module")
def learnt(torch: Any, spoken: Path) -> tuple[Path, list[str]]:  # noqa: ARG001 - the skip
    """A run without a break, and what it told."""
    told: list[str] = []
    out = spoken.with_name("whole.pt")
    learn(spoken, out, told.append)
    return out, told


def test_learning_lowers_the_loss(learnt: tuple[Path, list[str]]) -> None:
    """One line for each pass, and the last is better than the first."""
    losses = [float(line.rpartition(" ")[2]) for line in learnt[1]]
    assert len(losses) == PASSES
    assert losses[-1] < losses[0]


class Stopped(Exception):
    """Somebody stopped the training."""


def test_a_stopped_run_ends_like_one_without_a_break(torch: Any, learnt: tuple[Path, list[str]], spoken: Path, tmp_path: Path) -> None:
    """Two passes are kept, the third is lost; the weights at the end are the same to the bit, and nothing is done twice."""

    def stop(line: str) -> None:
        if line.startswith("pass 3"):
            raise Stopped

    with pytest.raises(Stopped):
        learn(spoken, tmp_path / "head.pt", stop)
    told: list[str] = []
    learn(spoken, tmp_path / "head.pt", told.append)
    assert [line.split()[1] for line in told] == ["3", "4", "5"]
    whole, again = state(torch, learnt[0]), state(torch, tmp_path / "head.pt")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    learn(spoken, tmp_path / "head.pt", told.append)
    assert len(told) == 3


def test_a_run_killed_while_it_wrote_goes_on(
    torch: Any, learnt: tuple[Path, list[str]], spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file never stands in the place of a whole one, and what says that a pass is done is written after its weights."""
    written: list[Path] = []
    save = torch.save

    def dies(what: object, path: Path) -> None:
        written.append(path)
        if len(written) == 6:  # the last file of the third pass
            path.write_bytes(b"half")
            raise Stopped
        save(what, path)

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(Stopped):
        learn(spoken, tmp_path / "head.pt", lambda _: None)
    monkeypatch.undo()
    told: list[str] = []
    learn(spoken, tmp_path / "head.pt", told.append)
    assert [line.split()[1] for line in told] == ["3", "4", "5"]
    whole, again = state(torch, learnt[0]), state(torch, tmp_path / "head.pt")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.usefixtures("torch")
def test_other_settings_begin_anew(spoken: Path, tmp_path: Path) -> None:
    """What was kept for another number of passes is of no use."""
    told: list[str] = []
    for passes in (1, 2):
        learn(spoken, tmp_path / "head.pt", told.append, passes)
    assert [line.split(":")[0] for line in told] == ["pass 1 of 1", "pass 1 of 2", "pass 2 of 2"]


@pytest.mark.usefixtures("torch")
def test_recordings_can_be_left_out(spoken: Path) -> None:
    """By name; the frames of the others stay theirs."""
    from engines.recognition.training.train import examples

    some, everything = examples([spoken], frozenset({"spoken/1"})), examples([spoken])
    assert set(some) == {"spoken/0", "spoken/2"}
    assert (some["spoken/2"][0].start, some["spoken/2"][0].end) == (everything["spoken/2"][0].start, everything["spoken/2"][0].end)


def test_the_packed_head_says_what_the_trained_one_says(torch: Any, learnt: tuple[Path, list[str]], spoken: Path, tmp_path: Path) -> None:
    """As floats the same numbers, with 8-bit matrices nearly; and nothing but the one file is left."""
    import onnxruntime

    from engines.recognition.training.network import Head
    from engines.recognition.training.pack import write_head

    layers = np.load(spoken.with_suffix(".npy"))[None, :FRAMES].astype(np.float32)
    head = Head().eval()
    head.load_state_dict(state(torch, learnt[0]))
    with torch.no_grad():
        wanted = head(torch.from_numpy(layers)).numpy()
    for whole_numbers, apart in ((False, 1e-3), (True, 0.3)):
        out = tmp_path / f"{whole_numbers}" / "ears.onnx"
        write_head(learnt[0], out, whole_numbers=whole_numbers)
        (found,) = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"]).run(None, {"layers": layers})
        assert found.shape == wanted.shape
        assert np.abs(np.exp(found) - np.exp(wanted)).max() < apart
        assert list(out.parent.iterdir()) == [out]


def test_the_weights_that_ship_are_small() -> None:
    """Four megabytes at most."""
    assert WEIGHTS.stat().st_size <= 4_000_000
