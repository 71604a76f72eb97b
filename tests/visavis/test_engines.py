"""`visavis engines`: what it prints, writes and returns on a machine without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.compile import EngineCache, Target
from visavis import doctor
from visavis.cli import main
from visavis.engines import Machine, build_all, shipped, state_here

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))


def _rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install tensorrt-rtx-cu13)", exc_type=ImportError)


def test_build_compiles_every_shipped_face_and_prints_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a GPU for RTX 30, 40 and 50; a second call finds them kept; the JSON has what the table has."""
    _rtx()
    out = tmp_path / "engines.json"
    assert main(["engines", "build", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["engines"]
    assert len(rows) == len(shipped()) >= 1
    assert all(row["state"] == "built" and row["seconds"] > 0 and row["gpu"] == "RTX 30, 40, 50" for row in rows)
    told = capsys.readouterr().out
    assert "TensorRT-RTX" in told
    assert f"{rows[0]['seconds']:.2f}" in told
    assert main(["engines", "build", "--json", str(out)]) == 0
    assert {row["state"] for row in json.loads(out.read_text())["engines"]} == {"kept"}


def test_list_shows_what_is_kept_and_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before: not yet built. After: in use. Damaged: said so."""
    _rtx()
    assert main(["engines", "list"]) == 0
    assert "not yet built: stock/" in capsys.readouterr().out
    main(["engines", "build"])
    capsys.readouterr()
    assert main(["engines", "list"]) == 0
    assert "in use" in capsys.readouterr().out
    (engine,) = (tmp_path / "engines").glob("*.engine")
    engine.write_bytes(engine.read_bytes()[:-1])
    main(["engines", "list"])
    assert "damaged: its checksum is wrong" in " ".join(capsys.readouterr().out.split())


def test_verify_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr with each back end's reason, exit status 2."""
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("there is a GPU here")
    assert main(["engines", "verify"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("visavis: no GPU to verify: ")
    assert said.count("\n") == 1


def test_the_doctor_says_that_there_is_no_gpu() -> None:
    """One line, and it is no fault."""
    if any(Path(node).exists() for node in doctor._GPU_NODES):
        pytest.skip("there is a GPU here")
    (line,) = [finding for finding in doctor.examine() if finding.what == "GPU"]
    assert (line.state, line.detail) == ("works", "none here: the face runs on the CPU")


def test_a_library_that_refuses_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    """A GPU that TensorRT-RTX has no target for: the reason stands in the note."""
    _rtx()
    from engines.compile import find_libraries

    here = Machine(find_libraries().found, Target("H200", (9, 0), 13000), {})
    (row,) = build_all(shipped()[:1], EngineCache(tmp_path), here, lambda *_step: None)
    assert row.state == "failed"
    assert "9.0 (H200)" in row.note


def test_nothing_to_compile_with(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No TensorRT at all: one line says what to install, exit status 2."""
    monkeypatch.setattr("visavis.engines.machine", lambda: Machine((), None, {"tensorrt_rtx": "needs the wheel tensorrt-rtx-cu13"}))
    assert main(["engines", "build"]) == 2
    assert "nothing to compile with: tensorrt_rtx needs the wheel" in capsys.readouterr().err


def test_an_engine_of_another_machine_is_told_apart(tmp_path: Path) -> None:
    """In use, stale, or damaged."""
    path = tmp_path / "a.engine"
    assert state_here(path, "ok", {path}) == "in use"
    assert "another" in state_here(path, "ok", set())
    assert "built again" in state_here(path, "damaged: cut", {path})
