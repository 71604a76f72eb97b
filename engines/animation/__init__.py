"""Phonemes, posture and gaze to a control vector per frame. Pure: time is a parameter, the same seed gives the same face."""

from engines.animation.animator import CUES, Animator
from engines.animation.mouth import Phone
from engines.animation.track import Track
from engines.animation.visemes import VISEMES, Sound, sounds

__all__ = ["CUES", "VISEMES", "Animator", "Phone", "Sound", "Track", "sounds"]
