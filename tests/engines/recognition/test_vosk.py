"""vosk has a process of its own here, as in the kiosk: its Kaldi and the ears' cannot share one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("kaldi_decoder")


def test_vosk_works_in_a_process_of_its_own() -> None:
    """All that vosk_alone.py says of it holds; without vosk it is skipped there."""
    tests = Path(__file__).with_name("vosk_alone.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", str(tests)], capture_output=True, text=True, check=False, cwd=tests.parents[3]
    )
    if "skipped" in done.stdout and "passed" not in done.stdout:
        pytest.skip("vosk is an extra: pip install 'visavis[vosk]'")
    assert done.returncode == 0, done.stdout


def test_it_is_refused_beside_the_ears() -> None:
    """The other way round: one clear line instead of a process that hangs."""
    code = (
        "import engines.recognition.ears\n"
        "from engines.recognition import VoskRecogniser\n"
        "from engines.errors import EngineError\n"
        "try: VoskRecogniser(__import__('pathlib').Path('tests/models/vosk-tiny'))\n"
        "except EngineError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[3]
    )
    assert "cannot share" in done.stdout, done.stderr
