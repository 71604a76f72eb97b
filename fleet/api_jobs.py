"""The part of the API about settings and rollouts: viewers see, operators drive rollouts, admins change what kiosks are."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from fleet import desired, drift, job_views, jobs
from fleet.accounts import Role
from fleet.ask import Ask, Body, Route, row
from fleet.desired import BoxSettings, Group
from fleet.drift import Drift, GroupView
from fleet.errors import BadRequest
from fleet.job_spec import Spec
from fleet.job_views import BoxQuery, JobBox, JobView, Preview
from fleet.live import JOBS
from fleet.phases import Plan
from fleet.selection import Selection
from runtime import telemetry as t

__all__ = ["JOB_ROUTES"]

_ROLE = {t.Duty.OBSERVE: Role.OPERATOR, t.Duty.OPERATE: Role.OPERATOR, t.Duty.CHANGE: Role.ADMIN}
Values = Annotated[dict[Annotated[str, Meta(max_length=32)], int | float | bool | str | None], Meta(max_length=64)]


class Own(Body, frozen=True, kw_only=True):
    """What shall change of a box's own settings; null takes one back."""

    settings: Values


class GroupBody(Body, frozen=True, kw_only=True):
    """Settings for all boxes that are selected. Of two groups that name the same setting the one with the higher priority wins."""

    settings: Annotated[dict[Annotated[str, Meta(max_length=32)], int | float | bool | str], Meta(max_length=64)]
    selection: Selection = Selection()
    priority: Annotated[int, Meta(ge=0, le=1000)] = 0


class Sketch(Body, frozen=True, kw_only=True):
    """A selection and a plan to look at before there is a rollout."""

    selection: Selection = Selection()
    plan: Plan = Plan()


class Doing(Body, frozen=True, kw_only=True):
    """`resume` after a stop means: although so many failed, and although the phase was not met."""

    do: jobs.Act


class JobQuery(Body, frozen=True, kw_only=True):
    """How many."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50


# --- settings


async def _settings(ask: Ask) -> BoxSettings:
    return await ask.thread(desired.of_box, ask.db, ask.path("name"))


async def _set(ask: Ask) -> BoxSettings:
    name, changes = ask.path("name"), ask.body.settings
    for setting in changes:
        kind = t.setting_kind(setting)
        if kind is not None and not ask.who.role.covers(_ROLE[kind.duty]):
            raise BadRequest(f"{setting} needs the role {_ROLE[kind.duty].value}")
    ask.controller.steward.changed(await ask.thread(desired.put_own, ask.db, name, changes, ask.now_ms))
    await ask.audit("settings", name, dict(changes))
    ask.controller.hub.tell({name, JOBS})
    return await ask.thread(desired.of_box, ask.db, name)


async def _drift(ask: Ask) -> Drift:
    return await ask.thread(drift.drift, ask.db)


async def _groups(ask: Ask) -> list[GroupView]:
    return await ask.thread(drift.views, ask.db)


async def _put_group(ask: Ask) -> dict[str, int]:
    name, body, now = ask.path("name"), ask.body, ask.now_ms
    group = Group(name=name, priority=body.priority, selection=body.selection, settings=body.settings, author=ask.who.name, changed=now)
    changed = await ask.thread(desired.put_group, ask.db, group)
    await ask.audit("settings of a group", name, {"settings": body.settings, "boxes": len(changed)})
    return _changed(ask, changed)


async def _remove_group(ask: Ask) -> dict[str, int]:
    changed = await ask.thread(desired.remove_group, ask.db, ask.path("name"), ask.now_ms)
    await ask.audit("settings of a group removed", ask.path("name"), {"boxes": len(changed)})
    return _changed(ask, changed)


def _changed(ask: Ask, boxes: set[str]) -> dict[str, int]:
    ask.controller.steward.changed(boxes)
    ask.controller.hub.tell({*boxes, JOBS})
    return {"boxes": len(boxes)}


# --- rollouts


async def _jobs(ask: Ask) -> list[JobView]:
    return await ask.thread(job_views.newest, ask.db, ask.query.limit)


async def _job(ask: Ask) -> JobView:
    return await ask.thread(job_views.job, ask.db, ask.path("id"))


async def _boxes(ask: Ask) -> list[JobBox]:
    return await ask.thread(job_views.boxes, ask.db, ask.path("id"), ask.query)


async def _of_box(ask: Ask) -> list[JobBox]:
    return await ask.thread(job_views.of_box, ask.db, ask.path("name"))


async def _preview(ask: Ask) -> Preview:
    return await ask.thread(job_views.preview, ask.db, ask.body.selection, ask.body.plan)


async def _create(ask: Ask) -> JobView:
    spec: Spec = ask.body
    spec.check()
    needed = _ROLE[spec.task.duty]
    if not ask.who.role.covers(needed):
        raise BadRequest(f"a rollout of {spec.task.command or 'settings'} needs the role {needed.value}")
    id_ = await ask.thread(jobs.create, ask.db, spec, ask.who.name, ask.now_ms)
    await ask.audit("rollout", spec.title, {"id": id_, "task": _task(spec)})
    ask.controller.hub.tell({JOBS})
    return await ask.thread(job_views.job, ask.db, id_)


def _task(spec: Spec) -> dict[str, Any]:
    return {"command": spec.task.command, "args": spec.task.args} if spec.task.command else {"settings": spec.task.settings}


async def _do(ask: Ask) -> JobView:
    id_ = ask.path("id")
    done = await ask.thread(jobs.act, ask.db, id_, ask.body.do, ask.who.name, ask.now_ms)
    found = await ask.thread(job_views.job, ask.db, id_)
    await ask.audit(f"rollout {ask.body.do}", found.spec.title, {"id": id_})
    ask.controller.hub.tell({*done.boxes, JOBS})
    ask.controller.steward.changed()
    return found


async def _remove(ask: Ask) -> dict[str, str]:
    found = await ask.thread(job_views.job, ask.db, ask.path("id"))
    await ask.thread(jobs.remove, ask.db, found.id)
    await ask.audit("rollout removed", found.spec.title, {"id": found.id})
    ask.controller.hub.tell({JOBS})
    return {}


_V, _O, _A = Role.VIEWER, Role.OPERATOR, Role.ADMIN
JOB_ROUTES: tuple[Route, ...] = (
    row("GET", "/devices/{name}/settings", _V, _settings, "A box's settings: wanted, reported, what differs", answer=BoxSettings),
    row("POST", "/devices/{name}/settings", _O, _set, "Change a box's own settings", answer=BoxSettings, body=Own),
    row("GET", "/devices/{name}/jobs", _V, _of_box, "The last rollouts that a box was in", answer=list[JobBox]),
    row("GET", "/settings", _V, _drift, "Boxes that are not as they should be", answer=Drift),
    row("GET", "/settings/groups", _V, _groups, "Settings of groups, the one that wins first", answer=list[GroupView]),
    row("POST", "/settings/groups/{name}", _A, _put_group, "Make or change a group's settings", answer=dict[str, int], body=GroupBody),
    row("DELETE", "/settings/groups/{name}", _A, _remove_group, "Take a group's settings back", answer=dict[str, int]),
    row("GET", "/jobs", _V, _jobs, "Rollouts, the newest first", answer=list[JobView], query=JobQuery),
    row("POST", "/jobs", _O, _create, "Make a draft of a rollout", answer=JobView, body=Spec),
    row("POST", "/jobs/preview", _V, _preview, "Which boxes and phases a selection means now", answer=Preview, body=Sketch),
    row("GET", "/jobs/{id}", _V, _job, "One rollout", answer=JobView),
    row("POST", "/jobs/{id}", _O, _do, "Start, pause, resume, approve, abort or retry a rollout", answer=JobView, body=Doing),
    row("DELETE", "/jobs/{id}", _A, _remove, "Forget a rollout that has ended or never began"),
    row("GET", "/jobs/{id}/boxes", _V, _boxes, "The boxes of a rollout", answer=list[JobBox], query=BoxQuery),
)
