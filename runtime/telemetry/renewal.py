"""When a box asks for a new certificate and which one it shows, as rules without I/O; `identity` is the shell with the files.

`decide(renewal, facts) → (renewal, step)`. A certificate is renewed after two thirds of its life and a tenth by chance, so that boxes
which were enrolled together do not ask together. The old pair stays until the new one has connected; a new one that does not connect
is tried three times, then another is asked for. A clock that was never set decides nothing: then the controller's time counts, as its
messages tell it, or nothing is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

__all__ = ["Facts", "Pair", "Renewal", "Step", "candidates", "decide", "failed", "welcomed"]

_AGAIN_MS = 15 * 60_000
_LONGEST_MS = 6 * 3600_000
_TRIALS = 3
_TRIAL_AGAIN_MS = 10 * 60_000
_SUSPECT_MS = 60_000
_REST_MS = 24 * 3600_000
_GRACE_AFTER_MS = 5 * 60_000
_GRACE_BLIND_MS = 3600_000
"""A box that does not know the time and gets no connection for so long supposes that its certificate has ended."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key. Times are wall time in ms; `begins` tells which of two was made later."""

    source: str  # configured | own | trial
    begins: int
    ends: int
    fingerprint: str = ""

    @property
    def chance(self) -> float:
        """A number of [0, 1) that stays the same for this certificate."""
        return int(self.fingerprint[:8] or "0", 16) / 2**32

    @property
    def due_ms(self) -> int:
        """When it is to be renewed (wall time)."""
        return self.begins + round((self.ends - self.begins) * (2 / 3 + self.chance / 10))


class Step(Enum):
    """What to do now."""

    NOTHING = "nothing"
    ASK = "ask"  # by MQTT
    ASK_LATE = "ask_late"  # by HTTPS: the certificate has ended, MQTT lets nobody in with it
    TRY = "try"  # connect anew, with the trial
    DISCARD = "discard"  # the trial


@dataclass(frozen=True, slots=True)
class Facts:
    """What is so now. `now_ms` is wall time, None if nobody knows it; `mono_ms` never steps; `down_ms` is since when there is no
    connection, -1 if there is one. `pair` is the one that was made last, without a trial.
    """

    mono_ms: int
    now_ms: int | None
    down_ms: int
    pair: Pair | None
    trial: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """Where it stands; all times are monotonic: not before."""

    again_ms: int = 0
    asked: int = 0
    late_ms: int = 0
    trial_ms: int = 0
    trials: int = 0  # that failed while the old pair could connect
    suspect: bool = False  # the trial did not connect; it is not known whose fault that is
    leaving: bool = False


def decide(renewal: Renewal, facts: Facts) -> tuple[Renewal, Step]:
    """The next state and what to do."""
    connected = facts.down_ms < 0
    if facts.trial:
        if renewal.trials >= _TRIALS:
            return Renewal(again_ms=facts.mono_ms + _REST_MS, late_ms=facts.mono_ms + _REST_MS), Step.DISCARD
        if connected and not renewal.leaving and facts.mono_ms >= renewal.trial_ms:
            return replace(renewal, leaving=True), Step.TRY
        return renewal, Step.NOTHING
    pair = facts.pair
    if pair is None:
        return renewal, Step.NOTHING
    if not connected:
        return _away(renewal, facts, pair)
    if facts.now_ms is None or facts.now_ms < pair.due_ms or facts.mono_ms < renewal.again_ms:
        return renewal, Step.NOTHING
    wait = min(_LONGEST_MS, _AGAIN_MS << min(renewal.asked, 8))
    return replace(renewal, asked=renewal.asked + 1, again_ms=facts.mono_ms + wait), Step.ASK


def _away(renewal: Renewal, facts: Facts, pair: Pair) -> tuple[Renewal, Step]:
    known = facts.now_ms is not None
    if facts.now_ms is not None and facts.now_ms < pair.ends:
        return renewal, Step.NOTHING
    patience = _GRACE_AFTER_MS if known else _GRACE_BLIND_MS
    if facts.mono_ms - facts.down_ms < patience or facts.mono_ms < renewal.late_ms:
        return renewal, Step.NOTHING
    # An admin has to see it first: ask every quarter of an hour, no two boxes at once.
    wait = (_AGAIN_MS if known else _LONGEST_MS) * (0.75 + pair.chance / 2)
    return replace(renewal, late_ms=facts.mono_ms + round(wait)), Step.ASK_LATE


def candidates(pairs: list[Pair], renewal: Renewal, mono_ms: int, now_ms: int | None) -> list[Pair]:
    """The pairs to connect with, the best first: a trial whose time has come, then the one made last; those that have ended at the end."""
    trial = [pair for pair in pairs if pair.source == "trial" and mono_ms >= renewal.trial_ms]
    rest = sorted((pair for pair in pairs if pair.source != "trial"), key=lambda pair: pair.begins, reverse=True)
    return trial + sorted(rest, key=lambda pair: now_ms is not None and pair.ends <= now_ms)


def failed(renewal: Renewal, pair: Pair | None, mono_ms: int) -> Renewal:
    """A connection with this pair did not come about: perhaps it is the network. The old pair is tried next."""
    if pair is None or pair.source != "trial":
        return renewal
    return replace(renewal, suspect=True, leaving=False, trial_ms=mono_ms + _SUSPECT_MS)


def welcomed(renewal: Renewal, pair: Pair | None, mono_ms: int) -> Renewal:
    """The broker let this pair in. After a trial all begins anew; the old pair let in after the trial was not proves the trial bad."""
    if pair is not None and pair.source == "trial":
        return Renewal()
    if renewal.suspect:
        wait = _TRIAL_AGAIN_MS << renewal.trials
        return replace(renewal, suspect=False, leaving=False, trials=renewal.trials + 1, trial_ms=mono_ms + wait)
    return replace(renewal, leaving=False)
