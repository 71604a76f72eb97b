"""Phonemes, posture and gaze to a control vector per frame. Pure: time is a parameter, the same seed gives the same face."""

from engines.animation.animator import Animator
from engines.animation.loudness import levels_db
from engines.animation.moods import CUES, MOODS, PLACES, TAGS, Tag, take_tags
from engines.animation.mouth import Phone
from engines.animation.track import Track
from engines.animation.visemes import VISEMES, Sound, sounds

__all__ = ["CUES", "MOODS", "PLACES", "TAGS", "VISEMES", "Animator", "Phone", "Sound", "Tag", "Track", "levels_db", "sounds", "take_tags"]
