"""The voice that is always there: espeak-ng through ctypes, from the wheel espeakng-loader, no file to fetch.

espeak-ng is GPL-3.0-or-later; so is, as a whole, a shipped image that contains it. It is loaded at run time behind this one adapter
and can be left out (`select` then says so).

The library has one global state: every use of it is serialised by one lock, and each call sets its voice again when another object
used it in between. 9 s of speech take some 7 ms, so a sentence is made in one piece; between sentences the caller may cancel.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, EngineMissing
from engines.synthesis import _sound
from engines.synthesis._spoken import sentences, spoken
from engines.synthesis._types import Clip, TimedPhoneme, TimedWord

__all__ = ["VOICE", "WORDS_PER_MINUTE", "EspeakSynthesiser", "Raw"]

VOICE = "en-gb-x-rp+Alicia"
"""The best female voice by DNSMOS P.835 of 3 accents x 24 variants (SIG/BAK/OVRL 3.29/3.68/2.85); British, as the demo's prices."""
WORDS_PER_MINUTE = 168

_SYNCHRONOUS = 2
_OPTIONS = 0x1 | 0x2 | 0x8000  # phoneme events, in IPA, and do not exit() the process on an error
_UTF8 = 1
_CHARACTERS = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_END, _WORD, _PHONEME = 0, 1, 7
_BUFFER_MS = 60
_VOICELESS_STOPS = ("p", "t", "k")
_CLOSURE_S = 0.035
_REFERENCE = "The quick brown fox jumps over the lazy dog by the old stone bridge."


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Raw(NamedTuple):
    """What the library gave: samples of full scale 1, phonemes, and position in the text (characters) → sample for each word."""

    samples: NDArray[np.float32]
    phonemes: tuple[TimedPhoneme, ...]
    words: dict[int, int]


class _Library:
    """The one espeak-ng of this process."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise EngineMissing("espeak-ng: the package espeakng-loader is not installed: pip install espeakng-loader") from error
        try:
            self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise EngineMissing(f"espeak-ng: its library does not load on this machine: {error}") from error
        data = str(espeakng_loader.get_data_path()).encode()
        self.rate = int(self._lib.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, data, _OPTIONS))
        if self.rate <= 0:
            raise EngineMissing(f"espeak-ng: no usable data in {data.decode()}: reinstall espeakng-loader")
        self._lock = threading.Lock()
        self._voice: tuple[str, int, int] | None = None
        self._pcm: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, int, int, bytes]] = []
        self._hear = _Callback(self._on_sound)  # ctypes keeps no reference of its own
        self._lib.espeak_SetSynthCallback(self._hear)

    def _on_sound(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self._pcm.append(np.ctypeslib.as_array(wave, (count,)).copy())
        i = 0
        while (event := events[i]).type != _END:
            if event.type in {_WORD, _PHONEME}:
                name = event.id.string if event.type == _PHONEME else b""
                self._events.append((event.type, event.text_position, event.sample, name))
            i += 1
        return 0

    def speak(self, text: str, voice: str, words_per_minute: int, pitch: int) -> Raw:
        """Speak `text` at once. Raises EngineError when there is no such voice."""
        with self._lock:
            self._set(voice, words_per_minute, pitch)
            self._pcm.clear()
            self._events.clear()
            body = text.encode() + b"\0"
            if self._lib.espeak_Synth(body, ctypes.c_size_t(len(body)), 0, _CHARACTERS, 0, _UTF8, None, None):
                raise EngineError(f"espeak-ng could not speak a text of {len(text)} characters")
            pcm = np.concatenate(self._pcm) if self._pcm else np.zeros(0, np.int16)
            events = tuple(self._events)
        return Raw(
            pcm.astype(np.float32) / np.float32(32768),
            _phonemes(events, len(pcm), self.rate),
            {at - 1: s for kind, at, s, _ in events if kind == _WORD},
        )

    def _set(self, voice: str, words_per_minute: int, pitch: int) -> None:
        if self._voice == (voice, words_per_minute, pitch):
            return
        if self._lib.espeak_SetVoiceByName(voice.encode()):
            raise EngineError(f"espeak-ng has no voice {voice!r}: try 'en-gb-x-rp+Alicia' or 'en-us'")
        self._lib.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._lib.espeak_SetParameter(_PITCH, pitch, 0)
        self._voice = (voice, words_per_minute, pitch)


def _phonemes(events: tuple[tuple[int, int, int, bytes], ...], size: int, rate: int) -> tuple[TimedPhoneme, ...]:
    """Each phoneme lasts until the next one; those without a length (word boundaries) are left out.

    espeak-ng reports /p t k/ at the end of their closure (the envelope is down some 35 ms before), where the lips have long met.
    """
    heard: list[tuple[int, str]] = []
    for kind, _, sample, name in events:
        if kind == _PHONEME:
            symbol = name.decode("utf-8", "ignore").strip()
            if symbol[:1] in _VOICELESS_STOPS and heard and heard[-1][1]:
                sample -= min(round(_CLOSURE_S * rate), (sample - heard[-1][0]) // 2)  # noqa: PLW2901
            heard.append((sample, symbol))
    ends = [s for s, _ in heard[1:]] + [size]
    return tuple(TimedPhoneme(symbol, start, end) for (start, symbol), end in zip(heard, ends, strict=False) if end > start)


@functools.cache
def _library() -> _Library:
    return _Library()


class EspeakSynthesiser:
    """Speaks with espeak-ng. Raises EngineMissing when the library is not here, EngineError for an unknown voice."""

    def __init__(
        self, voice: str = VOICE, words_per_minute: int = WORDS_PER_MINUTE, pitch: int = 50, pronunciations: Mapping[str, str] | None = None
    ) -> None:
        self._pronunciations = dict(pronunciations or {})
        self._lib = _library()
        self._how = (voice, words_per_minute, pitch)
        self._gain = _sound.gain_for(self.raw(_REFERENCE).samples, self._lib.rate)

    @property
    def rate(self) -> int:
        """Samples per second."""
        return self._lib.rate

    def raw(self, text: str) -> Raw:
        """The library's own sound and timing of `text`, as it is: also the timing of voices that have none."""
        return self._lib.speak(text, *self._how)

    def speak(self, text: str) -> Iterator[Clip]:
        """Speak `text`, one clip per sentence."""
        for sentence in sentences(text):
            said = spoken(sentence, self._pronunciations)
            raw = self.raw(said.text)
            if len(raw.samples):
                words = (TimedWord(*word) for word in said.words(sentence, raw.words))
                yield _sound.finish(sentence, raw.samples, self.rate, self._gain, raw.phonemes, words)
