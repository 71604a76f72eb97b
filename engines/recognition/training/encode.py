"""Recordings → inner layers of the turn model, once per copy of the data: the slow part of training, kept on disk and done only once.

Copy 0 is the recordings as they are; the others are heard in a shop (`augment`), each recording by a seed of its own and of the copy, so
that a copy is the same whenever it is made.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.recognition.ears.encoder import FRAME, FRAMES, WIDTH, Encoder
from engines.recognition.training.augment import Shop, load
from engines.recognition.training.corpora import Clip, clips, dictionary_for, phones_of

__all__ = ["SETTLED", "encode", "layers_of", "read_index"]

SETTLED = 50
"""Frames of sound that a frame has after it when a live recogniser takes it for settled: 1 s."""
_LAGS = (15, 25, 35, SETTLED)  # the head shall not mind when a frame has less: previews are made of such
_VOICES = 150
_SHORTEST_S, _LONGEST_S = 0.25, 16.0


def layers_of(encoder: Encoder, sound: NDArray[np.int16], settled: int = SETTLED) -> NDArray[np.float16]:
    """(frames, WIDTH) of a sound of any length, as a live recogniser sees it.

    The last window ends with the sound; those before end 2 s earlier each. A frame is taken from the first window in which `settled`
    frames come after it; the last window keeps all that is left.
    """
    hop, total = FRAMES // 2, len(sound) // FRAME
    pieces, done = [np.empty((0, WIDTH), np.float16)], 0
    for end in range(total % hop or hop, total + 1, hop):
        upto = end if end == total else end - settled
        if upto > done:
            found = encoder(sound[max(0, (end - FRAMES) * FRAME) : end * FRAME])
            pieces.append(found[FRAMES - (end - done) : FRAMES - (end - upto)].astype(np.float16))
            done = upto
    return np.concatenate(pieces)


def encode(recordings: Sequence[Clip], data: Path, copy: int, out: Path, turn_model: Path, tell: Callable[[str], None] = print) -> None:
    """Write copy number `copy` of `recordings` to `out`.npy (all frames) and `out`.json (frames, phones and name of each).

    `data` gives noises, rooms and the voices of babble. Recordings with a word that has no pronunciation are left out. Does nothing when
    the files are there. Raises ModelError, OSError.
    """
    if out.with_suffix(".json").is_file():
        return
    dictionary = dictionary_for([one.text for one in recordings])
    encoder = Encoder(turn_model)
    shop = _shop(data) if copy else None
    layers, index = [], []
    for number, one in enumerate(recordings):
        phones, sound = phones_of(one.text, dictionary), load(one.path)
        if phones is None or not _SHORTEST_S < len(sound) / 16_000 < _LONGEST_S:
            continue
        settled = SETTLED
        if shop is not None:
            rng = np.random.default_rng([copy, zlib.crc32(one.name.encode())])
            sound, settled = shop.hear(sound, rng), int(rng.choice(_LAGS))
        pcm = np.clip(np.rint(sound * 32767.0), -32768, 32767).astype(np.int16)
        layers.append(layers_of(encoder, pcm, settled))
        index.append([len(layers[-1]), phones, one.name])
        if number % 500 == 0:
            tell(f"{out.name}: {number} of {len(recordings)} recordings")
    np.save(out.with_suffix(".npy"), np.concatenate(layers))
    out.with_suffix(".json").write_text(json.dumps(index), encoding="utf-8")


def read_index(path: Path) -> list[tuple[int, list[int], str]]:
    """(frames, phones, name) of each recording in a copy written by `encode`."""
    return [(frames, phones, name) for frames, phones, name in json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))]


def _shop(data: Path) -> Shop:
    """Babble is made of voices that are trained on, so that nobody held out is heard in it."""
    everyone = list(clips(data, "train"))
    chosen = np.random.default_rng(99).choice(len(everyone), min(_VOICES, len(everyone)), replace=False)
    return Shop(data, [load(everyone[int(index)].path) for index in chosen])
