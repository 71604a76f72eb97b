"""Who speaks, and are they done? Voice activity, end of turn, and the rules between a probability and a person.

`select()` takes the best engines that work here. Everything hears 16 kHz mono int16.
"""

from engines.voice_activity._select import Chosen, VoiceActivity, select
from engines.voice_activity.endpoint import COEFFICIENTS, MELODY_COEFFICIENTS, calibrated, endpoint_wait_ms, observations
from engines.voice_activity.energy import Energy
from engines.voice_activity.features import Melody, log_mel, melody
from engines.voice_activity.hearing import Hearing, HearingRules, Kind, Noticed, block_levels
from engines.voice_activity.judges import MelodyJudge, ModelJudge, TurnJudge
from engines.voice_activity.microphone import TROUBLES, Microphone
from engines.voice_activity.silero import Silero
from engines.voice_activity.smart_turn import SmartTurn

__all__ = [
    "COEFFICIENTS",
    "MELODY_COEFFICIENTS",
    "TROUBLES",
    "Chosen",
    "Energy",
    "Hearing",
    "HearingRules",
    "Kind",
    "Melody",
    "MelodyJudge",
    "Microphone",
    "ModelJudge",
    "Noticed",
    "Silero",
    "SmartTurn",
    "TurnJudge",
    "VoiceActivity",
    "block_levels",
    "calibrated",
    "endpoint_wait_ms",
    "log_mel",
    "melody",
    "observations",
    "select",
]
