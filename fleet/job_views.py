"""Rollouts as people look at them: how far each phase is, and which boxes failed with what reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fleet import jobs
from fleet.database import Database
from fleet.errors import BadRequest
from fleet.job_spec import Spec
from fleet.jobs import Kept, Note
from fleet.phases import Plan, sizes
from fleet.selection import Selection, select

__all__ = ["BoxQuery", "JobBox", "JobView", "PhaseView", "Preview", "boxes", "job", "newest", "of_box", "preview"]

_STATES = ("waiting", "due", "sent", "done", "failed", "missed", "dropped")


class PhaseView(msgspec.Struct, frozen=True, kw_only=True):
    """A phase. `state`: ahead, running, resting (until `until`), asking (a person has to approve), met. `counts`: boxes by state."""

    state: str
    until: int
    size: int
    counts: dict[str, int]


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout. `state`: draft, running, paused, stopped (`reason` says why), done, aborted."""

    id: str
    author: str
    created: int
    changed: int
    state: str
    reason: str
    phase: int
    spec: Spec
    phases: list[PhaseView]
    counts: dict[str, int]
    notes: tuple[Note, ...]


class JobBox(msgspec.Struct, frozen=True, kw_only=True):
    """A box in a rollout. `state`: waiting (for its phase), due, sent, done, failed, missed (never reached in time), dropped."""

    job: str
    title: str
    device: str
    phase: int
    state: str
    attempt: int
    since: int
    reason: str


class BoxQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which boxes of a rollout; `after` is the name of the last one that is known."""

    state: Literal["", "waiting", "due", "sent", "done", "failed", "missed", "dropped"] = ""
    after: Annotated[str, Meta(max_length=63)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """How many boxes would be selected now, the first of them, and how many each phase would take."""

    count: int
    names: list[str]
    phases: list[int]


def newest(db: Database, limit: int) -> list[JobView]:
    """Rollouts, the newest first."""
    found = jobs.load(db.read, limit=limit)
    counts = _counts(db, [one.id for one in found])
    return [_view(one, counts.get(one.id, {})) for one in found]


def job(db: Database, id: str) -> JobView:  # noqa: A002
    """One rollout. Raises BadRequest."""
    found = jobs.load(db.read, id)
    if not found:
        raise BadRequest("there is no such rollout")
    return _view(found[0], _counts(db, [id]).get(id, {}))


def boxes(db: Database, id: str, wanted: BoxQuery) -> list[JobBox]:  # noqa: A002
    """Its boxes, by name."""
    state, values = ("AND b.state = ?", (wanted.state,)) if wanted.state else ("", ())
    return _rows(db, f"b.job = ? AND b.device > ? {state} ORDER BY b.device LIMIT {wanted.limit}", id, wanted.after, *values)


def of_box(db: Database, device: str) -> list[JobBox]:
    """The last rollouts that a box was in, the newest first."""
    return _rows(db, "b.device = ? ORDER BY j.created DESC LIMIT 20", device)


def preview(db: Database, selection: Selection, plan: Plan) -> Preview:
    """What a selection means now."""
    names = select(db.read, selection)
    return Preview(count=len(names), names=names[:20], phases=sizes(plan.phases, len(names)))


def _rows(db: Database, condition: str, *values: object) -> list[JobBox]:
    rows = db.read(
        "SELECT b.job, j.spec, b.device, b.phase, b.state, b.attempt, b.since, b.reason FROM job_box b JOIN job j ON j.id = b.job"  # noqa: S608 - ours
        f" WHERE {condition}",
        *values,
    )
    titles: dict[str, str] = {}
    found = []
    for id_, spec, *rest in rows:
        if id_ not in titles:
            titles[id_] = msgspec.json.decode(spec, type=Spec).title
        device, phase, state, attempt, since, reason = rest
        found.append(
            JobBox(job=id_, title=titles[id_], device=device, phase=phase, state=state, attempt=attempt, since=since, reason=reason)
        )
    return found


def _counts(db: Database, ids: list[str]) -> dict[str, dict[tuple[int, str], int]]:
    found: dict[str, dict[tuple[int, str], int]] = {}
    if ids:
        marks = ",".join("?" * len(ids))
        sql = f"SELECT job, phase, state, count(*) FROM job_box WHERE job IN ({marks}) GROUP BY job, phase, state"  # noqa: S608 - marks
        for id_, phase, state, count in db.read(sql, *ids):
            found.setdefault(id_, {})[phase, state] = count
    return found


def _view(kept: Kept, counts: dict[tuple[int, str], int]) -> JobView:
    rollout = kept.rollout
    phases = [_phase(kept, number, counts) for number in range(len(kept.spec.plan.phases))]
    return JobView(
        id=kept.id,
        author=kept.author,
        created=kept.created,
        changed=kept.changed,
        state=rollout.state,
        reason=rollout.reason,
        phase=rollout.phase,
        spec=kept.spec,
        phases=phases,
        counts={state: sum(one.counts.get(state, 0) for one in phases) for state in _used(counts)},
        notes=kept.notes,
    )


def _used(counts: Iterable[tuple[int, str]]) -> list[str]:
    return [state for state in _STATES if state in {one for _, one in counts}]


def _phase(kept: Kept, number: int, counts: dict[tuple[int, str], int]) -> PhaseView:
    rollout, phase = kept.rollout, kept.spec.plan.phases[number]
    mine = {state: count for (where, state), count in counts.items() if where == number}
    until, state = 0, "running"
    if rollout.state == "draft" or number > rollout.phase:
        state = "ahead"
    elif number < rollout.phase or rollout.state == "done":
        state = "met"
    elif rollout.met_since and number < len(kept.spec.plan.phases) - 1:
        until = rollout.met_since + phase.rest_s * 1000
        state = "asking" if phase.approve and not rollout.approved else "resting"
    return PhaseView(state=state, until=until, size=sum(mine.values()), counts=mine)
