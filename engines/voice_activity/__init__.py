"""Who speaks, and are they done? Voice activity, end of turn, and the rules between a probability and a person.

`select()` takes the best engines that work here. Everything hears 16 kHz mono int16.
"""

from engines.voice_activity._select import Chosen, VoiceActivity, select
from engines.voice_activity.endpoint import (
    COEFFICIENTS,
    ENDS,
    MELODY_COEFFICIENTS,
    Judgement,
    calibrated,
    conclude,
    endpoint_wait_ms,
    observations,
)
from engines.voice_activity.energy import Energy
from engines.voice_activity.features import Melody, log_mel, melody
from engines.voice_activity.hearing import Hearing, HearingRules, Kind, Noticed, block_levels
from engines.voice_activity.judges import HeadJudge, MelodyJudge, ModelJudge, TurnJudge
from engines.voice_activity.microphone import TROUBLES, Microphone
from engines.voice_activity.rising import Rising
from engines.voice_activity.silero import Silero
from engines.voice_activity.smart_turn import INNER, Heard, SmartTurn
from engines.voice_activity.turn_head import TurnHead, tamed

__all__ = [
    "COEFFICIENTS",
    "ENDS",
    "INNER",
    "MELODY_COEFFICIENTS",
    "TROUBLES",
    "Chosen",
    "Energy",
    "HeadJudge",
    "Heard",
    "Hearing",
    "HearingRules",
    "Judgement",
    "Kind",
    "Melody",
    "MelodyJudge",
    "Microphone",
    "ModelJudge",
    "Noticed",
    "Rising",
    "Silero",
    "SmartTurn",
    "TurnHead",
    "TurnJudge",
    "VoiceActivity",
    "block_levels",
    "calibrated",
    "conclude",
    "endpoint_wait_ms",
    "log_mel",
    "melody",
    "observations",
    "select",
    "tamed",
]
