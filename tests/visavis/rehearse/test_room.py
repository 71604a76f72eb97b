"""The real room: PulseAudio, the recorder, and a page in Chromium that plays and listens."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from visavis.rehearse import measure, room
from visavis.rehearse.errors import KioskFailed, MissingProgram
from visavis.rehearse.kiosk import Browser, Kiosk, find_chromium

pytestmark = pytest.mark.system
RATE = room.RATE
PAGE = b"""<!doctype html><title>room</title><script>
(async () => {
  const constraints = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  const stream = await navigator.mediaDevices.getUserMedia({audio: constraints});
  const context = new AudioContext();
  await context.resume();
  // The page repeats what it hears: so one recording proves microphone and loudspeaker.
  context.createMediaStreamSource(stream).connect(context.destination);
  await fetch('/ready');
})();
</script>"""


@pytest.fixture(scope="module")
def _programs() -> None:
    try:
        find_chromium()
        with room.Room():
            pass
    except MissingProgram as error:
        pytest.skip(str(error))


def chirp(seconds: float = 0.4) -> np.ndarray:
    """A sweep: found to the sample by correlation."""
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * (400 * t + 1500 * t * t))).astype(np.float32)


@pytest.mark.usefixtures("_programs")
def test_both_sides_are_recorded_on_one_clock() -> None:
    """Each side has its own channel; what is played at once through one stream of two channels is recorded at one sample."""
    with room.Room() as here:
        recorder = room.Recorder(here)
        for sink in ("visitor", "loudspeaker"):
            assert room.Player(here, chirp(), sink).wait(10)
        recorded = recorder.stop()
    left, right = (measure.locate(chirp(), recorded[:, side], 0, len(recorded)) for side in (0, 1))
    assert min(left[1], right[1]) > 0.98
    assert left[0] < right[0]
    assert np.abs(recorded[left[0] : left[0] + len(chirp()), 1]).max() < 1e-3


@pytest.mark.usefixtures("_programs")
def test_the_channels_are_aligned_better_than_two_milliseconds() -> None:
    """A stereo sound played into the room itself arrives in both channels at the same sample."""
    import subprocess

    both = np.repeat(chirp()[:, None], 2, axis=1)
    pcm = (both * 32767).astype(np.int16).tobytes()
    with room.Room() as here:
        recorder = room.Recorder(here)
        command = [
            "pacat",
            "--device=room",
            "--raw",
            "--format=s16le",
            f"--rate={RATE}",
            "--channels=2",
            "--channel-map=front-left,front-right",
        ]
        subprocess.run(command, input=pcm, env=here.env, check=True, timeout=20)
        recorded = recorder.stop()
    left, right = (measure.locate(chirp(), recorded[:, side], 0, len(recorded)) for side in (0, 1))
    assert min(left[1], right[1]) > 0.9
    assert abs(left[0] - right[0]) <= 2 * RATE // 1000


@pytest.mark.usefixtures("_programs")
def test_the_microphone_hears_the_loudspeaker_where_a_scenario_asks_for_echo() -> None:
    """At about the level that was asked for."""
    import subprocess

    with room.Room(echo_db=-20) as here:
        listener = subprocess.Popen(
            ["parec", "--device=microphone", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=1", "--latency-msec=20"],
            env=here.env, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert listener.stdout is not None
        for _ in range(3):  # a busy machine drops some samples, and then the chirp is less like itself
            first = listener.stdout.read(RATE // 5)
            assert room.Player(here, chirp(1.0), "loudspeaker").wait(10)
            # Two seconds: the chirp lasts one, and begins as late as the player does.
            heard = np.frombuffer(first + listener.stdout.read(4 * RATE), np.int16).astype(np.float32) / 32768
            place, likeness = measure.locate(chirp(1.0), heard, 0, len(heard))
            if likeness > 0.8:
                break
        listener.terminate()
        listener.wait()
        listener.stdout.close()
    assert likeness > 0.8
    level = measure.levels_db(heard[place : place + RATE], RATE).max() - measure.levels_db(chirp(1.0), RATE).max()
    assert -26 < level < -14


class _Server(http.server.BaseHTTPRequestHandler):
    ready = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/ready":
            self.ready.set()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE if self.path == "/" else b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def page() -> Iterator[str]:
    """A page that plays what its microphone hears."""
    _Server.ready.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()


@pytest.mark.usefixtures("_programs")
def test_a_page_hears_the_visitor_and_is_heard(page: str, tmp_path: Path) -> None:
    """The visitor's sound goes through the microphone and the page into the loudspeaker's channel, later than it was played."""
    with room.Room() as here, Browser(page, tmp_path, here.env) as browser:
        assert _Server.ready.wait(60)
        browser.check()
        assert here.listens()
        recorder = room.Recorder(here)
        assert room.Player(here, chirp()).wait(10)
        room.Player(here, np.zeros(RATE, np.float32)).wait(10)
        recorded = recorder.stop()
    said, _ = measure.locate(chirp(), recorded[:, 0], 0, len(recorded))
    loudspeaker = measure.levels_db(recorded[:, 1], RATE)
    first = measure.sound_start(loudspeaker, said * 100 // RATE, len(loudspeaker))
    assert first is not None
    assert first * RATE // 100 > said
    assert loudspeaker.max() > -40


def test_a_kiosk_that_cannot_start_is_told_in_its_own_words(tmp_path: Path) -> None:
    """The last line of its log stands in the error."""
    with (
        Kiosk(tmp_path, {"PATH": "/usr/bin"}, config=None, changes={"colour": "green"}) as kiosk,
        pytest.raises(KioskFailed, match="colour"),
    ):
        kiosk.wait_for_page(60)
