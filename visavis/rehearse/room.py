"""The room: a private PulseAudio in which the page plays and listens, and in which everything that is to be heard is recorded.

One null sink `room` carries three channels: front left is the visitor, front right the loudspeaker, front centre what else the
microphone hears (noise). `visitor`, `loudspeaker` and `noise` are remapped sinks of one channel each, so the recording of
`room.monitor` is aligned to the sample by construction: there is one clock and one buffer. The microphone is the visitor's channel
itself, or, where a scenario asks for echo or noise, a second null sink into which they are mixed.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from visavis.rehearse.errors import MissingProgram, RehearsalError

__all__ = ["RATE", "Player", "Recorder", "Room", "clock_line", "write_wav"]

RATE = 48_000
"""Samples per second of everything in the room."""
BLOCK_MS = 10
"""The room's sink renders blocks of this length."""
MIC_LATENCY_MS = 20
_START_S = 10.0
_CHANNELS = 3
_PRIORITY = -15

Samples = npt.NDArray[np.float32]


def _find(program: str) -> str:
    found = shutil.which(program)
    if not found:
        raise MissingProgram(f"{program} is not installed: apt install pulseaudio pulseaudio-utils")
    return found


def _prefer(process: subprocess.Popen[bytes]) -> None:
    """The room is the ruler: it must keep time on a busy machine too. Without the right to it, it runs as it is."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _PRIORITY)


class Room:
    """A running private PulseAudio; a context manager. `env` is for every process that shall be in the room.

    `echo_db`: level of the loudspeaker in the microphone, None for none; `echo_ms` its delay (at least MIC_LATENCY_MS).
    `noise`: the scenario plays into the `noise` sink.
    """

    def __init__(self, *, echo_db: float | None = None, echo_ms: float = 60.0, noise: bool = False) -> None:
        self._echo_db, self._echo_ms = echo_db, max(echo_ms, MIC_LATENCY_MS)
        self._mixes = noise or echo_db is not None
        self._dir: TemporaryDirectory[str] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self.env: dict[str, str] = {}

    def __enter__(self) -> Room:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        daemon = _find("pulseaudio")
        for tool in ("pactl", "pacat", "parec"):
            _find(tool)
        self._dir = TemporaryDirectory(prefix="visavis-room-")
        home = Path(self._dir.name)
        socket = home / "native"
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("PULSE_")}
        # The browser keeps its own HOME; only the sound server's files are private.
        self.env |= {
            "PULSE_SERVER": f"unix:{socket}",
            "PULSE_RUNTIME_PATH": str(home),
            "PULSE_STATE_PATH": str(home),
            "PULSE_COOKIE": str(home / "cookie"),
        }
        try:
            self._start(daemon, home, socket)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, daemon: str, home: Path, socket: Path) -> None:
        with (home / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [
                    daemon, "-n", "--daemonize=no", "--system=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes",
                    "--high-priority=yes", "--log-target=stderr", "--log-level=error",
                    f"--load=module-native-protocol-unix socket={socket} auth-anonymous=1",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
            )  # fmt: skip
        _prefer(self._daemon)
        deadline = time.monotonic() + _START_S
        while subprocess.run(["pactl", "info"], env=self.env, capture_output=True, check=False).returncode:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                why = (home / "log").read_text(errors="replace").strip().splitlines()
                raise RehearsalError(f"PulseAudio did not start: {why[-1] if why else 'no message'}")
            threading.Event().wait(0.05)
        self._furnish()

    def _furnish(self) -> None:
        self._load(
            "module-null-sink",
            "sink_name=room",
            f"rate={RATE}",
            "format=s16le",
            f"channels={_CHANNELS}",
            "channel_map=front-left,front-right,front-center",
        )
        for name, channel in (("visitor", "front-left"), ("loudspeaker", "front-right"), ("noise", "front-center")):
            self._load(
                "module-remap-sink",
                f"sink_name={name}",
                "master=room",
                "channels=1",
                "channel_map=mono",
                f"master_channel_map={channel}",
                "remix=no",
            )
        if self._mixes:
            self._load("module-null-sink", "sink_name=ears", f"rate={RATE}", "format=s16le", "channels=1", "channel_map=mono")
            for name, channel in (("visitor", "front-left"), ("noise", "front-center"), ("loudspeaker", "front-right")):
                if name == "loudspeaker" and self._echo_db is None:
                    continue
                self._tap(f"{name}_tap", channel)
                latency = self._echo_ms if name == "loudspeaker" else MIC_LATENCY_MS
                loop = self._load(
                    "module-loopback",
                    f"source={name}_tap",
                    "sink=ears",
                    f"latency_msec={latency:.0f}",
                    "adjust_time=0",
                    "source_dont_move=true",
                    "sink_dont_move=true",
                )
                if name == "loudspeaker" and self._echo_db is not None:
                    self._attenuate(loop, self._echo_db)
            self._load(
                "module-remap-source",
                "source_name=microphone",
                "master=ears.monitor",
                "channels=1",
                "channel_map=mono",
                "master_channel_map=mono",
                "remix=no",
            )
        else:
            self._tap("microphone", "front-left")
        self._pactl("set-default-sink", "loudspeaker")
        self._pactl("set-default-source", "microphone")

    def _tap(self, name: str, channel: str) -> None:
        self._load(
            "module-remap-source",
            f"source_name={name}",
            "master=room.monitor",
            "channels=1",
            "channel_map=mono",
            f"master_channel_map={channel}",
            "remix=no",
        )

    def _attenuate(self, module: str, gain_db: float) -> None:
        """Set the volume of the sink input that loopback `module` made."""
        listing = self._pactl("list", "sink-inputs")
        for block in listing.split("Sink Input #")[1:]:
            if f"Owner Module: {module}\n" in block:
                self._pactl("set-sink-input-volume", block.split("\n", 1)[0].strip(), f"{gain_db:.1f}dB")
                return
        raise RehearsalError("the echo path of the room could not be set up")

    def _load(self, module: str, *arguments: str) -> str:
        return self._pactl("load-module", module, *arguments).strip()

    def _pactl(self, *arguments: str) -> str:
        done = subprocess.run(["pactl", *arguments], env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RehearsalError(f"pactl {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
        return done.stdout

    def listens(self) -> bool:
        """Whether somebody, that is the page, listens to the microphone now."""
        microphone = next((line.split()[0] for line in self._pactl("list", "short", "sources").splitlines() if "microphone" in line), "")
        return any(line.split()[1] == microphone for line in self._pactl("list", "short", "source-outputs").splitlines())

    def __exit__(self, *_: object) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            try:
                self._daemon.wait(2)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
            self._daemon = None
        if self._dir is not None:
            self._dir.cleanup()
            self._dir = None


_DRIFT_FROM_S = 60.0
"""Shorter recordings are too short to tell drift from jitter."""


class Recorder:
    """Records the room until `stop()`; then `samples` is (n, 2), left the visitor, right the loudspeaker, and `start_ns` the time
    (CLOCK_MONOTONIC) of the first one.
    """

    def __init__(self, room: Room) -> None:
        self._chunks: list[bytes] = []
        self._arrivals: list[tuple[int, int, int]] = []  # when, bytes before, bytes
        self._process = subprocess.Popen(
            ["parec", "--device=room.monitor", "--raw", "--format=s16le", f"--rate={RATE}", f"--channels={_CHANNELS}",
             "--channel-map=front-left,front-right,front-center", f"--latency-msec={BLOCK_MS}", "--no-remix", "--no-remap"],
            env=room.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip
        _prefer(self._process)
        self._thread = threading.Thread(target=self._read, name="recorder", daemon=True)
        self._first = threading.Event()
        self._thread.start()
        if not self._first.wait(_START_S):
            self.stop()
            raise RehearsalError("the room could not be recorded: parec delivers nothing")

    def _read(self) -> None:
        assert self._process.stdout is not None
        done = 0
        while chunk := self._process.stdout.read(1 << 16):
            self._arrivals.append((time.monotonic_ns(), done, len(chunk)))
            self._chunks.append(chunk)
            done += len(chunk)
            self._first.set()

    @property
    def start_ns(self) -> int:
        """CLOCK_MONOTONIC at which sample 0 was due in the loudspeaker."""
        return clock_line(self._arrivals)[0]

    def stop(self) -> Samples:
        """End the recording and return it, (n, 2) float32 in -1..1, on the clock of CLOCK_MONOTONIC."""
        self._process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._thread.join(2)
        if self._process.stdout is not None:
            self._process.stdout.close()
        raw = b"".join(self._chunks)
        whole = np.frombuffer(raw[: len(raw) // (2 * _CHANNELS) * 2 * _CHANNELS], dtype=np.int16).reshape(-1, _CHANNELS)
        sound = whole[:, :2].astype(np.float32) / 32768.0
        drift = clock_line(self._arrivals)[1]
        if not drift:
            return sound
        places = np.arange(int(len(sound) * (1 + drift))) / (1 + drift)
        return np.stack([np.interp(places, np.arange(len(sound)), side) for side in sound.T], axis=1).astype(np.float32)


def clock_line(arrivals: Sequence[tuple[int, int, int]]) -> tuple[int, float]:
    """When sample 0 was due, and how much longer than its nominal length the recording took (a fraction, some 1e-4).

    `arrivals` are (when in ns, bytes before, bytes) of each block.

    The null sink wakes when its last block is used up and renders the next: a whole block's first sample is due when it arrives.
    It can arrive late, never early, so the earliest arrivals against their place in the stream are right; those of the first and of
    the last third give the line, because the sink's timer does not run exactly with CLOCK_MONOTONIC.
    """
    usual = statistics.mode(size for _, _, size in arrivals)
    frame = 2 * _CHANNELS
    lines = [(now, now - done * 1_000_000_000 // (frame * RATE)) for now, done, size in arrivals if size == usual]
    began, ended = lines[0][0], lines[-1][0]
    if ended - began < _DRIFT_FROM_S * 1e9:
        return min(line for _, line in lines), 0.0
    third = (ended - began) / 3
    early = min((line, now) for now, line in lines if now - began < third)
    late = min((line, now) for now, line in lines if ended - now < third)
    drift = (late[0] - early[0]) / (late[1] - early[1])
    return round(early[0] - drift * (early[1] - began)), drift


class Player:
    """Plays one clip (mono, RATE, -1..1) into a sink of the room; `started_ns` is when it was handed over."""

    def __init__(self, room: Room, samples: Samples, sink: str = "visitor") -> None:
        self._process = subprocess.Popen(
            ["pacat", "--playback", f"--device={sink}", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=1", "--latency-msec=1000"],
            env=room.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _prefer(self._process)
        pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes()
        self.started_ns = time.monotonic_ns()
        self._feeder = threading.Thread(target=self._feed, args=(pcm,), name="player", daemon=True)
        self._feeder.start()

    def _feed(self, pcm: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(pcm)
            self._process.stdin.close()

    @property
    def playing(self) -> bool:
        """Whether it is still to be heard."""
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False if it still plays."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self._feeder.join(0.1)
        return not self.playing

    def stop(self) -> None:
        """Silence at once."""
        if self.playing:
            self._process.kill()
            self._process.wait()
        self._feeder.join(1)


def write_wav(path: Path, samples: Samples, rate: int = RATE) -> None:
    """Write float samples (n,) or (n, channels) as 16-bit WAV."""
    import soundfile

    soundfile.write(path, samples, rate, subtype="PCM_16")
