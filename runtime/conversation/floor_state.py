"""What the floor knows and is told: its parameters, its state, and the events and actions of its rules (`floor.decide`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.config import THINKING_LIMIT_S
from runtime.conversation.interruption import OverlapRules
from runtime.messages import SURE, Activity, Ask, Heard, Posture, Reply, Say, Session, Sound, Speech, Transcript, VisitorInput

__all__ = ["QUIET_DB", "Action", "Back", "Barge", "Clause", "Event", "FloorRules", "FloorState", "Step", "Tick", "Utterance"]

QUIET_DB = -100.0


def by_sound(complete: float, _ends: float, _confidence: float, _text: str) -> float:
    """The end of a turn where words have no say."""
    return complete


@dataclass(frozen=True, slots=True)
class FloorRules:
    """The parameters; times in milliseconds. `endpoint_wait_ms(complete, speech_ms, longest_pause_ms)` counts from the end of speech.

    `conclude(complete, ends, confidence, text)` is P(complete) by sound and words together.
    """

    endpoint_wait_ms: Callable[[float, float, float], float]
    conclude: Callable[[float, float, float, str], float] = by_sound
    overlap: OverlapRules = field(default_factory=OverlapRules)
    lost_ms: float = 1500.0  # a voice without news for so long is over: the listener died with it
    hold_ms: float = 130.0  # what sounds like speech in a pause is a voice, or not, within this
    hanging_complete: float = 0.4  # P(complete) is at most this after a word that cannot end a sentence
    final_grace_ms: float = 700.0  # how long a due answer waits for the recogniser's final words
    continue_ms: float = 1500.0  # speech this soon after an unheard grant continues the sentence
    resume_ms: float = 1500.0  # a ducked avatar without a decision goes on after this
    thinking_limit_ms: float = THINKING_LIMIT_S * 1000
    still_there_ms: float = 30_000.0
    wipe_ms: float = 20_000.0
    gone_ms: float = 8_000.0  # the wipe's countdown after the visitor was seen leaving
    unsure_most: int = 2  # words that are not sure renew a visit so often in a row
    sorry: str = "Sorry, I lost my thread. Could you say that again?"


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the visitor is saying."""

    onset: int
    voiced: bool = True  # sounding right now
    text: str = ""
    final: bool = False
    confidence: float = 0.0
    speech_ms: float = 0.0
    before_ms: float = 0.0  # voiced time of the listener's utterance before the floor heard of it
    level_db: float = QUIET_DB  # of its loudest 100 ms
    fallen_db: float = 0.0  # how much the newest 100 ms are under that
    complete: float = -1.0
    ends: float = -1.0  # chance that a sentence is complete after `text`, by the words; -1: not known
    worded: float = -1.0  # chance that somebody here says words, by the sound; -1: not known
    silent_ns: int = 0  # when the voice went quiet
    longest_pause_ms: float = 0.0
    carried: Ask | None = None  # the question that was being answered, unheard yet, when this voice began
    joined: bool = False  # … which these words continue
    still_there: bool = False  # it began while the page asked whether anybody is
    seen_ns: int = 0  # last news of it from the listener
    hold_ns: int = 0  # not taken before: something sounded like speech

    @property
    def sure(self) -> bool:
        """Whether these are words, and taken for what was said."""
        return bool(self.text) and self.confidence >= SURE


@dataclass(frozen=True, slots=True)
class Barge:
    """Speech over the avatar's voice that is not judged yet."""

    since_ns: int
    played_on: bool = False  # a voice far away, which may take minutes: at full level again, still judged


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause of the running reply and where its sound ends in the speech ring (-1: not synthesised, or not wholly)."""

    seq: int
    text: str
    last: bool
    end: int = -1


@dataclass(frozen=True, slots=True)
class FloorState:
    """Everything the conductor knows; small enough to be checkpointed after each event."""

    turn: int = 1
    granted: int = 0
    visit: int = 1
    posture: Posture = Posture.IDLE
    session: Session = Session.ATTRACT
    utterance: Utterance | None = None
    barge: Barge | None = None
    asked: Ask | None = None  # the question that turn `turn` answers
    clauses: tuple[Clause, ...] = ()
    expects: str = ""
    voice_db: float = QUIET_DB  # how loud the visitor's last words to us were; QUIET_DB: nothing was heard of them yet
    granted_ns: int = 0
    active_ns: int = 0  # last sign of the visitor, or end of the answer to one
    unsure: int = 0  # utterances in a row whose words were not sure
    countdown_ns: int = 0  # when the visit is wiped; 0: no countdown
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Back:
    """A node came back after it was down; `index` is the last heard position in the speech ring."""

    node: str
    index: int = 0


Event = Activity | Transcript | Reply | Speech | Heard | VisitorInput | Tick | Back
Action = Ask | Say | Sound
Step = tuple[FloorState, tuple[Action, ...]]
