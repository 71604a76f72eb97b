"""espeak-ng as a program: `python -m visavis.rehearse._espeak VOICE TEXT OUT.wav`.

In a process of its own because the library keeps its state in globals. Voices are espeak-ng's names, e.g. `en-us+f3` or `en-us+m3`.
"""

from __future__ import annotations

import array
import ctypes
import sys
import wave

_SYNCHRONOUS = 2
_UTF8 = 1


def main(voice: str, text: str, out: str) -> int:
    """Speak `text` into the WAV file `out`; returns the exit status."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 1 << 15)
    if rate <= 0:
        sys.stderr.write("espeak-ng did not start\n")
        return 1
    if library.espeak_SetVoiceByName(voice.encode()):
        sys.stderr.write(f"espeak-ng has no voice {voice!r}\n")
        return 1
    spoken = array.array("h")
    callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def keep(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if samples:
            spoken.extend(samples[:count])
        return 0

    callback = callback_type(keep)
    library.espeak_SetSynthCallback(callback)
    said = text.encode()
    library.espeak_Synth(said, len(said) + 1, 0, 0, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(spoken.tobytes())
    return 0 if spoken else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
