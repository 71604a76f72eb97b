"""Both voices, the real libraries: clips sound at once, tell the truth about their timing and fail with one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from engines.errors import EngineError, ModelError
from engines.synthesis import Clip, EspeakSynthesiser, PiperSynthesiser, Synthesiser, select

TINY = Path(__file__).parents[2] / "models" / "piper-tiny" / "voice.onnx"
TEXT = "Sure, that is £2.40. Anything else?"


@pytest.fixture(scope="module", params=["espeak", "piper"])
def voice(request: pytest.FixtureRequest) -> Synthesiser:
    """Each voice in turn."""
    if request.param == "piper":
        pytest.importorskip("piper")
        return PiperSynthesiser(TINY)
    return EspeakSynthesiser()


def _loud(pcm: np.ndarray, rate: int) -> np.ndarray:
    """Indices of frames of 5 ms that sound."""
    n = rate // 200
    frames = np.abs(pcm[: len(pcm) // n * n].reshape(-1, n).astype(np.int32)).max(1)
    return np.flatnonzero(frames > 0.006 * frames.max()) * n


def test_one_clip_per_sentence(voice: Synthesiser):
    """A text is spoken sentence by sentence, with the words as written."""
    clips = list(voice.speak(TEXT))
    assert [c.text for c in clips] == ["Sure, that is £2.40.", "Anything else?"]
    assert TEXT.split() == [w.text for c in clips for w in c.words]


def test_sound_begins_at_once_and_ends_in_a_pause(voice: Synthesiser):
    """No silence before the first sound, a short pause after the last."""
    for clip in voice.speak(TEXT):
        loud = _loud(clip.pcm, voice.rate)
        assert loud[0] < 0.02 * voice.rate
        assert 0.1 * voice.rate < len(clip.pcm) - loud[-1] < 0.5 * voice.rate


def test_edges_do_not_click(voice: Synthesiser):
    """Every clip starts and ends near zero."""
    for clip in voice.speak(TEXT):
        assert abs(int(clip.pcm[0])) < 200
        assert abs(int(clip.pcm[-1])) < 200


def test_phonemes_are_ordered_and_inside(voice: Synthesiser):
    """Phonemes follow each other within the clip; the last one is its pause."""
    for clip in voice.speak(TEXT):
        ends = 0
        for p in clip.phonemes:
            assert ends <= p.start < p.end <= len(clip.pcm)
            ends = p.end
        assert clip.phonemes[-1].symbol == ""
        assert sum(p.end - p.start for p in clip.phonemes if p.symbol) > len(clip.pcm) // 2


def test_words_begin_in_order(voice: Synthesiser):
    """Words begin in their order, the first with the sound, the last well before the end."""
    for clip in voice.speak("We have oat milk and soya milk today"):
        starts = [w.start for w in clip.words]
        assert starts == sorted(starts)
        assert starts[0] < 0.05 * voice.rate
        assert 0.7 * len(clip.pcm) < starts[-1] < len(clip.pcm)


def test_level_is_the_same_for_every_text(voice: Synthesiser):
    """Short and long clips are equally loud: the gain belongs to the voice."""
    levels = [_level(clip, voice.rate) for text in ("Hello!", "Your large flat white is ready, thank you.") for clip in voice.speak(text)]
    assert max(levels) / min(levels) < 1.6
    assert min(levels) > 0.05


def _level(clip: Clip, rate: int) -> float:
    n = rate // 50
    frames = (clip.pcm[: len(clip.pcm) // n * n].astype(np.float32) / 32768).reshape(-1, n)
    power = np.square(frames).mean(1)
    return float(np.sqrt(power[power > power.max() * 1e-3].mean()))


def test_nothing_to_say(voice: Synthesiser):
    """Texts without a letter or digit give no clip."""
    assert [] == list(voice.speak("")) == list(voice.speak(" … ")) == list(voice.speak("😀 — !"))


def test_cancelled_by_closing(voice: Synthesiser):
    """After close() nothing more is spoken, and the voice serves the next text."""
    speech = voice.speak("One. Two. Three.")
    assert next(speech).text == "One."
    speech.close()
    assert list(speech) == []
    assert [c.text for c in voice.speak("Four.")] == ["Four."]


def test_espeak_times_its_sounds():
    """The phoneme times of espeak-ng are those of its sound: vowels are loud, closed lips before them are not."""
    voice = EspeakSynthesiser()
    (clip,) = voice.speak("papa papa papa.")
    x = np.abs(clip.pcm.astype(np.float32))
    vowels = np.concatenate([x[p.start : p.end] for p in clip.phonemes if p.symbol and p.symbol[-1] in "aɑːɒəæʌ"])
    closures = np.concatenate([x[p.start + 220 : p.end - 440] for p in clip.phonemes[1:] if p.symbol == "p"])
    assert closures.mean() < 0.2 * vowels.mean()


def test_two_espeak_voices_do_not_mix():
    """espeak-ng has one global voice; two objects still speak with their own."""
    one, other = EspeakSynthesiser(), EspeakSynthesiser("en-us", 240)
    first, quick, again = (next(v.speak("hello there")) for v in (one, other, one))
    assert len(quick.pcm) < 0.8 * len(first.pcm)
    assert [p.symbol for p in first.phonemes] == [p.symbol for p in again.phonemes]
    assert abs(len(again.pcm) - len(first.pcm)) < 0.02 * len(first.pcm)


def test_piper_uses_the_voice_s_own_alignment():
    """With a single Ceil node the phonemes come from the voice itself: they are its IPA letters."""
    pytest.importorskip("piper")
    (clip,) = PiperSynthesiser(TINY).speak("milk")
    assert [p.symbol for p in clip.phonemes if p.symbol] == ["m", "ˈɪ", "l", "k"]


def test_piper_without_alignment_borrows_espeak_s(tmp_path: Path):
    """A voice whose durations cannot be told still moves the lips, timed by espeak-ng."""
    pytest.importorskip("piper")
    import onnx

    graph = onnx.load(str(TINY))
    second = onnx.helper.make_node("Ceil", ["w_three"], ["another"])
    graph.graph.node.append(second)
    onnx.save(graph, tmp_path / "v.onnx")
    shutil.copy(f"{TINY}.json", tmp_path / "v.onnx.json")
    (clip,) = PiperSynthesiser(tmp_path / "v.onnx").speak("warm milk")
    assert [s for s in (p.symbol for p in clip.phonemes) if s in {"w", "m", "k"}] == ["w", "m", "m", "k"]
    assert 0 < clip.words[1].start < len(clip.pcm)


def test_rate_makes_speech_shorter():
    """A rate of 1.5 takes less time, with both engines."""
    for slow, fast in (
        (EspeakSynthesiser(), EspeakSynthesiser(words_per_minute=252)),
        (select("piper", TINY).engine, select("piper", TINY, rate=1.5).engine),
    ):
        assert len(next(fast.speak("A large flat white")).pcm) < 0.85 * len(next(slow.speak("A large flat white")).pcm)


@pytest.mark.parametrize("damage", ["missing", "no config", "corrupt", "wrong config", "wrong graph"])
def test_broken_piper_voice_gives_one_line(tmp_path: Path, damage: str):
    """A missing or corrupt voice is told in one line that names the file."""
    pytest.importorskip("piper")
    import onnx

    model, config = tmp_path / "v.onnx", tmp_path / "v.onnx.json"
    shutil.copy(TINY, model)
    shutil.copy(f"{TINY}.json", config)
    if damage == "missing":
        model.unlink()
    elif damage == "no config":
        config.unlink()
    elif damage == "corrupt":
        model.write_bytes(TINY.read_bytes()[:400])
    elif damage == "wrong config":
        config.write_text("{}")
    else:
        graph = onnx.load(str(TINY))
        graph.graph.node[0].input[0] = "nobody"
        onnx.save(graph, model)
    with pytest.raises(ModelError, match=r"v\.onnx") as caught:
        PiperSynthesiser(model)
    assert "\n" not in str(caught.value)


def test_select_says_why_not(tmp_path: Path):
    """The fallback serves and tells why the better voice does not."""
    nothing = select("auto", None)
    assert nothing.name == "espeak-ng"
    assert nothing.why_not[0][0] == "piper"
    gone = select("piper", tmp_path / "gone.onnx")
    assert gone.name == "espeak-ng"
    assert "gone.onnx" in gone.why_not[0][1]


def test_select_takes_piper_when_it_works():
    """With a voice on disk the best engine is taken."""
    pytest.importorskip("piper")
    assert (select("auto", TINY).name, select("auto", TINY).why_not) == ("piper voice", ())


def test_select_survives_a_misspelt_speaker():
    """An unknown speaker is told, and the default voice speaks."""
    chosen = select("espeak", None, speaker="nobody-here")
    assert any("nobody-here" in why for _, why in chosen.why_not)
    assert list(chosen.engine.speak("Hello"))


def test_select_refuses_an_unknown_engine():
    """A misspelt engine is a mistake, told in one line."""
    with pytest.raises(EngineError, match="auto"):
        select("pipper")
