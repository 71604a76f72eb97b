"""Settings of one box that only its page can carry out: in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.messages import VOICE_RATE
from tests.support.kiosk import House, eventually

pytestmark = pytest.mark.system

REMEMBER = """
window.asked = [];
const devices = navigator.mediaDevices, get = devices.getUserMedia.bind(devices);
devices.getUserMedia = (wanted) => (window.asked.push(wanted.audio.autoGainControl), get(wanted));
"""


@pytest.mark.parametrize(("settings", "expected"), [("", True), ("[microphone]\nauto_gain = false\n", False)])
def test_automatic_gain_is_what_the_box_wants(tmp_path: Path, context: Any, settings: str, *, expected: bool) -> None:
    """The microphone is opened with or without the browser's own level control."""
    with House(tmp_path, settings=settings) as house:
        page = context.new_page()
        page.add_init_script(REMEMBER)
        page.goto(house.url)
        eventually(lambda: page.evaluate("window.asked.length"), "the microphone is asked for")
        assert set(page.evaluate("window.asked")) == {expected}


@pytest.mark.parametrize("offset_ms", [0, 180, -180])
def test_a_late_sound_makes_the_picture_wait(tmp_path: Path, context: Any, offset_ms: int) -> None:
    """Frames are chosen for the sample that is heard `av_offset_ms` later than the browser believes."""
    probe = tmp_path / "probe"
    with House(tmp_path, settings=f"[video]\nav_offset_ms = {offset_ms}\n", probe=str(probe)) as house:
        page = context.new_page()
        page.goto(f"{house.url}?probe")
        house.floor("speaking", "engaged")
        eventually(house.settled, "the page's sound has run for a while")
        measured: list[float] = []
        while not measured or abs(measured[-1] - offset_ms) >= 90:  # a machine that stands still for a moment is tried again
            assert len(measured) < 5, measured
            measured.append(begins_late(house, probe / "drawn.jsonl"))


def begins_late(house: House, drawn: Path) -> float:
    """Something is said; milliseconds by which its picture begins behind its sound, by what each frame was chosen for (the median)."""
    house.next_turn()
    start = house.speak("A large flat white", 2.0)
    house.renderer.turn, house.renderer.pts = house.turn, start
    began = house.heard("started")
    end = start + 3 * VOICE_RATE // 2

    def rows() -> list[dict[str, int]]:
        """Frames that were drawn while the page heard the inside of the speech."""
        lines = drawn.read_bytes().rpartition(b"\n")[0].splitlines() if drawn.exists() else []  # the last one may be half written
        return [row for row in map(msgspec.json.decode, lines) if row["turn"] == house.turn and start < row["heard"] < end]

    house.heard("finished")
    eventually(lambda: len(rows()) > 5, "frames were shown while it sounded")
    # When the sound would have begun by what each frame was chosen for: one refresh of the screen early, and the offset late.
    begins = [(row["drawn_ns"] - began.t_ns) / 1e6 - (row["heard"] - began.index) * 1000 / VOICE_RATE for row in rows()]
    return sorted(begins)[len(begins) // 2]
