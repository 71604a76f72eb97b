"""The frames as drawn: read from the page's probe log, timed against the sound, and made into visit.mp4."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from visavis.rehearse import measure
from visavis.rehearse.analysis import Answer
from visavis.rehearse.room import RATE

__all__ = ["Drawn", "Kept", "frame_rate", "pts_skew", "read_drawn", "read_kept", "write_movie"]

_NS = 1_000_000_000
_BGR_PTS = 90_000


class Drawn(msgspec.Struct, frozen=True):
    """A frame that the page drew at `t_ns` (CLOCK_MONOTONIC)."""

    seq: int
    pts: float
    turn: int
    t_ns: int


class Kept(msgspec.Struct, frozen=True):
    """A frame in frames.nv12."""

    seq: int
    pts: int
    turn: int
    w: int
    h: int
    offset: int
    captured_ns: int = 0


def read_drawn(path: Path) -> list[Drawn]:
    """The page's log of drawn frames in order of time, each frame once (its first drawing), without those of the page's own resting face;
    [] if the file is not there.
    """
    if not path.exists():
        return []
    seen: dict[int, Drawn] = {}
    for line in path.read_bytes().splitlines():
        row = msgspec.json.decode(line)
        if row["seq"] < 0:
            continue
        drawn = Drawn(int(row["seq"]), float(row["pts"]), int(row["turn"]), int(row["drawn_ns"]))
        if drawn.seq not in seen or drawn.t_ns < seen[drawn.seq].t_ns:
            seen[drawn.seq] = drawn
    return sorted(seen.values(), key=lambda d: d.t_ns)


def read_kept(path: Path) -> list[Kept]:
    """The index of recorded frames; [] if there is none."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Kept) for line in path.read_bytes().splitlines()]


def frame_rate(drawn: Sequence[Drawn]) -> tuple[float, measure.Quantiles]:
    """Distinct frames drawn per second, and the gaps between them in ms."""
    if len(drawn) < 2:
        return 0.0, measure.Quantiles(0)
    times = np.array([d.t_ns for d in drawn], dtype=np.int64)
    gaps = np.diff(times) / 1e6
    return round((len(drawn) - 1) * 1e9 / float(times[-1] - times[0]), 2), measure.quantiles(gaps)


def pts_skew(drawn: Sequence[Drawn], answers: Sequence[Answer], room_start_ns: int) -> list[float]:
    """For each frame drawn for a sample that was found in the room: by how many ms it was drawn later than that sample sounded."""
    by_turn = {answer.turn: answer for answer in answers}
    skews = []
    for frame in drawn:
        answer = by_turn.get(frame.turn)
        if answer is None or frame.pts < 0 or not answer.found(frame.pts):
            continue
        place = answer.place(frame.pts)
        if answer.begin <= place < answer.end:
            skews.append((frame.t_ns - room_start_ns) / 1e6 - place * 1000 / RATE)
    return skews


def frame_rgb(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(h * 3 // 2, w) full-range BT.709 NV12 as (h, w, 3) RGB."""
    height, width = pixels.shape[0] * 2 // 3, pixels.shape[1]
    luma = pixels[:height].astype(np.float32)
    chroma = pixels[height:].reshape(height // 2, width // 2, 2).astype(np.float32) - 128
    blue, red = (np.repeat(np.repeat(chroma[..., i], 2, 0), 2, 1) for i in (0, 1))
    rgb = np.stack([luma + 1.5748 * red, luma - 0.1873 * blue - 0.4681 * red, luma + 1.8556 * blue], axis=-1)
    return np.asarray(np.clip(rgb + 0.5, 0, 255), dtype=np.uint8)


def write_movie(path: Path, folder: Path, drawn: Sequence[Drawn], room: npt.NDArray[np.float32], room_start_ns: int) -> int:
    """Write visit.mp4: the recorded frames at their drawn times, with the sound of the room. Returns the number of frames.

    Frames drawn before the room was recorded are left out; the picture starts with the first one after.
    """
    import av

    kept = {k.seq: k for k in read_kept(folder / "frames.jsonl")}
    shown = [(d, kept[d.seq]) for d in drawn if d.seq in kept and d.t_ns >= room_start_ns]
    if not shown:
        return 0
    store = np.memmap(folder / "frames.nv12", dtype=np.uint8, mode="r")
    width, height = shown[0][1].w, shown[0][1].h
    with av.open(str(path), "w") as movie:
        video = movie.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, _BGR_PTS)
        sound = movie.add_stream("aac", rate=RATE, layout="stereo")
        last = -1
        for drawn_at, frame in shown:
            pixels = store[frame.offset : frame.offset + frame.w * frame.h * 3 // 2].reshape(-1, frame.w)
            picture = av.VideoFrame.from_ndarray(frame_rgb(pixels), format="rgb24")
            if (frame.w, frame.h) != (width, height):
                picture = picture.reformat(width=width, height=height)
            last = max(last + 1, (drawn_at.t_ns - room_start_ns) * _BGR_PTS // _NS)
            picture.pts, picture.time_base = last, Fraction(1, _BGR_PTS)
            movie.mux(video.encode(picture))
        movie.mux(video.encode(None))
        for begin in range(0, len(room), 1024):
            block = np.ascontiguousarray(room[begin : begin + 1024].T, dtype=np.float32)
            audio = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            audio.sample_rate, audio.pts, audio.time_base = RATE, begin, Fraction(1, RATE)
            movie.mux(sound.encode(audio))
        movie.mux(sound.encode(None))
    return len(shown)
