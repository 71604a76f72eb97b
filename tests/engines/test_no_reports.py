"""What the engines' libraries would tell others of themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DRAW = """
from pathlib import Path
import numpy as np
from engines.renderer import load_pack, select
face = select(load_pack(Path("engines/avatars/stock"))).engine
face.draw(face.idle, np.zeros((face.rungs[-1].height * 3 // 2, face.rungs[-1].width), np.uint8), rung=len(face.rungs) - 1)
"""


@pytest.mark.system
def test_onnx_runtime_keeps_no_reports(tmp_path: Path) -> None:
    """Nothing is written for Microsoft, although nobody has set a variable: the wheels would by default."""
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}  # in CI and in tests it would be silent by itself
    subprocess.run([sys.executable, "-c", DRAW], cwd=ROOT, env=env, check=True, timeout=120)
    assert [path for path in tmp_path.rglob("*") if "microsoft" in str(path).lower()] == []
