"""Films of a face, to be looked at: every control in turn, and a minute of speech with its sound."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["film", "show", "speech"]

_FPS = 25
_SWEEP_FPS = 24
TEXT = (
    "Good morning! I am Vera, and I know this shop quite well. What would you like to drink today? We have a flat white, a cappuccino, "
    "or a very good filter coffee from Ethiopia. Of course I can make it with oat milk, if you prefer that. The muffins over there are "
    "fresh; my favourite is the one with blueberries. That would be five pounds forty, please. You can pay with your card, right here "
    "in front of you. Thank you very much! Your coffee will be ready in about three minutes. Shall I tell you where the beans come from? "
    "They grow in the hills of Sidama, almost two thousand metres above the sea, and we roast them every Thursday. Please take a seat by "
    "the window; I will call you as soon as it is done. Have a wonderful day, and come back soon!"
)


def film(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int, sound: tuple[NDArray[np.float32], int] | None = None) -> int:
    """Write RGB frames of one size as an MP4, with mono ``sound`` (samples, rate) if given; returns how many frames.

    A film that breaks off leaves no file.
    """
    import av

    part = path.with_suffix(".part.mp4")
    count = 0
    try:
        with av.open(str(part), "w") as movie:
            video: Any = movie.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "20"})
            video.pix_fmt = "yuv420p"
            audio: Any = movie.add_stream("aac", rate=sound[1], layout="mono") if sound else None
            for rgb in frames:
                if not count:
                    video.height, video.width = rgb.shape[:2]
                picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                picture.pts, picture.time_base = count, Fraction(1, fps)
                movie.mux(video.encode(picture))
                count += 1
            movie.mux(video.encode(None))
            if sound:
                for begin in range(0, len(sound[0]), 1024):
                    block = av.AudioFrame.from_ndarray(
                        np.ascontiguousarray(sound[0][None, begin : begin + 1024]), format="fltp", layout="mono"
                    )
                    block.sample_rate, block.pts, block.time_base = sound[1], begin, Fraction(1, sound[1])
                    movie.mux(audio.encode(block))
                movie.mux(audio.encode(None))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def speech(pack: Path, path: Path, *, seed: int = 1, rung: int = 0, text: str = TEXT) -> float:
    """Film the face saying ``text`` with the installed voice, as a kiosk animates it; returns the seconds of the film.

    Raises:
        EngineError: the pack cannot be read.

    """
    from engines.animation import Animator
    from engines.renderer import load_pack, select
    from engines.studio.pack import nv12_to_rgb
    from engines.synthesis import select as select_voice

    face = select(load_pack(pack)).engine
    face.set_background((36, 44, 56))
    animator = Animator(face.controls, face.ranges, face.idle, seed)
    voice = select_voice().engine
    phones, sound, at = [], [], 0.0
    for clip in voice.speak(text):
        phones += [(p.symbol, at + p.start / voice.rate, at + p.end / voice.rate) for p in clip.phonemes]
        sound.append(np.asarray(clip.pcm, np.float32) / (32768 if np.asarray(clip.pcm).dtype == np.int16 else 1))
        at += len(clip.pcm) / voice.rate
    track = animator.speak(phones)
    size = face.rungs[rung]
    out = np.empty((size.height * 3 // 2, size.width), np.uint8)

    def frames() -> Iterable[NDArray[np.uint8]]:
        for k in range(int(at * _FPS)):
            face.draw(animator.frame(k / _FPS, track=track, position=k / _FPS, posture="speaking"), out, rung=rung)
            yield nv12_to_rgb(out)

    return film(path, frames(), _FPS, (np.concatenate(sound), voice.rate)) / _FPS


def show(pack: Path, out: Path, *, spoken: bool = False) -> list[Path]:
    """Write sheet.png and controls.mp4 of a pack into the folder ``out``, with ``spoken`` also speech.mp4; returns the files.

    Raises:
        EngineError: the pack cannot be read.

    """
    from engines.studio.show import sheet, sweep

    picture = sheet(pack)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "sheet.png", out / "controls.mp4"]
    cv2.imwrite(str(files[0]), picture[..., ::-1])
    film(files[1], sweep(pack), _SWEEP_FPS)
    if spoken:
        files.append(out / "speech.mp4")
        speech(pack, files[2])
    return files
