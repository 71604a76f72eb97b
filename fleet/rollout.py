"""A job as rules: which boxes get it now, when the next phase begins, when to stop. Pure: `decide(job, event, now_ms) → (job, actions)`.
If nothing changes it is the very same job.

A box has its phase for ever: boxes are ordered by a hash of job and name, and the order is cut into phases. It gets the job at most once
for each attempt, and a further attempt only if a person asks for it.

    waiting ──phase begins──▸ due ──reachable──▸ sent ──▸ done | failed
                               └─ never reachable in time ─▸ missed        failed | missed ──retry──▸ due
    aborted before it was sent: dropped

A phase is met when enough of the boxes *that were reached* are done; boxes that were away all the time prove nothing. Too many failures in
any phase that has begun stop the job; so does a phase that has ended without being met. A person may then retry, go on, or abort.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from fleet.phases import Plan, cut, place
from fleet.windows import share

__all__ = [
    "Abort",
    "Action",
    "Approve",
    "BoxState",
    "Event",
    "Heard",
    "Join",
    "Leave",
    "Pause",
    "Resume",
    "Retry",
    "Rollout",
    "Send",
    "Start",
    "Tick",
    "Withdraw",
    "begin",
    "decide",
    "met",
]


class BoxState(msgspec.Struct, frozen=True):
    """Where a box stands; `since` is when that began (ms)."""

    phase: int
    state: str = "waiting"  # waiting | due | sent | done | failed | missed | dropped
    attempt: int = 1
    since: int = 0
    reason: str = ""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it stands. A person has accepted so many failures of each phase (`forgiven`), and that phases are not met (`waived`)."""

    id: str
    plan: Plan
    boxes: dict[str, BoxState] = {}
    bounds: tuple[float, ...] = ()  # the highest hash in each phase, for boxes that join later
    state: str = "draft"  # draft | running | paused | stopped | done | aborted
    phase: int = 0
    met_since: int = 0  # since when the phase has been met, 0: it is not
    approved: bool = False
    forgiven: tuple[int, ...] = ()
    waived: tuple[int, ...] = ()
    reason: str = ""  # why it is stopped


# --- what happens, and what is to be done ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """A person starts a draft."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing more is sent until Resume; answers still count."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on. After a stop: although so many failed, and although the phase was not met."""


@dataclass(frozen=True, slots=True)
class Approve:
    """The next phase may begin."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The end: nothing more is sent, ever."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Once more for the boxes that failed or were missed."""


@dataclass(frozen=True, slots=True)
class Join:
    """These boxes are selected now."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """These boxes are not selected any more: those that were not sent anything are dropped."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """A box's answer to an attempt."""

    name: str
    attempt: int
    done: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; `ready` may be sent to now: they are online and their window is open."""

    ready: frozenset[str] = frozenset()


Event = Start | Pause | Resume | Approve | Abort | Retry | Join | Leave | Heard | Tick


@dataclass(frozen=True, slots=True)
class Send:
    """Give the job to this box; `until` is when its answer is no longer waited for (ms)."""

    name: str
    attempt: int
    until: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Do not send this again."""

    name: str
    attempt: int


Action = Send | Withdraw


# --- phases -----------------------------------------------------------------------------------------------------------------


def begin(id: str, plan: Plan, names: Iterable[str]) -> Rollout:  # noqa: A002
    """A draft for these boxes, each in its phase."""
    phases, bounds = cut(id, plan, names)
    boxes = {name: BoxState(phase) for name, phase in phases.items()}
    return Rollout(id=id, plan=plan, boxes=boxes, bounds=bounds, forgiven=(0,) * len(plan.phases))


def _table(job: Rollout) -> list[Counter[str]]:
    table: list[Counter[str]] = [Counter() for _ in job.plan.phases]
    for box in job.boxes.values():
        table[box.phase][box.state] += 1
    return table


def _counts(job: Rollout, phase: int) -> Counter[str]:
    return _table(job)[phase]


def met(job: Rollout, phase: int) -> bool:
    """Whether enough of a phase's reached boxes are done; a phase without boxes is, one in which nobody was reached is not."""
    if phase in job.waived:
        return True
    counts = _counts(job, phase)
    size = counts.total() - counts["dropped"]
    reached = size - counts["missed"]
    return size == 0 or (reached > 0 and counts["done"] * 100 >= job.plan.phases[phase].success * reached)


def _too_many(job: Rollout) -> str:
    """Why the job has to stop: which phase has too many failures. "" if none has."""
    for number, counts in enumerate(_table(job)[: job.phase + 1]):
        stop = job.plan.phases[number].stop
        new = counts["failed"] - job.forgiven[number]
        if new > 0 and new * 100 >= stop * counts.total():
            return f"phase {number + 1}: {counts['failed']} of {counts.total()} failed"
    return ""


# --- rules ------------------------------------------------------------------------------------------------------------------


def decide(job: Rollout, event: Event, now: int) -> tuple[Rollout, list[Action]]:
    """The job after an event, and what is to be done. An event that does not fit the state changes nothing."""
    if isinstance(event, Tick):
        return _tick(job, event.ready, now)
    if isinstance(event, Heard):
        return _heard(job, event, now), []
    if isinstance(event, Join):
        return _join(job, event.names, now), []
    if isinstance(event, Leave):
        return _drop(job, now, "no longer selected", event.names), []
    if isinstance(event, Abort):
        return _abort(job, now)
    return _person(job, event, now), []


def _person(job: Rollout, event: Start | Pause | Resume | Approve | Retry, now: int) -> Rollout:
    change = msgspec.structs.replace
    if isinstance(event, Start) and job.state == "draft":
        return _open(change(job, state="running"), 0, now)
    if isinstance(event, Pause) and job.state == "running":
        return change(job, state="paused")
    if isinstance(event, Approve) and job.state == "running" and job.met_since:
        return change(job, approved=True)
    if isinstance(event, Resume) and job.state in ("paused", "stopped"):
        return _resume(job, now)
    if isinstance(event, Retry) and job.state in ("running", "paused", "stopped", "done"):
        again = {
            name: BoxState(box.phase, "due", box.attempt + 1, now) for name, box in job.boxes.items() if box.state in ("failed", "missed")
        }
        state = "paused" if job.state == "paused" else "running"
        return change(job, state=state, boxes=job.boxes | again, forgiven=(0,) * len(job.forgiven), reason="") if again else job
    return job


def _resume(job: Rollout, now: int) -> Rollout:
    # The time in which a box has to be reached does not run while nobody tries.
    waited = {name: msgspec.structs.replace(box, since=now) for name, box in job.boxes.items() if box.state == "due"}
    job = msgspec.structs.replace(job, boxes=job.boxes | waited)
    if job.state == "stopped":
        counts = _table(job)
        ended = not counts[job.phase]["due"] and not counts[job.phase]["sent"]
        waived = {*job.waived, job.phase} if ended and not met(job, job.phase) else job.waived
        job = msgspec.structs.replace(job, forgiven=tuple(count["failed"] for count in counts), waived=tuple(waived), reason="")
    return msgspec.structs.replace(job, state="running")


def _open(job: Rollout, phase: int, now: int) -> Rollout:
    """A phase begins: its boxes' turn has come."""
    due = {
        name: msgspec.structs.replace(box, state="due", since=now)
        for name, box in job.boxes.items()
        if box.phase == phase and box.state == "waiting"
    }
    return msgspec.structs.replace(job, phase=phase, boxes=job.boxes | due, met_since=0, approved=False)


def _join(job: Rollout, names: tuple[str, ...], now: int) -> Rollout:
    if job.state in ("draft", "done", "aborted"):
        return job
    fresh = {}
    for name in names:
        known = job.boxes.get(name)
        if known is None or (known.state == "dropped" and known.reason == "no longer selected"):
            phase = place(job.id, job.plan, job.bounds, name) if known is None else known.phase
            attempt = known.attempt if known is not None else 1  # the one that was not sent
            fresh[name] = BoxState(phase, "due" if phase <= job.phase else "waiting", attempt, now)
    return msgspec.structs.replace(job, boxes=job.boxes | fresh) if fresh else job


def _drop(job: Rollout, now: int, reason: str, names: Iterable[str]) -> Rollout:
    gone = {}
    for name in names:
        box = job.boxes.get(name)
        if box is not None and box.state in ("waiting", "due"):
            gone[name] = msgspec.structs.replace(box, state="dropped", since=now, reason=reason)
    return msgspec.structs.replace(job, boxes=job.boxes | gone) if gone else job


def _abort(job: Rollout, now: int) -> tuple[Rollout, list[Action]]:
    if job.state in ("done", "aborted"):
        return job, []
    out: list[Action] = [Withdraw(name, box.attempt) for name, box in job.boxes.items() if box.state == "sent"]
    return msgspec.structs.replace(_drop(job, now, "aborted", job.boxes), state="aborted", reason=""), out


def _heard(job: Rollout, answer: Heard, now: int) -> Rollout:
    """An answer counts if it is to the last attempt, also when it is late."""
    box = job.boxes.get(answer.name)
    if box is None or box.attempt != answer.attempt or box.state not in ("sent", "failed"):
        return job
    state = "done" if answer.done else "failed"
    fresh = msgspec.structs.replace(box, state=state, since=now, reason=answer.reason)
    return msgspec.structs.replace(job, boxes={**job.boxes, answer.name: fresh})


def _tick(job: Rollout, ready: frozenset[str], now: int) -> tuple[Rollout, list[Action]]:
    job = _overdue(job, ready, now)
    if job.state != "running":
        return job, []
    why = _too_many(job)
    if not why:
        job = _advance(job, now)
        why = _stuck(job)
    if why:
        return msgspec.structs.replace(job, state="stopped", reason=why), []
    if job.phase == len(job.plan.phases) - 1 and met(job, job.phase) and not _open_boxes(job.boxes.values()):
        return msgspec.structs.replace(job, state="done"), []
    return _send(job, ready, now)


def _overdue(job: Rollout, ready: frozenset[str], now: int) -> Rollout:
    """Boxes whose time is over: no answer is a failure, whatever the job's state; not reached is only missed, and only while it runs."""
    plan, late = job.plan, {}
    for name, box in job.boxes.items():
        if box.state == "sent" and now >= box.since + plan.answer_s * 1000:
            late[name] = msgspec.structs.replace(box, state="failed", since=now, reason=f"no answer within {plan.answer_s} s")
        elif box.state == "due" and job.state == "running" and name not in ready and now >= box.since + plan.reach_s * 1000:
            late[name] = msgspec.structs.replace(box, state="missed", since=now, reason=f"not reached within {plan.reach_s} s")
    return msgspec.structs.replace(job, boxes=job.boxes | late) if late else job


def _advance(job: Rollout, now: int) -> Rollout:
    """Begin as many phases as may begin now."""
    while True:
        is_met = met(job, job.phase)
        if is_met != bool(job.met_since):
            job = msgspec.structs.replace(job, met_since=now if is_met else 0, approved=False)
        if not is_met or job.phase == len(job.plan.phases) - 1:
            return job
        phase = job.plan.phases[job.phase]
        empty = all(box.phase != job.phase for box in job.boxes.values())
        if not empty and (now < job.met_since + phase.rest_s * 1000 or (phase.approve and not job.approved)):
            return job
        job = _open(job, job.phase + 1, now)


def _stuck(job: Rollout) -> str:
    """Why the phase will never be met; "" if it still may be."""
    counts = _counts(job, job.phase)
    if counts["due"] or counts["sent"] or met(job, job.phase):
        return ""
    reached = counts["done"] + counts["failed"]
    if not reached:
        return f"phase {job.phase + 1}: none of its {counts.total()} boxes was reached"
    return f"phase {job.phase + 1}: {counts['done']} of {reached} done, {job.plan.phases[job.phase].success:g} % are needed"


def _open_boxes(boxes: Iterable[BoxState]) -> bool:
    return any(box.state in ("waiting", "due", "sent") for box in boxes)


def _send(job: Rollout, ready: frozenset[str], now: int) -> tuple[Rollout, list[Action]]:
    room = job.plan.at_once - sum(box.state == "sent" for box in job.boxes.values())
    if room <= 0 or not ready:
        return job, []
    due = [name for name in ready if name in job.boxes and job.boxes[name].state == "due"]
    if not due:
        return job, []
    due.sort(key=lambda name: (job.boxes[name].phase, share(job.id, name)))
    until = now + job.plan.answer_s * 1000
    chosen: Mapping[str, BoxState] = {name: msgspec.structs.replace(job.boxes[name], state="sent", since=now) for name in due[:room]}
    return msgspec.structs.replace(job, boxes={**job.boxes, **chosen}), [Send(name, box.attempt, until) for name, box in chosen.items()]
