"""The ears: our own recogniser, on the inner layers of the turn model's encoder.

Raises EngineError on import where kaldi-decoder is missing, or where vosk was loaded before: both bring OpenFst, whose global tables are
one per process, and the second to come hangs or crashes.
"""

import sys

from engines.errors import EngineError, EngineMissing

if "vosk" in sys.modules:
    raise EngineError('vosk was tried in this process, and its Kaldi and ours cannot share one: set recognition.engine = "ears"')
try:
    import kaldi_decoder  # noqa: F401
    import kaldifst  # noqa: F401
except ImportError:
    raise EngineMissing("kaldi-decoder is not installed: pip install kaldi-decoder kaldifst") from None

from engines.recognition.ears.recogniser import WEIGHTS, EarsRecogniser, Tuning

__all__ = ["WEIGHTS", "EarsRecogniser", "Tuning"]
