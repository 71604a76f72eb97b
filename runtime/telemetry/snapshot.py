"""A JPEG of the avatar: `python -m runtime.telemetry.snapshot WIDTH HEIGHT MOST` turns NV12 on stdin into JPEG on stdout.

A process of its own, so that the library that draws it is in memory only for that moment.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path

from runtime.bus import FrameRingSpec, RingFds, peek_frame

__all__ = ["MOST_BYTES", "NoPicture", "jpeg", "take"]

MOST_BYTES = 120_000
_LIMIT_S = 15.0
_ROOT = Path(__file__).resolve().parents[2]


class NoPicture(Exception):
    """There is none; the text says why."""


def jpeg(pixels: bytes, width: int, height: int, most: int) -> bytes:
    """The NV12 frame (full-range BT.709), at most `most` pixels wide, as a JPEG of at most MOST_BYTES."""
    import cv2
    import numpy as np

    planes = np.frombuffer(pixels, dtype=np.uint8).reshape(height * 3 // 2, width)
    luma = planes[:height].astype(np.float32)
    chroma = planes[height:].reshape(height // 2, width // 2, 2).astype(np.float32) - 128
    u, v = chroma.repeat(2, axis=0).repeat(2, axis=1).transpose(2, 0, 1)
    # ITU-R BT.709-6, full range. OpenCV's own conversion is BT.601, limited range.
    colours = (luma + 1.8556 * u, luma - 0.1873 * u - 0.4681 * v, luma + 1.5748 * v)
    picture = np.clip(np.stack(colours, axis=-1) + 0.5, 0, 255).astype(np.uint8)
    if width > most:
        picture = cv2.resize(picture, (most, max(1, round(height * most / width))), interpolation=cv2.INTER_AREA)
    for quality in (85, 60, 35, 15):
        done, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if done and len(coded) <= MOST_BYTES:
            return coded.tobytes()
    raise NoPicture("the picture is too large")


async def take(spec: FrameRingSpec, fds: RingFds, most: int, now_ns: int) -> dict[str, int | float | str]:
    """The newest frame of the ring as the answer to `snapshot`. Raises NoPicture."""
    found = peek_frame(spec, fds)
    if found is None:
        raise NoPicture("no frame was drawn")
    descriptor, pixels = found
    arguments = [str(descriptor.width), str(descriptor.height), str(most)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=_ROOT
    )
    try:
        picture, _ = await asyncio.wait_for(process.communicate(pixels.tobytes()), _LIMIT_S)
    except asyncio.TimeoutError as error:
        process.kill()
        await process.wait()
        raise NoPicture("the picture took too long") from error
    if process.returncode or not picture:
        raise NoPicture("the picture could not be made")
    return {
        "jpeg": base64.b64encode(picture).decode("ascii"),
        "width": min(most, descriptor.width),
        "height": round(descriptor.height * min(1.0, most / descriptor.width)),
        "age_ms": round((now_ns - descriptor.t_publish_ns) / 1e6),
    }


if __name__ == "__main__":
    sys.stdout.buffer.write(jpeg(sys.stdin.buffer.read(), *(int(word) for word in sys.argv[1:4])))
