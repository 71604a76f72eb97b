"""What the house gives to telemetry: figures of nodes, and a log level that can be changed while they run."""

from __future__ import annotations

import json
import logging

import pytest

from runtime.clock import ManualClock
from runtime.context import Bootstrap
from runtime.launch import _set_log_level
from tests.support.harness import Bench


def test_a_figure_goes_with_the_statistics():
    """measure() keeps the newest value of a name; health gets it with the next statistics."""
    with Bench() as bench:
        clock = ManualClock(10**12)
        health, stage = bench.context("health"), bench.context("stage", clock)
        stage.measure("page_fps", 12.0)
        stage.measure("page_fps", 29.5)
        stage.beat()
        told = bench.wait_for(health, "stats", lambda message: message.node == "stage")
        assert json.loads(told.body)["values"] == {"page_fps": 29.5}


@pytest.fixture
def level():
    root = logging.getLogger()
    before = root.level
    yield lambda: logging.getLevelName(root.level)
    root.setLevel(before)


@pytest.mark.parametrize(("text", "wanted"), [("DEBUG\n", "DEBUG"), ("", "ERROR"), ("rubbish", "ERROR"), (None, "ERROR")])
def test_the_log_level_of_the_moment(tmp_path, level, text, wanted):
    """The file's level while there is one that makes sense, else the configured one."""
    boot = Bootstrap("voice", str(tmp_path), "", {}, 0, 0, 0, 0, options={"log_level": "ERROR"})
    if text is not None:
        (tmp_path / "log-level").write_text(text)
    _set_log_level(boot)
    assert level() == wanted
