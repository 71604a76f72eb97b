"""The uplink's own figures of the machine come from the box that kiosk.toml names."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from runtime.telemetry import Health
from runtime.telemetry.box import Uplink
from tests.firmware import trees
from tests.runtime.telemetry.support import HandTimes
from tests.support.harness import Bench


def test_heat_is_that_of_the_configured_root(tmp_path: Path) -> None:
    """With `[firmware] root` the fleet is told that tree's temperature, not the one of the machine below it."""
    trees.zone(tmp_path / "box", 0, "cpu-thermal", 71_500, {"passive": 99_000})
    config = tmp_path / "kiosk.toml"
    config.write_text(f'[firmware]\nroot = "{tmp_path / "box"}"\n[fleet]\ndevice = "box-1"\noutbox_path = "{tmp_path / "outbox"}"\n')
    with Bench(config=config) as bench:
        uplink = Uplink(bench.context("uplink"), HandTimes())
        uplink._report_health(0)
        uplink._end()
    with sqlite3.connect(tmp_path / "outbox" / "outbox.db") as kept:
        ((body,),) = kept.execute("SELECT body FROM rows WHERE kind = 'health'").fetchall()
    kept.close()
    assert msgspec.json.decode(body, type=Health).m["temperature"] == pytest.approx(71.5)
