"""Who speaks, and are they done?"""

from engines.voice_activity.endpoint import COEFFICIENTS, MELODY_COEFFICIENTS, calibrated, endpoint_wait_ms, observations
from engines.voice_activity.features import Melody, log_mel, melody
from engines.voice_activity.smart_turn import SmartTurn

__all__ = [
    "COEFFICIENTS",
    "MELODY_COEFFICIENTS",
    "Melody",
    "SmartTurn",
    "calibrated",
    "endpoint_wait_ms",
    "log_mel",
    "melody",
    "observations",
]
