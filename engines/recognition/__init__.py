"""What did the visitor say? Recognisers that hear the store's own words; `select()` takes the best that works here."""

from engines.recognition._select import ENGINES, select
from engines.recognition._types import RATE, HeardWord, Hypothesis, Recogniser, Selection, SpeechDomain
from engines.recognition.pocketsphinx import PocketsphinxRecogniser
from engines.recognition.vosk import VoskRecogniser

__all__ = [
    "ENGINES",
    "RATE",
    "HeardWord",
    "Hypothesis",
    "PocketsphinxRecogniser",
    "Recogniser",
    "Selection",
    "SpeechDomain",
    "VoskRecogniser",
    "select",
]
