"""A scenario: what the visitor does, as a TOML file. All mistakes are found before anything is started.

    title = "Two coffees"
    voice = "slt"                       # of `say`; see visavis.rehearse.voices
    [room]
    echo_db = -25                       # level of the loudspeaker in the microphone
    noise = "data/noise/kitchen/kitchen.flac"   # all along, at noise_db (dBFS)
    [[step]]
    say = "I would like a latte please" # or: play = a recording (relative to the scenario, or below --data)
    expect = "small | medium"           # words that the reply must hold, alternatives separated by |
    then = "reply_ended"                # what to wait for after it; "reply_started", or "" for nothing
    [[step]]
    interrupt = "stop"                  # `at_s` into the reply or at the word `at_word` of it
    at_s = 1.2

Other steps: backchannel, noise (over the reply, like interrupt), silence_s, wait, type, touch, leave. A `[[draw]]` makes many steps from
a set of recordings by seed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from visavis.rehearse.errors import ScenarioError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["OVERLAYS", "WAITS", "Draw", "RoomPlan", "Scenario", "Step", "load", "parse"]

WAITS = ("reply_started", "reply_ended", "posture", "caption", "reply_word")
OVERLAYS = ("interrupt", "backchannel", "noise")
"""Steps that sound while the avatar speaks."""
_VERBS = ("say", "play", *OVERLAYS, "silence_s", "wait", "type", "touch", "leave")
_WITH_REPLY = {"say", "play", "interrupt", "type", "touch"}
Positive = Annotated[float, Meta(gt=0, le=600)]


class RoomPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[room]`: what the microphone hears besides the visitor."""

    echo_db: Annotated[float, Meta(le=0)] | None = None
    echo_ms: Annotated[float, Meta(ge=20, le=500)] = 60.0
    noise: str = ""
    noise_db: Annotated[float, Meta(le=-10)] = -50.0


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[step]]`: exactly one verb, and what goes with it."""

    say: str = ""
    play: str = ""
    interrupt: str = ""
    backchannel: str = ""
    noise: str = ""
    silence_s: Annotated[float, Meta(ge=0, le=600)] | None = None
    wait: str = ""  # one of WAITS; `posture`, `caption` and `reply_word` need `of`
    of: str = ""
    type: str = ""
    touch: str = ""
    leave: bool = False
    voice: str = ""
    level_db: Annotated[float, Meta(ge=-60, le=0)] = -20.0  # RMS of the loudest second, dBFS
    at_s: Annotated[float, Meta(ge=0, le=60)] | None = None
    at_word: str = ""
    from_s: Annotated[float, Meta(ge=0)] = 0.0  # cut of a recording
    length_s: Annotated[float, Meta(ge=0)] = 0.0  # 0: to its end
    expect: str = ""  # words that the reply must hold, alternatives separated by |
    then: str | None = None
    timeout_s: Positive = 20.0
    source: str = ""  # where the sound comes from, for the count in the report

    @property
    def verb(self) -> str:
        """What the step does."""
        return next(verb for verb in _VERBS if getattr(self, verb) not in ("", None, False))

    @property
    def waits(self) -> str:
        """What is waited for after the step, "" for nothing."""
        if self.then is not None:
            return self.then
        return "reply_ended" if self.verb in _WITH_REPLY else ""


class Draw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[draw]]`: `count` steps from the recordings `pattern` finds, each after one of `prompts` where it interrupts."""

    pattern: str  # a glob below --data, or below the scenario's folder
    count: Annotated[int, Meta(ge=1, le=1000)]
    verb: str = "play"
    source: str = ""
    prompts: tuple[str, ...] = ()
    at_s: tuple[float, float] = (0.6, 2.0)
    length_s: tuple[float, float] = (0.0, 0.0)  # a cut of random length between these; 0: the whole recording
    from_start: bool = True  # else the cut begins anywhere
    level_db: tuple[float, float] = (-20.0, -20.0)
    leave_after: Annotated[int, Meta(ge=0)] = 0  # the visitor walks away after so many, 0 never
    then: str | None = None


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole rehearsal. `folder` is where its own recordings are (set by `load`)."""

    title: str
    note: str = ""
    voice: str = "slt"
    room: RoomPlan = RoomPlan()
    config: dict[str, Any] = {}  # what differs in kiosk.toml
    step: tuple[Step, ...] = ()
    draw: tuple[Draw, ...] = ()
    folder: str = "."

    @property
    def touches(self) -> bool:
        """Whether a debugger must be attached to the page to touch it."""
        return any(step.verb in ("type", "touch") for step in self.step)


def load(path: Path) -> Scenario:
    """The scenario in `path`. Raises ScenarioError: one line that names the file, the key and what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from error
    scenario = parse(text, str(path))
    return msgspec.structs.replace(scenario, folder=str(path.resolve().parent))


def parse(text: str, name: str) -> Scenario:
    """The scenario in `text`, called `name` in messages. Raises ScenarioError."""
    try:
        scenario = msgspec.convert(tomllib.loads(text), Scenario)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name}: is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{name}: {error}") from error
    for number, step in enumerate(scenario.step, start=1):
        _check(step, f"{name}: step {number}")
    for number, draw in enumerate(scenario.draw, start=1):
        _check_draw(draw, f"{name}: draw {number}")
    if not scenario.step and not scenario.draw:
        raise ScenarioError(f"{name}: has neither a [[step]] nor a [[draw]]: nothing to rehearse")
    return scenario


def _check(step: Step, where: str) -> None:
    verbs = [verb for verb in _VERBS if getattr(step, verb) not in ("", None, False)]
    if len(verbs) != 1:
        raise ScenarioError(f"{where}: needs exactly one of {', '.join(_VERBS)}; has {' and '.join(verbs) or 'none'}")
    verb = verbs[0]
    if verb == "wait" and step.wait not in WAITS:
        raise ScenarioError(f"{where}: wait = {step.wait!r} is unknown; known are {', '.join(WAITS)}")
    if verb == "wait" and step.wait in ("posture", "caption", "reply_word") and not step.of:
        raise ScenarioError(f"{where}: wait = {step.wait!r} needs `of`")
    if verb in OVERLAYS and (step.at_s is None) == (not step.at_word):
        raise ScenarioError(f"{where}: {verb} needs either at_s or at_word")
    if verb not in OVERLAYS and (step.at_s is not None or step.at_word):
        raise ScenarioError(f"{where}: at_s and at_word go with {', '.join(OVERLAYS)} only")
    if step.then not in (None, "", "reply_started", "reply_ended"):
        raise ScenarioError(f"{where}: then = {step.then!r} is unknown; known are reply_started, reply_ended and nothing")


def _check_draw(draw: Draw, where: str) -> None:
    if draw.verb not in ("play", *OVERLAYS):
        raise ScenarioError(f"{where}: verb = {draw.verb!r} is unknown; known are play, {', '.join(OVERLAYS)}")
    if draw.verb in OVERLAYS and not draw.prompts:
        raise ScenarioError(f"{where}: {draw.verb} needs prompts: what makes the avatar speak before it")
    for key in ("at_s", "length_s", "level_db"):
        low, high = getattr(draw, key)
        if low > high:
            raise ScenarioError(f"{where}: {key} runs from {low} down to {high}")
