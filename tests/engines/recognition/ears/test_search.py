"""The word graph and the search over it, on scores made up from spelled sounds: no audio, no network."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Sequence
from pathlib import Path

import kaldifst
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.recognition._pronounce import CMUDICT, pronounce
from engines.recognition.ears.alphabet import BLANK, CLASSES, PHONES, phone_ids
from engines.recognition.ears.graph import OTHER_WORD, WordGraph, build
from engines.recognition.ears.ngram import ngram
from engines.recognition.ears.search import Found, Search, scores

SENTENCES = [
    *("a large latte", "a small latte", "a large latte with oat milk", "a red flower", "a bag of flour", "a flower please", "tea please"),
    *("the team", "the teams", "where are the toilets", "yes", "no thank you"),
]
ANSWERS = {"baking": [["flour"], ["flour", "please"]], "garden": [["flower"], ["flower", "please"]]}
SOUNDS = pronounce({word for line in SENTENCES for word in line.split()}, CMUDICT, {})
EACH, GAP = 3, 1  # frames of a sound, and of the blank after it


def small(cache: Path | None = None, **more: Sequence[str]) -> WordGraph:
    """The graph of a small shop; `more` words, each with its pronunciations."""
    sounds = {**SOUNDS, **more}
    model = ngram([(line.split(), 10.0) for line in SENTENCES], sounds, ANSWERS)
    return build(model, sounds, 1.5, 9.0, 0.0, cache)


@pytest.fixture(scope="module")
def search() -> Search:
    """A search over the small shop."""
    return Search(small())


def spell(*pronunciations: str) -> NDArray[np.float32]:
    """Scores in which each sound is sure, with a blank after each and five around."""
    kinds = [BLANK] * 5
    for one in phone_ids(" ".join(pronunciations)):
        kinds += [one] * EACH + [BLANK] * GAP
    kinds += [BLANK] * 5
    found = np.full((len(kinds), CLASSES), -9.0, np.float32)
    found[np.arange(len(kinds)), kinds] = -0.01
    return scores(found, 3.5, 1.5)


def say(text: str) -> NDArray[np.float32]:
    """`text` in its words' usual sounds."""
    return spell(*(SOUNDS[word][0] for word in text.split()))


def words(found: Found) -> str:
    """What was found, as text."""
    return " ".join(heard.word for heard in found.words)


@pytest.mark.parametrize("text", [line for line in SENTENCES if "flo" not in line])
def test_what_was_spelled_comes_back(search: Search, text: str) -> None:
    """Each sentence word for word, at an end, with every word where its sounds are and no misfit."""
    found = search.best(say(text), ended=True)
    assert words(found) == text
    assert search.alternatives(say(text), 1)[0][0] == tuple(text.split())
    at = 5
    for heard in found.words:
        assert heard.start == pytest.approx(at, abs=1)
        at += len(SOUNDS[heard.word][0].split()) * (EACH + GAP)
        assert heard.end == pytest.approx(at - GAP, abs=1)
        assert heard.sounds == len(SOUNDS[heard.word][0].split())
        assert heard.misfit == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("text", ["a bag of flour", "a red flower"])
def test_words_that_sound_the_same_are_told_apart_by_their_company(search: Search, text: str) -> None:
    """Flour comes in bags, flowers are red."""
    assert SOUNDS["flour"][0] == SOUNDS["flower"][0]
    assert words(search.best(say(text), ended=True)) == text


def test_words_that_sound_the_same_are_told_apart_by_the_question(search: Search) -> None:
    """By itself it is what was asked for."""
    for hint, wanted in (("baking", "flour"), ("garden", "flower")):
        assert words(search.best(say("flour please"), hint, ended=True)) == f"{wanted} please"


def test_a_word_that_begins_another(search: Search) -> None:
    """As "tea" in "team" and "team" in "teams" end where their sounds end."""
    for text in ("tea please", "the team", "the teams", "tea the teams"):
        assert words(search.best(say(text), ended=True)) == text


def test_sounds_of_no_word_are_other(search: Search) -> None:
    """What the shop has no word for is not forced into one; the words around it are heard."""
    strange = "ZH OY ZH OY ZH UH ZH OY ZH AW ZH"
    found = search.best(spell(SOUNDS["yes"][0], strange, SOUNDS["yes"][0]), ended=True)
    assert words(found).split()[0] == "yes"
    assert words(found).split()[-1] == "yes"
    assert OTHER_WORD in words(found)
    assert words(search.best(spell(strange), ended=True)).replace(OTHER_WORD, "").strip() == ""
    assert [heard.end for heard in found.words] == sorted(heard.end for heard in found.words)


def test_an_end_makes_whole_sentences(search: Search) -> None:
    """In the middle of a word its beginning counts while more may come; where nothing follows, only what can be whole."""
    cut = say("where are the toilets")[:-22]
    assert words(search.best(cut, ended=False)).startswith("where are the t")  # whichever word that begins so
    ended = search.best(cut, ended=True)
    assert words(ended).startswith("where are the")
    assert ended.words[-1].word != "toilets"
    assert words(search.best(say("where are the toilets"), ended=True)) == "where are the toilets"


def test_nothing_is_no_words(search: Search) -> None:
    """No frames, or blanks only."""
    nothing = np.empty((0, CLASSES + 1), np.float32)
    assert search.best(nothing, ended=True) == Found(())
    assert search.alternatives(nothing, 3) == []
    assert search.best(spell(), ended=True).words == ()


def test_alternatives_come_best_first() -> None:
    """The homophone is the second reading, and costs more."""
    model = ngram([(["the", "flour"], 30.0), (["the", "flower"], 20.0)], SOUNDS)
    found = Search(build(model, SOUNDS, 1.5, 9.0, 0.0)).alternatives(say("the flower"), 4)
    assert [" ".join(said) for said, _ in found][:2] == ["the flour", "the flower"]
    assert [cost for _, cost in found] == sorted(cost for _, cost in found)
    assert len({said for said, _ in found}) == len(found)


def test_a_second_pronunciation_counts(search: Search) -> None:
    """The last of a word's ways is as good as the first."""
    for way in SOUNDS["the"]:
        assert words(search.best(spell(way, SOUNDS["team"][0]), ended=True)) == "the team"


def test_a_word_that_nobody_can_pronounce_is_left_out() -> None:
    """Sentences with it are built without its arcs; all other words are heard."""
    sounds = pronounce(["yes", "no", "…"], CMUDICT, {})
    assert set(sounds) == {"yes", "no"}
    model = ngram([(["…"], 5.0), (["yes", "…"], 5.0), (["yes"], 5.0), (["no"], 5.0)], sounds)
    found = Search(build(model, sounds, 1.5, 9.0, 0.0))
    assert words(found.best(say("yes"), ended=True)) == "yes"


def test_a_word_like_every_prefix_of_another() -> None:
    """Here "ho", "hot" and "hottie" with homophones of each: every one can be reached."""
    ways = {"ho": "HH AA", "haw": "HH AA", "hot": "HH AA T", "hott": "HH AA T", "hottie": "HH AA T IY"}
    model = ngram([([word], 1.0) for word in ways], ways)
    search = Search(build(model, {word: [way] for word, way in ways.items()}, 1.0, 9.0, 0.0))
    for word, way in ways.items():
        alike = {other for other in ways if ways[other] == way}
        assert alike <= {" ".join(said) for said, _ in search.alternatives(spell(way), 5)}, word


def test_five_thousand_words_are_built_and_heard() -> None:
    """A pack as large as a supermarket's list; each word stays reachable."""
    pool = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("aa", "ee", "oo", "uu", "ai") for c in "bdfgklmnprstvz"]
    names = [f"{one}{two}" for one in pool[:71] for two in pool[:71]][:5000]
    letters = {"a": "AE", "e": "IY", "o": "OW", "u": "UW", "i": "IH"} | {one: one.upper() for one in "bdfgklmnprstvz"}
    sounds = {name: [" ".join(letters[letter] for letter in name)] for name in names} | {"please": SOUNDS["please"]}
    search = Search(build(ngram([([name, "please"], 1.0) for name in names], sounds), sounds, 1.0, 9.0, 0.0))
    for name in names[::1700]:
        assert words(search.best(spell(sounds[name][0], SOUNDS["please"][0]), ended=True)) == f"{name} please"


def test_sounds_are_cmudicts() -> None:
    """39 phones and the blank; a sound that there is not is an error of the caller."""
    assert len(PHONES) == 39
    assert CLASSES == 40
    assert phone_ids("") == []
    with pytest.raises(KeyError):
        phone_ids("L AA QQ")


def kept_in(cache: Path) -> Path:
    """The one graph that is kept."""
    (found,) = cache.glob("*.fst")
    return found


def seal(path: Path) -> None:
    """Make whatever lies there look whole."""
    path.with_suffix(".sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_kept_graph_is_read_back(tmp_path: Path) -> None:
    """The second start has the same graph, and from the file: another one in its place is taken for it."""
    made = small(tmp_path / "deep" / "graphs")
    again = small(tmp_path / "deep" / "graphs")
    assert again.fst.to_str() == made.fst.to_str()
    assert (again.words, again.sounds, again.hints) == (made.words, made.sounds, made.hints)
    other = kaldifst.StdVectorFst()
    other.start = other.add_state()
    other.set_final(0, 0.0)
    kept = kept_in(tmp_path / "deep" / "graphs")
    assert kaldifst.StdConstFst(other).write(str(kept))
    seal(kept)
    assert small(tmp_path / "deep" / "graphs").fst.num_states == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone", "no seal", "seal of another", "seal that is no text"])
def test_a_damaged_graph_is_made_anew(tmp_path: Path, damage: str) -> None:
    """The library would end the process over such a file: it is never shown one, and the next start has a whole one again."""
    made = small(tmp_path)
    kept = kept_in(tmp_path)
    whole = kept.read_bytes()
    mark = kept.with_suffix(".sha256")
    if damage.startswith("seal"):
        mark.write_bytes(b"\xff\xfe" if damage.endswith("text") else b"0" * 64)
    elif damage in ("gone", "no seal"):
        (kept if damage == "gone" else mark).unlink()
    else:
        kept.write_bytes({"cut": whole[:-9], "flipped": whole[:300] + b"\x00\xff" + whole[302:], "empty": b""}[damage])
    assert small(tmp_path).fst.to_str() == made.fst.to_str()
    assert kept.read_bytes() == whole
    assert mark.read_text() == hashlib.sha256(whole).hexdigest()


def test_another_pack_replaces_the_kept_graph(tmp_path: Path) -> None:
    """One graph is kept, that of the newest pack: a changed word or way to say it is another one."""
    small(tmp_path)
    first = kept_in(tmp_path).name
    small(tmp_path, yes=["Y AE S"])
    second = kept_in(tmp_path).name
    small(tmp_path, chai=["CH AY"])
    assert len({first, second, kept_in(tmp_path).name}) == 3


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    """A file where the folder shall be, a folder where the graph shall be: the graph is made, nothing is raised."""
    made = small(tmp_path / "cache").fst.to_str()
    (tmp_path / "file").write_text("x")
    assert small(tmp_path / "file" / "graphs").fst.to_str() == made
    taken = tmp_path / "taken" / kept_in(tmp_path / "cache").name
    taken.mkdir(parents=True)
    assert small(tmp_path / "taken").fst.to_str() == made
    assert taken.is_dir()


def test_a_full_disk_leaves_no_half_graph_with_a_seal(tmp_path: Path) -> None:
    """Where writing ends in the middle, the next start finds nothing to read, and makes the graph anew."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, usual[1]))
    try:
        made = small(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert not list(tmp_path.glob("*.sha256"))
    assert small(tmp_path).fst.to_str() == made.fst.to_str()
    assert kept_in(tmp_path).stat().st_size > 2048
