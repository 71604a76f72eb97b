"""Text to speech with the time of every phoneme and word.

    piper    a fetched neural voice (GPL-3, extra "piper")
    espeak   espeak-ng, always there (GPL-3, with espeakng-loader)
    silent   no sound, but captions at a reader's pace: where not even espeak-ng works

`select` takes the best that works here and says why the others do not.
"""

from engines.synthesis._espeak import EspeakSynthesiser
from engines.synthesis._piper import PiperSynthesiser
from engines.synthesis._select import select
from engines.synthesis._silent import SilentSynthesiser
from engines.synthesis._spoken import sentences
from engines.synthesis._types import Clip, Pcm, Selection, Synthesiser, TimedPhoneme, TimedWord

__all__ = [
    "Clip",
    "EspeakSynthesiser",
    "Pcm",
    "PiperSynthesiser",
    "Selection",
    "SilentSynthesiser",
    "Synthesiser",
    "TimedPhoneme",
    "TimedWord",
    "select",
    "sentences",
]
