"""The command: mistakes cost one line and status 2, results are printed and written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtime.config import Config, load
from runtime.packchoice import Choice, keep_choice
from visavis import doctor
from visavis.bench import report
from visavis.cli import main

pytestmark = pytest.mark.unit


def turn(number: int, heard_ms: float) -> str:
    """A line of a timeline: everything a little after the end of speech."""
    marks = {"speech_end": 0, "silence": 100, "transcript": 200, "granted": 400, "sound_heard": heard_ms}
    base = number * 10_000_000_000
    return json.dumps({"turn": number, "visit": 1, "stages": {name: base + round(ms * 1e6) for name, ms in marks.items()}})


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["rehearse", "nowhere.toml", "--out", "x"], "nowhere.toml: cannot be read"),
        (["latency", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["bench", "teapots"], "no benchmark 'teapots'"),
        (["models", "fetch", "teapot"], "teapot"),
        (["run", "--option", "colour"], "must be key=value"),
        (["latency", "/proc/self/fd"], "Is a directory"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback for what a person can mend."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert what in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("where", [".", "nowhere/report.json"])
@pytest.mark.parametrize("arguments", [["soak", "--hours", "8"], ["bench", "bus"], ["chaos"], ["doctor"]])
def test_a_report_that_cannot_be_written_is_told_before_the_work(
    arguments: list[str], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not after eight hours."""
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--json", where]) == 2
    said = capsys.readouterr()
    assert where.partition("/")[0] in said.out + said.err
    assert "folder" in said.out + said.err


def test_models_come_from_the_mirror_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """VISAVIS_MODELS, an address too: it is not made a path of."""
    asked: list[tuple[tuple[str, ...], str]] = []

    def fetch(names: tuple[str, ...], *, mirror: str, **_: object) -> list[object]:
        asked.append((names, mirror))
        return []

    monkeypatch.setattr("visavis.models.fetch", fetch)
    monkeypatch.setenv("VISAVIS_MODELS", "http://mirror.shop/models")
    assert main(["models", "fetch", "silero"]) == 0
    assert asked == [(("silero",), "http://mirror.shop/models")]


def test_the_doctor_looks_at_the_recogniser_that_is_configured(tmp_path: Path) -> None:
    """A model folder that is none is named; it was not looked at before."""
    (tmp_path / "kiosk.toml").write_text(f'[recognition]\nengine = "vosk"\nmodel = "{tmp_path}"\n')
    finding = doctor._recognition(load(tmp_path / "kiosk.toml"))
    assert str(tmp_path) in finding.detail


def test_latency_prints_quantiles_of_each_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counted from the end of speech; the JSON holds the same."""
    timeline, out = tmp_path / "timeline.jsonl", tmp_path / "out.json"
    timeline.write_text("\n".join(turn(n, 500 + n) for n in range(1, 12)))
    assert main(["latency", str(timeline), "--json", str(out)]) == 0
    assert "sound_heard" in capsys.readouterr().out
    table = json.loads(out.read_text())
    assert table["sound_heard"]["n"] == 11
    assert table["sound_heard"]["p50"] == 506.0
    assert table["judged"]["n"] == 0


def test_a_line_that_is_no_record_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File and line number."""
    timeline = tmp_path / "timeline.jsonl"
    timeline.write_text(turn(1, 500) + "\n{broken")
    assert main(["latency", str(timeline)]) == 2
    assert "timeline.jsonl, line 2" in capsys.readouterr().err


def test_the_benchmark_page_is_made_from_kept_results(tmp_path: Path) -> None:
    """Machine, quantiles and plain figures; what was not measured is a dash."""
    (tmp_path / "frames.json").write_text(
        json.dumps({"machine": {"cpu": "Test", "commit": "abc"}, "draw_ms": {"n": 3, "p50": 1.25, "p95": 2.0, "p99": None}, "rungs": 1})
    )
    page = report.write(tmp_path, tmp_path / "page.md").read_text()
    assert "cpu: Test, commit: abc" in page
    assert "| draw_ms | 3 | 1.25 | 2 | - |" in page
    assert "| rungs |  | 1 |  |  |" in page


def test_no_results_is_a_mistake_with_a_remedy(tmp_path: Path) -> None:
    """It says how to get some."""
    with pytest.raises(report.BenchError, match="visavis bench orders"):
        report.write(tmp_path)


def test_the_doctor_finds_a_broken_configuration(tmp_path: Path) -> None:
    """The finding names the key, and the kiosk cannot run."""
    config = tmp_path / "kiosk.toml"
    config.write_text("[stage]\nprot = 1\n")
    findings = {f.what: f for f in doctor.examine(config)}
    assert findings["configuration"].state == "fails"
    assert "prot" in findings["configuration"].detail
    assert "cannot run: configuration" in doctor.table(list(findings.values()))


def test_the_doctor_says_which_pack_serves(tmp_path: Path) -> None:
    """That it is the fleet's choice, and why it is not any more."""
    for name in ("coffee-bar", "tea-bar"):
        shutil.copytree(Config().pack_path, tmp_path / "packs" / name)
    toml = tmp_path / "kiosk.toml"
    toml.write_text('pack_path = "packs/coffee-bar"\n[fleet]\nbroker = "localhost"\ndevice = "box-1"\noutbox_path = "fleet"\n')
    config = load(toml)

    def said() -> tuple[str, str]:
        finding = doctor._pack(config)
        return finding.state, finding.detail

    assert said() == ("works", f"{tmp_path}/packs/coffee-bar")
    keep_choice(config, Choice("tea-bar", "command"))
    assert said() == ("works", f"{tmp_path}/packs/tea-bar, chosen by the fleet (command) instead of coffee-bar")
    shutil.rmtree(tmp_path / "packs" / "tea-bar")
    assert said() == ("falls back", "the fleet chose pack tea-bar, which is not installed: coffee-bar of kiosk.toml serves")
    (tmp_path / "packs" / "coffee-bar" / "pack.toml").write_text("[")
    assert said()[0] == "fails"


def test_the_doctor_says_a_line_for_every_capability() -> None:
    """Engines, models, sound, browser, disk and licences all have one."""
    found = {f.what for f in doctor.examine()}
    assert {
        "Python",
        "packages",
        "experience pack",
        "port",
        "recognition",
        "voice",
        "face",
        "language",
        "browser",
        "sound",
        "licences",
    } <= found
