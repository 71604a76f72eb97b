"""An independent decoder of Sparkplug payloads."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def decode():
    """Eclipse Tahu's decoder for JavaScript (npm sparkplug-payload): bytes → what it reads."""
    if shutil.which("node") is None or not (FOLDER / "node_modules" / "sparkplug-payload").is_dir():
        pytest.skip("no independent decoder: npm ci in tests/fleet")
    process = subprocess.Popen(
        ["node", "decoder.js"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def read(payload):
        process.stdin.write(base64.b64encode(payload).decode() + "\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline())
        assert "error" not in found, found
        return found

    yield read
    process.stdin.close()
    process.wait(10)
    process.stdout.close()
