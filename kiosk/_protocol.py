"""What page and stage say to each other. Control: JSON objects with their kind in `t`. Media: little-endian binary headers.

    /control   JSON both ways
    /audio     up    MIC_HEADER, then 320 samples (20 ms) of 16 kHz int16
               down  VOICE_HEADER, then int16 at the voice's rate (kind PCM), or nothing (FLUSH, GAIN, END)
    /video     down  FRAME_HEADER in a message of its own, then the pixels in the next: so they go from the ring to the socket uncopied
               up    4 bytes: the seq of the frame that has arrived

Times of the page are milliseconds of its performance.now(); `offset_ms` in `ping` makes CLOCK_MONOTONIC of them.
"""

from __future__ import annotations

import struct
from typing import Union

import msgspec

__all__ = [
    "ACK",
    "END",
    "FLUSH",
    "FRAME_HEADER",
    "GAIN",
    "MIC_HEADER",
    "PCM",
    "VOICE_HEADER",
    "Beat",
    "Ducked",
    "FirstFrame",
    "FromPage",
    "Hello",
    "Input",
    "MicState",
    "PagePlayhead",
    "Pong",
    "Probe",
    "Silent",
    "SoundState",
    "Started",
    "decode",
]

MIC_HEADER = struct.Struct("<BBHI")
"""kind (1), reserved, capture latency in tenths of a ms, sequence number."""
VOICE_HEADER = struct.Struct("<BBHId")
"""kind, reserved, value (GAIN: thousandths), turn, absolute index in the speech ring."""
PCM, FLUSH, GAIN, END = 1, 2, 3, 4
FRAME_HEADER = struct.Struct("<BBHIIHHdd")
"""kind (1), format, stride, seq, turn, width, height, pts (speech-ring sample, -1 idle), capture time in ms of CLOCK_MONOTONIC."""
ACK = struct.Struct("<I")


class _Page(msgspec.Struct, frozen=True, tag_field="t"):
    """Base of the page's messages."""


class Hello(_Page, frozen=True, tag="hello"):
    """The page is here."""

    lang: str = ""
    probe: bool = False


class Pong(_Page, frozen=True, tag="pong"):
    """Answer to ping `id`, with the page's clock."""

    id: int
    ms: float


class Beat(_Page, frozen=True, tag="beat"):
    """Once a second: how the page does."""

    fps: float = 0.0  # distinct frames drawn in the last second
    gap_ms: float = 0.0  # longest time between two pictures, of the renderer or of the resting face
    age_ms: float = 0.0  # capture to draw, largest of the second (frames waiting for their sound excluded)
    dropped: int = 0  # frames never drawn since the page was loaded
    audio: str = ""  # state of the AudioContext
    underruns: int = 0
    state: str = ""
    heap_mb: float = 0.0
    rests: int = 0  # how often no frame came in time since the page was loaded, so that the resting face had to move


class Input(_Page, frozen=True, tag="input"):
    """The visitor did something; `kind` is one of runtime.messages.InputKind."""

    kind: str
    text: str = ""


class MicState(_Page, frozen=True, tag="mic"):
    """The microphone: `on`, `denied`, `unplugged`, `off`."""

    state: str
    rate: int = 0
    echo: str = ""  # what the browser says echoCancellation is


class SoundState(_Page, frozen=True, tag="sound"):
    """Whether the page can be heard, and how long a sample takes from the worklet to the loudspeaker."""

    running: bool
    latency_ms: float = 0.0


class PagePlayhead(_Page, frozen=True, tag="playhead"):
    """At `ms` the loudspeaker is at `index` of turn `turn`."""

    turn: int
    index: float
    ms: float
    playing: bool


class Started(_Page, frozen=True, tag="started"):
    """Sample `index`, the first of the turn (or the first after a pause), is heard at `ms`."""

    turn: int
    index: float
    ms: float


class Silent(_Page, frozen=True, tag="silent"):
    """After a flush: the last sample heard of `turn` is `index`, at `ms`."""

    turn: int
    index: float
    ms: float


class Ducked(_Page, frozen=True, tag="ducked"):
    """The level changed to `gain` at `ms`."""

    gain: float
    ms: float


class FirstFrame(_Page, frozen=True, tag="frame"):
    """The first frame of turn `turn` that belongs to its sound was drawn at `ms`."""

    turn: int
    pts: float
    ms: float


class Probe(_Page, frozen=True, tag="probe"):
    """Frames as drawn: (seq, pts, turn, drawn at ms, heard index at that moment or -1); seq -1: a picture of the resting face."""

    frames: tuple[tuple[int, float, int, float, float], ...]


FromPage = Union[Hello, Pong, Beat, Input, MicState, SoundState, PagePlayhead, Started, Silent, Ducked, FirstFrame, Probe]  # noqa: UP007 - msgspec on 3.10

_decoder = msgspec.json.Decoder(FromPage)


def decode(text: str | bytes) -> FromPage:
    """One control message of the page. Raises msgspec.DecodeError or ValidationError for anything else."""
    message: FromPage = _decoder.decode(text)
    return message
