"""The ears: our own recogniser, on the inner layers of the turn model's encoder."""

from engines.recognition.ears.recogniser import WEIGHTS, EarsRecogniser, Tuning

__all__ = ["WEIGHTS", "EarsRecogniser", "Tuning"]
