"""One fault after the other in the middle of conversations, and what the visitor saw and heard of each."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import msgspec

from runtime import messages as m
from visavis._processes import tree
from visavis.chaos.faults import FAULTS, Fault
from visavis.chaos.hearing import longest_gap, longest_silence
from visavis.chaos.house import LONG, MOMENT_S, OWN, SHORT, SPOKEN, House, zombies
from visavis.chaos.seen import Entry

__all__ = ["Hit", "described", "hit", "plan"]

_NS = 1_000_000_000
_AFTER_S = 1.0
"""So much longer is looked at the frames after everything is back."""
_NOTICED_NS = _NS // 4
"""A gap or a break longer than this counts as something that was missing."""
OTHERS_PER_KILLS = 20
OTHERS_MOST = 3


class Hit(msgspec.Struct):
    """One fault and what came of it. Times that could not be measured are None; `hang` says what never came back, "" nothing."""

    fault: str
    target: str = ""
    note: str = ""
    frame_gap_ms: float | None = None  # longest time without a new picture on the page, from the fault until all was well
    arrived_gap_ms: float | None = None  # the same for frames that came to the page; on the real one the resting face moves meanwhile
    drawn_gap_ms: float | None = None  # the same where the renderer draws
    quiet_gap_ms: float | None = None  # the same at the page before the fault: what this machine does without one
    resume_s: float | None = None  # longest break of the voice before the answer was over, 0: none
    recovery_s: float | None = None  # until nothing was missing any more: processes, frames, voice
    ready_s: float | None = None  # until the process that fell was ready again
    face_back_s: float | None = None  # browser: until a frame was on the new page
    lost: list[str] = []
    hang: str = ""
    leftovers: list[str] = []


def plan(kills: int, faults: Sequence[str], rng: random.Random) -> list[tuple[str, str]]:
    """(fault, target) in the order in which they are done: `kills` SIGKILLs over all nodes in turn, and one of each other fault for every
    OTHERS_PER_KILLS of them (at least one, at most OTHERS_MOST), spread between.
    """
    times = {name: kills if name == "kill" else min(OTHERS_MOST, max(1, kills // OTHERS_PER_KILLS)) for name in faults}
    placed: list[tuple[float, str, str]] = []
    for name, count in times.items():
        targets = _in_turn(FAULTS[name].targets if name in FAULTS else ("",), count, rng)
        placed += [((at + rng.random()) / count, name, target) for at, target in enumerate(targets)]
    return [(name, target) for _, name, target in sorted(placed)]


def _in_turn(targets: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """All targets once in a random order, then all again: none comes so often that the supervisor would give it up."""
    order: list[str] = []
    while len(order) < count:
        order += rng.sample(list(targets), len(targets))
    return order[:count]


def hit(house: House, fault: Fault, target: str, rng: random.Random) -> Hit:
    """Do the fault in the middle of an answer, wait until it is over, ask again, and judge."""
    if target in OWN and target not in house.nodes():
        return Hit(fault.name, target, hang=f"before the fault there was no {target}")
    house.seen.forget(house.seen.mark())
    asked = house.seen.mark()
    began = house.ask(rng.choice(LONG))
    if began is None:
        return Hit(fault.name, target, hang="before the fault a question had no answer")
    threading.Event().wait(rng.uniform(*MOMENT_S))
    mark, before_ns = house.seen.mark(), time.monotonic_ns()
    result = Hit(fault.name, target, note=fault.do(house, target, rng))
    hangs, well_ns = _wait_until_well(house, fault, target, mark, result, before_ns)
    _judge(house, result, before_ns, well_ns, began)
    result.lost += _words_lost(house, began, asked)
    hangs += _ask_again(house, fault, target, result)
    result.hang = "; ".join(hangs)
    result.leftovers = [f"two processes of {name}" for name in house.twins()]
    result.leftovers += [f"zombie {pid}" for pid in zombies(tree(house.kiosk.pid))]
    return result


def _wait_until_well(house: House, fault: Fault, target: str, mark: int, result: Hit, before_ns: int) -> tuple[list[str], int]:
    """What never came back, and when the rest was there."""
    hangs = []
    if fault.falls:
        ready = house.wait_ready(target, mark)
        if ready is None:
            hangs.append(f"{target} was not ready again")
        else:
            result.ready_s = (ready.t_ns - before_ns) / _NS
    if not house.rest(house.seen.mark()):
        hangs.append("the conversation did not come to rest")
    deadline = time.monotonic() + house.limit_s
    while missing := house.missing():
        if time.monotonic() > deadline:
            hangs.append(f"{' and '.join(missing)} did not come back")
            break
        threading.Event().wait(0.1)
    threading.Event().wait(_AFTER_S)
    if house.seen.wait("page frame", since=house.seen.mark(), limit_s=house.limit_s) is None:
        hangs.append("no frame came any more")
    return hangs, time.monotonic_ns()


def _judge(house: House, result: Hit, before_ns: int, well_ns: int, began: Entry) -> None:
    frames = [entry.t_ns for entry in house.seen.all("page frame")]
    drawn = [entry.what.t_publish_ns for entry in house.seen.all("bus video")]
    gap = longest_gap(frames, before_ns, well_ns)
    silence = longest_silence(house.page.speaker.spans, before_ns, well_ns)
    quiet = longest_gap([t for t in frames if t < before_ns], began.t_ns, before_ns)
    result.frame_gap_ms = result.arrived_gap_ms = _ms(gap)
    result.drawn_gap_ms = _ms(longest_gap(drawn, before_ns, well_ns))
    result.quiet_gap_ms = _ms(quiet)
    result.resume_s = round((silence[1] - silence[0]) / _NS, 3)
    back = [before_ns + round((result.ready_s or 0.0) * _NS)]
    back += [end for begin, end in (gap, silence) if end - begin > _NOTICED_NS]
    result.recovery_s = round((max(back) - before_ns) / _NS, 3)


def _ms(stretch: tuple[int, int]) -> float:
    return round((stretch[1] - stretch[0]) / 1e6, 1)


def _words_lost(house: House, began: Entry, asked: int) -> list[str]:
    """Whether the visitor heard the end of the answer, in this turn or repeated in a later one."""
    whole = house.answer_words(began.what.turn, asked)
    heard = [entry.what.text.split() for entry in house.seen.all("bus heard", asked) if entry.what.kind is m.HeardKind.FINISHED]
    if not whole:
        return ["the answer was never complete"]
    return [] if any(words[-3:] == whole[-3:] for words in heard if words) else ["the end of the answer"]


def _ask_again(house: House, fault: Fault, target: str, result: Hit) -> list[str]:
    """The next question must be answered; spoken, where it is the ears that were hit."""
    if fault.microphone or target in ("listener", "recogniser"):
        if house.say(SPOKEN) is not None:
            house.hush()
            return []
        result.lost.append("a spoken question")
    if house.ask(SHORT) is None:
        return ["the next question had no answer"]
    house.hush()
    return []


def described(result: Hit) -> str:
    """One line for who watches."""
    figures = [f"{result.recovery_s:.1f} s"] if result.recovery_s is not None else []
    figures += [f"frames {result.frame_gap_ms:.0f} ms"] if result.frame_gap_ms is not None else []
    figures += [f"voice {result.resume_s:.2f} s"] if result.resume_s is not None else []
    figures += [f"face back {result.face_back_s:.1f} s"] if result.face_back_s is not None else []
    trouble = [f"HANG: {result.hang}"] if result.hang else []
    trouble += [f"lost: {what}" for what in result.lost] + result.leftovers
    return f"{result.fault} {result.target}: ".replace(" :", ":") + ", ".join([*figures, *([result.note] if result.note else []), *trouble])
