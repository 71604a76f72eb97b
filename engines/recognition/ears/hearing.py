"""From sound to phones as it comes: windows of 4 s, frames that have a second behind them settled, the newest second a preview."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.recognition.ears.alphabet import CLASSES
from engines.recognition.ears.encoder import FRAME, FRAMES, WIDTH, Encoder
from engines.voice_activity.silero import one_thread_session

__all__ = ["SETTLED", "PhoneStream", "Phones"]

SETTLED = 50
"""Frames after a frame that make it settled: it will not be heard again."""


class Phones:
    """Sound in, log probabilities of phones out: the cut encoder and the head, one thread."""

    def __init__(self, turn_model: Path, head: Path) -> None:
        """`head`: the ONNX file of `visavis ears pack`. Raises EngineMissing, ModelError."""
        if not head.is_file():
            raise ModelError(f"{head} is missing: reinstall visavis, or make it with 'visavis ears pack'")
        self._head = one_thread_session(head)
        ends = [(node.name, node.shape) for node in (*self._head.get_inputs(), *self._head.get_outputs())]
        if [(name, shape[-1:]) for name, shape in ends] != [("layers", [WIDTH]), ("phones", [CLASSES])]:
            raise ModelError(f"{head}: not a phone head for this version ({ends}): make it with 'visavis ears pack'")
        self._encoder = Encoder(turn_model)

    def __call__(self, audio: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of the last 4 s of `audio`, whose length is a whole number of frames: (frames, CLASSES), and the layers (frames, WIDTH) below."""
        frames = min(FRAMES, len(audio) // FRAME)
        layers = self._encoder(audio)
        (found,) = self._head.run(None, {"layers": layers[None]})
        return np.asarray(found[0, -frames:], np.float32), layers[-frames:]


class PhoneStream:
    """The phones of one utterance."""

    def __init__(self, phones: Phones) -> None:
        self._phones = phones
        self._sound = np.empty(4 * FRAMES * FRAME, np.int16)
        self._first = 0  # which sample of the utterance stands first in it
        self._length = 0  # samples of the utterance so far
        self._settled: list[NDArray[np.float32]] = []
        self._done = 0  # frames settled
        self._preview = np.empty((0, CLASSES), np.float32)
        self._heard = 0  # frames in the newest pass
        self.layers = np.empty((0, WIDTH), np.float32)
        """What the encoder heard in the newest pass, at most 4 s."""

    def feed(self, pcm: NDArray[np.int16]) -> None:
        """More sound."""
        if self._length - self._first + len(pcm) > len(self._sound):
            self._make_room(len(pcm))
        at = self._length - self._first
        self._sound[at : at + len(pcm)] = pcm
        self._length += len(pcm)

    @property
    def new(self) -> int:
        """Frames that came since the newest pass."""
        return self.frames - self._heard

    @property
    def frames(self) -> int:
        """Frames of the utterance so far."""
        return self._length // FRAME

    @property
    def settled(self) -> int:
        """Frames that will not change any more."""
        return self._done

    def look(self) -> NDArray[np.float32]:
        """(frames, CLASSES) of everything fed so far; one pass, or more where much came at once.

        Where more than one is needed, each begins a second before the frames that it settles: sound needs what was before it, too.
        """
        total = self.frames
        if total > self._heard:
            while total - max(0, self._done - SETTLED) > FRAMES:
                self._pass(max(0, self._done - SETTLED) + FRAMES)
            self._pass(total)
            self._heard = total
        return np.concatenate((*self._settled, self._preview))

    def _make_room(self, samples: int) -> None:
        """Drop what no pass will hear again, and grow where that is not enough: an utterance may last for minutes."""
        needed = max(self._first, (self._heard - FRAMES) * FRAME)
        kept = self._sound[needed - self._first : self._length - self._first].copy()
        if len(kept) + samples > len(self._sound):
            self._sound = np.empty(2 * (len(kept) + samples), np.int16)
        self._sound[: len(kept)], self._first = kept, needed

    def _pass(self, end: int) -> None:
        found, self.layers = self._phones(self._sound[max(0, end - FRAMES) * FRAME - self._first : end * FRAME - self._first])
        begin = end - len(found)
        upto = max(self._done, end - SETTLED)
        if upto > self._done:
            self._settled.append(found[self._done - begin : upto - begin])
            self._done = upto
        self._preview = found[upto - begin :]
