"""The visitor: plays a scenario's steps into the room, reacting to what the kiosk does."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from visavis.rehearse import touch, voices
from visavis.rehearse.errors import RehearsalError, ScenarioError
from visavis.rehearse.kiosk import Browser
from visavis.rehearse.observer import Observer, View
from visavis.rehearse.room import RATE, Player, Room
from visavis.rehearse.scenario import OVERLAYS, Draw, Scenario, Step

__all__ = ["Cue", "Spoken", "Visitor", "cues"]

_LEAVE_LIMIT_S = 120.0
_REPLY_WORD_RATE = 22_050


class Cue(msgspec.Struct, frozen=True):
    """A step with its sound, ready to be played; `where` names it in messages."""

    step: Step
    where: str
    sound: npt.NDArray[np.float32] | None = None
    source: str = ""


class Spoken(msgspec.Struct):
    """What sounded: the clean clip, when it was handed to the room, and what became of the reply as far as the visitor could tell."""

    verb: str
    source: str
    text: str
    clip: npt.NDArray[np.float32]
    started_ns: int
    timed_out: str = ""
    expect: str = ""


def cues(scenario: Scenario, data: Path | None, seed: int) -> list[Cue]:
    """All steps with their sounds, draws included. Raises ScenarioError, MissingProgram: nothing is started before all sounds are there."""
    folder = Path(scenario.folder)
    found = [_cue(step, f"step {n}", scenario, folder, data) for n, step in enumerate(scenario.step, start=1)]
    for number, draw in enumerate(scenario.draw, start=1):
        rng = random.Random(f"{seed}/{number}/{draw.pattern}")
        drawn = list(_drawn(draw, rng, folder, data, f"draw {number}"))
        found += [_cue(step, f"draw {number}", scenario, folder, data, rng.randrange(1 << 30)) for step in drawn]
    return found


def _cue(step: Step, where: str, scenario: Scenario, folder: Path, data: Path | None, seed: int = 0) -> Cue:
    verb = step.verb
    if verb not in ("say", "play", *OVERLAYS):
        return Cue(step, where)
    text = getattr(step, verb)
    if verb != "play" and text in voices.MADE:
        sound, source = voices.made(text, seed), "synthetic"
    elif verb == "play" or "/" in text:
        sound, source = voices.read(_find(text, folder, data, where), step.from_s, step.length_s), text.rsplit("/", 1)[0]
    else:
        voice = step.voice or scenario.voice
        sound, source = voices.say(text, voice, folder), f"voice {voice}"
    return Cue(step, where, voices.at_level(sound, step.level_db), step.source or source)


def _find(name: str, folder: Path, data: Path | None, where: str) -> Path:
    for base in (folder, data):
        if base is not None and (base / name).is_file():
            return base / name
    looked = f"{folder}" + (f" and {data}" if data else "; give --data for recorded people")
    raise ScenarioError(f"{where}: no recording {name!r} in {looked}")


def _drawn(draw: Draw, rng: random.Random, folder: Path, data: Path | None, where: str) -> Iterator[Step]:
    made = [draw.pattern] if draw.pattern in voices.MADE else []
    names = made or sorted(
        {str(path.relative_to(base)) for base in (folder, data) if base for path in base.glob(draw.pattern) if path.is_file()}
    )
    if not names:
        raise ScenarioError(f"{where}: no recording matches {draw.pattern!r} in {folder}{f' or {data}' if data else '; give --data'}")
    chosen = (
        names * (draw.count // len(names)) + rng.sample(names, draw.count % len(names))
        if len(names) < draw.count
        else rng.sample(names, draw.count)
    )
    for number, name in enumerate(chosen, start=1):
        length = round(rng.uniform(*draw.length_s), 3)
        begin = 0.0 if draw.from_start or made else round(rng.uniform(0, _seconds(name, folder, data, where) - length), 3)
        sound: dict[str, Any] = {
            draw.verb: name,
            "level_db": round(rng.uniform(*draw.level_db), 1),
            "from_s": begin,
            "length_s": length,
            "source": draw.source,
        }
        if draw.verb in OVERLAYS:
            yield Step(say=rng.choice(draw.prompts), then="reply_started")
            yield Step(**sound, at_s=round(rng.uniform(*draw.at_s), 2), then=draw.then)
        else:
            yield Step(**sound, then=draw.then)
        if draw.leave_after and number % draw.leave_after == 0:
            yield Step(leave=True)


def _seconds(name: str, folder: Path, data: Path | None, where: str) -> float:
    import soundfile

    return float(soundfile.info(_find(name, folder, data, where)).duration)


class Visitor:
    """Plays cues. `spoken` is what sounded, `trouble` what did not go as the scenario expects (one line each)."""

    def __init__(self, room: Room, observer: Observer, browser: Browser, check: Callable[[], None]) -> None:
        self._room, self._observer, self._browser, self._check = room, observer, browser, check
        self.spoken: list[Spoken] = []
        self.acts: list[int] = []  # when something was typed or touched (ns)
        self.trouble: list[str] = []

    def play(self, plan: list[Cue], say: Callable[[str], None] = lambda _: None) -> None:
        """Play all of them, one after the other; `say` gets a line for each. Raises RehearsalError if the kiosk goes away."""
        for number, cue in enumerate(plan, start=1):
            self._check()
            if self._observer.error:
                raise RehearsalError(f"the kiosk cannot be observed any more: {self._observer.error}")
            verb = cue.step.verb
            say(f"{number}/{len(plan)} {verb}: {getattr(cue.step, verb)}")
            self._step(cue)

    def _step(self, cue: Cue) -> None:
        step, verb = cue.step, cue.step.verb
        before = msgspec.structs.replace(self._observer.view)
        if cue.sound is not None:
            if verb in OVERLAYS and not self._reach(step):
                self._missed(cue, "the reply never came to the place")
                self._settle(step, before, cue)
                return
            before = msgspec.structs.replace(self._observer.view)
            player = Player(self._room, cue.sound)
            self.spoken.append(Spoken(verb, cue.source, getattr(step, verb), cue.sound, player.started_ns, expect=step.expect))
            if not player.wait(len(cue.sound) / RATE + 5):
                player.stop()
                self._missed(cue, "the sound could not be played to its end")
        elif verb == "silence_s":
            threading.Event().wait(step.silence_s or 0.0)
        elif verb == "wait":
            self._wait(cue)
        elif verb == "type":
            self.acts.append(time.monotonic_ns())
            touch.type_text(self._browser.debugger, step.type)
        elif verb == "touch":
            self.acts.append(time.monotonic_ns())
            touch.touch(self._browser.debugger, step.touch)
        elif verb == "leave":
            self._leave(cue, before)
        self._settle(step, before, cue)

    def _settle(self, step: Step, before: View, cue: Cue) -> None:
        """Wait for what follows the step."""
        if step.verb in ("backchannel", "noise") and step.then is None:
            wanted, what = (lambda v: v.ended > before.ended), "reply_ended"
        elif step.waits == "reply_started":
            wanted, what = (lambda v: v.started > before.started), "reply_started"
        elif step.waits == "reply_ended":
            # An interruption ends one reply and asks for another: it is answered when that one has ended.
            wanted, what = (lambda v: v.started > before.started and v.ended >= v.started), "reply_ended"
        else:
            return
        if not self._observer.wait(wanted, step.timeout_s):
            self._missed(cue, f"no {what} within {step.timeout_s:.0f} s")

    def _missed(self, cue: Cue, why: str) -> None:
        verb = cue.step.verb
        self.trouble.append(f"{cue.where}, {verb} {getattr(cue.step, verb)!r}: {why}")
        if self.spoken:
            self.spoken[-1].timed_out = why

    def _reach(self, step: Step) -> bool:
        """Wait until the reply is at the place where the step begins."""
        if not self._observer.wait(lambda v: v.started > v.ended, step.timeout_s):
            return False
        if step.at_s is not None:
            began = next((seen.message.t_ns for seen in reversed(self._observer.log) if seen.link == "heard"), time.monotonic_ns())
            threading.Event().wait(max(0.0, step.at_s - (time.monotonic_ns() - began) / 1e9))
            return self._observer.view.started > self._observer.view.ended
        return self._at_word(step.at_word, step.timeout_s)

    def _at_word(self, word: str, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s

        def at(view: View) -> bool:
            if view.playhead is None or view.heard is None:
                return False
            for spoken in self._observer.words_of(view.heard.turn):
                if spoken.text.strip(".,;:!?").lower() == word.lower():
                    now = view.playhead.index + (time.monotonic_ns() - view.playhead.t_ns) * _REPLY_WORD_RATE // 1_000_000_000
                    return view.playhead.playing and now >= spoken.start
            return False

        while time.monotonic() < deadline and self._observer.view.started > self._observer.view.ended:
            if self._observer.wait(at, 0.05):
                return True
        return False

    def _wait(self, cue: Cue) -> None:
        step, of = cue.step, cue.step.of
        if step.wait == "reply_word":
            done = self._at_word(of, step.timeout_s)
        else:
            wanted: dict[str, Callable[[View], bool]] = {
                "reply_started": lambda v: v.started > v.ended,
                "reply_ended": lambda v: v.started > 0 and v.ended >= v.started,
                "posture": lambda v: v.floor is not None and v.floor.posture.value == of,
                "caption": lambda v: v.words is not None and of.lower() in v.words.text.lower(),
            }
            done = self._observer.wait(wanted[step.wait], step.timeout_s)
        if not done:
            self._missed(cue, f"{step.wait} {of} did not come within {step.timeout_s:.0f} s")

    def _leave(self, cue: Cue, before: View) -> None:
        """Be gone until the kiosk has forgotten the visit."""
        visit = before.floor.visit if before.floor else 0
        if not self._observer.wait(
            lambda v: v.floor is not None and (v.floor.visit != visit or v.floor.session.value == "attract"), _LEAVE_LIMIT_S
        ):
            self._missed(cue, f"the visit was not wiped within {_LEAVE_LIMIT_S:.0f} s")
