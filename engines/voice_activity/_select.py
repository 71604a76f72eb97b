"""Takes the best that works here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.models import locate
from engines.voice_activity.energy import Energy
from engines.voice_activity.judges import HeadJudge, MelodyJudge, ModelJudge, TurnJudge
from engines.voice_activity.silero import Silero
from engines.voice_activity.smart_turn import SmartTurn
from engines.voice_activity.turn_head import WEIGHTS, TurnHead

__all__ = ["Chosen", "VoiceActivity", "select"]


class VoiceActivity(Protocol):
    """P(speech), frame by frame; one thread at a time."""

    name: str

    def probability(self, frame: NDArray[np.int16]) -> float:
        """0..1 for 512 samples of 16 kHz that follow the frame before."""

    def reset(self) -> None:
        """Forget what was heard."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The engines that serve, and one line for each better one that cannot."""

    activity: VoiceActivity
    judge: TurnJudge
    why: tuple[str, ...] = ()


def select(models: Path | None = None, head: Path = WEIGHTS) -> Chosen:
    """Silero and Smart Turn out of the model store in `models` (default: engines.models.cache_dir()), or what does without files.

    `head`: our own weights on top of Smart Turn, which are installed with the program.
    """
    why: list[str] = []
    activity: VoiceActivity = Energy()
    try:
        activity = Silero(locate("silero-vad", models))
    except EngineError as error:
        why.append(str(error))
    return Chosen(activity, _judge(models, head, why), tuple(why))


def _judge(models: Path | None, head: Path, why: list[str]) -> TurnJudge:
    try:
        model = SmartTurn(locate("smart-turn", models))
    except EngineError as error:
        why.append(str(error))
        return MelodyJudge()
    try:
        return HeadJudge(model, TurnHead.load(head))
    except EngineError as error:
        why.append(str(error))
    return ModelJudge(model)
