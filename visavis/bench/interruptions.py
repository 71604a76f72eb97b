"""Does the avatar stop for a word, and only for a word? Speech and sounds over its voice, in virtual time.

Each event of visavis.bench.interruption_data is laid over what an echo canceller leaves of the avatar's voice, and goes through the kiosk's
own pieces: voice activity as the listener asks it while the avatar plays, the recogniser with the recogniser node's pre-roll, pieces and
partials, and the floor's rules with the shipped pack's words. Only time is counted instead of spent: what the nodes, the page and the
loudspeaker take stands in `COSTS` (what the ears take, in `EARS_COSTS`) and is part of every figure. The same seed gives the same figures.

`false_stops` is the share of all that is no interruption, synthetic sounds included (`false_stops_recorded` without them);
`interruption_ms` runs from the first sound of a recorded person's word until the loudspeaker is silent. Half of the events may be looked at
for choosing rules (`tuned_half`); the other half is reported beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.recognition import Hypothesis, Recogniser
from engines.voice_activity import Hearing, Kind, Noticed, VoiceActivity, block_levels
from engines.voice_activity import select as select_activity
from runtime.config import Config
from runtime.conversation.domain import speech_domain
from runtime.conversation.floor import decide
from runtime.conversation.floor_state import QUIET_DB, Clause, FloorRules, FloorState, Tick
from runtime.conversation.interruption import overlap_rules
from runtime.messages import MIC_RATE, Activity, ActivityKind, Posture, Session, Sound, SoundAction, Transcript
from runtime.packs import load as load_pack
from visavis.bench.hearing import recognisers
from visavis.bench.interruption_data import Event, events, microphone, residue
from visavis.rehearse.measure import quantiles

__all__ = ["AFTER", "COSTS", "EARS_COSTS", "EVERY_MS", "LOOK", "PIECE", "PIECES", "PRE_ROLL", "Costs", "Outcome", "decided", "hear", "run"]

FRAME = 512
PEAK_DB = 3.5
"""Loudest 100 ms of a recorded sentence over its loudest second: the median of this benchmark's words."""
TICK = 320  # samples between two of the stage's MicTicks
PRE_ROLL = 3 * MIC_RATE // 10  # this and the following as in runtime.nodes.recogniser
PIECE = 4 * MIC_RATE // 100
PIECES = 8
AFTER = 8 * MIC_RATE // 100
EVERY_MS = 50.0
CHANGED = 0.05
LOOK = 16 * MIC_RATE // 100  # new sound that is worth a look to the ears, as in engines.recognition.ears …
EARLY_LOOK, EARLY = LOOK // 2, 96 * MIC_RATE // 100  # … and in the utterance's first second
_MS = MIC_RATE / 1000
_NS = 1_000_000
Pcm = NDArray[np.int16]
Heard = Activity | Transcript


class Costs(NamedTuple):
    """What takes time in the kiosk and none here, in ms; so that the median duck is the rehearsal's on the same kinds of words (163 ms)."""

    microphone: float = 75.0  # from the air into the microphone's ring (rehearsal: marks of the end of speech are 87 ms late in all)
    listener: float = 4.0  # from a whole frame in the ring to the message
    decode: float = 0.15  # ms of work per ms of sound in a recogniser that works off what comes
    look: float = 0.0  # … and per look of one that looks at all of it again
    conductor: float = 2.0
    silent: float = 55.0  # from the decision until the loudspeaker is silent (rehearsal: 48 to 60)
    duck: float = 45.0  # from the message until the loudspeaker is soft


COSTS = Costs()
EARS_COSTS = Costs(decode=0.0, look=20.0)
"""A pass of the ears takes 15 to 20 ms."""
_KINDS = {kind: ActivityKind(kind.value) for kind in (Kind.HINT, Kind.ONSET, Kind.LEVEL, Kind.SILENCE, Kind.RESUMED)}


class Outcome(msgspec.Struct, frozen=True):
    """What became of one event; times in ms since its onset, None where it did not happen."""

    kind: str
    name: str
    real: bool
    recorded: bool
    tuned: bool
    silent_ms: float | None
    duck_ms: float | None
    text: str  # what the recogniser had understood at the decision, or in the end


# --- the listener and the recogniser, as their nodes run them


class _Listener:
    def __init__(self, activity: VoiceActivity) -> None:
        self._activity, self._hearing, self._next = activity, Hearing(), 0
        activity.reset()

    def listen(self, sound: Pcm, until: int) -> Iterable[Noticed]:
        """All that is noticed up to sample `until`."""
        while until - self._next >= FRAME:
            frame = sound[self._next : self._next + FRAME]
            self._next += FRAME
            yield from self._hearing.step(self._activity.probability(frame), block_levels(frame), self._next, guarded=True)


class _Ear:
    """runtime.nodes.recogniser.Ear without ring, context and floor; `step` says what it publishes and when."""

    def __init__(self, engine: Recogniser, costs: Costs) -> None:
        self._engine, self._costs = engine, costs
        self._onset = self._end = -1
        self._at = 0
        self._running = False
        self._said = ""
        self._free_ms = self._published_ms = 0.0
        self._unseen = self._fed = 0  # samples since the last look, and in all
        self._worded = -1.0

    def handle(self, event: Activity) -> None:
        going_on = self._running and self._end < 0 and event.onset == self._onset
        if event.kind is ActivityKind.ONSET or (event.kind is ActivityKind.RESUMED and not going_on):
            self._onset, self._end, self._at = event.onset, -1, max(0, event.onset - PRE_ROLL)
            self._said, self._running, self._unseen, self._fed, self._worded = "", True, 0, 0, -1.0
            self._engine.begin()
        elif event.kind is ActivityKind.SILENCE and self._running and event.onset == self._onset:
            self._end = max(self._at, event.index + AFTER)

    def step(self, sound: Pcm, position: int, now_ms: float) -> Iterable[tuple[float, Transcript]]:
        """Decode at most PIECES pieces of what lies before `position`; nothing while the last step still takes its time."""
        if not self._running or now_ms < self._free_ms:
            return
        self._free_ms = now_ms
        until = position if self._end < 0 else min(self._end, position)
        for _ in range(PIECES):
            count = min(PIECE, until - self._at)
            if count < PIECE and self._end < 0:
                break
            if count:
                self._engine.feed(sound[self._at : self._at + count])
            self._at += count
            self._unseen += count
            self._fed += count
            self._free_ms += count / _MS * self._costs.decode
            if self._at == self._end:
                self._running = False
                self._free_ms += self._costs.look
                yield self._publish(self._engine.finish(), final=True)
                return
        if self._free_ms - self._published_ms < EVERY_MS:
            return
        found = self._engine.partial()
        if self._unseen >= (EARLY_LOOK if self._fed <= EARLY else LOOK):
            self._unseen = 0
            self._free_ms += self._costs.look
        if found.text != self._said or abs(found.worded - self._worded) > CHANGED:
            yield self._publish(found, final=False)

    def _publish(self, found: Hypothesis, *, final: bool) -> tuple[float, Transcript]:
        self._said, self._worded, self._published_ms = found.text, found.worded, self._free_ms
        t_ns = round(self._free_ms * _NS)
        heard = Transcript(1, t_ns, self._onset, self._at, found.text, final, found.stable, found.confidence, worded=found.worded)
        return self._free_ms, heard


def hear(sound: Pcm, activity: VoiceActivity, engine: Recogniser, costs: Costs = COSTS) -> list[tuple[float, Heard]]:
    """What listener and recogniser tell the conductor of `sound`: (ms at which it is told, message), in order."""
    listener, ear = _Listener(activity), _Ear(engine, costs)
    told: list[tuple[float, Heard]] = []
    for position in range(TICK, len(sound) + 1, TICK):
        now_ms = position / _MS + costs.microphone
        for noticed in listener.listen(sound, position):
            if noticed.kind in _KINDS:
                event = _activity(noticed, now_ms - costs.microphone)
                told.append((now_ms + costs.listener, event))
                ear.handle(event)
        told += ear.step(sound, position, now_ms + costs.listener)
    engine.cancel()
    return sorted(told, key=lambda pair: pair[0])


def _activity(noticed: Noticed, now_ms: float) -> Activity:
    return Activity(
        1, round(now_ms * _NS), _KINDS[noticed.kind], noticed.onset, noticed.index, noticed.speech_ms, noticed.pause_ms,
        probability=noticed.probability, level_db=noticed.level_db,
    )  # fmt: skip


# --- the floor


def decided(rules: FloorRules, told: Sequence[tuple[float, Heard]], spoken: str, voice_db: float = QUIET_DB) -> tuple[float | None, str]:
    """When the floor stops the avatar, which is saying `spoken`, in ms of the stream (None: never), and the words it had by then.

    `voice_db`: loudest 100 ms of the visitor's question that the avatar answers.
    """
    clauses = (Clause(0, spoken, last=True),)
    state = FloorState(posture=Posture.SPEAKING, session=Session.ENGAGED, granted=1, clauses=clauses, voice_db=voice_db)
    text = ""
    waiting = list(told)
    now_ms, end_ms = 0.0, (told[-1][0] if told else 0.0) + rules.resume_ms + 100.0
    while now_ms <= end_ms:
        # The conductor wakes for every message, and each 10 ms while it has not judged.
        due = waiting[0][0] if waiting else end_ms + 1.0
        tick = state.barge is not None and now_ms + 10.0 < due
        now_ms = now_ms + 10.0 if tick else due
        event = Tick() if tick or not waiting else waiting.pop(0)[1]
        if isinstance(event, Transcript):
            text = event.text
        state, actions = decide(rules, state, event, round(now_ms * _NS))
        if any(isinstance(action, Sound) and action.action is SoundAction.STOP for action in actions):
            return now_ms, text
    return None, text


def _outcome(event: Event, told: Sequence[tuple[float, Heard]], onset: int, rules: FloorRules, costs: Costs) -> Outcome:
    stop_ms, text = decided(rules, told, event.spoken, event.visitor_db + PEAK_DB)
    onset_ms = onset / _MS
    ducks = [at for at, heard in told if isinstance(heard, Activity) and heard.kind in (ActivityKind.HINT, ActivityKind.ONSET)]
    duck = next((at - onset_ms + costs.duck for at in ducks if at >= onset_ms), None)
    silent = None if stop_ms is None else stop_ms - onset_ms + costs.conductor + costs.silent
    return Outcome(event.kind, event.name, event.real, event.recorded, event.tuned, silent, duck, text)


# --- figures


def run(data: Path, engine: str = "auto", seed: int = 1, limit: int | None = None, model: Path | None = None,
        weights: Path | None = None) -> dict[str, Any]:  # fmt: skip
    """Measure with the recogniser `engine` ("all": each that works here; the best one's figures come first, all under `engines`).

    `limit`: at most so many events of each kind; `weights`: of the ears. Raises EngineError, OSError, ValueError.
    """
    config = Config()
    pack = load_pack(config.pack_path)
    chosen, skipped = recognisers(engine, model, weights)
    activity = select_activity().activity
    overlap = overlap_rules(pack, config.turn.interrupt_ms)
    rules = FloorRules(endpoint_wait_ms=lambda *_: 1000.0, overlap=overlap, resume_ms=config.turn.resume_ms)
    left = residue(data)
    played = [(event, *microphone(event, left, seed)) for event in events(data, seed, limit)]
    engines = {}
    for one in chosen:
        one.engine.prepare(speech_domain(pack))
        costs = EARS_COSTS if one.name == "ears" else COSTS
        outcomes = [_outcome(event, hear(sound, activity, one.engine, costs), onset, rules, costs) for event, sound, onset in played]
        engines[one.name] = {"costs_ms": costs._asdict()} | figures(outcomes)
    tables = [(f"{name}: {title}", *rest) for name, figure in engines.items() for title, *rest in figure.pop("tables")]
    best = chosen[0].name
    about = {"engine": best, "voice_activity": activity.name, "seed": seed, "skipped": skipped}
    return about | engines[best] | {"engines": engines, "tables": tables}


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The benchmark's result out of what became of each event."""
    result = _part(outcomes) | {
        "tuned_half": _part([one for one in outcomes if one.tuned]),
        "other_half": _part([one for one in outcomes if not one.tuned]),
        "false_stops_by": _by_kind(outcomes, real=False),
        "caught_by": _by_kind(outcomes, real=True),
        "events": {
            "words, recorded": sum(one.real and one.recorded for one in outcomes),
            "words, synthetic": sum(one.real and not one.recorded for one in outcomes),
            "others, recorded": sum(not one.real and one.recorded for one in outcomes),
            "others, synthetic": sum(not one.real and not one.recorded for one in outcomes),
        },
        "stopped": [f"{one.kind}: {one.name}: {one.text!r}" for one in outcomes if not one.real and one.silent_ms is not None],
        "missed": [f"{one.kind}: {one.name}: {one.text!r}" for one in outcomes if one.real and one.silent_ms is None],
    }
    return result | {"tables": _tables(result)}


def _part(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    words = [one for one in outcomes if one.real and one.recorded]
    others = [one for one in outcomes if not one.real]
    stops = [one for one in outcomes if one.real and not one.recorded]
    return {
        "false_stops": _share(others),
        "false_stops_recorded": _share([one for one in others if one.recorded]),
        "caught": _share(words),
        "interruption_ms": _quantiles([one.silent_ms for one in words]),
        "stop_word_ms": _quantiles([one.silent_ms for one in stops]),
        "duck_ms": _quantiles([one.duck_ms for one in words]),
    }


def _share(outcomes: Sequence[Outcome]) -> float | None:
    return sum(one.silent_ms is not None for one in outcomes) / len(outcomes) if outcomes else None


def _quantiles(values: Iterable[float | None]) -> dict[str, Any]:
    found = quantiles([value for value in values if value is not None])
    return {"n": found.n, "p50": found.p50, "p95": found.p95, "p99": found.p99}


def _by_kind(outcomes: Sequence[Outcome], *, real: bool) -> dict[str, list[int]]:
    """Kind → [stopped, all]."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in outcomes:
        if one.real is real:
            found[one.kind][0] += one.silent_ms is not None
            found[one.kind][1] += 1
    return dict(found)


def _tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) for people."""
    parts = {"all": result, "half that rules were chosen on": result["tuned_half"], "other half": result["other_half"]}

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    rows = [
        [name, cell(part["false_stops"]), cell(part["false_stops_recorded"]), cell(part["caught"]),
         *(" / ".join(str(part[key][q]) for q in ("p50", "p95", "p99")) for key in ("interruption_ms", "stop_word_ms", "duck_ms"))]
        for name, part in parts.items()
    ]  # fmt: skip
    head = ["", "false stops", "recorded only", "words caught", "word → silent ms p50 / p95 / p99", "synthetic stop word → silent", "duck"]
    kinds = [[kind, f"{n} of {total}"] for key in ("caught_by", "false_stops_by") for kind, (n, total) in result[key].items()]
    counts = ", ".join(f"{name}: {n}" for name, n in result["events"].items())
    return [(f"over the avatar's voice ({counts})", head, rows), ("the avatar was stopped by", ["", "stopped"], kinds)]
