"""Frames from the ring to the page: the newest wins, at most two are under way, none is copied on the way to the socket."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from aiohttp import web

from kiosk._protocol import ACK, FRAME_HEADER
from runtime.bus import FrameDescriptor, FrameReader, LinkError

__all__ = ["FrameRecorder", "VideoSender"]

MAX_UNACKNOWLEDGED = 2
_MS = 1_000_000
_DRAINED_FROM = 1 << 16


class FrameRecorder:
    """For rehearsals: what the page says about the frames it drew (`drawn.jsonl`); with `pixels` also the frames themselves, one
    after the other (`frames.nv12`), and a line for each with its place (`frames.jsonl`).
    """

    def __init__(self, folder: Path, *, pixels: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._drawn = (folder / "drawn.jsonl").open("ab")  # the stage's next life goes on
        self._pixels = (folder / "frames.nv12").open("wb") if pixels else None
        self._index = (folder / "frames.jsonl").open("wb") if pixels else None
        self._offset = 0

    def sent(self, frame: FrameDescriptor, pixels: npt.NDArray[np.uint8]) -> None:
        """Keep a frame that goes to the page."""
        if self._pixels is None or self._index is None:
            return
        self._pixels.write(pixels.data)
        row = {"seq": frame.seq, "pts": frame.pts, "turn": frame.turn, "w": frame.width, "h": frame.height, "offset": self._offset}
        self._index.write(msgspec.json.encode(row | {"captured_ns": frame.t_capture_ns}) + b"\n")
        self._offset += pixels.nbytes

    def drawn(self, rows: list[dict[str, int]]) -> None:
        """Keep what the page says about frames it has drawn."""
        self._drawn.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    def close(self) -> None:
        """Close the files."""
        for file in (self._drawn, self._pixels, self._index):
            if file is not None:
                file.close()


class VideoSender:
    """Sends the newest frame whenever the page has room for it; what comes in between is dropped and counted."""

    def __init__(self, reader: FrameReader, recorder: FrameRecorder | None = None) -> None:
        self._reader = reader
        self._recorder = recorder
        self._newest: FrameDescriptor | None = None
        self._wake = asyncio.Event()
        self._under_way: deque[int] = deque(maxlen=64)
        self.turn = 0
        self.sent = 0
        self.dropped = {"replaced": 0, "stale": 0, "old turn": 0}

    def offer(self, frame: FrameDescriptor) -> None:
        """The renderer has drawn a frame."""
        if frame.pts >= 0 and frame.turn < self.turn:
            self.dropped["old turn"] += 1
            return
        if self._newest is not None:
            self.dropped["replaced"] += 1
        self._newest = frame
        self._wake.set()

    def cut(self, turn: int) -> None:
        """Nothing that belongs to the sound of a turn below `turn` is sent any more."""
        self.turn = turn
        if self._newest and self._newest.pts >= 0 and self._newest.turn < turn:
            self._newest = None
            self.dropped["old turn"] += 1

    def acknowledge(self, data: bytes) -> None:
        """The page has taken the frame with this seq, and with it all before."""
        if len(data) == ACK.size:
            (seq,) = ACK.unpack(data)
            while self._under_way and self._under_way[0] <= seq:
                self._under_way.popleft()
            self._wake.set()

    async def run(self, socket: web.WebSocketResponse, transport: asyncio.WriteTransport) -> None:
        """Serve one page until its socket closes."""
        # With both marks at zero `drain` means "the kernel has every byte", so the lease may end.
        transport.set_write_buffer_limits(0, 0)
        self._under_way.clear()
        self._wake.set()
        while not socket.closed:
            await self._wake.wait()
            self._wake.clear()
            if self._newest is None or len(self._under_way) >= MAX_UNACKNOWLEDGED:
                continue
            frame, self._newest = self._newest, None
            try:
                await self._send(socket, frame)
            except LinkError:  # rewritten, or of a ring that was set up anew: the next one comes soon
                self.dropped["stale"] += 1
            except ConnectionError:
                return

    async def _send(self, socket: web.WebSocketResponse, frame: FrameDescriptor) -> None:
        header = FRAME_HEADER.pack(
            1,
            frame.format,
            frame.stride,
            frame.seq & 0xFFFFFFFF,
            frame.turn,
            frame.width,
            frame.height,
            frame.pts,
            frame.t_capture_ns / _MS,
        )
        with self._reader.lease(frame) as pixels:
            self._under_way.append(frame.seq & 0xFFFFFFFF)
            self.sent += 1
            if self._recorder:
                self._recorder.sent(frame, pixels)
            await socket.send_bytes(header)
            # Below aiohttp's limit it would not wait for the kernel, and what it still holds must not be the ring's memory.
            small = pixels.nbytes <= _DRAINED_FROM
            await socket.send_bytes(pixels.tobytes() if small else pixels.reshape(-1).data)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the recording."""
        if self._recorder:
            with suppress(OSError):
                self._recorder.close()
