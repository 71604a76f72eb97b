"""Scenario files: every mistake is one line that names the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from visavis.rehearse import scenario, voices
from visavis.rehearse.errors import ScenarioError
from visavis.rehearse.visitor import cues

pytestmark = pytest.mark.unit
SHIPPED = Path(__file__).resolve().parents[2] / "scenarios"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("title = 'x'\n[[step]]\nsey = 'hello'", "unknown field `sey`"),
        ("title = 'x'\n[[step]]\nsay = 'hello'\nplay = 'a.wav'", "exactly one of"),
        ("title = 'x'\n[[step]]\nthen = ''", "exactly one of"),
        ("title = 'x'\n[[step]]\ninterrupt = 'stop'", "at_s or at_word"),
        ("title = 'x'\n[[step]]\nsay = 'a'\nat_s = 1", "go with interrupt"),
        ("title = 'x'\n[[step]]\nwait = 'rain'", "wait = 'rain' is unknown"),
        ("title = 'x'\n[[step]]\nwait = 'posture'", "needs `of`"),
        ("title = 'x'\n[[step]]\nsay = 'a'\nlevel_db = 3", "level_db"),
        ("title = 'x'\n[[draw]]\npattern = '*.wav'\ncount = 1\nverb = 'noise'", "needs prompts"),
        ("title = 'x'", "nothing to rehearse"),
        ("title = ", "is no TOML"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(text: str, what: str) -> None:
    """Unknown keys, two verbs, missing companions, values out of range, broken TOML."""
    with pytest.raises(ScenarioError) as caught:
        scenario.parse(text, "visit.toml")
    assert str(caught.value).startswith("visit.toml: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    """One line, no traceback."""
    with pytest.raises(ScenarioError, match=r"nowhere\.toml: cannot be read"):
        scenario.load(Path("nowhere.toml"))


def test_a_missing_recording_is_found_before_anything_starts(tmp_path: Path) -> None:
    """The line names the step and where was looked."""
    path = tmp_path / "s.toml"
    path.write_text("title = 'x'\n[[step]]\nplay = 'gone.wav'")
    with pytest.raises(ScenarioError, match=r"step 1: no recording 'gone.wav'"):
        cues(scenario.load(path), None, 1)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_scenarios_are_sound(path: Path) -> None:
    """Every scenario in the tree parses, and every text of it has its voice in the tree."""
    plan = scenario.load(path)
    for step in plan.step:
        text = step.say or step.interrupt or step.backchannel
        if text and text not in voices.MADE:
            assert voices.voice_path(SHIPPED, step.voice or plan.voice, text).is_file(), f"run tests/scenarios/make_voices.py: {text!r}"


def test_the_coffee_scenario_has_at_least_twenty_turns_in_several_visits() -> None:
    """What the house promises of it."""
    plan = scenario.load(SHIPPED / "coffee.toml")
    assert sum(step.verb in ("say", "interrupt") for step in plan.step) >= 20
    assert sum(step.verb == "leave" for step in plan.step) >= 3


def test_a_draw_is_the_same_for_the_same_seed(shared: Path) -> None:
    """Another seed chooses other people."""
    plan = scenario.load(SHIPPED / "people.toml")
    first, again, other = ([c.step.play for c in cues(plan, shared / "data", seed) if c.step.play] for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(set(first)) == 40


def test_a_sound_is_brought_to_its_level_without_clipping() -> None:
    """-20 dBFS in the loudest second, never above full scale."""
    import numpy as np

    loud = voices.at_level(np.random.default_rng(1).standard_normal(voices.RATE * 3).astype(np.float32), -20)
    assert 20 * np.log10(np.sqrt(np.mean(loud[: voices.RATE] ** 2))) == pytest.approx(-20, abs=0.5)
    click = np.zeros(voices.RATE, np.float32)
    click[100] = 0.1
    assert np.abs(voices.at_level(click, -6)).max() <= 1.0
