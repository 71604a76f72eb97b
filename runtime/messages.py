"""The vocabulary of the bus: every message that crosses between processes, and nothing else.

Each message carries `turn`, the epoch of the conversation (law 2: work of an older turn is dropped), and `t_ns`, CLOCK_MONOTONIC in
nanoseconds of the event it reports. Messages are msgspec array-like structs: fields are only ever appended, with a default.

Sample indices are absolute: the n-th sample ever written to the `mic` ring (16 kHz) or the `speech` ring (`VOICE_RATE`).
"""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = [
    "MIC_RATE",
    "SURE",
    "VOICE_RATE",
    "Activity",
    "ActivityKind",
    "Ask",
    "Drawn",
    "Effort",
    "Floor",
    "Gesture",
    "Heard",
    "HeardKind",
    "Held",
    "Hold",
    "HouseSetting",
    "InputKind",
    "Mark",
    "Message",
    "MicTick",
    "NodeEvent",
    "NodeState",
    "NodeStats",
    "Notice",
    "PackPhase",
    "PackServes",
    "PackWanted",
    "Phoneme",
    "Playhead",
    "Posture",
    "Reply",
    "RungSize",
    "Say",
    "Session",
    "Sound",
    "SoundAction",
    "Speech",
    "SpokenWord",
    "Transcript",
    "VisitorInput",
    "Word",
]

MIC_RATE = 16_000
"""Samples per second of the microphone ring."""
VOICE_RATE = 22_050
"""Samples per second of the speech ring: espeak-ng's and Piper's own rate, so that neither is resampled."""


SURE = 0.5
"""Confidence of a transcript from which it is taken for what was said; `visavis bench orders` scores with the same."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all messages: the turn it belongs to and when the event happened (ns, CLOCK_MONOTONIC)."""

    turn: int
    t_ns: int


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of parts that only travel inside a message."""


# --- hearing ------------------------------------------------------------------------------------------------------------


class MicTick(Message, frozen=True):
    """`mic`: samples up to `index` are in the ring. `live` is False while there is no microphone (denied, unplugged, page closed)."""

    index: int
    live: bool = True


class ActivityKind(str, Enum):
    """What the listener noticed."""

    HINT = "hint"  # perhaps somebody begins to speak, or goes on: enough to duck and to wait, not enough to believe
    ONSET = "onset"  # somebody began to speak
    SILENCE = "silence"  # the voice went quiet; more may come
    JUDGED = "judged"  # end-of-turn model has spoken about the silence running now
    RESUMED = "resumed"  # the same person goes on after a silence
    LEVEL = "level"  # ten times a second while someone speaks: level and length so far


class Activity(Message, frozen=True):
    """`activity`: the listener's view of the visitor's voice, from voice activity and end-of-turn models."""

    kind: ActivityKind
    onset: int  # mic index at which the utterance began
    index: int  # mic index of the last speech sample (ONSET: same as onset)
    speech_ms: float = 0.0  # voiced time since the onset
    pause_ms: float = 0.0  # running silence
    complete: float = -1.0  # P(turn complete); -1 where it was not judged
    probability: float = 0.0  # voice activity at this moment
    level_db: float = -100.0  # dBFS, RMS of the last 100 ms
    rise: float = 0.0  # semitones by which the voice rose within the last 320 ms; 0 where too little is voiced


class Word(Record, frozen=True):
    """A recognised word with its place in the mic ring (sample indices, -1 unknown)."""

    text: str
    start: int = -1
    end: int = -1
    confidence: float = 1.0


class Transcript(Message, frozen=True):
    """`words`: what the recogniser understands of the utterance that began at `onset`; `final` once it decoded the silence at its end."""

    onset: int
    index: int  # audio up to this mic index is in the text
    text: str
    final: bool = False
    stable: int = 0  # the first so many characters will not change
    confidence: float = 0.0  # 0..1
    words: tuple[Word, ...] = ()
    ends: float = -1.0  # chance that a sentence is complete after these words, by the words alone; -1: not known
    alternatives: tuple[str, ...] = ()  # other texts that fit nearly as well, best first
    worded: float = -1.0  # chance by the sound that somebody here says words, no hum, cough, noise or far voice; -1: not known


# --- the floor ------------------------------------------------------------------------------------------------------------


class Posture(str, Enum):
    """Who has the floor, as the face shows it."""

    IDLE = "idle"
    ATTENTIVE = "attentive"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


class Session(str, Enum):
    """Where a visit stands."""

    ATTRACT = "attract"
    ENGAGED = "engaged"
    STILL_THERE = "still_there"


class Floor(Message, frozen=True):
    """`floor`: the conductor's state; published on every change and once a second, so that a restarted reader catches up.

    `turn` is the current epoch: work of any lower turn is dropped by every stage. Speech of turn `granted` may be heard (a reply is
    prepared on speculation before it is granted). A new `visit` number means: forget everything of the visit before.
    """

    posture: Posture
    session: Session
    visit: int
    granted: int  # the turn that may sound; 0: none
    wipe_in_ms: int = -1  # countdown while STILL_THERE
    reason: str = ""
    feeling: str = ""  # of the visitor whose words are being answered: angry, sad, surprised, happy; "" none


class Ask(Message, frozen=True):
    """`ask`: answer this. Speculative ones may be superseded; dialogue state is kept only once the floor grants the turn.

    `instead_of`: a granted turn of whose answer nothing was heard, and whose question this one repeats or continues: what that turn did
    to the dialogue's state is taken back. 0: none. `still_there`: the page asks whether anybody is still there, which a yes may answer.
    """

    text: str
    visit: int
    source: str = "speech"  # speech | typed | touch
    confidence: float = 1.0
    speculative: bool = False
    instead_of: int = 0
    still_there: bool = False


class Reply(Message, frozen=True):
    """`reply`: one clause of the answer to turn `turn`, in order of `seq`; the one with `last` ends it (its text may be empty).

    The text may have tags for the face ("[sorry] We are out of it."); they are not spoken.
    """

    seq: int
    text: str
    last: bool
    kind: str = "answer"  # answer | question | confirm | filler | farewell
    expects: str = ""  # what was asked for, e.g. a slot name or "confirm": biases recogniser and end of turn
    card: str = ""  # JSON for the page, e.g. the order as understood so far; "" none


class Say(Message, frozen=True):
    """`say`: speak this text as part of turn `turn` (greetings, repeats after a crash); same order and end marks as `Reply`."""

    seq: int
    text: str
    last: bool


# --- the voice ------------------------------------------------------------------------------------------------------------


class Phoneme(Record, frozen=True):
    """An IPA phoneme (empty: pause) with its samples in the speech ring."""

    symbol: str
    start: int
    end: int


class SpokenWord(Record, frozen=True):
    """A word of the reply and the speech-ring sample at which it begins."""

    text: str
    start: int


class Gesture(Record, frozen=True):
    """What the face does or feels with the reply (one of engines.animation.TAGS), from this sample of the speech ring on."""

    name: str
    start: int


class Speech(Message, frozen=True):
    """`speech`: samples [start, start+samples) of the speech ring are one clause of turn `turn`. Clauses of a turn follow each other in
    the ring without a gap; `last` marks the end of the turn (samples may be 0).
    """

    seq: int
    start: int
    samples: int
    text: str
    last: bool
    phonemes: tuple[Phoneme, ...] = ()
    words: tuple[SpokenWord, ...] = ()
    clause: int = -1  # seq of the Reply or Say that is whole with this sound; -1: another sentence of it follows
    gestures: tuple[Gesture, ...] = ()


class SoundAction(str, Enum):
    """What the stage shall do with the voice."""

    DUCK = "duck"
    RESUME = "resume"  # back to full level
    STOP = "stop"  # silent at once; drop all of turns < `turn`


class Sound(Message, frozen=True):
    """`sound`: conductor → stage. (The stage ducks on an ONSET by itself; STOP and RESUME are the conductor's.)"""

    action: SoundAction


class Playhead(Message, frozen=True):
    """`playhead`: at `t_ns` the loudspeaker is at `index` of the speech ring (may be a near future: start of play is announced)."""

    index: int
    playing: bool
    gain: float = 1.0
    page: bool = False  # a page plays; else the virtual sink


class HeardKind(str, Enum):
    """What became of a turn's speech."""

    STARTED = "started"
    FINISHED = "finished"
    STOPPED = "stopped"


class Heard(Message, frozen=True):
    """`heard`: what the loudspeaker really played (law 3). `text` holds the words that began before it stopped."""

    kind: HeardKind
    index: int
    text: str = ""


# --- the picture --------------------------------------------------------------------------------------------------------


class RungSize(Record, frozen=True):
    """A rung of the quality ladder, in pixels."""

    name: str
    width: int
    height: int


class Drawn(Message, frozen=True):
    """`drawn`: once a second, what the renderer draws: `frames` due and `late` (left out) since it started, the `rungs` it may draw (best
    first), and the number of the one that it draws, counted among all of its avatar; one more than the last is the idle loop.
    """

    frames: int
    late: int
    rung: int
    rungs: tuple[RungSize, ...]


class Effort(Message, frozen=True):
    """`effort`: the most that the renderer and the language model may do, as the governor decides; with every change and once a second.

    `rung` by name ("loop": the prepared idle loop, "": any), `fps` at most (0: as configured), `model`: share of its answers' length that
    the language model may make (0: answers without it).
    """

    rung: str = ""
    fps: float = 0.0
    model: float = 1.0


class Hold(Message, frozen=True):
    """`hold`: the uplink → governor: the rung that the fleet wants, 0 the best. `minutes` 0: no better than this, until told otherwise;
    else this one for so long, in place of one that was held before.
    """

    rung: int
    minutes: int


class Held(Message, frozen=True):
    """`held`: once a second, what the governor makes of `hold`: the names of the `rungs` it can choose among (none as long as no renderer
    has told them), the `cap`, the rung that is held (-1: none) and for how many seconds, and `t_ns` of the last `hold` that it took.
    """

    rungs: tuple[str, ...]
    cap: int
    rung: int
    left_s: float
    taken_ns: int


# --- the visitor at the page ----------------------------------------------------------------------------------------------


class InputKind(str, Enum):
    """What a visitor did at the page."""

    TYPED = "typed"  # text: the sentence
    TOUCH = "touch"  # text: the suggestion touched
    STOP = "stop"
    START_OVER = "start_over"
    CALL_STAFF = "call_staff"
    STAY = "stay"  # "I am still here"
    PRESENCE = "presence"  # text: "here" or "gone"
    PAGE = "page"  # text: "open" or "closed"
    MIC = "mic"  # text: "on", "denied", "unplugged", "off"
    LANGUAGE = "language"  # text: BCP 47 tag


class VisitorInput(Message, frozen=True):
    """`visitor`: touch and keyboard, as the page reports them."""

    kind: InputKind
    text: str = ""


class Notice(Message, frozen=True):
    """`notice`: one line for the person in front of the kiosk or for the technician; shown by the page, kept by health."""

    code: str  # e.g. "mic-unplugged"; the same code replaces an older line, empty text clears it
    text: str
    audience: str = "technician"  # technician | visitor


# --- the house ------------------------------------------------------------------------------------------------------------


class HouseSetting(Message, frozen=True):
    """`house`: the uplink → stage: what the page begins each visit with, as the fleet wants it; a visitor may change it for the visit.

    `name` is volume (0..1, as `[voice] volume`), brightness (0.2..1) or language (one of the pack's).
    """

    name: str
    value: float | str


class PackWanted(Message, frozen=True):
    """`wish`: the uplink → the supervisor: serve the experience pack in this folder, once nobody is being served; not after `until_ns`.

    A wish replaces the one before; one for the pack that serves takes it back.
    """

    pack: str
    ask: int  # names the wish
    until_ns: int


class PackPhase(str, Enum):
    """How far a change of the pack is."""

    SERVES = "serves"  # none is under way
    WAITS = "waits"  # for the visitor to go
    CHANGES = "changes"  # the nodes that read it are started anew, one after another
    RETURNS = "returns"  # one did not come up with it: those that had changed go back


class PackServes(Message, frozen=True):
    """`pack`: the supervisor: the pack in folder `pack` serves ("": that of kiosk.toml); with every change and once a second.

    `ask` is the newest wish that was taken; `reason` says why its pack does not serve, once nothing is under way.
    """

    pack: str
    phase: PackPhase = PackPhase.SERVES
    ask: int = 0
    reason: str = ""


class NodeState(str, Enum):
    """Life of a node as the supervisor sees it."""

    STARTING = "starting"
    READY = "ready"
    DOWN = "down"
    GIVEN_UP = "given_up"


class NodeEvent(Message, frozen=True):
    """`nodes`: a node changed its state (turn is 0); all are told once more when a reader of this link has started."""

    node: str
    state: NodeState
    restarts: int = 0
    reason: str = ""
    again: bool = False  # nothing changed at this moment: told before, or lost


class Mark(Message, frozen=True):
    """`marks`: stage `stage` of turn `turn` happened at `t_ns`; health makes turn records of them (law 8). Never text of a visit."""

    stage: str
    value: float = 0.0


class NodeStats(Message, frozen=True):
    """`stats`: the counters of one node's rings and links, as JSON, once a second."""

    node: str
    body: bytes
